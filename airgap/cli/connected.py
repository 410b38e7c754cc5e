"""What ``plan`` and ``mirror`` share: from a manifest (or a lock) to a lock and the sources of everything it lists.

::

    manifest -> channel spec -> charts -> discover -> resolve -> lock
    lock     -> the same charts, spec, helm and installer again, each checked against its digest
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airgap import __version__
from airgap import installer as installer_module
from airgap.chart import Chart
from airgap.cli.inside import OPERATOR, kube_version, user_values
from airgap.discover import ChartInput, Discovery, discover
from airgap.errors import ConfigurationError
from airgap.lock import DOCKER_ENGINE, Lock
from airgap.manifest import DEFAULT, BundleManifest
from airgap.oci import Platform
from airgap.resolve import resolve
from airgap.sources import (
    Artifact,
    ImageSources,
    Places,
    chart_artifact,
    fetch_chart,
    file_artifact,
    find_license,
    installer_artifact,
    read_channel,
    spec_artifact,
    tool_artifact,
)
from airgap.sources.channel import saved_release
from airgap.sources.helmrepo import FetchedChart
from airgap.transport import Client, CredentialStore
from airgap.values import coalesce, load_yaml
from airgap.wandb import OciChart, RepoChart, UserInput, effective

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airgap.manifest import ChartEntry, FileEntry
    from airgap.progress import Progress
    from airgap.sources import ChannelRelease
    from airgap.tools import Helm
    from airgap.values import Json

HELM_PLATFORM = Platform("linux", "amd64")
"""Of the helm that scripts/get-tools brings; the only one that its second source has."""

NAMESPACE, RELEASE = "wandb", "wandb"
"""What discovery renders with; no image depends on them."""


@dataclass(frozen=True)
class Upstream:
    """The connected side: manifest, the one client, and where hosts are really reached. ``scratch`` takes large files."""

    manifest: BundleManifest
    client: Client
    places: Places
    scratch: Path

    @classmethod
    def open(cls, manifest: Path | None, platforms: Sequence[str], scratch: Path) -> Upstream:
        """Read the manifest (the default one if None); --platform overrides its platforms."""
        loaded = BundleManifest.load(manifest)
        if platforms:
            chosen = () if "all" in platforms else tuple(Platform.parse(platform) for platform in platforms)
            loaded = loaded.with_platforms(chosen)
        places = Places.of(loaded)
        store = CredentialStore.from_environment(os.environ, Path.home())
        return cls(loaded, Client(hosts=places.settings(), credentials=store, environ=os.environ), places, scratch)


@dataclass(frozen=True)
class Planned:
    """A lock, how it came about (None when it was given), and the sources of everything in it.

    ``extra``: what each feature that is not in would add, in bytes; a feature is absent when its images were not looked up.
    """

    lock: Lock
    discovery: Discovery | None
    sources: ImageSources
    warnings: tuple[str, ...] = ()
    extra: Mapping[str, int] = field(default_factory=dict)


def plan_bundle(
    upstream: Upstream,
    values_files: Sequence[str],
    helm: Helm,
    kube: str,
    *,
    jobs: int,
    progress: Progress,
    offers: bool = False,
) -> Planned:
    """Resolve the manifest to a lock: ask the channel, get the charts, discover, resolve every image.

    With ``offers`` the images of the features that are not in are looked up too, for their sizes.
    """
    manifest = upstream.manifest
    release = _channel(upstream)
    charts = [(entry, _chart(upstream, entry, release)) for entry in manifest.charts]
    user = user_values(values_files)
    progress.begin("looking into charts", len(charts))
    discovery = discover(
        [_input(entry, fetched.chart, release, user) for entry, fetched in charts],
        helm,
        features=manifest.features,
        images=manifest.images,
        kube_version=kube_version(kube),
        progress=progress,
    )
    progress.end()
    artifacts = _artifacts(upstream, [fetched for _, fetched in charts], release, helm)
    sources = ImageSources(upstream.client, upstream.places, scratch=upstream.scratch, artifacts=artifacts)
    resolution = resolve(discovery.requirements, sources, manifest.platforms, jobs=jobs, progress=progress)
    lock = Lock(
        name=manifest.name,
        platforms=manifest.platforms,
        images=resolution.images,
        artifacts=tuple(artifact.locked for artifact in artifacts),
        channel=release.to_json() if release else {},
        features=discovery.selected,
        generator=f"airgap {__version__}",
    )
    extra = _extra(discovery, lock, sources, jobs, progress) if offers else {}
    return Planned(lock, discovery, sources, (*discovery.warnings, *resolution.warnings), extra)


def _extra(discovery: Discovery, lock: Lock, sources: ImageSources, jobs: int, progress: Progress) -> dict[str, int]:
    """Return the bytes that each feature would add to the bundle, over what is in it already."""
    asked = [replace(item, optional=True) for item in discovery.offered]
    offered = resolve(asked, sources, lock.platforms, jobs=jobs, progress=progress).images
    found = {image.reference: image for image in offered}
    held = lock.blobs()
    return {
        feature.name: sum(
            blob.size
            for digest, blob in replace(lock, images=tuple(found[ref] for ref in feature.adds), artifacts=()).blobs().items()
            if digest not in held
        )
        for feature in discovery.features
        if not feature.selected and all(reference in found for reference in feature.adds)
    }


def planned_from(upstream: Upstream, lock: Lock, helm: Helm) -> Planned:
    """Find the sources of what a lock lists; raises ConfigurationError when something here is not what the lock names."""
    manifest = upstream.manifest
    release = saved_release(lock.channel) if lock.channel else None
    held = {artifact.name: artifact.version for artifact in lock.artifacts if artifact.kind == "chart"}
    charts = [_chart(upstream, entry, release, held[entry.name]) for entry in manifest.charts if entry.name in held]
    artifacts = _artifacts(upstream, charts, release, helm)
    now = {(artifact.locked.kind, artifact.locked.name): artifact.locked for artifact in artifacts}
    for wanted in lock.artifacts:
        found = now.get((wanted.kind, wanted.name))
        if found is None or found.content.digest != wanted.content.digest:
            given = f"{found.name} {found.version} here has another digest" if found else "there is none here"
            raise ConfigurationError(
                f"the lock names {wanted.kind} {wanted.name} {wanted.version} ({wanted.content.digest}), and {given}",
                hint=_remedy(wanted.kind, lock),
            )
    local = [image.reference for image in lock.images if image.source == DOCKER_ENGINE]
    sources = ImageSources(upstream.client, upstream.places, scratch=upstream.scratch, artifacts=artifacts, local=local)
    return Planned(lock, None, sources)


def _remedy(kind: str, lock: Lock) -> str:
    if kind == "installer":
        return f"the lock was made by {lock.generator}: use it with the same versions of its packages, or run airgap plan again"
    if kind == "tool":
        return "use the helm that the lock was made with (scripts/get-tools, --helm), or run airgap plan again"
    return "give the manifest that the lock was made from with -f, or run airgap plan again"


def _channel(upstream: Upstream) -> ChannelRelease | None:
    entry = upstream.manifest.channel
    return read_channel(upstream.client, entry, places=upstream.places, licence=find_license(entry)) if entry else None


def _chart(upstream: Upstream, entry: ChartEntry, release: ChannelRelease | None, version: str = "") -> FetchedChart:
    """Get a chart from where its entry says; ``version`` (of a lock) outranks the manifest's."""
    if entry.path:
        return FetchedChart(Chart.load(entry.path), entry.path.name)
    if not entry.from_channel:
        return fetch_chart(upstream.client, entry.repository, entry.name, version or entry.version, places=upstream.places)
    source = release.spec.chart if release else None
    if isinstance(source, OciChart):
        return fetch_chart(upstream.client, source.url, entry.name, version or source.version, places=upstream.places)
    if isinstance(source, RepoChart):
        wanted, credential = version or source.version, release.credential if release else None
        return fetch_chart(upstream.client, source.url, source.name, wanted, places=upstream.places, credential=credential)
    raise ConfigurationError(
        f"the channel names no chart that can be fetched for {entry.name}", hint="give the chart a repository or a path"
    )


def _input(entry: ChartEntry, chart: Chart, release: ChannelRelease | None, user: UserInput) -> ChartInput:
    """Return how a chart is rendered: the user's and the channel's values belong to the chart that the channel names."""
    own = _layers(entry.values)
    if entry.from_channel:
        own = effective(coalesce([own, user.values]), {}, release.spec.values if release else {}).values
    profiles: Mapping[str, Mapping[str, Json]] = OrderedDict(
        [(DEFAULT, own), *((name, coalesce([own, _layers(files)])) for name, files in entry.profiles.items())]
    )
    return ChartInput(chart, OPERATOR if entry.name == OPERATOR else RELEASE, NAMESPACE, profiles)


def _layers(files: Sequence[Path]) -> dict[str, Json]:
    """Read values files and lay them over each other as helm does."""
    layers = []
    for path in files:
        data = load_yaml(path.read_bytes(), str(path))
        if not isinstance(data, dict):
            raise ConfigurationError(f"{path}: values must be a map, not {type(data).__name__}")
        layers.append(data)
    return coalesce(layers)


def _artifacts(
    upstream: Upstream, charts: Sequence[FetchedChart], release: ChannelRelease | None, helm: Helm
) -> list[Artifact]:
    return [
        *(chart_artifact(chart) for chart in charts),
        *([spec_artifact(release)] if release else []),
        tool_artifact(helm, HELM_PLATFORM),
        installer_artifact(installer_module.build(), __version__),
        *(_file(upstream, entry) for entry in upstream.manifest.files),
    ]


def _file(upstream: Upstream, entry: FileEntry) -> Artifact:
    """Return a file of the manifest; one with a URL is downloaded into the scratch folder first."""
    if entry.path:
        return file_artifact(entry, entry.path, entry.path.name)
    name = unquote(urlsplit(entry.url).path).rpartition("/")[2] or "file"
    path = upstream.scratch / f"{entry.digest.short if entry.digest else ''}-{name}"
    with upstream.client.request("GET", upstream.places.url(entry.url)) as response, path.open("wb") as file:
        file.writelines(response.stream())
    return file_artifact(entry, path, entry.url)
