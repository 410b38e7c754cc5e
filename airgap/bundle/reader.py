"""BundleReader: a bundle that is read where it lies. Nothing is ever unpacked.

Invariants: what is read, and from where, follows from the lock in the bundle, never from a tar header: each header must be
the very bytes that the lock asks for, so there can be no ``..``, link, device, sparse or duplicate member, no pax override,
nothing extra (F45). Every ``read`` is checked against its digest. A reader is safe to use from many threads.

::

    with BundleReader.open(Path("wandb.tar")) as bundle:
        bundle.lock.images
        bundle.manifest(bundle.lock.images[0].tree.root)
        bundle.window(layer)                    # a request body, straight from the file
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from airgap.bundle import ustar
from airgap.bundle.arrange import Arrangement, Member, arrange
from airgap.bundle.medium import Medium, chunks, read
from airgap.bundle.verification import Verification, header_fault, size_fault, verify
from airgap.bundle.volumes import VolumesMedium, open_medium
from airgap.errors import BundleError, ConfigurationError, IntegrityError
from airgap.layout import INDEX_FILE, LAYOUT_FILE, blob_path, check
from airgap.lock import Lock
from airgap.oci import Descriptor, Digest, Index, Manifest, parse_manifest
from airgap.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from airgap.bundle.medium import OnRead
    from airgap.bundle.volumes import VolumeSet
    from airgap.transport.body import Window

LOCK_LIMIT = 256 * 1024 * 1024
"""Bytes; no lock is larger (a thousand images make about 5 MB), and a forged size must not fill the memory."""

INDEX_LIMIT = 64 * 1024 * 1024
"""Bytes of index.json, likewise."""

VERIFY_JOBS = 4
"""Threads of ``verify`` by default: enough to hash while the disk reads ahead, few enough to stay nearly in order."""


class BundleReader:
    """An open bundle; a context manager."""

    def __init__(self, medium: Medium, arrangement: Arrangement) -> None:
        """Use ``open``; this takes what it found."""
        self._medium = medium
        self.arrangement = arrangement

    @classmethod
    def open(cls, path: Path, *, strict: bool = True, folders: Sequence[Path] = ()) -> BundleReader:
        """Open the bundle at ``path`` and check its structure: the lock, every tar header, the size of the file.

        A split bundle is named by any of its volumes or by the name that they share; ``folders`` are searched for others too.
        Raises BundleError (truncated, damaged, hostile, no bundle) or DiskError. Without ``strict`` only what is needed to find
        the lock must be sound; ``verify`` then reports all the rest at once.
        """
        with ExitStack() as undo:
            medium = undo.enter_context(closing(open_medium(path, folders)))
            reader = cls(medium, arrange(_find_lock(medium)))
            if isinstance(medium, VolumesMedium):
                medium.agree(reader.arrangement)
            if strict:
                reader.check_structure()
            undo.pop_all()
        return reader

    @property
    def path(self) -> str:
        """What the bundle is called, for people."""
        return self._medium.name

    @property
    def volumes(self) -> VolumeSet | None:
        """The files of a split bundle; None for a bundle in one file."""
        return self._medium.volumes if isinstance(self._medium, VolumesMedium) else None

    @property
    def lock(self) -> Lock:
        """The lock: everything that the bundle holds."""
        return self.arrangement.lock

    @property
    def digest(self) -> Digest:
        """The digest of the lock: the identity of the bundle."""
        return Digest.of(self.arrangement.raw)

    @property
    def size(self) -> int:
        """Bytes of the whole bundle."""
        return self.arrangement.size

    def has(self, digest: Digest) -> bool:
        """Whether the bundle holds this blob."""
        return digest in self.arrangement.blobs

    def descriptor(self, digest: Digest) -> Descriptor | None:
        """Return what the lock says about a blob, or None."""
        member = self.arrangement.blobs.get(digest)
        return member.descriptor if member else None

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a small blob whole; raises BundleError unless size and digest are right."""
        member = self._member(descriptor)
        data = read(self._medium, member.offset, member.size)
        try:
            return check(data, descriptor, f"blob {descriptor.digest}")
        except IntegrityError as error:
            raise BundleError(
                f"bundle {self.path} is damaged: {error.message}", hint=f"airgap verify {self.path} lists all that is wrong"
            ) from error

    def manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """Return a manifest or index, parsed, with its bytes; raises IntegrityError when it is damaged or ambiguous (F46)."""
        return parse_manifest(self.read(descriptor), descriptor.media_type)

    def chunks(self, descriptor: Descriptor, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield a blob (or a range of it) in pieces; the caller checks what must be checked (``layout.verified``)."""
        member = self._member(descriptor)
        left = member.size - offset if size is None else min(size, member.size - offset)
        return (bytes(chunk) for chunk in chunks(self._medium, member.offset + offset, left))

    def window(self, descriptor: Descriptor, offset: int = 0, on_read: OnRead | None = None) -> Window:
        """Return a blob from ``offset`` as a request body that reads the bundle directly (``on_read``: see Medium)."""
        member = self._member(descriptor)
        start = min(max(offset, 0), member.size)
        return self._medium.window(member.offset + start, member.size - start, on_read)

    def check_structure(self) -> None:
        """Raise BundleError for the first thing in which the file's structure is not what the lock says."""
        headers = (header_fault(self._medium, member) for member in self.arrangement.members)
        fault = size_fault(self._medium, self.arrangement) or next((fault for fault in headers if fault), None)
        if fault:
            raise BundleError(f"bundle {self.path}: {fault}", hint=f"airgap verify {self.path} lists all that is wrong")

    def verify(self, progress: Progress | None = None, jobs: int = VERIFY_JOBS) -> Verification:
        """Read every byte of the file and return all faults at once; truthy when there is none."""
        return verify(self._medium, self.arrangement, progress or Progress(), jobs)

    def close(self) -> None:
        """Close the file."""
        self._medium.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _member(self, descriptor: Descriptor) -> Member:
        member = self.arrangement.blobs.get(descriptor.digest)
        if member is None:
            raise BundleError(f"bundle {self.path} holds no blob {descriptor.digest}")
        if member.size != descriptor.size:
            raise BundleError(
                f"bundle {self.path}: blob {descriptor.digest} has {member.size} bytes, not the {descriptor.size} asked for"
            )
        return member


def _find_lock(medium: Medium) -> Lock:
    """Read the lock: the third member, behind oci-layout and index.json."""
    start = 0
    for name, limit in ((LAYOUT_FILE, 1024), (INDEX_FILE, INDEX_LIMIT)):
        seen = _see(medium, start, name, limit)
        start += ustar.BLOCK + seen.size + ustar.padding(seen.size)
    seen = _see(medium, start, "", LOCK_LIMIT)
    raw = read(medium, start + ustar.BLOCK, seen.size)
    if len(raw) < seen.size:
        raise _truncated(medium, start + ustar.BLOCK + seen.size)
    if seen.name != blob_path(Digest.of(raw)):
        raise BundleError(f"bundle {medium.name}: the lock is damaged: {seen.name[:100]!r} has the digest {Digest.of(raw)}")
    return _parse_lock(raw, medium.name)


def _parse_lock(raw: bytes, where: str) -> Lock:
    try:
        lock = Lock.from_bytes(raw, f"the lock in bundle {where}")
    except (ConfigurationError, RecursionError, IndexError) as error:
        raise BundleError(f"bundle {where}: its third member is no lock ({error})") from error
    if lock.to_bytes() != raw:
        raise BundleError(
            f"bundle {where}: its lock says more than this version understands (made by {lock.generator[:60]!r})",
            hint=f"let the bundle run itself: python3 {where} ...",
        )
    return lock


def _see(medium: Medium, start: int, name: str, limit: int) -> ustar.Seen:
    """Read the header at ``start`` on the way to the lock; raises BundleError unless it is a plain file called ``name``."""
    block = read(medium, start, ustar.BLOCK)
    if not start and not block.startswith(LAYOUT_FILE.encode()):
        raise BundleError(f"{medium.name} is no bundle of airgap: {_looks_like(block)}", hint="give the .tar that mirror wrote")
    if len(block) < ustar.BLOCK:
        raise _truncated(medium, start + ustar.BLOCK)
    seen = ustar.see(block)
    if seen is None or seen.kind or seen.name != (name or seen.name) or not 0 <= seen.size <= limit:
        wanted = name or "the lock"
        told = ustar.difference(block, name, seen.size if seen else 0) if name else "it is no plain file of a fitting size"
        raise BundleError(
            f"bundle {medium.name}: at byte {start}, where {wanted} should be, {told}",
            hint="give the .tar that mirror wrote; if it is that one, copy it again",
        )
    return seen


def _truncated(medium: Medium, expected: int) -> BundleError:
    return BundleError(
        f"bundle {medium.name}: the file is cut short: at least {expected - medium.size} bytes are missing after the first "
        f"{medium.size}",
        hint="copy the bundle again",
    )


def _looks_like(block: bytes) -> str:
    if not block:
        return "the file is empty"
    for magic, what in ((b"\x1f\x8b", "it is gzip-compressed"), (b"\x28\xb5\x2f\xfd", "it is zstd-compressed")):
        if block.startswith(magic):
            return f"{what}, and a bundle is not"
    if block[257:262] == b"ustar":
        return f"it is a tar that begins with {block[:100].partition(bytes(1))[0].decode('utf-8', 'replace')!r}"
    return "it does not begin like one"
