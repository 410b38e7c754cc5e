"""The OCI image layout, as words: where a blob lies, what index.json says, and the one check that every blob passes.

Invariants: pure but for hashing; the same lock gives the same index.json, byte for byte. A ``Verifier`` has the last word over
every blob that airgap moves from anywhere to anywhere (style.md, point 4): it stops at the first byte too many, and no bytes
count as there before ``finish`` has compared size and digest.

>>> blob_path(Digest.of(b""))[:24]
'blobs/sha256/e3b0c44298f'
>>> b"".join(verified([b"ab", b"c"], Descriptor.of("text/plain", b"abc"), "a story"))
b'abc'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airgap.errors import IntegrityError
from airgap.lock import LOCK_TYPE
from airgap.oci import OCI_EMPTY, OCI_INDEX, Descriptor, Digest, Manifest, artifact_manifest, canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airgap.lock import Lock, LockedArtifact, LockedImage, LockedTree

_Piece = TypeVar("_Piece", bytes, "bytes | memoryview")

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
"""The one content that image-spec (image-layout.md, "oci-layout file") knows."""

INDEX_FILE = "index.json"
REF_NAME = "org.opencontainers.image.ref.name"
"""Under this annotation skopeo, oras, crane and regctl look a name up in index.json (image-spec, annotations.md)."""

CONTAINERD_NAME = "io.containerd.image.name"
"""``ctr images import`` names images by this annotation."""

TITLE = "org.opencontainers.image.title"
"""``oras pull`` writes a layer to a file of this name."""

LOCK_NAME = "airgap.lock"
EMPTY = b"{}"
"""The content of the empty descriptor (image-spec, manifest.md, "Guidance for an empty descriptor")."""


def blob_path(digest: Digest) -> str:
    """Return the path of a blob in a layout; safe to use, since a Digest holds nothing but hexadecimal digits."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


class Verifier:
    """Counts and hashes the bytes of one blob.

    ``update`` raises IntegrityError at the first byte beyond the descriptor's size, so that an endless body ends;
    ``finish`` raises it for a short blob or another digest. ``what`` names the blob for people.
    """

    def __init__(self, descriptor: Descriptor, what: str = "") -> None:
        self.descriptor = descriptor
        self.what = what or f"blob {descriptor.digest}"
        self.position = 0
        self._hash = descriptor.digest.hasher()

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self.position += len(data)
        if self.position > self.descriptor.size:
            raise IntegrityError(f"{self.what} goes on after the {self.descriptor.size} bytes that it should have")
        self._hash.update(data)

    def finish(self) -> None:
        """Compare size and digest with the descriptor."""
        if self.position != self.descriptor.size:
            raise IntegrityError(f"{self.what} ends after {self.position} of {self.descriptor.size} bytes")
        if self._hash.hexdigest() != self.descriptor.digest.hex:
            found = f"{self.descriptor.digest.algorithm}:{self._hash.hexdigest()}"
            raise IntegrityError(f"{self.what} has the digest {found} instead of {self.descriptor.digest}")


def verified(chunks: Iterable[_Piece], descriptor: Descriptor, what: str = "") -> Iterator[_Piece]:
    """Yield ``chunks`` as they come and raise IntegrityError at the end unless they are what ``descriptor`` says."""
    verifier = Verifier(descriptor, what)
    for chunk in chunks:
        verifier.update(chunk)
        yield chunk
    verifier.finish()


def check(data: bytes, descriptor: Descriptor, what: str = "") -> bytes:
    """Return ``data`` if it is what ``descriptor`` says, else raise IntegrityError."""
    return b"".join(verified((data,), descriptor, what))


def lock_manifest(raw: bytes) -> Manifest:
    """Return the manifest under which the bytes of a lock ride as an artifact in the layout."""
    content = Descriptor.of(LOCK_TYPE, raw, annotations={TITLE: LOCK_NAME})
    return artifact_manifest(Descriptor.of(OCI_EMPTY, EMPTY), (content,), artifact_type=LOCK_TYPE)


def index_json(lock: Lock, manifest: Descriptor) -> bytes:
    """Return index.json: the lock (``manifest`` is its artifact's), our artifacts, the images, then their referrers.

    An image's entry is named by its reference as charts write it. The same manifest may stand under several names. An index
    of which one platform only is carried is no entry: other tools would look for the children that are not here. So it is with
    images (and referrers) of which a delta leaves blobs out.
    """
    entries = [_entry(manifest, LOCK_NAME, artifact_type=LOCK_TYPE)]
    entries += [_entry(artifact.tree.root, artifact_name(artifact)) for artifact in lock.artifacts]
    entries += [_entry(it.tree.root, str(it.reference), image=True) for it in lock.images if _is_whole(it.tree, lock)]
    for image in lock.images:
        entries += _referrers(image, lock)
    unique = {canonical_json(entry.to_json()): entry for entry in entries}
    return canonical_json(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry.to_json() for entry in unique.values()]}
    )


def artifact_name(artifact: LockedArtifact) -> str:
    """Return the name of an artifact in index.json, e.g. ``charts/operator:1.4.8`` or ``tools/helm:4.3.1-linux-amd64``."""
    parts = [part for part in (artifact.version, str(artifact.platform or "").replace("/", "-")) if part]
    tag = f":{'-'.join(parts)}" if parts else ""
    return f"{artifact.kind}s/{artifact.name}{tag}"


def _is_whole(tree: LockedTree, lock: Lock) -> bool:
    return not any(blob.digest in lock.left_out for blob in tree.blobs)


def _referrers(image: LockedImage, lock: Lock) -> Iterator[Descriptor]:
    for referrer in image.referrers:
        if not _is_whole(referrer.tree, lock):
            continue
        name = f"{image.reference.name}:{referrer.tag}" if referrer.tag else ""
        yield _entry(referrer.tree.root, name, artifact_type=referrer.tree.root.artifact_type)


def _entry(root: Descriptor, name: str, *, image: bool = False, artifact_type: str = "") -> Descriptor:
    annotations = {REF_NAME: name} if name else {}
    if image:
        annotations[CONTAINERD_NAME] = name
    platform = root.platform if image else None
    return Descriptor(root.media_type, root.digest, root.size, platform, annotations, artifact_type)
