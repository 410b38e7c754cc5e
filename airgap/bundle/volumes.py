"""Volumes: finding the files of a split bundle, and reading across them without joining.

Invariants: a volume is known by its label, never by its name: names only say where to look. Which set is meant follows from
the file that was named, or from what lies there. What is wrong is said of volumes, all at once: missing, cut short, of
another bundle. The medium reads exactly the bytes that the bundle has as one file, the installer behind the archive included.

::

    found = find(Path("wandb.tar"), [Path("/media/second")])   # None: that is no split bundle
    medium = VolumesMedium(found.whole())                      # raises BundleError naming each volume to bring
"""

from __future__ import annotations

import bisect
import glob
import os
import re
import resource
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.bundle.label import LABEL_END, Identity, Label, label_in
from airgap.bundle.medium import FileMedium, Medium
from airgap.errors import BundleError, DiskError
from airgap.oci import Digest
from airgap.transport.body import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from airgap.bundle.arrange import Arrangement
    from airgap.bundle.medium import OnRead

_NAME = re.compile(r"(?P<base>.+)\.(?P<number>\d{3})", re.DOTALL)
LISTED = 4
"""What a sentence names one by one before it only counts."""

SPARE_FILES = 256
"""Open files that a run needs beside the volumes: connections, the journal, what Python holds."""


@dataclass(frozen=True)
class Seen:
    """A file that may be a volume: its number by its name (0: it has none), its bytes, its label if it has one."""

    path: Path
    number: int
    size: int
    label: Label | None

    @property
    def is_whole(self) -> bool:
        """Whether it has a label and the size that the label asks for."""
        return self.label is not None and self.size == self.label.file_size


@dataclass(frozen=True)
class Problem:
    """What is wrong with one volume; ``path`` is the file that lies in its place, if any."""

    number: int
    message: str
    path: Path | None = None


@dataclass(frozen=True)
class VolumeSet:
    """The volumes of one bundle as they were found, by number; ``base`` is the name without numbers."""

    base: Path
    identity: Identity
    found: dict[int, Seen]
    problems: tuple[Problem, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels of the volumes that were found, in order."""
        return tuple(seen.label for _, seen in sorted(self.found.items()) if seen.label)

    def whole(self) -> VolumeSet:
        """Return this set if all volumes are there; raises BundleError that names each one that is not."""
        if self.problems:
            raise BundleError(f"bundle {self.base}: {self.told()}", hint=bring_hint(self.base, self.problems[0].number))
        return self

    def told(self) -> str:
        """Say what is wrong, missing volumes together."""
        missing = [problem.number for problem in self.problems if problem.path is None]
        told = [problem.message for problem in self.problems if problem.path is not None]
        if missing:
            many, them = ("s", "them") if len(missing) > 1 else ("", "it")
            is_ = "are" if len(missing) > 1 else "is"
            told.insert(0, f"volume{many} {ranges(missing)} of {self.identity.count} {is_} missing, bring {them}")
        if len(told) > LISTED:
            told[LISTED:] = [f"and {len(told) - LISTED} volumes more, which airgap verify {self.base.name} lists"]
        return "; ".join(told)


def bring_hint(base: Path, number: int) -> str:
    """Return what to do about a volume that is not there or not right."""
    return (
        f"copy it again, name other media with --volumes DIR, or make it again where the bundle was made: "
        f"airgap mirror {base.name} --volume {number} --lock airgap.lock"
    )


def volume_path(base: Path, number: int) -> Path:
    """Return the name of a volume."""
    return base.with_name(f"{base.name}.{number:03d}")


def split_name(path: Path) -> tuple[Path, int]:
    """Return base and number of a volume's name; the name itself and 0 if it is none."""
    named = _NAME.fullmatch(path.name)
    return (path.with_name(named["base"]), int(named["number"])) if named else (path, 0)


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers in order as people write them.

    >>> ranges([1, 2, 3, 7])
    '1-3 and 7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return " and ".join(filter(None, (", ".join(told[:-1]), told[-1])))


def see(path: Path) -> Seen:
    """Look at one file's end; raises DiskError when it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            end = os.pread(file.fileno(), LABEL_END, max(0, size - LABEL_END))
    except OSError as error:
        raise DiskError(
            f"{path} cannot be read: {error.strerror}",
            hint="the medium may be damaged or gone; check it, or bring the file again",
        ) from error
    return Seen(path, split_name(path)[1], size, label_in(end))


def look(base: Path, folders: Iterable[Path] = ()) -> tuple[Seen, ...]:
    """Look at every file that is named as a volume of ``base``, beside it and in ``folders``."""
    pattern = f"{glob.escape(base.name)}.[0-9][0-9][0-9]"
    places = dict.fromkeys((base.parent, *folders))
    return tuple(see(path) for folder in places for path in sorted(folder.glob(pattern)) if path.is_file())


def alone(path: Path) -> Seen | None:
    """Return the volume at ``path``; None for anything else.

    A file without a label counts as one, cut short or damaged, when it is named as one and its neighbours are volumes.
    """
    if not path.is_file():
        return None
    seen = see(path)
    base, number = split_name(path)
    if seen.label is None and not (number and any(other.label for other in look(base))):
        return None
    return seen


def find(path: Path, folders: Sequence[Path] = ()) -> VolumeSet | None:
    """Find the set that ``path`` names, one of its volumes or the name they share; None when that is no split bundle.

    Raises BundleError when two sets could be meant or none can be told, DiskError when a file cannot be read.
    """
    own = alone(path)
    if own is None and path.exists():
        return None
    base = split_name(path)[0] if own or not look(path, folders) else path
    seen = look(base, folders)
    if own and all(own.path != other.path for other in seen):
        seen = (own, *seen)
    if not seen:
        return None
    identity = own.label.identity if own and own.label else _most_likely(base, seen)
    return choose(base, identity, seen)


def choose(base: Path, identity: Identity, seen: Sequence[Seen]) -> VolumeSet:
    """Pick the volumes of one set, and say what is wrong with those that are not there."""
    found: dict[int, Seen] = {}
    for file in sorted(seen, key=lambda file: not (file.label and file.label.number == file.number)):
        if file.label and file.label.identity == identity and file.is_whole:
            found.setdefault(file.label.number, file)
    missing = [number for number in range(1, identity.count + 1) if number not in found]
    return VolumeSet(base, identity, found, tuple(_problem(identity, number, seen) for number in missing))


def _most_likely(base: Path, seen: Sequence[Seen]) -> Identity:
    """Return the set that is whole, or of which there is most."""
    counted: Counter[Identity] = Counter()
    for label in {file.label for file in seen if file.label and file.is_whole}:
        counted[label.identity] += 1
    counted = counted or Counter(file.label.identity for file in seen if file.label)
    if not counted:
        raise BundleError(
            f"bundle {base}: none of the {len(seen)} files named as its volumes ends as a volume does",
            hint="they were cut short, or are something else; bring them again",
        )
    rank = {identity: (count >= identity.count, count) for identity, count in counted.items()}
    best = max(rank.values())
    likely = [identity for identity in rank if rank[identity] == best]
    if len(likely) > 1:
        told = " and ".join(str(identity.bundle) for identity in likely)
        raise BundleError(
            f"bundle {base}: there are as many volumes of {told}",
            hint="name one volume of the bundle that is meant, or put the others elsewhere",
        )
    return likely[0]


def _problem(identity: Identity, number: int, seen: Sequence[Seen]) -> Problem:
    here = f"volume {number} of {identity.count}"
    mine = next((it for it in seen if it.label and it.label.identity == identity and it.label.number == number), None)
    mine = mine or next((file for file in seen if file.number == number), None)
    if mine is None:
        return Problem(number, f"{here} is missing, bring it")
    name, label = mine.path.name, mine.label
    if label is None:
        told = f"{here} is damaged: {name} is cut short, or its end is damaged; bring it again"
    elif label.identity.bundle != identity.bundle:
        told = (
            f"{here} is missing: {name} belongs to another bundle, {label.identity.bundle}; bring the one of {identity.bundle}"
        )
    elif label.identity != identity:
        told = f"{here} is missing: {name} is of the same bundle split otherwise, {label}; bring the right one"
    elif label.number != number:
        told = f"{here} is missing: {name} is {label}; bring it"
    else:
        told = f"{here} is damaged: {name} has {mine.size} bytes instead of {label.file_size}; bring it again"
    return Problem(number, told, mine.path)


@dataclass(frozen=True)
class Piece:
    """``size`` bytes of the bundle from ``start``: they lie in the open file ``fd`` from ``position``; fd -1: zeros."""

    start: int
    size: int
    fd: int
    position: int
    name: str

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size


class PiecesMedium:
    """A bundle, or parts of one, in the pieces of several files. Reading ends at the first byte that no piece has."""

    def __init__(self, name: str, pieces: Sequence[Piece], size: int) -> None:
        self.name = name
        self.size = size
        self._pieces = sorted(pieces, key=lambda piece: piece.start)
        self._starts = [piece.start for piece in self._pieces]

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; see Medium."""
        filled = 0
        while filled < len(buffer) and (piece := self._at(offset + filled)):
            part = buffer[filled : filled + piece.end - offset - filled]
            count = _fill(piece, part, offset + filled)
            if not count:
                break
            filled += count
        return filled

    def window(self, offset: int, size: int, on_read: OnRead | None = None) -> Window:
        """Return a request body over a part of the bundle, however many files that lies in."""
        return _PiecesWindow(self, offset, size, on_read)

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at ``offset``, fewer where they end; without a copy where they lie in one file."""
        piece = self._at(offset)
        if piece and piece.fd >= 0 and offset + size <= piece.end:
            inside = piece.position + offset - piece.start
            try:
                return os.pread(piece.fd, size, inside)
            except OSError as error:
                raise _unreadable(piece, inside, error) from error
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.read_into(memoryview(buffer), offset)])

    def place(self, offset: int, size: int) -> tuple[int, int] | None:
        """Return descriptor and position of bytes that lie in one file; None if they do not."""
        piece = self._at(offset)
        if piece is None or piece.fd < 0 or offset + size > piece.end:
            return None
        return piece.fd, piece.position + offset - piece.start

    def close(self) -> None:
        """Let go of the files; whoever opened them closes them."""

    def _at(self, offset: int) -> Piece | None:
        index = bisect.bisect_right(self._starts, offset) - 1
        return self._pieces[index] if index >= 0 and offset < self._pieces[index].end else None


def _fill(piece: Piece, buffer: memoryview, offset: int) -> int:
    if piece.fd < 0:
        buffer[:] = bytes(len(buffer))
        return len(buffer)
    inside = piece.position + offset - piece.start
    try:
        return os.preadv(piece.fd, [buffer], inside)
    except OSError as error:
        raise _unreadable(piece, inside, error) from error


def _unreadable(piece: Piece, inside: int, error: OSError) -> DiskError:
    return DiskError(
        f"{piece.name} cannot be read at byte {inside}: {error.strerror}",
        hint="the medium may be damaged or gone; put it back, or bring that volume again",
    )


class VolumesMedium(PiecesMedium):
    """A whole set of volumes as one bundle."""

    def __init__(self, volumes: VolumeSet) -> None:
        """Open all volumes of a set that is whole; raises DiskError."""
        self.volumes = volumes
        self._files: list[int] = []
        room_for_files(volumes.identity.count)
        with ExitStack() as undo:
            undo.callback(self.close)
            pieces = [self._open(volumes.found[number]) for number in range(1, volumes.identity.count + 1)]
            undo.pop_all()
        last = volumes.found[volumes.identity.count]
        assert last.label is not None  # noqa: S101  # only labelled files are chosen
        whole, behind = volumes.identity.whole, last.label.installer_size
        if last.label.carries_installer:
            pieces.append(Piece(whole, behind - 2, self._files[-1], last.label.slice.size, str(last.path)))
            pieces.append(Piece(whole + behind - 2, 2, -1, 0, "the length of a comment that is not there"))
        super().__init__(str(volumes.base), pieces, pieces[-1].end)

    def agree(self, arrangement: Arrangement) -> None:
        """Raise BundleError unless the labels say what the lock in the volumes says."""
        trailer = arrangement.trailer
        for label in (seen.label for seen in self.volumes.found.values() if seen.label):
            same = label.identity.bundle == Digest.of(arrangement.raw) and label.identity.whole == arrangement.tar_size
            if not same or (trailer and (label.installer, label.installer_size) != (trailer.digest, trailer.size)):
                raise BundleError(
                    f"bundle {self.name}: {label} says that it is of {label.identity.bundle}, and the lock in the volumes is "
                    f"{Digest.of(arrangement.raw)}",
                    hint="this was not written by airgap mirror; bring the volumes again",
                )

    def close(self) -> None:
        """Close the files."""
        for fd in self._files:
            os.close(fd)
        self._files.clear()

    def _open(self, seen: Seen) -> Piece:
        assert seen.label is not None  # noqa: S101  # only labelled files are chosen
        try:
            fd = os.open(seen.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DiskError(f"{seen.label}, {seen.path}, cannot be opened: {error.strerror}") from error
        self._files.append(fd)
        return Piece(seen.label.slice.offset, seen.label.slice.size, fd, 0, f"{seen.label}, {seen.path},")


class _PiecesWindow(Window):
    """A window over pieces; ``on_read`` hears of each read's size, and may raise to stop an upload."""

    def __init__(self, medium: PiecesMedium, offset: int, size: int, on_read: OnRead | None) -> None:
        super().__init__(medium.name, offset, size)
        self._medium, self._on_read = medium, on_read

    def read(self, size: int = -1, /) -> bytes:
        """See Window."""
        data = super().read(size)
        if self._on_read:
            self._on_read(len(data))
        return data

    def part(self, offset: int, size: int) -> Window:
        """See Window."""
        start = min(offset, self._size)
        return _PiecesWindow(self._medium, self._offset + start, min(size, self._size - start), None)

    def place(self) -> tuple[int, int] | None:
        """See Window; None where it lies in several files."""
        return self._medium.place(self._offset, self._size)

    def _read_at(self, position: int, size: int) -> bytes:
        return self._medium.read(position, size)


def room_for_files(count: int) -> None:
    """Ask for as many open files as ``count`` volumes need; what the system does not grant shows when they are opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if resource.RLIM_INFINITY in {soft, hard} or soft >= wanted or hard <= soft:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def open_medium(path: Path, folders: Sequence[Path] = ()) -> Medium:
    """Return the bytes of the bundle that ``path`` names: one file, or all volumes of a set.

    Raises BundleError when there is no such bundle or volumes of it are missing, DiskError when it cannot be read.
    """
    volumes = find(path, folders)
    return VolumesMedium(volumes.whole()) if volumes else FileMedium(path)
