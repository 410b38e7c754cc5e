"""Target: the files into which a bundle is written. One file; the volumes of a split bundle are another implementation.

Invariants: everything is written under temporary names first; ``publish`` gives the final ones, when all of it is durable.
Positions are those of the whole bundle, whatever the files are. Errors of the system are raised as OSError: the writer knows
how much is still missing and says so.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from airgap.bundle.medium import FileMedium
from airgap.bundle.pages import LEAST, DirectFile, allocate, whole_pages
from airgap.bundle.reader import BundleReader
from airgap.bundle.room import check_room
from airgap.bundle.volumes import look
from airgap.errors import AirgapError, DiskError

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle.arrange import Arrangement, Member
    from airgap.bundle.medium import Medium
    from airgap.progress import Progress


class Target(Protocol):
    """What a writer needs of the place where the bundle is going to lie.

    ``path`` names the journal and the claim; ``files`` are the final names, ``size`` the bytes of all files when finished.
    """

    path: Path
    files: tuple[Path, ...]
    size: int

    @property
    def direct(self) -> bool:
        """Whether whole pages can go past the cache."""

    def stands(self) -> bool:
        """Whether the very bundle is there already; raises DiskError when something else is in the way."""

    def begun(self) -> bool:
        """Whether an earlier run left something to go on with."""

    def rivals(self) -> tuple[Path, ...]:
        """Return what an earlier run left that was to become other files than these."""

    def make_ready(self, *, again: bool) -> None:
        """Look for room, then make the files, or open those of an earlier run; raises DiskError, ConfigurationError."""

    def wants(self, member: Member) -> bool:
        """Whether any of it is to be written here."""

    def holds(self, member: Member) -> bool:
        """Whether all of it can be read back."""

    def write(self, data: memoryview, offset: int) -> None:
        """Put all of ``data`` at ``offset`` of the bundle."""

    def write_pages(self, data: memoryview, offset: int) -> None:
        """Put ``data`` there, which lies in memory as in the file (see pages); worth it only if ``direct``."""

    def medium(self) -> Medium:
        """Return what was written so far, for reading."""

    def seal(self, installer: bytes, jobs: int, progress: Progress) -> None:
        """Add what stands behind the archive, and make all bytes durable."""

    def publish(self) -> None:
        """Give the files their names, durably."""

    def close(self) -> None:
        """Close the files; they stay."""


def partial_path(path: Path) -> Path:
    """Return the name under which a bundle is written."""
    return path.with_name(f"{path.name}.partial")


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of a file; raises OSError."""
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class FileTarget:
    """A bundle that becomes one file."""

    def __init__(self, path: Path, arrangement: Arrangement) -> None:
        self.path = path
        self.files: tuple[Path, ...] = (path,)
        self.size = arrangement.size
        self._arrangement = arrangement
        self._fd = -1
        self._direct: DirectFile | None = None

    def stands(self) -> bool:
        """See Target."""
        if not self.path.exists():
            return False
        try:
            with BundleReader.open(self.path) as there:
                return there.arrangement.raw == self._arrangement.raw
        except AirgapError as error:
            raise DiskError(
                f"{self.path} exists and is no whole bundle ({error.message}): it is left alone",
                hint="delete it, or choose another name",
            ) from error

    def begun(self) -> bool:
        """See Target."""
        return partial_path(self.path).exists()

    def rivals(self) -> tuple[Path, ...]:
        """See Target: half-written volumes."""
        return tuple(seen.path for seen in look(partial_path(self.path)))

    def make_ready(self, *, again: bool) -> None:
        """See Target."""
        partial = partial_path(self.path)
        there = partial.stat().st_blocks * 512 if again else 0
        check_room(self.path, self.size, min(there, self.size))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if again else os.O_TRUNC)
        self._fd = os.open(partial, flags, 0o666)
        os.ftruncate(self._fd, self._arrangement.tar_size)
        self._direct = DirectFile(partial)
        if self._direct:
            allocate(self._fd, self._arrangement.tar_size)

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
        write_all(self._fd, data, offset)

    @property
    def direct(self) -> bool:
        """See Target."""
        return bool(self._direct)

    def write_pages(self, data: memoryview, offset: int) -> None:
        """See Target: whole pages directly, what is before and behind through the cache."""
        first, end = whole_pages(offset, len(data))
        if self._direct and end - first >= LEAST:
            self.write(data[:first], offset)
            first += self._direct.write(data[first:end], offset + first)
            self.write(data[first:], offset + first)
        else:
            self.write(data, offset)

    def medium(self) -> Medium:
        """See Target."""
        return FileMedium(partial_path(self.path))

    def seal(self, installer: bytes, jobs: int, progress: Progress) -> None:
        """See Target."""
        del jobs, progress
        self.write(memoryview(installer), self._arrangement.tar_size)
        os.fsync(self._fd)

    def publish(self) -> None:
        """See Target."""
        partial_path(self.path).replace(self.path)
        sync_folder(self.path.parent)

    def close(self) -> None:
        """See Target."""
        if self._direct:
            self._direct.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
