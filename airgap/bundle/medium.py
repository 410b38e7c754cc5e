"""Medium: the bytes of a bundle, wherever they lie. Today one file; volumes of a split bundle are another subclass.

Invariants: reading is by position (pread), so any number of threads share one medium and no file position. The file that was
opened is the file that is read, whatever happens to its name meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

from airgap.errors import BundleError, DiskError
from airgap.transport.body import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK = 1024 * 1024
"""Bytes read or written at once: large enough for the disk's speed, small enough that memory stays flat."""


OnRead: TypeAlias = "Callable[[int], None]"


class Medium(Protocol):
    """What a reader needs of the place where the bundle lies. ``name`` is for people; ``size`` in bytes."""

    name: str
    size: int

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; return how many bytes there were (fewer only at the end). Raises DiskError."""

    def window(self, offset: int, size: int, on_read: OnRead | None = None) -> Window:
        """Return a request body over a part of the bundle, with its own position; ``on_read`` hears of each read's size."""

    def close(self) -> None:
        """Let go of the file."""


class FileMedium:
    """A bundle that is one file."""

    def __init__(self, path: Path) -> None:
        """Open ``path``; raises BundleError when there is no such file, DiskError when it cannot be read."""
        self.name = str(path)
        try:
            self._file = path.open("rb", buffering=0)
            self.size = self._file.seek(0, os.SEEK_END)
        except FileNotFoundError as error:
            raise BundleError(f"bundle {path} does not exist", hint="check the path of the bundle") from error
        except OSError as error:
            raise DiskError(f"bundle {path} cannot be opened: {error.strerror}") from error

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; see Medium."""
        filled = 0
        try:
            while filled < len(buffer):
                count = os.preadv(self._file.fileno(), [buffer[filled:]], offset + filled)
                if not count:
                    break
                filled += count
        except OSError as error:
            raise _unreadable(self.name, offset + filled, error) from error
        return filled

    def window(self, offset: int, size: int, on_read: OnRead | None = None) -> Window:
        """Return a request body over a part of the file (read with pread: the one descriptor serves all threads)."""
        return _BundleWindow(self._file, offset, size, self.name, on_read)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class _BundleWindow(Window):
    """A window that names the bundle when it cannot be read, and tells how much was read.

    The latter is for progress, and to stop an upload: ``on_read`` may raise.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int, name: str, on_read: OnRead | None) -> None:
        super().__init__(file, offset, size)
        self._name, self._start, self._on_read = name, offset, on_read

    def read(self, size: int = -1, /) -> bytes:
        """See Window; raises DiskError when the medium fails."""
        try:
            data = super().read(size)
        except OSError as error:
            raise _unreadable(self._name, self._start, error) from error
        if self._on_read:
            self._on_read(len(data))
        return data


def _unreadable(name: str, position: int, error: OSError) -> DiskError:
    return DiskError(
        f"bundle {name} cannot be read at byte {position}: {error.strerror}",
        hint="the medium may be damaged or gone; put it back, or bring the bundle again",
    )


def read(medium: Medium, offset: int, size: int) -> bytes:
    """Return the bytes at ``offset``: ``size`` of them, or fewer at the end of the medium."""
    buffer = bytearray(max(0, min(size, medium.size - offset)))
    return bytes(memoryview(buffer)[: medium.read_into(memoryview(buffer), offset)])


def chunks(medium: Medium, offset: int, size: int, buffer: bytearray | None = None) -> Iterator[memoryview]:
    """Yield the bytes at ``offset`` in pieces that are valid until the next one is asked for (one buffer, no copies)."""
    view = memoryview(buffer if buffer is not None else bytearray(min(CHUNK, max(size, 1))))
    while size > 0:
        count = medium.read_into(view[: min(len(view), size)], offset)
        if not count:
            return
        yield view[:count]
        offset, size = offset + count, size - count
