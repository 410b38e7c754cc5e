"""Lock: everything that a bundle holds, resolved to digests and sizes, and why each piece is there.

Invariants: pure and frozen; ``to_bytes`` is canonical JSON (sorted keys), so the same lock has the same bytes and the same
digest anywhere. From a lock alone every blob of the bundle is known with its size: the tar's layout follows from it without
asking anybody (design.md section 3). ``from_bytes`` refuses what it does not understand with ConfigurationError.

A lock never holds user values or credentials: of values files only the names are kept, in origins.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import AirgapError, ConfigurationError
from airgap.oci import Descriptor, Digest, Platform, canonical_json
from airgap.ref import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA_VERSION = 1
KIND = "BundleLock"

LOCK_TYPE = "application/vnd.airgap.lock.v1+json"
SPEC_TYPE = "application/vnd.airgap.channel-spec.v1+json"
TOOL_TYPE = "application/vnd.airgap.tool.v1"
INSTALLER_TYPE = "application/vnd.airgap.installer.v1+zip"
FILE_TYPE = "application/vnd.airgap.file.v1"

INVENTORY, LOCK = "inventory", "lock"
"""Kinds of what a delta builds on."""

DOCKER_ENGINE = "docker-daemon"
"""``LockedImage.source`` of an image that exists only in a local Docker engine (skopeo's word for it)."""


@dataclass(frozen=True, order=True)
class Origin:
    """Why a reference is needed: one hit of discovery.

    ``kind``: template | values | annotation | manifest | channel. The other fields are empty where they do not apply:
    ``chart`` (name-version), ``profile`` (``default`` or the feature that was switched on), ``template`` (path in the chart),
    ``object`` (Kind/name), ``path`` (JSON path in the object), ``value`` (dotted value path that makes it).
    """

    kind: str
    chart: str = ""
    profile: str = ""
    template: str = ""
    object: str = ""
    path: str = ""
    value: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the non-empty fields."""
        return {key: value for key, value in vars(self).items() if value}

    def __str__(self) -> str:
        """One line, outermost first: chart, template, object, path, value."""
        parts = (self.chart, self.profile and f"profile {self.profile}", self.template, self.object, self.path)
        told = " > ".join(part for part in parts if part)
        return f"{self.kind}: {told}" + (f" (value {self.value})" if self.value else "")


@dataclass(frozen=True)
class Requirement:
    """An image that is needed, before it is looked up: ``origins`` say why.

    ``features``: the optional features that ask for it (none: the default installation does). ``optional``: only values or
    annotations name it, so that it may not exist at all. ``local``: it is to come from the Docker engine. ``notes`` stay.
    """

    reference: Reference
    origins: tuple[Origin, ...] = ()
    features: tuple[str, ...] = ()
    optional: bool = False
    local: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LockedTree:
    """A manifest or index with all that hangs on it.

    ``root`` is what a tag points to. ``manifests`` are the manifests and indexes, children before parents, ``root`` last;
    ``blobs`` are the configs and layers, in order of first use. ``absent`` are children of an index that were left out on
    purpose (a sparse index, design.md section 4).
    """

    root: Descriptor
    manifests: tuple[Descriptor, ...]
    blobs: tuple[Descriptor, ...]
    absent: tuple[Digest, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of everything in the tree, each digest once."""
        return sum({blob.digest: blob.size for blob in (*self.manifests, *self.blobs)}.values())


@dataclass(frozen=True)
class LockedReferrer:
    """A signature, attestation or SBOM that is carried with an image.

    ``tag`` is set for the tag schemes (cosign's ``sha256-<hex>.sig``, the referrers fallback tag ``sha256-<hex>``) and empty
    for what the referrers API lists; ``subject`` is the digest that it speaks about.
    """

    subject: Digest
    tree: LockedTree
    tag: str = ""


@dataclass(frozen=True)
class LockedImage:
    """An image: how it is called, what was found there, and why it is needed.

    ``reference`` is normalised, with the tag and perhaps the digest as charts write them. ``index`` is set when the tag points
    to an index of which only one platform's manifest (``tree.root``) is carried. ``features`` names the optional features that
    need it; empty means that the default installation does. ``source`` is ``registry`` or DOCKER_ENGINE.
    """

    reference: Reference
    tree: LockedTree
    origins: tuple[Origin, ...] = ()
    features: tuple[str, ...] = ()
    referrers: tuple[LockedReferrer, ...] = ()
    index: Descriptor | None = None
    source: str = "registry"
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """The digest that is pushed under the tag."""
        return self.tree.root.digest

    @property
    def trees(self) -> tuple[LockedTree, ...]:
        """The image's own tree, then its referrers' (images first, referrers last: cases.md P9)."""
        return (self.tree, *(referrer.tree for referrer in self.referrers))


@dataclass(frozen=True)
class LockedArtifact:
    """Something of ours that rides as an OCI artifact: a chart, the channel's spec, helm, the installer, a file, a package.

    ``kind``: chart | spec | tool | installer | file | wheel. ``source`` is where the content came from (a URL without
    credentials, or a path as the manifest has it). ``content`` is the one layer: a chart's .tgz, the spec's JSON, the binary.
    """

    kind: str
    name: str
    version: str
    source: str
    tree: LockedTree
    content: Descriptor
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LockedBase:
    """What a delta builds on: the registry is expected to hold ``left_out`` already.

    ``kind``: INVENTORY (taken of the registry) or LOCK (of an earlier bundle that was pushed there). ``name`` is the registry's
    location, or the earlier lock's name; ``digest`` that of its canonical bytes. ``left_out`` says for each blob where it was
    last known: a repository under the registry's prefix (inventory), or the image that brought it (lock).
    """

    kind: str
    name: str
    digest: Digest
    left_out: Mapping[Digest, str] = field(hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return the base as the lock writes it."""
        blobs = {str(digest): place for digest, place in self.left_out.items()}
        return {"kind": self.kind, "name": self.name, "digest": str(self.digest), "blobs": blobs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LockedBase:
        """Read it back; raises LookupError, TypeError, AttributeError or an AirgapError for what is none."""
        if data["kind"] not in {INVENTORY, LOCK}:
            raise ConfigurationError(f"a base of the unknown kind {data['kind']!r}")
        blobs = {Digest.parse(digest): str(place) for digest, place in data["blobs"].items()}
        return cls(data["kind"], str(data["name"]), Digest.parse(data["digest"]), blobs)


@dataclass(frozen=True)
class Lock:
    """The resolved bundle. ``base`` is set for a delta: a bundle without what the registry has already."""

    name: str
    platforms: tuple[Platform, ...]
    images: tuple[LockedImage, ...]
    artifacts: tuple[LockedArtifact, ...]
    channel: Mapping[str, Any] = field(default_factory=dict, hash=False)
    features: tuple[str, ...] = ()
    generator: str = ""
    base: LockedBase | None = None

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "airgap.lock") -> Lock:
        """Parse a lock; ``where`` names it in the ConfigurationError."""
        hint = "write a new one with airgap plan"
        try:
            document = json.loads(data)
            if document.get("kind") == KIND and document.get("schemaVersion") == SCHEMA_VERSION:
                return cls._read(document)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, AirgapError) as error:
            raise ConfigurationError(f"{where}: not a readable lock ({type(error).__name__}: {error})", hint=hint) from error
        found = f"{document.get('kind')!r} {document.get('schemaVersion')!r}"
        raise ConfigurationError(f"{where}: not a {KIND} of schema version {SCHEMA_VERSION} but {found}", hint=hint)

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> Lock:
        return cls(
            name=document["name"],
            platforms=tuple(Platform.parse(platform) for platform in document["platforms"]),
            images=tuple(_image(image) for image in document["images"]),
            artifacts=tuple(_artifact(artifact) for artifact in document["artifacts"]),
            channel=document.get("channel") or {},
            features=tuple(document.get("features") or ()),
            generator=document.get("generator") or "",
            base=LockedBase.from_json(document["base"]) if document.get("base") else None,
        )

    def to_bytes(self) -> bytes:
        """Return the lock as canonical JSON; images and artifacts sorted by name."""
        document = {
            "kind": KIND,
            "schemaVersion": SCHEMA_VERSION,
            "name": self.name,
            "platforms": [str(platform) for platform in self.platforms],
            "images": [_image_json(image) for image in sorted(self.images, key=lambda image: str(image.reference))],
            "artifacts": [_artifact_json(it) for it in sorted(self.artifacts, key=_artifact_order)],
            "channel": dict(self.channel),
            "features": sorted(self.features),
            "generator": self.generator,
        }
        if self.base:
            document["base"] = self.base.to_json()
        return canonical_json(document)

    @property
    def digest(self) -> Digest:
        """The digest of the lock's bytes: the identity of the bundle."""
        return Digest.of(self.to_bytes())

    def trees(self) -> Iterator[LockedTree]:
        """Every tree: artifacts first (they are small), then images with their referrers."""
        for artifact in self.artifacts:
            yield artifact.tree
        for image in self.images:
            yield from image.trees

    @property
    def left_out(self) -> Mapping[Digest, str]:
        """What a delta expects in the registry, with where it was last known; empty for a bundle that holds everything."""
        return self.base.left_out if self.base else {}

    def blobs(self) -> dict[Digest, Descriptor]:
        """Every blob that the bundle carries but the lock itself, each once: manifests and indexes included."""
        return {digest: blob for digest, blob in self.needed().items() if digest not in self.left_out}

    def needed(self) -> dict[Digest, Descriptor]:
        """Every blob that the images and artifacts consist of, carried or left out."""
        found: dict[Digest, Descriptor] = {}
        for tree in self.trees():
            for descriptor in (*tree.manifests, *tree.blobs):
                found.setdefault(descriptor.digest, descriptor)
        for image in self.images:
            if image.index:
                found.setdefault(image.index.digest, image.index)
        return found

    def find(self, kind: str, name: str) -> LockedArtifact | None:
        """Return the artifact of that kind and name, or None."""
        return next((artifact for artifact in self.artifacts if (artifact.kind, artifact.name) == (kind, name)), None)

    def image(self, reference: Reference) -> LockedImage | None:
        """Return the image that serves ``reference``: same name, and the same digest if it has one, else the same tag."""
        for image in self.images:
            if image.reference.name != reference.name:
                continue
            held = {image.digest, image.index and image.index.digest, *(child.digest for child in image.tree.manifests)}
            if reference.digest in held if reference.digest else image.reference.tag == reference.tag:
                return image
        return None


def _tree(data: Mapping[str, Any]) -> LockedTree:
    manifests = tuple(Descriptor.from_json(item) for item in data["manifests"])
    return LockedTree(
        root=manifests[-1],
        manifests=manifests,
        blobs=tuple(Descriptor.from_json(item) for item in data["blobs"]),
        absent=tuple(Digest.parse(item) for item in data.get("absent") or ()),
    )


def _tree_json(tree: LockedTree) -> dict[str, Any]:
    data: dict[str, Any] = {
        "manifests": [item.to_json() for item in tree.manifests],
        "blobs": [item.to_json() for item in tree.blobs],
    }
    if tree.absent:
        data["absent"] = [str(digest) for digest in tree.absent]
    return data


def _image(data: Mapping[str, Any]) -> LockedImage:
    return LockedImage(
        reference=Reference.parse(data["reference"]),
        tree=_tree(data["tree"]),
        origins=tuple(Origin(**origin) for origin in data["origins"]),
        features=tuple(data.get("features") or ()),
        referrers=tuple(
            LockedReferrer(Digest.parse(item["subject"]), _tree(item["tree"]), item.get("tag") or "")
            for item in data.get("referrers") or ()
        ),
        index=Descriptor.from_json(data["index"]) if data.get("index") else None,
        source=data.get("source") or "registry",
        notes=tuple(data.get("notes") or ()),
    )


def _image_json(image: LockedImage) -> dict[str, Any]:
    data: dict[str, Any] = {
        "reference": str(image.reference),
        "tree": _tree_json(image.tree),
        "origins": [origin.to_json() for origin in sorted(set(image.origins))],
        "source": image.source,
    }
    if image.features:
        data["features"] = sorted(image.features)
    if image.index:
        data["index"] = image.index.to_json()
    if image.notes:
        data["notes"] = list(image.notes)
    if image.referrers:
        data["referrers"] = [
            {"subject": str(item.subject), "tag": item.tag, "tree": _tree_json(item.tree)} for item in image.referrers
        ]
    return data


def _artifact(data: Mapping[str, Any]) -> LockedArtifact:
    return LockedArtifact(
        kind=data["kind"],
        name=data["name"],
        version=data["version"],
        source=data["source"],
        tree=_tree(data["tree"]),
        content=Descriptor.from_json(data["content"]),
        platform=Platform.parse(data["platform"]) if data.get("platform") else None,
        annotations=data.get("annotations") or {},
    )


def _artifact_order(artifact: LockedArtifact) -> tuple[str, str, str, str]:
    return artifact.kind, artifact.name, artifact.version, str(artifact.platform or "")


def _artifact_json(artifact: LockedArtifact) -> dict[str, Any]:
    data: dict[str, Any] = {
        "kind": artifact.kind,
        "name": artifact.name,
        "version": artifact.version,
        "source": artifact.source,
        "tree": _tree_json(artifact.tree),
        "content": artifact.content.to_json(),
    }
    if artifact.platform:
        data["platform"] = str(artifact.platform)
    if artifact.annotations:
        data["annotations"] = dict(artifact.annotations)
    return data
