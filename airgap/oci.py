"""The words of the OCI image specification: Digest, Descriptor, Platform, Manifest, Index.

Invariants: everything here is frozen and pure. A parsed Manifest or Index keeps the bytes it came from (``raw``), because
the digest is theirs: nothing is ever written out again from the parsed form. Bad input raises IntegrityError.

>>> Digest.of(b"").hex[:12]
'e3b0c44298fc'
>>> Platform.parse("linux/arm64/v8").variant
'v8'
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import ConfigurationError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
ACCEPT = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
"""What is asked for when a manifest is fetched, most general first (distribution-spec, "Pulling manifests")."""

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes; registries refuse larger manifests (distribution-spec: at least 4 MiB must be accepted)."""

FOREIGN_LAYER_TYPES = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
)
"""Layers whose bytes lie outside the registry (cases.md B1)."""

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")
_PLATFORM_PARTS = (2, 3)


@dataclass(frozen=True, order=True)
class Digest:
    """A content address, ``algorithm:hex`` (image-spec, descriptor.md, "Digests"); sha256 and sha512 are registered."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse ``sha256:<64 hex>``; raises IntegrityError for anything else (so it is safe in paths and URLs)."""
        algorithm, _, encoded = text.partition(":")
        if len(encoded) != _HEX_LENGTH.get(algorithm, -1) or not _HEX.fullmatch(encoded):
            raise IntegrityError(f"{text[:100]!r} is not a digest (sha256: and 64 lower-case hexadecimal digits)")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the sha256 digest of ``data``."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    def hasher(self) -> hashlib._Hash:
        """Return a fresh hash of this digest's algorithm, for streaming verification."""
        return hashlib.new(self.algorithm)

    @property
    def short(self) -> str:
        """The first 12 hexadecimal digits, for tables only."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, order=True)
class Platform:
    """An operating system, an architecture and perhaps a variant (image-spec, image-index.md, "platform")."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse ``os/architecture[/variant]``; raises ConfigurationError."""
        parts = text.split("/")
        if len(parts) not in _PLATFORM_PARTS or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
            raise ConfigurationError(f"platform {text!r} is not of the form os/architecture[/variant], e.g. linux/amd64")
        return cls(*parts)

    @property
    def is_unknown(self) -> bool:
        """Whether this marks a BuildKit attestation rather than something to run (cases.md L1)."""
        return self.os == "unknown" or self.architecture == "unknown"

    def provides(self, wanted: Platform) -> bool:
        """Whether an image for this platform runs where ``wanted`` is asked for (no variant asked: any will do)."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        return not wanted.variant or not self.variant or self.variant == wanted.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Descriptor:
    """What a blob is called: media type, digest, size in bytes (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    @classmethod
    def of(cls, media_type: str, data: bytes, **more: Any) -> Descriptor:
        """Describe ``data``."""
        return cls(media_type, Digest.of(data), len(data), **more)

    @classmethod
    def from_json(cls, data: object) -> Descriptor:
        """Read a descriptor object; raises IntegrityError."""
        if not isinstance(data, dict):
            raise IntegrityError(f"a descriptor must be an object, not {type(data).__name__}")
        media_type, size = data.get("mediaType"), data.get("size")
        if not isinstance(media_type, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise IntegrityError(f"descriptor {data.get('digest')!r} lacks a media type or a size that is a whole number")
        urls, annotations = data.get("urls") or [], data.get("annotations") or {}
        if not isinstance(urls, list) or not isinstance(annotations, dict):
            raise IntegrityError(f"descriptor {data.get('digest')!r} has urls or annotations of the wrong kind")
        return cls(
            media_type=media_type,
            digest=Digest.parse(str(data.get("digest"))),
            size=size,
            platform=_platform(data.get("platform")),
            annotations={str(key): str(value) for key, value in annotations.items()},
            artifact_type=str(data.get("artifactType") or ""),
            urls=tuple(str(url) for url in urls),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the specification writes it, empty fields left out."""
        out: dict[str, Any] = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform:
            out["platform"] = {"architecture": self.platform.architecture, "os": self.platform.os}
            if self.platform.variant:
                out["platform"]["variant"] = self.platform.variant
        if self.annotations:
            out["annotations"] = dict(sorted(self.annotations.items()))
        if self.artifact_type:
            out["artifactType"] = self.artifact_type
        if self.urls:
            out["urls"] = list(self.urls)
        return out

    @property
    def is_index(self) -> bool:
        """Whether this names an image index (manifest list)."""
        return self.media_type in INDEX_TYPES

    @property
    def is_manifest(self) -> bool:
        """Whether this names an image manifest."""
        return self.media_type in MANIFEST_TYPES

    @property
    def is_foreign(self) -> bool:
        """Whether a node may fetch this layer from outside the registry (cases.md B1)."""
        return self.media_type in FOREIGN_LAYER_TYPES or bool(self.urls)

    @property
    def is_attestation(self) -> bool:
        """Whether this is a BuildKit attestation child of an index (cases.md L1)."""
        return "vnd.docker.reference.type" in self.annotations or bool(self.platform and self.platform.is_unknown)


@dataclass(frozen=True)
class Manifest:
    """An image (or artifact) manifest: config and layers, with the bytes it was parsed from."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this manifest's own bytes."""
        return Descriptor.of(self.media_type, self.raw)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, in the order of the document, each digest once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())


@dataclass(frozen=True)
class Index:
    """An image index (manifest list): the manifests of several platforms, with the bytes it was parsed from."""

    raw: bytes = field(repr=False)
    media_type: str
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this index's own bytes."""
        return Descriptor.of(self.media_type, self.raw)

    def select(self, platform: Platform) -> Descriptor | None:
        """Return the first child for ``platform``, or None."""
        return next((child for child in self.manifests if child.platform and child.platform.provides(platform)), None)


def parse_manifest(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Parse the bytes of a manifest or index; ``media_type`` is what the server (or parent) called it, if anything did.

    Raises IntegrityError for what is neither, or both: a document with ``manifests`` and ``layers`` is ambiguous and is
    refused (GHSA-mc8v-mgrf-8f4m).
    """
    data = _load(raw)
    subject = Descriptor.from_json(data["subject"]) if data.get("subject") else None
    artifact_type = str(data.get("artifactType") or "")
    annotations = {str(key): str(value) for key, value in (data.get("annotations") or {}).items()}
    if "manifests" in data:
        if "layers" in data or "config" in data:
            raise IntegrityError("a manifest holds both manifests and layers, which no two readers read alike: refused")
        kind = _media_type(data, media_type, INDEX_TYPES)
        children = tuple(Descriptor.from_json(child) for child in _list(data, "manifests"))
        return Index(raw, kind, children, subject, artifact_type, annotations)
    if "config" not in data:
        raise IntegrityError(f"a document of type {data.get('mediaType') or media_type or 'unknown'} is no image manifest")
    kind = _media_type(data, media_type, MANIFEST_TYPES)
    layers = tuple(Descriptor.from_json(layer) for layer in _list(data, "layers"))
    return Manifest(raw, kind, Descriptor.from_json(data["config"]), layers, subject, artifact_type, annotations)


def canonical_json(data: object) -> bytes:
    """Return ``data`` as JSON with sorted keys and no white space: one value, one digest."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def artifact_manifest(
    config: Descriptor,
    layers: tuple[Descriptor, ...],
    annotations: Mapping[str, str] | None = None,
    artifact_type: str = "",
) -> Manifest:
    """Build a manifest of our own (chart, lock, tool): OCI with its media type spelt out, as ECR wants (cases.md P10)."""
    data: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    if annotations:
        data["annotations"] = dict(annotations)
    if artifact_type:
        data["artifactType"] = artifact_type
    return Manifest(canonical_json(data), OCI_MANIFEST, config, layers, None, artifact_type, dict(annotations or {}))


def _load(raw: bytes) -> dict[str, Any]:
    if len(raw) > MANIFEST_LIMIT:
        raise IntegrityError(f"a manifest of {len(raw)} bytes is larger than the {MANIFEST_LIMIT} that registries allow")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"a manifest is not JSON ({type(error).__name__}); it begins {raw[:60]!r}") from error
    if not isinstance(data, dict) or not isinstance(data.get("annotations") or {}, dict):
        raise IntegrityError("a manifest must be a JSON object, and its annotations an object")
    return data


def _media_type(data: Mapping[str, Any], given: str, allowed: tuple[str, ...]) -> str:
    """Return the document's own media type; else what it was served as; else the first allowed one."""
    own = data.get("mediaType") or given.partition(";")[0].strip() or allowed[0]
    if own not in allowed:
        raise IntegrityError(f"a document calls itself {own!r} but is built like {allowed[0]}")
    return str(own)


def _list(data: Mapping[str, Any], key: str) -> list[object]:
    value = data.get(key) or []
    if not isinstance(value, list):
        raise IntegrityError(f"{key} of a manifest must be a list, not {type(value).__name__}")
    return value


def _platform(data: object) -> Platform | None:
    if not isinstance(data, dict):
        return None
    return Platform(str(data.get("os") or ""), str(data.get("architecture") or ""), str(data.get("variant") or ""))
