"""Pages: large writes past the page cache, straight from our memory to the disk (O_DIRECT).

A bundle is larger than what the cache should keep of it, and copying every byte into the cache costs more of the processor
than the network does; flushing it costs the rest, all at once, at the end. Measured with 1.5 GiB on ext4: 0.6 s instead of 1.1
to 3.3 s, an eighth of the processor's time.

Invariants: a page of the file goes either way, never both: directly go whole pages inside one blob, through the cache what
shares its page with something else (mixing them would lose bytes: open(2), O_DIRECT). Memory lies as the file does, modulo
PAGE. Where a file system takes no direct writes, everything goes through the cache: only speed depends on it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = 4096
"""Bytes: what O_DIRECT asks for at most on Linux's file systems, and a page of the cache (else it is not used)."""
ROOM = 1024 * 1024
"""Bytes that are collected for one write."""
LEAST = 256 * 1024
"""Bytes from which on a direct write pays: each one waits for the disk."""


class Pages:
    """Bytes of one blob on their way to consecutive positions of a file, collected so that whole pages leave together.

    ``write`` takes (data, offset), where data lies in memory as in the file, modulo PAGE. One thread at a time.
    """

    def __init__(self, write: Callable[[memoryview, int], None]) -> None:
        self._write = write
        self._room = memoryview(mmap.mmap(-1, ROOM))
        self._start = self._end = self._offset = self._lent = 0

    @property
    def offset(self) -> int:
        """Where the next byte goes that is not written yet."""
        return self._offset

    def begin(self, offset: int) -> None:
        """Forget what is collected; go on at ``offset`` of the file."""
        self._offset, self._start = offset, offset % PAGE
        self._end = self._start

    @property
    def room(self) -> memoryview:
        """Where the next bytes may be put before ``put`` is told of them: it need not copy them then."""
        self._lent = self._end
        return self._room[self._end :]

    def put(self, data: bytes | memoryview) -> None:
        """Take the next bytes; write when the room is full. Raises what ``write`` raises."""
        rest = memoryview(data)
        in_place = rest.obj is self._room.obj and self._lent == self._end
        while rest:
            part = rest[: ROOM - self._end]
            if not in_place:
                self._room[self._end : self._end + len(part)] = part
            self._end += len(part)
            rest = rest[len(part) :]
            if self._end == ROOM:
                self.flush()

    def flush(self) -> None:
        """Write what is collected."""
        if self._end > self._start:
            self._write(self._room[self._start : self._end], self._offset)
            self.begin(self._offset + self._end - self._start)


class DirectFile:
    """A file opened a second time, for direct writes; ``path`` exists."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        if mmap.PAGESIZE != PAGE:
            return
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:
            return  # the file system knows no such thing
        self._taken = True

    def __bool__(self) -> bool:
        """Whether direct writes are taken, as far as is known."""
        return self._fd >= 0 and self._taken

    def write(self, data: memoryview, offset: int) -> int:
        """Write whole pages; return how many bytes were taken: the rest must go through the cache. Raises OSError."""
        done = 0
        while done < len(data):
            try:
                count = os.pwrite(self._fd, data[done:], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._taken = False
                break
            done += count
            if not count or count % PAGE:
                break
        return done

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def whole_pages(offset: int, size: int) -> tuple[int, int]:
    """Return where the whole pages in ``size`` bytes at ``offset`` of a file begin and end, counted from the first byte.

    >>> whole_pages(4000, 10000)
    (96, 8288)
    """
    first = -offset % PAGE
    return first, max(first, size - (offset + size) % PAGE)


def allocate(fd: int, size: int) -> None:
    """Let the file system find a place for ``size`` bytes now: direct writes into a hole take turns.

    Not os.posix_fallocate, which writes all of it where the file system cannot do that. Raises OSError when there is no room.
    """
    try:
        library = ctypes.CDLL(None, use_errno=True)
        failed = library.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size))
    except (OSError, AttributeError):
        return  # a C library without it
    if failed and ctypes.get_errno() in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
