"""Checking volumes: one with nothing but its bytes, or all of a set against the lock.

Invariants: of a single volume every byte is compared: the slice with the digest in the label, the zip with the installer's
digest there, the label with its own check. Of a set every byte of the slices is compared with what the lock asks for, once;
only volumes in which something is wrong are hashed a second time, to say which ones to bring. When volumes are missing, or
the lock cannot be read, each volume that is there is checked by its own label.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

from airgap.bundle.crew import Crew
from airgap.bundle.label import LABEL_END, NO_ZIP
from airgap.bundle.medium import CHUNK
from airgap.bundle.reader import BundleReader
from airgap.bundle.verification import Fault, Verification
from airgap.bundle.volumes import alone, find, look, split_name
from airgap.errors import BundleError, DiskError
from airgap.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from airgap.bundle.arrange import Arrangement
    from airgap.bundle.label import Label
    from airgap.bundle.volumes import Seen, VolumeSet


def verify_bundle(path: Path, folders: Sequence[Path], jobs: int, progress: Progress) -> Verification:
    """Check what ``path`` names: a bundle in one file, one volume by itself, or a whole set by the name its volumes share.

    Raises BundleError when there is nothing to check against, DiskError when the medium cannot be read.
    """
    if seen := alone(path):
        return _verify_one(seen, progress)
    if volumes := find(path, folders):
        return _verify_set(volumes, folders, jobs, progress)
    with BundleReader.open(path, strict=False) as bundle:
        return bundle.verify(progress, jobs)


def examine(seen: Seen, progress: Progress | None = None, still: Callable[[], None] = lambda: None) -> tuple[Fault, ...]:
    """Compare every byte of one volume with its label; return all faults, one that cannot be read included."""
    label, progress = seen.label, progress or Progress()
    if label is None:
        return (Fault(str(seen.path), max(0, seen.size - LABEL_END), _unlabelled(seen)),)
    if not seen.is_whole:
        told = f"{label} is damaged: it has {seen.size} bytes instead of {label.file_size}; bring it again"
        return (Fault(str(seen.path), min(seen.size, label.file_size), told),)
    try:
        return tuple(_compare(seen.path, label, progress, still))
    except OSError as error:
        return (_unreadable(label, seen.path, error),)


def _unreadable(label: Label, path: Path, error: OSError) -> Fault:
    return Fault(str(path), 0, f"{label} is damaged: it cannot be read ({error.strerror}); bring it again")


def _unlabelled(seen: Seen) -> str:
    of = f" of {count}" if (count := _count_beside(seen)) else ""
    return f"volume {seen.number}{of} is damaged: the file is cut short, or its end is damaged; bring it again"


def _count_beside(seen: Seen) -> int | None:
    """Return how many volumes the neighbours of an unreadable one say there are, if they agree."""
    counts = {other.label.identity.count for other in look(split_name(seen.path)[0]) if other.label}
    return counts.pop() if len(counts) == 1 else None


def _compare(path: Path, label: Label, progress: Progress, still: Callable[[], None]) -> Iterator[Fault]:
    size = label.slice.size
    with path.open("rb", buffering=0) as file:
        found = _digest(file.fileno(), 0, size, progress, still)
        zipped = os.pread(file.fileno(), label.installer_size, size)
    if found != label.digest.hex:
        yield Fault(str(path), 0, f"{label} is damaged: its slice has the digest sha256:{found}; bring it again")
    if hashlib.sha256(zipped[:-2] + NO_ZIP[-2:]).hexdigest() != label.installer.hex:
        yield Fault(str(path), size, f"{label} is damaged: the installer at its end is not the right one; bring it again")


def _digest(fd: int, offset: int, size: int, progress: Progress, still: Callable[[], None]) -> str:
    hashed, end, buffer = hashlib.sha256(), offset + size, memoryview(bytearray(min(CHUNK, max(size, 1))))
    while offset < end and (count := os.preadv(fd, [buffer[: end - offset]], offset)):
        still()
        hashed.update(buffer[:count])
        progress.advance(count)
        offset += count
    return hashed.hexdigest()


def _verify_one(seen: Seen, progress: Progress) -> Verification:
    progress.begin("verify", 1, seen.size)
    faults = examine(seen, progress)
    progress.end()
    count = seen.label.identity.count if seen.label else _count_beside(seen) or 0
    return Verification(faults, 0, seen.size, count=count, bring=_numbers(faults, [seen]), volume=seen.label)


def _verify_set(volumes: VolumeSet, folders: Sequence[Path], jobs: int, progress: Progress) -> Verification:
    there = [volumes.found[number] for number in sorted(volumes.found)]
    size = sum(seen.size for seen in there)
    if volumes.problems:
        absent = tuple(Fault(str(it.path or ""), 0, it.message) for it in volumes.problems)
        faults = (*absent, *_examine_all(there, jobs, progress))
        absent_numbers = (problem.number for problem in volumes.problems)
        bring = tuple(sorted({*absent_numbers, *_numbers(faults, there)}))
        return Verification(faults, 0, size, bring=bring, count=volumes.identity.count)
    try:
        faults, found = _against_the_lock(volumes, folders, jobs, progress)
    except (BundleError, DiskError):  # the lock may lie in a damaged volume, or a medium cannot be read
        if faults := _examine_all(there, jobs, progress):
            return Verification(faults, 0, size, bring=_numbers(faults, there), count=volumes.identity.count)
        raise
    bring = _numbers(faults, there)
    return Verification((*faults, *found.faults), found.blobs, size, bring=bring, count=volumes.identity.count)


def _against_the_lock(
    volumes: VolumeSet, folders: Sequence[Path], jobs: int, progress: Progress
) -> tuple[tuple[Fault, ...], Verification]:
    """Compare a set that is all there with its lock; return which volumes that finds damaged, and what it finds by itself."""
    there = [volumes.found[number] for number in sorted(volumes.found)]
    with BundleReader.open(there[0].path, strict=False, folders=(volumes.base.parent, *folders)) as bundle:
        found = bundle.verify(progress, jobs)
        suspects = [seen for seen in there if _touched(seen, found.faults, bundle.arrangement)]
    return (*_examine_all(suspects, jobs, progress), *_tails(there, suspects)), found


def _examine_all(volumes: Sequence[Seen], jobs: int, progress: Progress) -> tuple[Fault, ...]:
    """Check volumes by their own labels."""
    if not volumes:
        return ()
    found: list[Fault] = []
    noting, crew = threading.Lock(), Crew(jobs)

    def work(seen: Seen) -> None:
        faults = examine(seen, progress, crew.check)
        with noting:
            found.extend(faults)
        progress.done(str(seen.label))

    progress.begin("verify volumes", len(volumes), sum(seen.size for seen in volumes))
    crew.run(volumes, work)
    progress.end()
    return tuple(sorted(found))


def _tails(volumes: Iterable[Seen], done: Sequence[Seen]) -> Iterator[Fault]:
    """Compare the installers behind the slices, which the lock's comparison has seen of the last volume only."""
    for seen in volumes:
        if seen in done or seen.label is None:
            continue
        try:
            with seen.path.open("rb", buffering=0) as file:
                zipped = os.pread(file.fileno(), seen.label.installer_size, seen.label.slice.size)
        except OSError as error:
            yield _unreadable(seen.label, seen.path, error)
            continue
        if hashlib.sha256(zipped[:-2] + NO_ZIP[-2:]).hexdigest() != seen.label.installer.hex:
            told = f"{seen.label} is damaged: the installer at its end is not the right one; bring it again"
            yield Fault(str(seen.path), seen.label.slice.size, told)


def _touched(seen: Seen, faults: Sequence[Fault], arrangement: Arrangement) -> bool:
    """Whether any fault may come from this volume: each is somewhere in its member, or behind the archive."""
    assert seen.label is not None  # noqa: S101  # only labelled files are chosen
    piece = seen.label.slice
    for fault in faults:
        member = next((it for it in arrangement.members if it.name == fault.member), None)
        start, end = (member.start, member.end) if member else (fault.offset, fault.offset + 1)
        last = piece.number == piece.count and end > piece.end
        if last or (start < piece.end and end > piece.offset):
            return True
    return False


def _numbers(faults: Iterable[Fault], volumes: Iterable[Seen]) -> tuple[int, ...]:
    """Return the numbers of the volumes that have faults."""
    numbers = {str(seen.path): seen.label.number if seen.label else seen.number for seen in volumes}
    return tuple(sorted({numbers[fault.member] for fault in faults if fault.member in numbers}))
