"""A small estate in memory: images, a chart, a tool, an installer and their referrers, with the lock that lists them.

Everything is made of a few readable bytes, so a test can change one thing and look at what happens.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import NotFoundError
from airgap.lock import INSTALLER_TYPE, TOOL_TYPE, Lock, LockedArtifact, LockedImage, LockedReferrer, LockedTree
from airgap.oci import (
    HELM_CHART,
    HELM_CONFIG,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    Manifest,
    Platform,
    artifact_manifest,
    canonical_json,
)
from airgap.plan import missing
from airgap.ref import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airgap.bundle import BundleWriter

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SIGNATURE = "application/vnd.example.signature"
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@dataclass
class Estate:
    """Contents by digest; a Source in memory for the stages, and the maker of locks for tests."""

    contents: dict[Digest, bytes] = field(default_factory=dict)
    images: list[LockedImage] = field(default_factory=list)
    artifacts: list[LockedArtifact] = field(default_factory=list)
    served: list[Digest] = field(default_factory=list)

    @property
    def lock(self) -> Lock:
        return Lock("estate", (AMD64,), tuple(self.images), tuple(self.artifacts), generator="tests")

    # what fetch.Source asks for

    def manifest(self, reference: Reference, descriptor: Descriptor) -> bytes:
        del reference
        return b"".join(self.blob(None, descriptor))

    def blob(
        self,
        owner: LockedImage | LockedArtifact | None,
        descriptor: Descriptor,
        offset: int = 0,
        room: Callable[[], memoryview] | None = None,
    ) -> Iterator[bytes]:
        del owner, room
        if descriptor.digest not in self.contents:
            raise NotFoundError(f"{descriptor.digest} is not in this estate")
        self.served.append(descriptor.digest)
        yield self.contents[descriptor.digest][offset:]

    # what tests make

    def put(self, media_type: str, data: bytes, **more) -> Descriptor:
        descriptor = Descriptor.of(media_type, data, **more)
        self.contents[descriptor.digest] = data
        return descriptor

    def picture(self, text: str, *layers: bytes, platform: Platform = AMD64, layer_type: str = LAYER) -> Manifest:
        """An image's manifest, its config and layers put away."""
        diffs = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
        config = {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Labels": {"text": text}},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
        described = self.put(OCI_CONFIG, json.dumps(config).encode())
        made = artifact_manifest(described, tuple(self.put(layer_type, layer) for layer in layers))
        self.contents[made.descriptor.digest] = made.raw
        return made

    def image(self, reference: str, *layers: bytes, **more) -> LockedImage:
        """Add an image of one platform."""
        made = self.picture(reference, *layers, **more)
        image = LockedImage(Reference.parse(reference), tree_of(made))
        self.images.append(image)
        return image

    def multi(self, reference: str, pictures: dict[Platform, Manifest], absent: tuple[Platform, ...] = ()) -> LockedImage:
        """Add an image that is an index; the platforms of ``absent`` are listed in it and not carried."""
        children = [
            Descriptor(OCI_MANIFEST, made.descriptor.digest, made.descriptor.size, platform)
            for platform, made in pictures.items()
        ]
        raw = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [it.to_json() for it in children]})
        index = self.put(OCI_INDEX, raw)
        kept = [made for platform, made in pictures.items() if platform not in absent]
        blobs = {blob.digest: blob for made in kept for blob in made.blobs}
        tree = LockedTree(
            index,
            (*(child for child in children if child.platform not in absent), index),
            tuple(blobs.values()),
            tuple(child.digest for child in children if child.platform in absent),
        )
        image = LockedImage(Reference.parse(reference), tree)
        self.images.append(image)
        return image

    def sign(self, image: LockedImage, tag: str = "") -> LockedReferrer:
        """Give ``image`` a referrer (with ``tag``: under cosign's tag instead of a subject)."""
        root = image.tree.root
        signature = self.put(SIGNATURE, b"signed " + str(root.digest).encode())
        data = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": SIGNATURE,
            "config": self.put(OCI_EMPTY, b"{}").to_json(),
            "layers": [signature.to_json()],
        }
        if not tag:
            data["subject"] = Descriptor(root.media_type, root.digest, root.size).to_json()
        raw = canonical_json(data)
        manifest = self.put(OCI_MANIFEST, raw)
        blobs = (Descriptor.of(OCI_EMPTY, b"{}"), signature)
        referrer = LockedReferrer(root.digest, LockedTree(manifest, (manifest,), blobs), tag)
        position = self.images.index(image)
        self.images[position] = LockedImage(image.reference, image.tree, referrers=(*image.referrers, referrer))
        return referrer

    def artifact(self, kind: str, name: str, version: str, content: Descriptor, config: Descriptor) -> LockedArtifact:
        made = artifact_manifest(config, (content,))
        self.contents[made.descriptor.digest] = made.raw
        added = LockedArtifact(kind, name, version, "memory", tree_of(made), content)
        self.artifacts.append(added)
        return added

    def chart(self, name: str, version: str, data: bytes) -> LockedArtifact:
        config = self.put(HELM_CONFIG, json.dumps({"name": name, "version": version}).encode())
        return self.artifact("chart", name, version, self.put(HELM_CHART, data), config)

    def tool(self, name: str, data: bytes) -> LockedArtifact:
        return self.artifact("tool", name, "1.0", self.put(TOOL_TYPE, data), self.put(OCI_EMPTY, b"{}"))

    def installer(self, data: bytes = b"") -> LockedArtifact:
        data = data or tiny_zip()
        return self.artifact("installer", "airgap", "0", self.put(INSTALLER_TYPE, data), self.put(OCI_EMPTY, b"{}"))

    def write(self, writer: BundleWriter) -> None:
        """Put all that is missing into ``writer`` and finish it."""
        for descriptor in missing(self.lock, writer.held):
            with writer.sink(descriptor) as sink:
                sink.write(self.contents[descriptor.digest])
        writer.finish()


def tree_of(made: Manifest) -> LockedTree:
    return LockedTree(made.descriptor, (made.descriptor,), made.blobs)


def tiny_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        target.writestr(zipfile.ZipInfo("__main__.py"), "print('the bundle runs')\n")
    return out.getvalue()


def small() -> Estate:
    """Two images that share a layer, one index, a chart, a tool, an installer, two referrers."""
    estate = Estate()
    shared = b"a shared layer " * 40
    first = estate.image("quay.io/team/app:1.0", shared, b"layer of the app")
    estate.image("busybox:1.36", shared)
    estate.multi(
        "ghcr.io/org/multi:2", {AMD64: estate.picture("amd64", b"for amd64"), ARM64: estate.picture("arm64", b"x" * 512)}
    )
    estate.sign(first)
    estate.sign(estate.images[0], tag="sha256-" + first.digest.hex + ".sig")
    estate.chart("operator", "1.4.8+up1", b"a chart's bytes")
    estate.tool("helm", b"\x7fELF helm")
    estate.installer()
    return estate


def bundle(estate: Estate, path: Path) -> Path:
    """Write the bundle of ``estate``."""
    from airgap.bundle import BundleWriter  # noqa: PLC0415  # the estate is used where no bundle is

    with BundleWriter(path, estate.lock) as writer:
        estate.write(writer)
    return path


def forced(estate: Estate, path: Path) -> Path:
    """Write a bundle with no regard to whether its lock fits its manifests, which BundleWriter would refuse to finish."""
    from airgap.bundle import arrange  # noqa: PLC0415

    arrangement = arrange(estate.lock)
    data = bytearray(arrangement.size)
    for member in arrangement.members:
        content = member.content
        if content is None and member.digest:
            content = estate.contents[member.digest]
        data[member.start : member.offset + member.size] = member.header + (content or b"")
    path.write_bytes(data)
    return path
