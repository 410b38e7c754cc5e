"""Gather: from the manifest to charts with their values, the channel's release, and files; and the same again from a lock.

Invariants: values are merged as the operator merges them (custom resource > user input > channel); charts are what their source
says they are. ``restore`` makes exactly the artifacts of a lock, or fails: the same lock gives the same bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.chart import Chart
from airgap.errors import ConfigurationError, IntegrityError
from airgap.manifest import DEFAULT
from airgap.sources.artifacts import chart_artifact, file_artifact, installer_artifact, spec_artifact, tool_artifact
from airgap.sources.channel import find_license, read_channel, saved_release
from airgap.sources.helmrepo import ARCHIVE_LIMIT, FetchedChart, fetch_chart
from airgap.transport import redact_url
from airgap.values import coalesce, load_yaml
from airgap.wandb import OciChart, RepoChart, UserInput, effective

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from airgap.lock import Lock, LockedArtifact
    from airgap.manifest import BundleManifest, ChartEntry, FileEntry
    from airgap.sources.artifacts import Artifact
    from airgap.sources.channel import ChannelRelease
    from airgap.sources.places import Places
    from airgap.tools import Helm
    from airgap.transport import Client

OPERATOR_NAMESPACE = "wandb"
"""Where the operator runs unless it is told otherwise (wandb-v1.md section 1)."""
DEFAULT_RESOURCE = ("wandb", "default")
"""Name and namespace of the custom resource, and so of the platform's Helm release, that the vendor's pages use."""
CHUNK = 1024 * 1024


@dataclass(frozen=True)
class GatheredChart:
    """A chart with the value sets to look into it with (the first is the main one), and how it will be installed."""

    fetched: FetchedChart
    release: str
    namespace: str
    profiles: Mapping[str, Mapping[str, Any]] = field(repr=False, hash=False)


@dataclass(frozen=True)
class Gathered:
    """Everything that the manifest names but images and files."""

    charts: tuple[GatheredChart, ...]
    channel: ChannelRelease | None
    warnings: tuple[str, ...] = ()


def gather(
    manifest: BundleManifest,
    client: Client,
    places: Places,
    *,
    user: UserInput | None = None,
    environ: Mapping[str, str] | None = None,
) -> Gathered:
    """Read the channel and get the charts of a manifest; ``user``: what --values holds.

    Raises NotFoundError, UnauthorizedError, NetworkError, IntegrityError, ConfigurationError.
    """
    release = None
    if manifest.channel:
        release = read_channel(client, manifest.channel, places=places, licence=find_license(manifest.channel, environ))
    user = user or UserInput({})
    warnings: list[str] = []
    charts = []
    for entry in manifest.charts:
        fetched = _fetch(entry, release, client, places)
        if entry.from_channel and release:
            charts.append(_platform(entry, fetched, release, user, warnings))
        else:
            namespace = OPERATOR_NAMESPACE if entry.name == "operator" else "default"
            charts.append(GatheredChart(fetched, entry.name, namespace, _profiles(entry, coalesce(_files(entry.values)))))
    return Gathered(tuple(charts), release, tuple(warnings))


def _fetch(entry: ChartEntry, release: ChannelRelease | None, client: Client, places: Places) -> FetchedChart:
    if entry.path:
        chart = Chart.load(entry.path)
        if chart.name != entry.name:
            raise ConfigurationError(f"{entry.path} is chart {chart.name}, the manifest calls it {entry.name}")
        return FetchedChart(chart, entry.path.name)
    if not entry.from_channel:
        return fetch_chart(client, entry.repository, entry.name, entry.version, places=places)
    source = release.spec.chart if release else None
    if isinstance(source, RepoChart) and source.name == entry.name and release:
        version = entry.version or source.version
        return fetch_chart(client, source.url, source.name, version, places=places, credential=release.credential)
    if isinstance(source, OciChart):
        return fetch_chart(client, source.url, entry.name, entry.version or source.version, places=places)
    told = getattr(source, "name", "") or getattr(source, "path", "") or "no chart"
    raise ConfigurationError(
        f"chart {entry.name} is to come from the channel, whose spec names {told}",
        hint="name its repository or path in the manifest",
    )


def _platform(
    entry: ChartEntry, fetched: FetchedChart, release: ChannelRelease, user: UserInput, warnings: list[str]
) -> GatheredChart:
    """Return the chart of the channel with the values as the operator would merge them."""
    merged = effective(user.values, coalesce(_files(entry.values)), release.spec.values, OPERATOR_NAMESPACE)
    warnings += merged.warnings
    name, namespace = (user.resource.name, user.resource.namespace) if user.resource else DEFAULT_RESOURCE
    return GatheredChart(fetched, name, namespace or DEFAULT_RESOURCE[1], _profiles(entry, merged.values))


def _profiles(entry: ChartEntry, values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {DEFAULT: values, **{name: coalesce([values, *_files(files)]) for name, files in entry.profiles.items()}}


def _files(paths: Iterable[Path]) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        try:
            data = load_yaml(path.read_bytes(), str(path))
        except OSError as error:
            raise ConfigurationError(f"values file {path} cannot be read: {error.strerror}") from error
        if not isinstance(data, dict) and data is not None:
            raise ConfigurationError(f"values file {path} is no mapping")
        found.append(data or {})
    return found


def gather_files(entries: Sequence[FileEntry], client: Client, places: Places, scratch: Path) -> tuple[Artifact, ...]:
    """Return the files of a manifest as artifacts; those with a URL are downloaded into ``scratch`` first."""
    made = []
    for entry in entries:
        if entry.path:
            made.append(file_artifact(entry, entry.path, entry.path.name))
        else:
            path = _download(client, places.url(entry.url), scratch / entry.name)
            made.append(file_artifact(entry, path, redact_url(entry.url)))
    return tuple(made)


def _download(client: Client, url: str, path: Path) -> Path:
    with client.request("GET", url) as response, path.open("wb") as file:
        for chunk in response.stream(CHUNK):
            file.write(chunk)
    return path


@dataclass(frozen=True)
class Means:
    """What ``restore`` works with: the network, this machine's helm, and airgap itself as an installer."""

    client: Client
    places: Places
    helm: Helm | None
    installer: bytes = field(repr=False)


def restore(lock: Lock, means: Means, at_hand: Iterable[Artifact] = ()) -> tuple[Artifact, ...]:
    """Make the artifacts of a lock again: charts from their sources, the spec from the lock itself, helm and airgap from here.

    ``at_hand``: artifacts that came from files (gather_files; charts with a path). Raises IntegrityError for what is not what
    the lock says.
    """
    given = {(item.locked.kind, item.locked.name, item.locked.version): item for item in at_hand}
    made = []
    for locked in lock.artifacts:
        artifact = given.get((locked.kind, locked.name, locked.version)) or _again(locked, lock, means)
        if artifact is None or artifact.locked.tree != locked.tree:
            found = f"is {artifact.locked.content.digest}" if artifact else "is not at hand"
            raise IntegrityError(
                f"{locked.kind} {locked.name} {locked.version} {found}, the lock says {locked.content.digest}",
                hint="use what the lock was made with, or write a new lock with airgap plan",
            )
        made.append(artifact)
    return tuple(made)


def _again(locked: LockedArtifact, lock: Lock, means: Means) -> Artifact | None:
    if locked.kind == "spec":
        return spec_artifact(saved_release(lock.channel))
    if locked.kind == "tool" and means.helm and locked.platform:
        return tool_artifact(means.helm, locked.platform)
    if locked.kind == "installer":
        return installer_artifact(means.installer, locked.version)
    if locked.kind == "chart" and locked.source.startswith("oci://"):
        place = locked.source.rpartition(":")[0]
        return chart_artifact(fetch_chart(means.client, place, locked.name, locked.version, places=means.places))
    if locked.kind == "chart" and locked.source.startswith(("http://", "https://")):
        with means.client.request("GET", means.places.url(locked.source), preload=ARCHIVE_LIMIT) as response:
            data = response.read(ARCHIVE_LIMIT)
        return chart_artifact(FetchedChart(Chart.from_bytes(data, locked.source), locked.source))
    return None


def charts_at_hand(manifest: BundleManifest) -> tuple[Artifact, ...]:
    """Return the charts of a manifest that lie on this machine, for ``restore``."""
    return tuple(
        chart_artifact(FetchedChart(Chart.load(entry.path), entry.path.name)) for entry in manifest.charts if entry.path
    )
