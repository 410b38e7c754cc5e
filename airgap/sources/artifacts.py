"""Artifacts: charts, the channel's spec, helm, the installer and files, as OCI artifacts of the bundle.

Invariants: the same content gives the same artifact, byte for byte: manifests are canonical JSON without a date. Large
contents (helm) stay files; they are hashed where they lie. A chart is what ``helm push`` would make of it, so
``helm pull oci://`` takes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, IntegrityError
from airgap.layout import EMPTY, TITLE
from airgap.lock import (
    FILE_TYPE,
    INSTALLER_TYPE,
    SPEC_TYPE,
    TOOL_TYPE,
    LockedArtifact,
    LockedTree,
)
from airgap.oci import HELM_CHART, HELM_CONFIG, OCI_EMPTY, Descriptor, Digest, Platform, artifact_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airgap.manifest import FileEntry
    from airgap.sources.channel import ChannelRelease
    from airgap.sources.helmrepo import FetchedChart
    from airgap.tools import Helm

VERSION = "org.opencontainers.image.version"
CHUNK = 1024 * 1024
"""Bytes read at a time from a file."""


@dataclass(frozen=True)
class Artifact:
    """What the lock says of an artifact, with its blobs: bytes, or the file that holds them."""

    locked: LockedArtifact
    blobs: Mapping[Digest, bytes | Path] = field(repr=False, hash=False)


def chart_artifact(fetched: FetchedChart) -> Artifact:
    """Return a chart as ``helm push`` packs it: config is Chart.yaml as JSON, the one layer the archive."""
    chart = fetched.chart
    config = chart.config_json()
    annotations = {TITLE: chart.name, VERSION: chart.version}
    return _artifact(
        "chart",
        chart.name,
        chart.version,
        fetched.source,
        content=chart.archive,
        media_type=HELM_CHART,
        config=(HELM_CONFIG, config),
        annotations=annotations,
    )


def spec_artifact(release: ChannelRelease) -> Artifact:
    """Return the channel's answer."""
    return _artifact(
        "spec",
        "channel",
        release.release,
        release.source,
        content=release.spec.raw,
        media_type=SPEC_TYPE,
        title="spec.json",
    )


def tool_artifact(helm: Helm, platform: Platform) -> Artifact:
    """Return the helm that the renderings were made with, so that it can be run inside."""
    return _artifact(
        "tool", "helm", helm.version, "helm", content=helm.path, media_type=TOOL_TYPE, title="helm", platform=platform
    )


def installer_artifact(content: bytes, version: str) -> Artifact:
    """Return the tool itself (installer.build)."""
    return _artifact("installer", "airgap", version, "airgap", content=content, media_type=INSTALLER_TYPE, title="airgap.pyz")


def file_artifact(entry: FileEntry, path: Path, source: str) -> Artifact:
    """Return a file that the manifest names; raises IntegrityError when it is not what the manifest says."""
    made = _artifact("file", entry.name, "", source, content=path, media_type=FILE_TYPE, title=entry.name)
    if entry.digest and made.locked.content.digest != entry.digest:
        raise IntegrityError(
            f"file {entry.name} has the digest {made.locked.content.digest}, the manifest says {entry.digest}",
            hint="get the right file, or correct sha256 in the manifest",
        )
    return made


def wheel_artifact(path: Path, version: str, annotations: Mapping[str, str]) -> Artifact:
    """Return a Python package; ``annotations`` say for which Python and platform it was chosen."""
    return _artifact(
        "wheel", path.name, version, "pip", content=path, media_type=FILE_TYPE, title=path.name, annotations=annotations
    )


def _artifact(
    kind: str,
    name: str,
    version: str,
    source: str,
    *,
    content: bytes | Path,
    media_type: str,
    config: tuple[str, bytes] = (OCI_EMPTY, EMPTY),
    annotations: Mapping[str, str] | None = None,
    title: str = "",
    platform: Platform | None = None,
) -> Artifact:
    """Build config, layer and manifest."""
    layer = _described(content, media_type, {TITLE: title} if title else {})
    described = Descriptor.of(config[0], config[1])
    artifact_type = media_type if config[0] == OCI_EMPTY else ""
    manifest = artifact_manifest(described, (layer,), annotations, artifact_type)
    root = manifest.descriptor
    locked = LockedArtifact(
        kind=kind,
        name=name,
        version=version,
        source=source,
        tree=LockedTree(root, (root,), manifest.blobs),
        content=layer,
        platform=platform,
        annotations=dict(annotations or {}),
    )
    return Artifact(locked, {root.digest: manifest.raw, described.digest: config[1], layer.digest: content})


def _described(content: bytes | Path, media_type: str, annotations: Mapping[str, str]) -> Descriptor:
    if isinstance(content, bytes):
        return Descriptor.of(media_type, content, annotations=annotations)
    hashed, size = hashlib.sha256(), 0
    try:
        with content.open("rb") as file:
            while data := file.read(CHUNK):
                hashed.update(data)
                size += len(data)
    except OSError as error:
        raise ConfigurationError(f"{content} cannot be read: {error.strerror}") from error
    return Descriptor(media_type, Digest("sha256", hashed.hexdigest()), size, annotations=annotations)
