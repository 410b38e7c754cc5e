"""Splitting: a bundle written straight into its volumes, and one volume made again. No byte is written twice.

Invariants: the volumes get their names only when all of them are sealed and durable; until then they are
``NAME.partial.001`` and so on, with one journal for all. A volume that is made again is ``NAME.007.partial`` and has a journal
of its own. Blobs that reach into a neighbour are taken whole, so that they are checked; what lies outside is dropped.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from airgap.bundle.arrange import arrange
from airgap.bundle.crew import Crew
from airgap.bundle.label import Label, divide, tail, tail_size, zip_for
from airgap.bundle.medium import CHUNK
from airgap.bundle.reader import BundleReader
from airgap.bundle.room import check_rooms
from airgap.bundle.target import FileTarget, partial_path, sync_folder, write_all
from airgap.bundle.volume_check import examine
from airgap.bundle.volumes import Piece, PiecesMedium, alone, look, room_for_files, see, volume_path
from airgap.errors import BundleError, ConfigurationError, DiskError
from airgap.oci import Digest

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle.arrange import Arrangement, Member
    from airgap.bundle.label import Identity, Slice
    from airgap.bundle.medium import Medium
    from airgap.bundle.target import Target
    from airgap.lock import Lock
    from airgap.progress import Progress


def target_for(path: Path, arrangement: Arrangement, split: int | None = None, volume: int | None = None) -> Target:
    """Return where a bundle goes: one file, volumes of ``split`` bytes, or one of those.

    Raises ConfigurationError for a split size that does not do, or a volume that is none.
    """
    if split is None:
        return FileTarget(path, arrangement)
    identity = divide(arrangement, split)
    if volume is None:
        return VolumesTarget(path, arrangement, identity)
    if not 1 <= volume <= identity.count:
        raise ConfigurationError(f"--volume {volume}: {path} has the volumes 1 to {identity.count}")
    return OneVolumeTarget(path, arrangement, identity, volume)


def volumes_begun(path: Path) -> tuple[Path, ...]:
    """Return the half-written volumes of a split bundle."""
    return tuple(seen.path for seen in look(partial_path(path)))


class VolumesTarget:
    """All volumes of a bundle."""

    def __init__(self, base: Path, arrangement: Arrangement, identity: Identity) -> None:
        self.path = base
        self._base = base
        self._arrangement = arrangement
        self._identity = identity
        self._slices = identity.slices
        self._fds: dict[int, int] = {}
        self._tail = tail_size(arrangement)
        self.files = tuple(self._final(piece) for piece in self._slices)
        self.size = identity.whole + identity.count * self._tail

    def stands(self) -> bool:
        """See Target."""
        if self._base.exists():
            raise DiskError(
                f"{self._base} exists as one file, and that name would mean two bundles",
                hint="delete it, or choose another name",
            )
        there = look(self._base)
        odd = next((it for it in there if it.label is None and it.number <= self._identity.count), None)
        if odd:
            raise DiskError(f"{odd.path} exists and is no volume: it is left alone", hint="delete it, or choose another name")
        mine = [it for it in there if it.label and it.label.identity == self._identity]
        if not mine:
            return False
        try:
            with BundleReader.open(mine[0].path) as bundle:
                return bundle.arrangement.raw == self._arrangement.raw
        except BundleError:
            return False

    def begun(self) -> bool:
        """See Target."""
        return any(self._partial(piece).exists() for piece in self._slices)

    def rivals(self) -> tuple[Path, ...]:
        """See Target: one file, or volumes cut elsewhere."""
        sizes = {self._partial(piece): piece.size for piece in self._slices}
        odd = [it.path for it in look(partial_path(self._base)) if not self._may_be(it.size, sizes.get(it.path))]
        return tuple(path for path in (partial_path(self._base), *odd) if path.exists())

    def make_ready(self, *, again: bool) -> None:
        """See Target."""
        if again:
            self._take_back()
        partials = {piece: self._partial(piece) for piece in self._slices}
        there = {piece: _on_disk(path) if again else 0 for piece, path in partials.items()}
        sizes = {piece: piece.size + self._tail for piece in self._slices}
        check_rooms({self._final(piece): (size, min(size, there[piece])) for piece, size in sizes.items()})
        room_for_files(len(self._slices))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if again else os.O_TRUNC)
        for piece, path in partials.items():
            fd = self._fds[piece.number] = os.open(path, flags, 0o666)
            os.ftruncate(fd, piece.size)

    def wants(self, member: Member) -> bool:
        """See Target."""
        del member
        return True

    def holds(self, member: Member) -> bool:
        """See Target."""
        del member
        return True

    def write(self, data: memoryview, offset: int) -> None:
        """See Target."""
        while data:
            index, inside = divmod(offset, self._identity.capacity)
            part = data[: self._identity.capacity - inside]
            fd = self._fds.get(index + 1)
            if fd is not None:
                write_all(fd, part, inside)
            data, offset = data[len(part) :], offset + len(part)

    @property
    def direct(self) -> bool:
        """See Target: volumes are read back at once, to be sealed, so the cache is of use."""
        return False

    def write_pages(self, data: memoryview, offset: int) -> None:
        """See Target."""
        self.write(data, offset)

    def medium(self) -> Medium:
        """See Target; it reads the files that are open here."""
        pieces = [Piece(it.offset, it.size, self._fds[it.number], 0, str(self._partial(it))) for it in self._slices]
        return PiecesMedium(str(self._base), pieces, self._identity.whole)

    def seal(self, installer: bytes, jobs: int, progress: Progress) -> None:
        """See Target: each slice is read once more for its digest: blobs come in parallel, not in the order of a slice."""
        crew = Crew(jobs)
        zipped = zip_for(installer)
        named = Digest.of(zipped)
        progress.begin("seal volumes", len(self._slices), sum(piece.size for piece in self._slices))

        def work(piece: Slice) -> None:
            fd = self._fds[piece.number]
            hashed, position = hashlib.sha256(), 0
            while data := os.pread(fd, min(CHUNK, piece.size - position), position):
                crew.check()
                hashed.update(data)
                position += len(data)
                progress.advance(len(data))
            digest = Digest("sha256", hashed.hexdigest())
            label = Label(self._identity, piece.number, digest, named, len(zipped))
            write_all(fd, memoryview(tail(zipped, label)), piece.size)
            os.fsync(fd)
            progress.done(str(label), "sealed")

        crew.run(self._slices, work)
        progress.end()

    def publish(self) -> None:
        """See Target; volumes that an earlier, longer bundle left under this name go: nobody is to mix them up."""
        for piece in self._slices:
            self._partial(piece).replace(self._final(piece))
        for seen in look(self._base):
            if seen.label and seen.number > self._identity.count:
                seen.path.unlink()
        sync_folder(self._base.parent)

    def close(self) -> None:
        """See Target."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _partial(self, piece: Slice) -> Path:
        return volume_path(partial_path(self._base), piece.number)

    def _final(self, piece: Slice) -> Path:
        return volume_path(self._base, piece.number)

    def _may_be(self, size: int, slice_size: int | None) -> bool:
        """Whether a half-written volume of this size is one of ours: cut to its slice, perhaps with its tail or some of it."""
        return slice_size is not None and slice_size <= size <= slice_size + self._tail

    def _take_back(self) -> None:
        """Undo what a run did that was ended while it gave the names: the set is not whole."""
        for piece in self._slices:
            partial, final = self._partial(piece), self._final(piece)
            if not partial.exists() and final.exists() and self._is_ours(final):
                final.replace(partial)

    def _is_ours(self, path: Path) -> bool:
        label = see(path).label
        return label is not None and label.identity == self._identity


class OneVolumeTarget(VolumesTarget):
    """One volume, made again. The others may lie beside it or not; a damaged one of its name is replaced at the end."""

    def __init__(self, base: Path, arrangement: Arrangement, identity: Identity, number: int) -> None:
        super().__init__(base, arrangement, identity)
        self._slices = (identity.slice(number),)
        self.files = (volume_path(base, number),)
        self.size = self._slices[0].size + self._tail
        self.path = volume_path(base, number)
        self._zip = bytearray(arrangement.trailer.size) if arrangement.trailer else bytearray()

    def stands(self) -> bool:
        """See Target."""
        number = self._slices[0].number
        for other in look(self._base):
            if other.label and other.label.identity != self._identity and other.number != number:
                raise ConfigurationError(
                    f"{other.path.name} lies here and belongs to bundle {other.label.identity.bundle} in volumes of "
                    f"{other.label.identity.capacity + self._tail} bytes, not to the lock's bundle, {self._identity.bundle}, "
                    f"in volumes of {self._identity.capacity + self._tail}",
                    hint="give the lock and the --split with which that bundle was made, or work in another folder",
                )
        seen = alone(self.path)
        if seen is None or seen.label is None or seen.label.identity != self._identity:
            return False
        return seen.label.number == number and not examine(seen)

    def begun(self) -> bool:
        """See Target."""
        return partial_path(self.path).exists()

    def rivals(self) -> tuple[Path, ...]:
        """See Target."""
        partial = partial_path(self.path)
        there = partial.exists() and not self._may_be(partial.stat().st_size, self._slices[0].size)
        return (partial,) if there else ()

    def wants(self, member: Member) -> bool:
        """See Target."""
        return self._overlaps(member.offset, member.size) or self._is_installer(member)

    def holds(self, member: Member) -> bool:
        """See Target; what reaches into a neighbour was only written in part."""
        piece = self._slices[0]
        return piece.offset <= member.offset and member.offset + member.size <= piece.end and not self._is_installer(member)

    def write(self, data: memoryview, offset: int) -> None:
        """See Target; the installer is kept for the tail."""
        trailer = self._arrangement.trailer
        start = self._arrangement.blobs[trailer.digest].offset if trailer else 0
        if trailer and start <= offset < start + trailer.size:
            self._zip[offset - start : offset - start + len(data)] = data
        super().write(data, offset)

    def seal(self, installer: bytes, jobs: int, progress: Progress) -> None:
        """See Target."""
        del installer
        super().seal(bytes(self._zip), jobs, progress)

    def publish(self) -> None:
        """See Target."""
        partial_path(self.path).replace(self.path)
        sync_folder(self.path.parent)

    def _partial(self, piece: Slice) -> Path:
        del piece
        return partial_path(self.path)

    def _overlaps(self, offset: int, size: int) -> bool:
        piece = self._slices[0]
        return offset < piece.end and offset + size > piece.offset

    def _is_installer(self, member: Member) -> bool:
        return self._arrangement.trailer is not None and member.digest == self._arrangement.trailer.digest

    def _take_back(self) -> None:
        """There is nothing to undo: one file gets one name."""


def _on_disk(path: Path) -> int:
    """Return how many bytes of a file the disk holds; a half-written one has holes."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def split_beside(path: Path, lock: Lock) -> int | None:
    """Return the bytes of the volumes of this lock's bundle that lie at ``path``; None if there are none."""
    arrangement = arrange(lock)
    bundle = Digest.of(arrangement.raw)
    labels = [seen.label for seen in look(path) if seen.label]
    return next((it.identity.capacity + tail_size(arrangement) for it in labels if it.identity.bundle == bundle), None)


def reaching_into(path: Path, lock: Lock, split: int, volume: int) -> frozenset[Digest]:
    """Return the blobs of which some or all lies in one volume; raises ConfigurationError as ``target_for`` does."""
    arrangement = arrange(lock)
    target = target_for(path, arrangement, split, volume)
    return frozenset(digest for digest, member in arrangement.blobs.items() if target.wants(member))
