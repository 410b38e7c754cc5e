"""A small bundle for the tests of serve: drawn images, one chart of two versions, a channel's spec, written by BundleWriter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airgap.bundle import BundleWriter
from airgap.chart import Chart
from airgap.lock import SPEC_TYPE, Lock, LockedArtifact, LockedImage, LockedReferrer, LockedTree
from airgap.oci import (
    HELM_CHART,
    HELM_CONFIG,
    OCI_EMPTY,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    artifact_manifest,
    parse_manifest,
)
from airgap.ref import Reference
from tests.world.images import Drawn, Picture, draw

if TYPE_CHECKING:
    from pathlib import Path

BUSYBOX = Picture("docker.io/library/busybox", ("1.36",), ("linux/amd64", "linux/arm64"), base=True)
PROMETHEUS = Picture("quay.io/prometheus/prometheus", ("v2.47.2",), extras=frozenset({"cosign", "referrer"}), base=True)
LOCAL = Picture("us-docker.pkg.dev/wandb-production/public/wandb/local", ("0.71.0", "latest"), form="docker")
PICTURES = (BUSYBOX, PROMETHEUS, LOCAL)
AMD64 = Platform.parse("linux/amd64")
SPEC = {
    "metadata": {"channelId": "stable"},
    "chart": {"url": "https://charts.example", "name": "platform", "version": "0.2.0", "username": "a", "password": "b"},
    "values": {"app": {"image": {"tag": "0.71.0"}}, "count": 3},
}


class Content:
    """Bytes by digest, and the artifacts and images that name them."""

    def __init__(self) -> None:
        self.bytes: dict[Digest, bytes] = {}
        self.images: list[LockedImage] = []
        self.artifacts: list[LockedArtifact] = []

    def add(self, media_type: str, data: bytes) -> Descriptor:
        descriptor = Descriptor.of(media_type, data)
        self.bytes[descriptor.digest] = data
        return descriptor

    def artifact(self, kind: str, name: str, version: str, config: Descriptor, content: Descriptor) -> None:
        manifest = artifact_manifest(config, (content,))
        root = self.add(manifest.media_type, manifest.raw)
        tree = LockedTree(root, (root,), manifest.blobs)
        self.artifacts.append(LockedArtifact(kind, name, version, f"{kind} of a test", tree, content))

    def chart(self, folder: Path, version: str) -> None:
        write_chart(folder, version)
        chart = Chart.load(folder)
        config = self.add(HELM_CONFIG, chart.config_json())
        self.artifact("chart", chart.name, chart.version, config, self.add(HELM_CHART, chart.archive))

    def image(self, picture: Picture) -> None:
        """Lock what a linux/amd64 mirror of the picture would: the one child of an index, with the index beside it."""
        drawn = draw(picture)
        self.bytes.update({Digest.parse(name): data for name, data in drawn.blobs.items()})
        self.bytes.update({Digest.parse(name): raw for name, (_, raw) in drawn.manifests.items()})
        root = parsed(drawn, drawn.tags[picture.tags[0]])
        index = None
        if isinstance(root, Index):
            child = root.select(AMD64)
            assert child
            index, root = root.descriptor, parsed(drawn, str(child.digest))
        for tag in picture.tags:
            reference = Reference.parse(f"{picture.name}:{tag}")
            self.images.append(LockedImage(reference, tree_of(drawn, root), referrers=referrers(drawn), index=index))

    def lock(self) -> Lock:
        return Lock("shelf", (AMD64,), tuple(self.images), tuple(self.artifacts), generator="tests")

    def write(self, path: Path) -> Path:
        lock = self.lock()
        with BundleWriter(path, lock) as writer:
            for digest, descriptor in lock.blobs().items():
                with writer.sink(descriptor) as sink:
                    sink.write(self.bytes[digest])
            writer.finish()
        return path


def parsed(drawn: Drawn, digest: str) -> Manifest | Index:
    media_type, raw = drawn.manifests[digest]
    return parse_manifest(raw, media_type)


def tree_of(drawn: Drawn, root: Manifest | Index) -> LockedTree:
    if isinstance(root, Manifest):
        return LockedTree(root.descriptor, (root.descriptor,), root.blobs)
    children = [tree_of(drawn, parsed(drawn, str(child.digest))) for child in root.manifests]
    manifests = (*(item for child in children for item in child.manifests), root.descriptor)
    return LockedTree(root.descriptor, manifests, tuple(blob for child in children for blob in child.blobs))


def referrers(drawn: Drawn) -> tuple[LockedReferrer, ...]:
    found = []
    for tag, name in drawn.tags.items():
        if tag.startswith("sha256-"):
            subject = Digest("sha256", tag.removeprefix("sha256-").removesuffix(".sig"))
            found.append(LockedReferrer(subject, tree_of(drawn, parsed(drawn, name)), tag))
    for name in drawn.manifests:
        document = parsed(drawn, name)
        if document.subject:
            found.append(LockedReferrer(document.subject.digest, tree_of(drawn, document)))
    return tuple(found)


def write_chart(folder: Path, version: str) -> None:
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "Chart.yaml").write_text(
        f"apiVersion: v2\nname: platform\nversion: {version}\ndescription: a chart of the tests\n"
    )
    (folder / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n"
        "data: {version: {{ .Chart.Version | quote }}}\n"
    )


def whole(tmp_path: Path) -> Content:
    """The usual content: three images, two versions of a chart and a prerelease, one spec."""
    content = Content()
    for picture in PICTURES:
        content.image(picture)
    for version in ("0.1.0", "0.2.0", "0.3.0-PR7", "0.1.0+build.5"):
        content.chart(tmp_path / f"chart-{version}" / "platform", version)
    spec = json.dumps(SPEC).encode()
    empty = content.add(OCI_EMPTY, b"{}")
    content.artifact("spec", "channel", "stable-1", empty, content.add(SPEC_TYPE, spec))
    return content
