"""What ``plan`` and ``mirror`` share: from a manifest, or from a lock, to a lock and the sources of everything it lists.

::

    manifest -> gather (channel, charts) -> discover -> resolve -> lock
    lock     -> restore: the same charts, spec, helm and installer again, each checked against its digest
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from airgap import __version__
from airgap import installer as installer_module
from airgap.cli.inside import kube_version, user_values
from airgap.discover import ChartInput, Discovery, discover
from airgap.lock import DOCKER_ENGINE, Lock
from airgap.manifest import BundleManifest
from airgap.oci import Platform
from airgap.resolve import resolve
from airgap.sources import (
    Artifact,
    Gathered,
    ImageSources,
    Means,
    Places,
    chart_artifact,
    charts_at_hand,
    gather,
    gather_files,
    gather_wheels,
    installer_artifact,
    restore,
    spec_artifact,
    tool_artifact,
    wheels_again,
)
from airgap.tools import host_platform
from airgap.transport import Client, CredentialStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airgap.progress import Progress
    from airgap.tools import Helm
    from airgap.transport import Rate


@dataclass(frozen=True)
class Upstream:
    """The connected side: manifest, the one client, and where hosts are really reached. ``scratch`` takes large files."""

    manifest: BundleManifest
    client: Client
    places: Places
    scratch: Path

    @classmethod
    def open(
        cls, manifest: Path | None, platforms: Sequence[str], scratch: Path, jobs: int, rate: Rate | None = None
    ) -> Upstream:
        """Read the manifest (the default one if None); --platform overrides its platforms; ``jobs`` connections to a host.

        ``rate``: how fast all of them may be together.
        """
        loaded = BundleManifest.load(manifest)
        if platforms:
            chosen = () if "all" in platforms else tuple(Platform.parse(platform) for platform in platforms)
            loaded = replace(loaded, platforms=chosen)
        places = Places.of(loaded)
        store = CredentialStore.from_environment(os.environ, Path.home())
        client = Client(hosts=places.settings(), credentials=store, environ=os.environ, connections=jobs, rate=rate)
        return cls(loaded, client, places, scratch)


@dataclass(frozen=True)
class Looked:
    """What the manifest leads to before any image is asked for."""

    gathered: Gathered
    discovery: Discovery


@dataclass(frozen=True)
class Planned:
    """A lock and the sources of everything in it.

    ``extra``: what each feature that is not in would add, in bytes; a feature is absent when its images were not looked up.
    """

    lock: Lock
    sources: ImageSources
    warnings: tuple[str, ...] = ()
    extra: Mapping[str, int] = field(default_factory=dict)


def look(upstream: Upstream, values_files: Sequence[str], helm: Helm, kube: str, progress: Progress) -> Looked:
    """Ask the channel, get the charts, and discover what they can ask for; what to know of it is told at once."""
    manifest = upstream.manifest
    gathered = gather(manifest, upstream.client, upstream.places, user=user_values(values_files))
    progress.begin("looking into charts", len(gathered.charts))
    discovery = discover(
        [ChartInput(it.fetched.chart, it.release, it.namespace, it.profiles) for it in gathered.charts],
        helm,
        features=manifest.features,
        images=manifest.images,
        kube_version=kube_version(kube),
        progress=progress,
    )
    progress.end()
    for warning in (*gathered.warnings, *discovery.warnings):  # before an image is asked for: it may be why one is not there
        progress.warn(warning)
    return Looked(gathered, discovery)


def plan_bundle(
    upstream: Upstream, looked: Looked, helm: Helm, *, jobs: int, progress: Progress, offers: bool = False
) -> Planned:
    """Resolve what was discovered to a lock; with ``offers`` also the features that are not in, for their sizes."""
    manifest, discovery = upstream.manifest, looked.discovery
    artifacts = _artifacts(upstream, looked.gathered, helm, progress)
    sources = ImageSources(upstream.client, upstream.places, scratch=upstream.scratch, artifacts=artifacts)
    resolution = resolve(discovery.requirements, sources, manifest.platforms, jobs=jobs, progress=progress)
    channel = looked.gathered.channel
    lock = Lock(
        name=manifest.name,
        platforms=manifest.platforms,
        images=resolution.images,
        artifacts=tuple(artifact.locked for artifact in artifacts),
        channel=channel.to_json() if channel else {},
        features=discovery.selected,
        generator=f"airgap {__version__}",
    )
    extra = _extra(discovery, lock, sources, jobs, progress) if offers else {}
    return Planned(lock, sources, resolution.warnings, extra)


def planned_from(upstream: Upstream, lock: Lock, helm: Helm, progress: Progress | None = None) -> Planned:
    """Find the sources of what a lock lists; raises IntegrityError when something is not what the lock names."""
    means = Means(upstream.client, upstream.places, helm, installer_module.build())
    at_hand = [
        *charts_at_hand(upstream.manifest),
        *gather_files(upstream.manifest.files, upstream.client, upstream.places, upstream.scratch),
        *wheels_again(lock, upstream.scratch, progress=progress),
    ]
    artifacts = restore(lock, means, at_hand)
    local = [image.reference for image in lock.images if image.source == DOCKER_ENGINE]
    sources = ImageSources(upstream.client, upstream.places, scratch=upstream.scratch, artifacts=artifacts, local=local)
    return Planned(lock, sources)


def _artifacts(upstream: Upstream, gathered: Gathered, helm: Helm, progress: Progress) -> list[Artifact]:
    return [
        *(chart_artifact(chart.fetched) for chart in gathered.charts),
        *([spec_artifact(gathered.channel)] if gathered.channel else []),
        tool_artifact(helm, host_platform()),
        installer_artifact(installer_module.build(), __version__),
        *gather_files(upstream.manifest.files, upstream.client, upstream.places, upstream.scratch),
        *gather_wheels(upstream.manifest.wheels, upstream.manifest.platforms, upstream.scratch, progress=progress),
    ]


def _extra(discovery: Discovery, lock: Lock, sources: ImageSources, jobs: int, progress: Progress) -> dict[str, int]:
    """Return the bytes that each feature would add to the bundle, over what is in it already."""
    asked = [replace(item, optional=True) for item in discovery.offered]
    offered = resolve(asked, sources, lock.platforms, jobs=jobs, progress=progress, referrers=False).images
    found = {image.reference: image for image in offered}
    held = lock.blobs()
    sizes = {}
    for feature in discovery.features:
        if not feature.selected and feature.adds and all(reference in found for reference in feature.adds):
            added = replace(lock, images=tuple(found[reference] for reference in feature.adds), artifacts=()).blobs()
            sizes[feature.name] = sum(blob.size for digest, blob in added.items() if digest not in held)
    return sizes
