"""Room: whether a file of so many bytes can be written there at all, found out before the first byte (F38).

Invariants: nothing is written. What the system does not tell (quotas) shows while writing, as a DiskError of its own.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FAT_LIMIT = 4 * 1024**3 - 1
"""Bytes; FAT keeps a file's size in 32 bits (Microsoft FAT specification)."""

FAT_HINT = "use --split 4000M"
FAT_TYPES = ("vfat", "msdos", "fat")
MOUNTS = Path("/proc/self/mountinfo")

_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file system, or a limit of this shell (ulimit -f), allows no larger file",
}


def check_room(path: Path, size: int, there: int = 0) -> None:
    """Raise DiskError unless a file of ``size`` bytes, of which ``there`` are on disk already, fits at ``path``."""
    check_rooms({path: (size, there)})


def check_rooms(files: Mapping[Path, tuple[int, int]]) -> None:
    """Raise DiskError unless all files fit: each by itself, and all that go to one file system together.

    A file is given by its size and by how many of its bytes are on disk already.
    """
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for path, (size, there) in files.items():
        try:
            device = path.parent.stat().st_dev
        except OSError as error:
            raise DiskError(f"cannot write {path}: {error.strerror}", hint="choose another place") from error
        _check_limits(path, size, device)
        needed[device] = needed.get(device, 0) + size - there
        places.setdefault(device, path)
    for device, path in places.items():
        _check_free(path, needed[device])


def _check_limits(path: Path, size: int, device: int) -> None:
    """Raise DiskError when no single file may be so large there."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit not in {resource.RLIM_INFINITY, -1} and size > limit:
        raise DiskError(
            f"{path} would have {size} bytes, and this shell allows files of {limit} bytes at most", hint="raise ulimit -f"
        )
    if size > FAT_LIMIT and file_system(device, _mounts()) in FAT_TYPES:
        raise DiskError(
            f"{path} would have {size} bytes, and its FAT file system holds files of {FAT_LIMIT} bytes at most",
            hint=f"{FAT_HINT}, or write to a file system without that limit (exFAT, ext4, XFS, NTFS)",
        )


def _check_free(path: Path, needed: int) -> None:
    try:
        free = os.statvfs(path.parent)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror}", hint="choose another place") from error
    if (missing := needed - free.f_bavail * free.f_frsize) > 0:
        raise DiskError(f"{path} needs {needed} bytes more, and {missing} of them do not fit on the disk", hint="free some")


def file_system(device: int, mounts: Iterable[str]) -> str:
    """Return the type of the file system with that device number, by the lines of mountinfo (proc(5)); empty if unknown."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return after.split(" ", 1)[0]
    return ""


def disk_error(error: OSError, path: Path, left: int) -> DiskError:
    """Return the DiskError for what the system said while writing; ``left`` bytes were still to come."""
    what = _WORDS.get(error.errno or 0, error.strerror or "the write failed")
    return DiskError(
        f"cannot write {path}: {what}, {left} bytes are missing",
        hint="make room and run the same command again: it goes on where it stopped",
    )


def _mounts() -> list[str]:
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
