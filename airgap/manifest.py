"""BundleManifest: what the user asks to carry (design.md section 3).

Invariants: parsed and checked against ``schema/bundle-manifest.schema.json`` at the edge, every fault reported at once, an
unknown key with the nearest known one; frozen inside, every path absolute. It holds no credential: a licence is named by its
file. It belongs to the connected side, so jsonschema may be used (and is imported only when a manifest is checked).

The default manifest is ``manifests/wandb.yaml``: beside the package in a checkout, installed as a data file otherwise.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgap.errors import ConfigurationError, IntegrityError
from airgap.oci import Digest, Platform
from airgap.ref import DOCKER_HUB, HUB_ALIASES, Reference
from airgap.values import format_path, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DEFAULT_NAME = "manifests/wandb.yaml"
SCHEMA = Path(__file__).parent / "schema" / "bundle-manifest.schema.json"

DEFAULT = "default"
ALL = "all"
LATEST = "latest"
DEFAULT_CHANNEL = "https://deploy.wandb.ai"
CHANNEL_PATH = "/api/v1/operator/channel"
"""The API below the channel's base address; wsm and older operators take the full address (wandb-v1.md section 1)."""
LOCAL_IMAGE = "docker-daemon:"
"""What stands before the name of an image that only the local Docker engine has."""


@dataclass(frozen=True)
class Mirror:
    """Where a host is really reached; ``prefix`` has no slash at its ends, ``host`` is empty where only the rest differs."""

    host: str = ""
    prefix: str = ""
    plain_http: bool = False
    ca_file: Path | None = None


@dataclass(frozen=True)
class ChannelEntry:
    """The release channel: ``url`` is the base address, ``path`` a saved spec that replaces asking."""

    url: str = DEFAULT_CHANNEL
    release: str = LATEST
    path: Path | None = None
    license_file: Path | None = None


@dataclass(frozen=True)
class ChartEntry:
    """A chart; exactly one of ``repository``, ``path`` and ``from_channel`` is set."""

    name: str
    repository: str = ""
    version: str = ""
    path: Path | None = None
    from_channel: bool = False
    values: tuple[Path, ...] = ()
    profiles: Mapping[str, tuple[Path, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ImageEntry:
    """An image that is asked for by hand; ``local`` if it is to come from the Docker engine of this machine."""

    reference: Reference
    local: bool = False


@dataclass(frozen=True)
class FileEntry:
    """A file; exactly one of ``path`` and ``url`` is set, and ``digest`` always with ``url``."""

    name: str
    path: Path | None = None
    url: str = ""
    digest: Digest | None = None


@dataclass(frozen=True)
class WheelEntry:
    """Python packages with all that they need: requirements as pip has them, for one Python (``3.11``).

    ``platforms`` are wheel tags (``manylinux_2_28_x86_64``); empty: the bundle's own platforms.
    """

    requirements: tuple[str, ...]
    python: str
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True)
class BundleManifest:
    """The manifest. ``platforms`` empty means all of them; ``features`` is DEFAULT, ALL, or names."""

    name: str
    channel: ChannelEntry | None = None
    charts: tuple[ChartEntry, ...] = ()
    images: tuple[ImageEntry, ...] = ()
    features: str | tuple[str, ...] = DEFAULT
    files: tuple[FileEntry, ...] = ()
    wheels: tuple[WheelEntry, ...] = ()
    platforms: tuple[Platform, ...] = (Platform("linux", "amd64"),)
    registries: Mapping[str, Mirror] = field(default_factory=dict, hash=False)
    hosts: Mapping[str, Mirror] = field(default_factory=dict, hash=False)

    @classmethod
    def load(cls, path: Path | None = None) -> BundleManifest:
        """Read a manifest (the default one if None); raises ConfigurationError that names every fault."""
        path = path or default_manifest()
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"manifest {path} cannot be read: {error.strerror}", hint="name one with -f") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: bytes, path: Path) -> BundleManifest:
        """Parse the bytes of a manifest that lies (or would lie) at ``path``."""
        data = load_yaml(text, str(path))
        faults = [*_faults(data), *(_conflicts(data) if isinstance(data, dict) else ())]
        if not isinstance(data, dict) or faults:
            told = "; ".join(faults) or "it is empty"
            raise ConfigurationError(f"manifest {path}: {told}", hint="its shape: airgap config schema")
        return _manifest(data, path.absolute().parent)

    def with_platforms(self, platforms: tuple[Platform, ...]) -> BundleManifest:
        """Return the same manifest for other platforms (empty: all of them)."""
        return replace(self, platforms=platforms)

    def chart(self, name: str) -> ChartEntry | None:
        """Return the entry of that name."""
        return next((chart for chart in self.charts if chart.name == name), None)


def default_manifest() -> Path:
    """Return the path of ``manifests/wandb.yaml``: of the checkout, or of the installed distribution."""
    beside = Path(__file__).parent.parent / DEFAULT_NAME
    if beside.is_file():
        return beside
    try:
        files = metadata.files("airgap") or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.as_posix().endswith(DEFAULT_NAME):
            return Path(str(file.locate()))
    raise ConfigurationError("the default manifest is not installed with this airgap", hint="name a manifest with -f")


def schema() -> dict[str, Any]:
    """Return the published JSON schema."""
    loaded: dict[str, Any] = json.loads(SCHEMA.read_bytes())
    return loaded


def _faults(data: object) -> Iterator[str]:
    """Yield one clause for each place that the schema does not allow."""
    import jsonschema  # noqa: PLC0415  (compiled parts; the disconnected side has no manifest)

    checker = jsonschema.Draft202012Validator(schema())
    for error in sorted(checker.iter_errors(data), key=lambda error: [str(part) for part in error.absolute_path]):
        where = format_path(tuple(error.absolute_path)) or "the manifest"
        if error.validator == "additionalProperties":
            known = list(error.schema.get("properties", {}))
            for key in error.instance:
                if key not in known:
                    yield f"{where} has the unknown key {key!r}{nearest(str(key), known)}"
        elif error.validator == "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            yield f"{where} lacks {' and '.join(missing)}"
        else:
            yield f"{where}: {_expected(error.validator, error.validator_value)}, not {_shown(error.instance)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, else what there is, else nothing."""
    words = sorted(known)
    close = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(words)})" if words else ""


def _expected(validator: str, value: Any) -> str:
    """Say what a keyword of the schema asks for."""
    if validator == "type":
        kinds = [value] if isinstance(value, str) else value
        return f"it must be {' or '.join(_KINDS.get(kind, f'a {kind}') for kind in kinds)}"
    if validator == "const":
        return f"it must be {value!r}"
    if validator == "pattern":
        return f"it must look like {value}"
    return "it must not be empty" if validator in {"minLength", "minItems"} else f"it must obey {validator} {value}"


def _shown(value: object) -> str:
    text = _USER_INFORMATION.sub("://(credentials)@", json.dumps(value, default=str))
    return text if len(text) <= 60 else f"{text[:60]}..."  # noqa: PLR2004  (a glimpse is enough)


_USER_INFORMATION = re.compile(r"://[^/\s\"]*@")
"""A user and a password in a URL, which the schema refuses: the refusal must not repeat them (faults F51)."""
_KINDS = {"array": "an array", "object": "an object", "integer": "an integer"}
_ONE_OF = {"charts": ("repository", "from", "path"), "files": ("path", "url")}


def _conflicts(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a JSON schema says badly: entries with two sources or none, names given twice, features misspelt."""
    for kind, sources in _ONE_OF.items():
        for number, entry in enumerate(_entries(data, kind)):
            given = [source for source in sources if source in entry]
            if len(given) != 1:
                yield f"{kind}[{number}] must have exactly one of {', '.join(sources)}, not {' and '.join(given) or 'none'}"
    for number, entry in enumerate(_entries(data, "files")):
        if "url" in entry and "sha256" not in entry:
            yield f"files[{number}] has a url but no sha256"
    names = [str(entry.get("name")) for entry in _entries(data, "charts")]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"charts has {name!r} twice"
    if not data.get("channel") and any(entry.get("from") == "channel" for entry in _entries(data, "charts")):
        yield "a chart comes from the channel but there is no channel"
    features = data.get("features", DEFAULT)
    if isinstance(features, str) and features not in {DEFAULT, ALL}:
        yield f"features must be default, all or a list of names, not {features!r}"


def _entries(data: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    entries = data.get(kind)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _manifest(data: Mapping[str, Any], folder: Path) -> BundleManifest:
    features = data.get("features", DEFAULT)
    platforms = data.get("platforms", ["linux/amd64"])
    return BundleManifest(
        name=data["metadata"]["name"],
        channel=_channel(data["channel"] or {}, folder) if "channel" in data else None,
        charts=tuple(_chart(entry, folder) for entry in data.get("charts") or ()),
        images=tuple(_image(text) for text in data.get("images") or ()),
        features=features if isinstance(features, str) else tuple(features),
        files=tuple(_file(entry, folder) for entry in data.get("files") or ()),
        wheels=tuple(_wheels(entry) for entry in data.get("wheels") or ()),
        platforms=() if ALL in platforms else tuple(Platform.parse(platform) for platform in platforms),
        registries={_registry(host): _mirror(entry, folder) for host, entry in (data.get("registries") or {}).items()},
        hosts={host.lower(): _mirror(entry, folder) for host, entry in (data.get("hosts") or {}).items()},
    )


def _registry(host: str) -> str:
    return DOCKER_HUB if host.lower() in HUB_ALIASES else host.lower()


def _channel(data: Mapping[str, Any], folder: Path) -> ChannelEntry:
    return ChannelEntry(
        url=base_url(data.get("url", DEFAULT_CHANNEL)),
        release=str(data.get("release", LATEST)),
        path=folder / data["path"] if "path" in data else None,
        license_file=folder / data["licenseFile"] if "licenseFile" in data else None,
    )


def base_url(url: str) -> str:
    """Return the channel's base address, whether it was given bare or with the API's path."""
    return url.rstrip("/").removesuffix(CHANNEL_PATH).rstrip("/")


def _chart(data: Mapping[str, Any], folder: Path) -> ChartEntry:
    return ChartEntry(
        name=data["name"],
        repository=data.get("repository", ""),
        version=data.get("version", ""),
        path=folder / data["path"] if "path" in data else None,
        from_channel="from" in data,
        values=tuple(folder / name for name in data.get("values") or ()),
        profiles={name: tuple(folder / file for file in files) for name, files in (data.get("profiles") or {}).items()},
    )


def _image(text: str) -> ImageEntry:
    local = text.startswith(LOCAL_IMAGE)
    return ImageEntry(Reference.parse(text.removeprefix(LOCAL_IMAGE)), local)


def _file(data: Mapping[str, Any], folder: Path) -> FileEntry:
    place = data.get("path") or data["url"]
    name = data.get("name") or place.rstrip("/").rpartition("/")[2]
    try:
        digest = Digest.parse(f"sha256:{data['sha256'].removeprefix('sha256:')}") if "sha256" in data else None
    except IntegrityError as error:  # pragma: no cover  (the schema's pattern came first)
        raise ConfigurationError(error.message) from error
    return FileEntry(name, folder / data["path"] if "path" in data else None, data.get("url", ""), digest)


def _wheels(data: Mapping[str, Any]) -> WheelEntry:
    return WheelEntry(tuple(data["requirements"]), data["python"], tuple(data.get("platforms") or ()))


def _mirror(data: Mapping[str, Any], folder: Path) -> Mirror:
    host, _, prefix = data.get("mirror", "").partition("/")
    return Mirror(
        host=host.lower(),
        prefix=prefix.strip("/"),
        plain_http=data.get("plainHTTP", False),
        ca_file=folder / data["caFile"] if "caFile" in data else None,
    )
