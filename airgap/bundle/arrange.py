"""Arrangement: where each byte of a bundle lies. It follows from the lock alone.

Invariants: pure; the same lock gives the same arrangement on any machine and any Python. Order: ``oci-layout``, ``index.json``,
the lock with its manifest, small metadata (our artifacts' manifests and configs, the images' manifests, their configs), what
our artifacts carry, layers; then the end of the archive and, behind it, the installer's zip once more, so that ``python3
BUNDLE`` runs it. Each digest has one member. So a bundle that is cut short is recognised after one block, and a stream can be
read in order.

A bundle in several volumes, or one that leaves out what a base has, is the same list cut or filtered: members know their
offsets in the whole, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from airgap.bundle import ustar
from airgap.errors import BundleError
from airgap.layout import EMPTY, INDEX_FILE, LAYOUT, LAYOUT_FILE, blob_path, index_json, lock_manifest
from airgap.lock import LOCK_TYPE, Lock
from airgap.oci import OCI_EMPTY, Descriptor, Digest
from airgap.plan import may_be_left_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONTENT_ORDER = ("spec", "chart", "installer", "file", "wheel", "tool")
"""Kinds of artifacts in the order of their contents: what is read to understand a bundle before what is large."""


@dataclass(frozen=True)
class Member:
    """One file of the tar.

    ``start`` is where its header lies, ``offset`` where its content does (bytes from the start of the bundle). ``content`` is
    set for what the lock itself decides (oci-layout, index.json, the lock and its artifact); it is never fetched.
    """

    name: str
    descriptor: Descriptor | None
    start: int
    size: int
    header: bytes = field(repr=False)
    content: bytes | None = field(default=None, repr=False)

    @property
    def digest(self) -> Digest | None:
        """The digest of a blob; None for oci-layout and index.json."""
        return self.descriptor.digest if self.descriptor else None

    @property
    def offset(self) -> int:
        """Where the content starts."""
        return self.start + len(self.header)

    @property
    def padding(self) -> int:
        """How many zero bytes follow the content."""
        return ustar.padding(self.size)

    @property
    def end(self) -> int:
        """Where the next member starts."""
        return self.offset + self.size + self.padding


@dataclass(frozen=True)
class Arrangement:
    """The members of a bundle in order, and what stands behind them.

    ``tar_size`` includes the end-of-archive blocks; ``trailer`` is the installer's descriptor (None: this bundle does not run
    itself); ``size`` is that of the whole file.
    """

    lock: Lock
    raw: bytes = field(repr=False)
    members: tuple[Member, ...] = field(repr=False)
    trailer: Descriptor | None

    @property
    def tar_size(self) -> int:
        """Bytes up to and including the end-of-archive blocks."""
        return self.members[-1].end + len(ustar.END)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.tar_size + (self.trailer.size if self.trailer else 0)

    @cached_property
    def decided(self) -> frozenset[Digest]:
        """The blobs that the lock itself decides: they are written, and neither fetched nor found."""
        return frozenset(
            member.descriptor.digest for member in self.members if member.descriptor and member.content is not None
        )

    @cached_property
    def blobs(self) -> Mapping[Digest, Member]:
        """The members that are blobs, by digest."""
        return {member.descriptor.digest: member for member in self.members if member.descriptor}


def arrange(lock: Lock) -> Arrangement:
    """Return the arrangement of the bundle of ``lock``; raises BundleError for a lock that contradicts itself."""
    raw = lock.to_bytes()
    lock = Lock.from_bytes(raw)
    _agree(lock)
    manifest = lock_manifest(raw)
    decided = {
        Digest.of(raw): (Descriptor.of(LOCK_TYPE, raw), raw),
        Digest.of(EMPTY): (Descriptor.of(OCI_EMPTY, EMPTY), EMPTY),
        manifest.descriptor.digest: (manifest.descriptor, manifest.raw),
    }
    files: list[tuple[str, Descriptor | None, int, bytes | None]] = [
        (LAYOUT_FILE, None, len(LAYOUT), LAYOUT),
        (INDEX_FILE, None, len(index := index_json(lock, manifest.descriptor)), index),
    ]
    files += [(blob_path(digest), blob, blob.size, content) for digest, (blob, content) in decided.items()]
    files += [(blob_path(digest), blob, blob.size, None) for digest, blob in _ordered(lock).items() if digest not in decided]
    installer = next((artifact for artifact in lock.artifacts if artifact.kind == "installer"), None)
    return Arrangement(lock, raw, tuple(_lay(files)), installer.content if installer else None)


def _lay(files: Iterable[tuple[str, Descriptor | None, int, bytes | None]]) -> Iterator[Member]:
    start = 0
    for name, descriptor, size, content in files:
        member = Member(name, descriptor, start, size, ustar.header(name, size), content)
        start = member.end
        yield member


def _ordered(lock: Lock) -> dict[Digest, Descriptor]:
    """Return every blob that is carried once, in the order of the tar."""
    contents = sorted(lock.artifacts, key=lambda artifact: CONTENT_ORDER.index(artifact.kind))
    last = {artifact.content.digest for artifact in lock.artifacts}
    groups: tuple[Iterable[Descriptor], ...] = (
        (blob for it in lock.artifacts for blob in (*it.tree.manifests, *it.tree.blobs) if blob.digest not in last),
        (manifest for image in lock.images for tree in image.trees for manifest in tree.manifests),
        (image.index for image in lock.images if image.index),
        (blob for image in lock.images for tree in image.trees for blob in tree.blobs if _is_metadata(blob)),
        (artifact.content for artifact in contents),
        lock.blobs().values(),
    )
    ordered: dict[Digest, Descriptor] = {}
    for group in groups:
        for descriptor in group:
            if descriptor.digest not in lock.left_out:
                ordered.setdefault(descriptor.digest, descriptor)
    return ordered


def _is_metadata(blob: Descriptor) -> bool:
    """Whether a blob is read to understand an image: configs, signatures, attestations and SBOMs are JSON, layers never are."""
    return blob.media_type.endswith("json")


def _agree(lock: Lock) -> None:
    """Refuse a lock that gives one digest two sizes (F46), whose artifacts lack their content, or that leaves out too much."""
    sizes: dict[Digest, int] = {}
    trees = [(tree.manifests, tree.blobs) for tree in lock.trees()]
    extra = [image.index for image in lock.images if image.index]
    for descriptor in (*(blob for manifests, blobs in trees for blob in (*manifests, *blobs)), *extra):
        if not 0 <= descriptor.size < ustar.SIZE_LIMIT:
            raise BundleError(f"the lock gives {descriptor.digest} a size of {descriptor.size} bytes, which no file has")
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise BundleError(
                f"the lock gives {descriptor.digest} two sizes, {sizes[descriptor.digest]} and {descriptor.size} bytes"
            )
    may = may_be_left_out(lock)
    for digest in lock.left_out:
        if digest not in may:
            raise BundleError(f"the lock leaves out {digest}, which is no layer or config of its images and must be carried")
    for artifact in lock.artifacts:
        if artifact.kind not in CONTENT_ORDER:
            raise BundleError(f"the lock holds an artifact {artifact.name!r} of the unknown kind {artifact.kind!r}")
        if sizes.get(artifact.content.digest) != artifact.content.size:
            raise BundleError(f"the lock's {artifact.kind} {artifact.name} does not list its content {artifact.content.digest}")
