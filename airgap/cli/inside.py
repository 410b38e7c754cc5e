"""What the verbs of the disconnected side start from: a bundle, or a rendered folder, opened."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from airgap.bundle import BundleReader
from airgap.bundle.extract import extract
from airgap.chart import Chart
from airgap.cli import signatures
from airgap.cli.bundle import open_bundle
from airgap.errors import BundleError, ConfigurationError
from airgap.installer import running_from
from airgap.layout import check
from airgap.lock import Lock
from airgap.oci import canonical_json
from airgap.ref import LAYOUTS
from airgap.tools import KUBE_VERSION, Helm, host_platform
from airgap.values import load_yaml_all
from airgap.wandb import Spec, read_user_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airgap.cli.options import Target
    from airgap.lock import LockedArtifact
    from airgap.values import Json
    from airgap.wandb import UserInput

OPERATOR, SERVER = "operator", "operator-wandb"
"""Names of W&B's two charts (reference wandb-v1 section 3)."""

CARRIED = "bundle"
"""The folder in a rendered DIR with what came out of the bundle: the lock, the charts and the channel's spec."""

PLACE = "place.json"
"""The file in it that says for which registry, and in which layout, the folder was rendered."""


@dataclass(frozen=True)
class Site:
    """What a bundle brings to a site; ``contents`` are the lock, charts and spec as files, to put beside what is rendered."""

    lock: Lock
    operator_chart: Chart
    server_chart: Chart
    spec: Spec | None
    helm: Helm
    contents: Mapping[str, bytes]


def place(target: Target) -> bytes:
    """Return PLACE's content."""
    told = {
        "kind": "Place",
        "schemaVersion": 1,
        "registry": str(target.location),
        "pullRegistry": str(target.pull),
        "layout": target.location.layout,
    }
    return canonical_json(told) + b"\n"


def remember(folder: Path, flags: dict[str, Any]) -> None:
    """Put into ``flags`` the --layout with which ``folder`` was rendered, unless one is given now.

    Which registry counts as inside is not taken from the folder that is to be judged. Raises ConfigurationError where the
    layout that is given is another one: the folder cannot be right with it.
    """
    try:
        layout = str(json.loads((folder / CARRIED / PLACE).read_bytes())["layout"])
    except (OSError, ValueError, LookupError, TypeError):
        return  # an older folder, or none that render wrote: what is given holds
    source = click.get_current_context().get_parameter_source
    if source("place_layout") is ParameterSource.DEFAULT and layout in LAYOUTS:
        flags["place_layout"] = layout
    if flags["place_layout"] != layout:
        raise ConfigurationError(
            f"{folder} was rendered with --layout {layout}, not {flags['place_layout']}",
            hint="leave --layout out, or render again",
        )


@contextmanager
def site(path: Path, helm: Path | None) -> Iterator[Site]:
    """Open BUNDLE, or the DIR that ``render`` wrote; raises BundleError, ConfigurationError, ToolError."""
    if path.is_dir():
        if signatures.asked_for():
            raise ConfigurationError(
                f"{path} is a folder, and a signature is over a bundle", hint="name the bundle, or leave --verify-key out"
            )
        yield _from_folder(path / CARRIED, helm)
        return
    with open_bundle(path) as bundle:
        lock = bundle.lock
        found = _helm(helm, bundle)
        contents = {"airgap.lock": lock.to_bytes()}
        for artifact in lock.artifacts:
            if artifact.kind in ("chart", "spec"):
                contents[file_name(artifact)] = bundle.read(artifact.content)
        yield _site(lock, contents, found, str(path))


def file_name(artifact: LockedArtifact) -> str:
    """Return the name under which a chart or spec lies in a rendered folder."""
    return f"{artifact.name}-{artifact.version}.tgz" if artifact.kind == "chart" else "channel-spec.json"


def _from_folder(folder: Path, helm: Path | None) -> Site:
    if not (folder / "airgap.lock").is_file():
        raise ConfigurationError(f"{folder.parent} was not written by airgap render", hint="name a bundle, or render first")
    contents = {it.name: it.read_bytes() for it in sorted(folder.iterdir()) if it.is_file() and it.name != PLACE}
    lock = Lock.from_bytes(contents["airgap.lock"], str(folder / "airgap.lock"))
    for artifact in lock.artifacts:
        if artifact.kind not in ("chart", "spec"):
            continue
        name = file_name(artifact)
        if name not in contents:
            raise ConfigurationError(f"{folder / name} is missing", hint="run airgap render again")
        check(contents[name], artifact.content, str(folder / name))
    return _site(lock, contents, helm_at_hand(helm), str(folder))


def _site(lock: Lock, contents: Mapping[str, bytes], helm: Helm, where: str) -> Site:
    artifact = next((it for it in lock.artifacts if it.kind == "spec"), None)
    spec = Spec.parse(contents[file_name(artifact)], where) if artifact else None
    operator, server = (_chart(lock, name, contents, where) for name in (OPERATOR, SERVER))
    return Site(lock, operator, server, spec, helm, contents)


def _chart(lock: Lock, name: str, contents: Mapping[str, bytes], where: str) -> Chart:
    artifact = lock.find("chart", name)
    if artifact is None:
        held = ", ".join(it.name for it in lock.artifacts if it.kind == "chart") or "none"
        raise ConfigurationError(f"{where} holds no chart {name} (charts: {held})", hint="add it to the manifest's charts")
    return Chart.from_bytes(contents[file_name(artifact)], f"{where}: {file_name(artifact)}")


def helm_at_hand(explicit: Path | None) -> Helm:
    """Return the helm where no bundle is named: a bundle that runs itself brings one (``python3 wandb.tar audit DIR``)."""
    running = running_from()
    if running is None:
        return Helm.find(explicit)
    try:
        with BundleReader.open(running) as bundle:
            return _helm(explicit, bundle)
    except BundleError:  # a zipapp by itself, without a bundle around it
        return Helm.find(explicit)


def _helm(explicit: Path | None, bundle: BundleReader) -> Helm:
    """Return --helm, AIRGAP_HELM, the bundle's own (the one that the bundle was proved with), or PATH's, in this order."""
    mine = (None, host_platform())
    tool = next((it for it in bundle.lock.artifacts if it.kind == "tool" and it.name == "helm" and it.platform in mine), None)
    if explicit or os.environ.get("AIRGAP_HELM") or tool is None:
        return Helm.find(explicit)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airgap" / "tools"
    return Helm.at(extract(bundle, tool, cache))


def user_values(files: Sequence[str]) -> UserInput:
    """Read the --values files; ``-`` is standard input."""
    documents: list[tuple[str, Json]] = []
    for name in files:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        documents += [(name, document) for document in load_yaml_all(text, name)]
    return read_user_values(documents)


def kube_version(given: str) -> str:
    """Return the Kubernetes version to render for."""
    return given.removeprefix("v") or KUBE_VERSION
