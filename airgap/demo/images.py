"""Tiny images, built on the fly from a list: the same bytes on any Python and any zlib.

Invariants: pure. Every layer is a tar of one file with fixed times, in a gzip stream whose deflate blocks are *stored*, because
compressed bytes depend on the zlib at hand. All the forms that registries hold are here once: an index with BuildKit's
attestation child, Docker's own media types, a cosign signature under its tag, a referrer with the fallback tag.

    for upload in uploads(): push(upload)
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any

from airgap import oci
from airgap.demo.shipped import Put, Upload, read
from airgap.oci import Descriptor, Digest, Platform
from airgap.ref import Reference

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
IN_TOTO = "application/vnd.in-toto+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SBOM = "application/spdx+json"

_EPOCH = "1970-01-01T00:00:00Z"
_STORED_LIMIT = 0xFFFF
"""Bytes in one stored deflate block (RFC 1951, 3.2.4)."""


@dataclass(frozen=True)
class Recipe:
    """How one image is made: ``form`` oci or docker, ``extras`` attestation, cosign, referrer, ``base`` a shared layer."""

    reference: Reference
    tags: tuple[str, ...]
    platforms: tuple[Platform, ...]
    form: str = "oci"
    base: bool = False
    extras: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """Read one entry of ``images.json``."""
        return cls(
            reference=Reference.parse(f"{data['name']}:{data['tags'][0]}"),
            tags=tuple(data["tags"]),
            platforms=tuple(Platform.parse(text) for text in data.get("platforms", ["linux/amd64"])),
            form=data.get("form", "oci"),
            base=data.get("base", False),
            extras=tuple(data.get("with", ())),
        )

    @property
    def is_docker(self) -> bool:
        """Whether Docker's media types are used."""
        return self.form == "docker"


class _Content:
    """The blobs and manifests of one repository as they come to be."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: list[Put] = []

    def blob(self, media_type: str, data: bytes, **more: Any) -> Descriptor:
        """Add a blob and return its descriptor."""
        descriptor = Descriptor.of(media_type, data, **more)
        self.blobs[descriptor.digest] = data
        return descriptor

    def manifest(self, document: dict[str, Any], *locators: str, **more: Any) -> Descriptor:
        """Add a manifest under its locators (none: its digest) and return its descriptor."""
        raw = oci.canonical_json(document)
        descriptor = Descriptor.of(document["mediaType"], raw, **more)
        self.manifests += [Put(locator, descriptor.media_type, raw) for locator in locators or (str(descriptor.digest),)]
        return descriptor


def recipes() -> tuple[Recipe, ...]:
    """Return the images of the demonstration, as ``images.json`` lists them."""
    return tuple(Recipe.from_json(entry) for entry in json.loads(read("images.json"))["images"])


def uploads() -> tuple[Upload, ...]:
    """Build every image of the demonstration."""
    return tuple(build(recipe) for recipe in recipes())


def build(recipe: Recipe) -> Upload:
    """Build one image with everything that hangs on it."""
    content = _Content()
    documents = {platform: _image(content, recipe, platform) for platform in recipe.platforms}
    if len(documents) == 1 and "attestation" not in recipe.extras:
        (document,) = documents.values()
        root = content.manifest(document, *recipe.tags)
    else:
        children = [content.manifest(document, platform=platform) for platform, document in documents.items()]
        if "attestation" in recipe.extras:
            children += [_attestation(content, child) for child in tuple(children)]
        media_type = oci.DOCKER_INDEX if recipe.is_docker else oci.OCI_INDEX
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": [child.to_json() for child in children]}
        root = content.manifest(index, *recipe.tags)
    if "cosign" in recipe.extras:
        _cosign(content, recipe.reference, root)
    if "referrer" in recipe.extras:
        _referrer(content, root)
    return Upload(
        recipe.reference.registry, recipe.reference.repository, tuple(content.blobs.values()), tuple(content.manifests)
    )


def stored_gzip(data: bytes) -> bytes:
    """Return a gzip member (RFC 1952) of stored blocks: no compressor takes part, so one input has one output."""
    blocks = [data[start : start + _STORED_LIMIT] for start in range(0, len(data), _STORED_LIMIT)] or [b""]
    body = b"".join(struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    return head + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def layer_tar(path: str, text: str) -> bytes:
    """Return a tar of one file, owned by root at the epoch."""
    data = text.encode()
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), 0o644
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(data))
    return plain.getvalue()


def _image(content: _Content, recipe: Recipe, platform: Platform) -> dict[str, Any]:
    """Return the manifest of one platform."""
    tars = [layer_tar("etc/demo-release", "the layer that several images share\n")] if recipe.base else []
    tars.append(layer_tar("demo", f"{recipe.reference} for {platform}\n"))
    layer_type = DOCKER_LAYER if recipe.is_docker else OCI_LAYER
    config: dict[str, Any] = {
        "created": _EPOCH,
        "os": platform.os,
        "architecture": platform.architecture,
        "config": {"Cmd": ["/demo"]},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]},
    }
    if platform.variant:
        config["variant"] = platform.variant
    config_type = DOCKER_CONFIG if recipe.is_docker else oci.OCI_CONFIG
    return {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_MANIFEST if recipe.is_docker else oci.OCI_MANIFEST,
        "config": content.blob(config_type, oci.canonical_json(config)).to_json(),
        "layers": [content.blob(layer_type, stored_gzip(tar)).to_json() for tar in tars],
    }


def _attestation(content: _Content, subject: Descriptor) -> Descriptor:
    """Add BuildKit's attestation of one child (cases.md L1)."""
    statement = oci.canonical_json({"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"digest": subject.digest.hex}]})
    predicate = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
    layer = content.blob(IN_TOTO, statement, annotations=predicate)
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = oci.canonical_json({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs})
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": content.blob(oci.OCI_CONFIG, config).to_json(),
        "layers": [layer.to_json()],
    }
    told = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": str(subject.digest)}
    return content.manifest(document, platform=Platform("unknown", "unknown"), annotations=told)


def _cosign(content: _Content, reference: Reference, subject: Descriptor) -> None:
    """Add a signature in cosign's tag scheme; nobody's key made it."""
    payload = {
        "critical": {
            "identity": {"docker-reference": reference.name},
            "image": {"docker-manifest-digest": str(subject.digest)},
            "type": "cosign container image signature",
        },
        "optional": None,
    }
    signature = {"dev.cosignproject.cosign/signature": "ZGVtb25zdHJhdGlvbg=="}
    layer = content.blob(SIMPLE_SIGNING, oci.canonical_json(payload), annotations=signature)
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = oci.canonical_json({"architecture": "", "created": _EPOCH, "os": "", "config": {}, "rootfs": rootfs})
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": content.blob(oci.OCI_CONFIG, config).to_json(),
        "layers": [layer.to_json()],
    }
    content.manifest(document, f"{subject.digest.algorithm}-{subject.digest.hex}.sig")


def _referrer(content: _Content, subject: Descriptor) -> None:
    """Add an SBOM that names the image as its subject, and the fallback tag for registries without the referrers API."""
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "artifactType": SBOM,
        "config": content.blob(oci.OCI_EMPTY, b"{}").to_json(),
        "layers": [content.blob(SBOM, b'{"spdxVersion":"SPDX-2.3","name":"demo"}').to_json()],
        "subject": {"mediaType": subject.media_type, "digest": str(subject.digest), "size": subject.size},
    }
    found = content.manifest(document, artifact_type=SBOM)
    index = {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [found.to_json()]}
    content.manifest(index, f"{subject.digest.algorithm}-{subject.digest.hex}")
