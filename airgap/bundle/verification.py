"""Verification: every byte of a bundle against its lock, and all faults at once.

Invariants: each byte of the file belongs to exactly one of header, content, padding, end of archive and trailer, and each of
those is compared: headers and padding with what the lock asks for, contents with their digests, the trailer with the
installer's. So no flipped bit stays unseen (F44). On top, the manifests must say what the lock says of them: same children,
same sizes, and none that two readers could read differently (F46, GHSA-mc8v-mgrf-8f4m).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.bundle import ustar
from airgap.bundle.crew import Crew
from airgap.bundle.medium import CHUNK, chunks, read
from airgap.errors import IntegrityError
from airgap.layout import Verifier, check
from airgap.oci import Index, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airgap.bundle.arrange import Arrangement, Member
    from airgap.bundle.label import Label
    from airgap.bundle.medium import Medium
    from airgap.lock import LockedTree
    from airgap.oci import Descriptor, Digest
    from airgap.progress import Progress


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong: the member (empty: the file as a whole), the byte where it starts, and what it is."""

    member: str
    offset: int
    message: str

    def __str__(self) -> str:
        return f"{self.member}: {self.message}" if self.member else self.message


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found. Truthy when the bundle is whole; ``faults`` are in the order of the file.

    Of a split bundle ``count`` is the number of volumes, and ``bring`` are the numbers of those that are to be brought again;
    ``volume`` is set when one volume was checked by itself.
    """

    faults: tuple[Fault, ...]
    blobs: int
    size: int
    count: int = 0
    bring: tuple[int, ...] = ()
    volume: Label | None = None

    def __bool__(self) -> bool:
        return not self.faults


def verify(medium: Medium, arrangement: Arrangement, progress: Progress, jobs: int) -> Verification:
    """Read everything and compare; returns all faults. Raises DiskError when the medium itself cannot be read."""
    faults: list[Fault] = []
    noting = threading.Lock()

    def note(found: Iterator[Fault]) -> None:
        for fault in found:
            with noting:
                faults.append(fault)

    def examine(member: Member) -> None:
        note(_member_faults(medium, member, crew.check, progress))
        progress.done(member.name)

    crew = Crew(jobs)
    progress.begin("verify", len(arrangement.members), arrangement.size)
    note(_size_faults(medium, arrangement))
    crew.run((member for member in arrangement.members if member.start < medium.size), examine)
    note(_tail_faults(medium, arrangement, progress))
    if not faults:
        note(tree_faults(arrangement, lambda descriptor: _blob(medium, arrangement, descriptor)))
    progress.end()
    return Verification(tuple(sorted(faults, key=lambda fault: fault.offset)), len(arrangement.blobs), arrangement.size)


def size_fault(medium: Medium, arrangement: Arrangement) -> Fault | None:
    """Say how many bytes are missing, or are too many."""
    difference = arrangement.size - medium.size
    if difference > 0:
        return Fault("", medium.size, f"the file is cut short: {difference} of {arrangement.size} bytes are missing")
    if difference < 0:
        return Fault("", arrangement.size, f"{-difference} bytes follow the {arrangement.size} that the lock accounts for")
    return None


def header_fault(medium: Medium, member: Member) -> Fault | None:
    """Compare the header of ``member``, byte for byte."""
    found = read(medium, member.start, len(member.header))
    if found == member.header:
        return None
    if len(found) < len(member.header):
        return Fault(member.name, member.start, "its header is cut short")
    told = ustar.difference(found, member.name, member.size)
    return Fault(member.name, member.start, f"its header at byte {member.start} is not what the lock asks for: {told}")


def tree_faults(arrangement: Arrangement, read_blob: Callable[[Descriptor], bytes]) -> Iterator[Fault]:
    """Compare what the manifests say with what the lock says they say."""
    for tree in arrangement.lock.trees():
        held = {blob.digest: blob.size for blob in (*tree.manifests, *tree.blobs)}
        for descriptor in tree.manifests:
            member = arrangement.blobs[descriptor.digest]
            for message in _manifest_faults(read_blob(descriptor), descriptor, held, tree):
                yield Fault(member.name, member.offset, message)


def _manifest_faults(raw: bytes, descriptor: Descriptor, held: dict[Digest, int], tree: LockedTree) -> Iterator[str]:
    try:
        parsed = parse_manifest(raw, descriptor.media_type)
    except IntegrityError as error:
        yield error.message
        return
    if parsed.media_type != descriptor.media_type:
        yield f"it calls itself {parsed.media_type}, the lock calls it {descriptor.media_type}"
    for child in parsed.manifests if isinstance(parsed, Index) else parsed.blobs:
        if child.digest in held and held[child.digest] != child.size:
            yield f"it gives {child.digest} {child.size} bytes, the lock {held[child.digest]}"
        if child.digest not in held and child.digest not in tree.absent:
            yield f"it names {child.digest}, which the lock does not list for {tree.root.digest}"


def _member_faults(medium: Medium, member: Member, still: Callable[[], None], progress: Progress) -> Iterator[Fault]:
    if fault := header_fault(medium, member):
        yield fault
    if message := _content_fault(medium, member, still, progress):
        yield Fault(member.name, member.offset, message)
    padding = read(medium, member.offset + member.size, member.padding)
    if any(padding):
        yield Fault(member.name, member.offset + member.size, "the padding behind it is not empty")


def _content_fault(medium: Medium, member: Member, still: Callable[[], None], progress: Progress) -> str:
    if member.offset + member.size > medium.size:
        return (
            f"it is cut short: {min(member.size, member.offset + member.size - medium.size)} of {member.size} bytes are missing"
        )
    if member.content is not None:
        progress.advance(member.size)
        same = read(medium, member.offset, member.size) == member.content
        return "" if same else "its content is not what the lock asks for"
    assert member.descriptor is not None  # noqa: S101  # only decided members are no blobs
    verifier = Verifier(member.descriptor, "its content")
    for chunk in chunks(medium, member.offset, member.size, bytearray(min(CHUNK, max(1, member.size)))):
        still()
        verifier.update(chunk)
        progress.advance(len(chunk))
    try:
        verifier.finish()
    except IntegrityError as error:
        return error.message
    return ""


def _size_faults(medium: Medium, arrangement: Arrangement) -> Iterator[Fault]:
    if fault := size_fault(medium, arrangement):
        yield fault


def _tail_faults(medium: Medium, arrangement: Arrangement, progress: Progress) -> Iterator[Fault]:
    """Compare the end-of-archive blocks and the installer behind them."""
    end = arrangement.tar_size - len(ustar.END)
    if medium.size >= arrangement.tar_size and read(medium, end, len(ustar.END)) != ustar.END:
        yield Fault("", end, f"the end-of-archive blocks at byte {end} are not empty")
    trailer = arrangement.trailer
    if trailer is None or medium.size < arrangement.size:
        return
    verifier = Verifier(trailer, "the installer behind the archive")
    for chunk in chunks(medium, arrangement.tar_size, trailer.size):
        verifier.update(chunk)
        progress.advance(len(chunk))
    try:
        verifier.finish()
    except IntegrityError as error:
        yield Fault("", arrangement.tar_size, error.message)


def _blob(medium: Medium, arrangement: Arrangement, descriptor: Descriptor) -> bytes:
    member = arrangement.blobs[descriptor.digest]
    return check(read(medium, member.offset, member.size), descriptor)
