"""Chart: a Helm chart read with care, its tree of dependencies, and the values that helm computes for it.

Invariants: a chart is read into memory within helm's own limits; links, devices, absolute names, ``..`` and duplicates are
refused, and nothing is ever written but under names that passed (F53). A downloaded archive keeps its bytes: the digest is
theirs, and it is never packed again. A folder is packed by us with fixed times and owners, so one content has one digest
(on any machine with the usual zlib); ``helm package`` writes the clock into it.

::

    chart = Chart.load(Path("operator-wandb-0.43.8.tgz"))
    values = chart.computed_values(helm)            # parent, subcharts and aliases in one tree
    for node in chart.tree(): print(node.key, node.chart.version, node.conditions)
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airgap.chart.archive import pack, unpack
from airgap.chart.folder import read_folder
from airgap.errors import AirgapError, ConfigurationError
from airgap.oci import Digest, canonical_json
from airgap.tools import KUBE_VERSION
from airgap.values import coalesce, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airgap.tools import Helm

DEPTH_LIMIT = 8
"""Charts within charts; ours: operator-wandb has 3."""

EXACT = 2**53
"""The largest integer up to which a float64, helm's only number, holds each (IEEE 754)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,249}")
_VERSION = re.compile(r"v?\d+(?:\.\d+){0,2}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_METADATA = (
    *("name", "home", "sources", "version", "description", "keywords", "maintainers", "icon", "apiVersion", "condition"),
    *("tags", "appVersion", "deprecated", "annotations", "kubeVersion", "dependencies", "type"),
)
"""The fields of Chart.yaml that helm knows and writes into an OCI chart's config (helm pkg/chart Metadata)."""

_PRINTER = "airgap-computed-values.yaml"
_PRINT = """apiVersion: v1
kind: ConfigMap
metadata:
  name: airgap-computed-values
data:
  values: {{ .Values | toJson | toJson }}
"""
_PRINTED = re.compile(r"^  values: (\".*\")\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Dependency:
    """An entry of Chart.yaml's ``dependencies``; ``conditions`` are as written, relative to the chart's own values."""

    name: str
    version: str
    repository: str
    alias: str
    conditions: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key under which the parent's values hold the subchart's: its alias, or its name."""
        return self.alias or self.name


@dataclass(frozen=True)
class Node:
    """A chart in its place: ``path`` are the keys from the top (empty: the chart itself).

    ``conditions`` are dotted paths from the top's values; helm takes the first that is there. ``tags`` likewise.
    """

    path: tuple[str, ...]
    chart: Chart
    conditions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The dotted path."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Chart:
    """A chart: ``files`` by path below the chart's folder, ``values`` as values.yaml has them, ``archive`` the .tgz.

    ``archive`` is empty for subcharts. ``problems`` are things in it that helm bears and we cannot read, for a warning.
    """

    metadata: Mapping[str, Any] = field(hash=False)
    values: dict[str, Any] = field(hash=False, repr=False)
    files: Mapping[str, bytes] = field(hash=False, repr=False)
    subcharts: tuple[Chart, ...] = field(repr=False)
    dependencies: tuple[Dependency, ...] = field(repr=False)
    archive: bytes = field(default=b"", repr=False)
    problems: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Chart:
        """Read a .tgz or a chart folder; raises ConfigurationError."""
        if path.is_dir():
            files = read_folder(path)
            chart = _chart(files, str(path))
            return chart.with_archive(pack(chart.name, files))
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"chart {path} cannot be read: {error.strerror}") from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Chart:
        """Read the bytes of a .tgz; ``where`` names it in a ConfigurationError."""
        return _chart(unpack(data, where), where).with_archive(data)

    def with_archive(self, archive: bytes) -> Chart:
        """Return the same chart with ``archive`` as its packed form."""
        return replace(self, archive=archive)

    @property
    def name(self) -> str:
        """The name in Chart.yaml."""
        return str(self.metadata["name"])

    @property
    def version(self) -> str:
        """The version in Chart.yaml."""
        return str(self.metadata["version"])

    @property
    def app_version(self) -> str:
        """The appVersion in Chart.yaml, or empty."""
        return str(self.metadata.get("appVersion") or "")

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations in Chart.yaml."""
        found = self.metadata.get("annotations")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    @property
    def templates(self) -> dict[str, str]:
        """The chart's own templates, path to text, subcharts' not among them."""
        return {name: data.decode("utf-8", "replace") for name, data in self.files.items() if name.startswith("templates/")}

    @property
    def digest(self) -> Digest:
        """The digest of the archive."""
        return Digest.of(self.archive)

    @property
    def label(self) -> str:
        """``name-version``, as origins and files call it."""
        return f"{self.name}-{self.version}"

    @property
    def missing(self) -> tuple[Dependency, ...]:
        """Dependencies in Chart.yaml whose charts are not inside: such a chart cannot be rendered (cases.md H8)."""
        names = {chart.name for chart in self.subcharts}
        own = tuple(dependency for dependency in self.dependencies if dependency.name not in names)
        return (*own, *(item for chart in self.subcharts for item in chart.missing))

    def config_json(self) -> bytes:
        """Return the config of this chart as an OCI artifact: Chart.yaml's fields as JSON, as ``helm push`` writes them."""
        known: dict[str, Any] = {key: self.metadata[key] for key in _METADATA if self.metadata.get(key) is not None}
        return canonical_json(known)

    def tree(self) -> Iterator[Node]:
        """Walk the chart and its subcharts, an aliased one once per alias, parents first.

        A chart in ``charts/`` that Chart.yaml does not name is always on, as helm has it.
        """
        return _walk(Node((), self))

    def defaults(self) -> dict[str, Any]:
        """Return values.yaml of the chart and its subcharts in one tree, parents over subcharts."""
        found: dict[str, Any] = {}
        for node in self.tree():
            inner: dict[str, Any] = node.chart.values
            for key in reversed(node.path):
                inner = {key: inner}
            found = coalesce([inner, found])
        return found

    def write(self, directory: Path) -> Path:
        """Write the archive as ``name-version.tgz`` into ``directory`` and return its path."""
        path = directory / f"{self.label}.tgz"
        path.write_bytes(self.archive)
        return path

    def unpack_to(
        self, directory: Path, leave_out: Sequence[str] = (), apart: frozenset[tuple[str, str]] = frozenset()
    ) -> Path:
        """Unpack the chart and its subcharts into ``directory`` without the files ``leave_out`` of each; return the folder.

        ``apart``: files of one chart (its label, the path in it) that are left out too.
        """
        folder = directory / self.name
        _unpack_to(self, folder, frozenset(leave_out), apart)
        return folder

    def with_extra_template(self, directory: Path, name: str, text: str) -> Path:
        """Unpack the chart into ``directory``, add ``templates/NAME``, and return the folder."""
        folder = directory / self.name
        _write(folder, {**self.files, f"templates/{name}": text.encode()})
        return folder

    def computed_values(
        self,
        helm: Helm,
        values: Sequence[Mapping[str, Any]] = (),
        *,
        release: str = "airgap",
        namespace: str = "default",
        kube_version: str = KUBE_VERSION,
    ) -> dict[str, Any]:
        """Return ``.Values`` as the chart's templates would see them: parents over subcharts, aliases and all.

        One render of a copy without templates and schemas, so that no template can fail it. What is under a subchart that
        is switched off is only what its parents say. A chart that stands alone and whose values are plain needs no helm.
        """
        alone = not (self.subcharts or self.dependencies or self.problems)
        if alone and all(map(_is_plain, (self.values, *values))):
            return coalesce([self.values, *values])
        with tempfile.TemporaryDirectory(prefix="airgap-chart-") as scratch:
            folder = Path(scratch, self.name)
            _write_skeleton(self, folder)
            _write(folder, {f"templates/{_PRINTER}": _PRINT.encode()})
            text = helm.template(
                folder,
                release=release,
                namespace=namespace,
                values=values,
                kube_version=kube_version,
                include_crds=False,
                skip_schema=True,
            )
        printed = _PRINTED.search(text)
        if not printed:
            raise AirgapError(f"chart {self.label}: helm printed no computed values")
        computed: dict[str, Any] = json.loads(json.loads(printed[1]))
        return computed


def _is_plain(values: Any) -> bool:
    """Whether helm keeps every value as it stands: no null, which may delete a key, no number that a float64 changes."""
    if isinstance(values, Mapping):
        return all(map(_is_plain, values.values()))
    if isinstance(values, list):
        return all(map(_is_plain, values))
    return isinstance(values, str) or (isinstance(values, int) and abs(values) <= EXACT)


def _walk(node: Node) -> Iterator[Node]:
    yield node
    chart = node.chart
    named = {dependency.name for dependency in chart.dependencies}
    for inner in chart.subcharts:
        if inner.name not in named:
            yield from _walk(Node((*node.path, inner.name), inner))
    for dependency in chart.dependencies:
        chosen = _serving(chart, dependency)
        if chosen:
            prefix = ".".join((*node.path, ""))
            conditions = tuple(f"{prefix}{condition}" for condition in dependency.conditions)
            yield from _walk(Node((*node.path, dependency.key), chosen, conditions, dependency.tags))


def _serving(chart: Chart, dependency: Dependency) -> Chart | None:
    """Return the subchart for a dependency: of several of one name, the one whose version is written in it."""
    same = [inner for inner in chart.subcharts if inner.name == dependency.name]
    exact = [inner for inner in same if inner.version == dependency.version]
    return next(iter(exact or same), None)


def _unpack_to(chart: Chart, folder: Path, leave_out: frozenset[str], apart: frozenset[tuple[str, str]]) -> None:
    """Write a chart with its subcharts as folders, those that came as archives too."""
    left = leave_out | {name for label, name in apart if label == chart.label}
    _write(folder, {name: data for name, data in chart.files.items() if not name.startswith("charts/") and name not in left})
    for inner in chart.subcharts:
        _unpack_to(inner, folder / "charts" / inner.label, leave_out, apart)


def _write_skeleton(chart: Chart, folder: Path) -> None:
    """Write what the values depend on, and nothing that could fail a render."""
    names = ("Chart.yaml", "requirements.yaml", "values.yaml")
    _write(folder, {name: chart.files[name] for name in names if name in chart.files})
    for inner in chart.subcharts:
        _write_skeleton(inner, folder / "charts" / inner.label)


def _chart(files: Mapping[str, bytes], where: str, depth: int = 0) -> Chart:
    """Parse a chart and its subcharts from its files."""
    if depth > DEPTH_LIMIT:
        raise ConfigurationError(f"{where}: charts lie in charts more than {DEPTH_LIMIT} deep")
    metadata = _metadata(files, where)
    values, problems = _values(files, where)
    subcharts = tuple(_chart(inner, f"{where}: {name}", depth + 1) for name, inner in _inner(files, where))
    return Chart(
        metadata=metadata,
        values=values,
        files=files,
        subcharts=subcharts,
        dependencies=_dependencies(metadata, files, where),
        problems=(*problems, *(problem for chart in subcharts for problem in chart.problems)),
    )


def _metadata(files: Mapping[str, bytes], where: str) -> dict[str, Any]:
    if "Chart.yaml" not in files:
        raise ConfigurationError(f"{where} is no chart: it has no Chart.yaml")
    data = load_yaml(files["Chart.yaml"], f"{where}: Chart.yaml", duplicates=True)
    if not isinstance(data, dict):
        raise ConfigurationError(f"{where}: Chart.yaml is no mapping")
    name, version = str(data.get("name") or ""), str(data.get("version") or "")
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{where}: {name[:80]!r} is no chart name")
    if not _VERSION.fullmatch(version):
        raise ConfigurationError(f"{where}: {version[:80]!r} is no semantic version")
    return {**data, "name": name, "version": version}


def _values(files: Mapping[str, bytes], where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return values.yaml as written; a fault here is no stop: helm may bear it."""
    try:
        data = load_yaml(files.get("values.yaml", b"{}"), f"{where}: values.yaml", duplicates=True)
    except ConfigurationError as error:
        return {}, (error.message,)
    return (data, ()) if isinstance(data, dict) else ({}, ())


def _inner(files: Mapping[str, bytes], where: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the charts under ``charts/``: folders and archives; names with ``_`` or ``.`` in front are ignored by helm."""
    folders: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        top, _, rest = name.partition("/")
        inner, _, below = rest.partition("/")
        if top != "charts" or not inner or inner[0] in "_.":
            continue
        if below:
            folders.setdefault(inner, {})[below] = data
        elif inner.endswith(".tgz"):
            yield inner, unpack(data, f"{where}: {inner}")
    for inner, members in sorted(folders.items()):
        if "Chart.yaml" in members:
            yield inner, members


def _dependencies(metadata: Mapping[str, Any], files: Mapping[str, bytes], where: str) -> tuple[Dependency, ...]:
    entries = metadata.get("dependencies")
    if not entries and "requirements.yaml" in files:
        old = load_yaml(files["requirements.yaml"], f"{where}: requirements.yaml", duplicates=True)
        entries = old.get("dependencies") if isinstance(old, dict) else None
    return tuple(_dependency(entry) for entry in entries or () if isinstance(entry, dict) and entry.get("name"))


def _dependency(entry: Mapping[str, Any]) -> Dependency:
    return Dependency(
        name=str(entry["name"]),
        version=str(entry.get("version") or ""),
        repository=str(entry.get("repository") or ""),
        alias=str(entry.get("alias") or ""),
        conditions=tuple(part.strip() for part in str(entry.get("condition") or "").split(",") if part.strip()),
        tags=tuple(str(tag) for tag in entry.get("tags") or ()),
    )


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder.joinpath(*PurePosixPath(name).parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
