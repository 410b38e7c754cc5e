"""Request bodies that have a length and can be sent again: Body, and Window over a part of a file.

Invariants: a body is never a consumed stream: ``rewind`` brings it back to its start, so a request can be answered with
fresh credentials or repeated (cases.md P12). A Window reads with ``pread``, so many windows of one file may be read at once,
and its length makes requests say Content-Length, never chunked coding, which registries refuse (faults F21).

>>> import io
>>> Window(io.BytesIO(b"0123456789"), 2, 5).read()
b'23456'
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from airgap.errors import DiskError, IntegrityError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


@runtime_checkable
class Body(Protocol):
    """What may be sent besides bytes: a length known before, reading in pieces, going back to the start."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes (all that is left if negative); nothing at the end."""

    def rewind(self) -> None:
        """Go back to the first byte."""


@runtime_checkable
class Placed(Body, Protocol):
    """A body that may lie in a file, from where the kernel can send it by itself."""

    def place(self) -> tuple[int, int] | None:
        """Return the file descriptor and the offset of the first byte; None: it lies in no file, or in several."""

    def passed(self, size: int) -> None:
        """Hear that ``size`` bytes more were sent without being read; ``read`` goes on after them."""


class Window:
    """``size`` bytes from ``offset`` of a file: a path (opened on the first read, closed by ``close``) or an open file.

    An open file with a descriptor is read without moving its position; one without (BytesIO) is sought, and then serves
    one window at a time. ``read`` raises IntegrityError when the file ends inside the window, DiskError when it cannot be read.
    """

    def __init__(self, source: Path | str | BinaryIO, offset: int, size: int) -> None:
        self._source = source
        self._offset = offset
        self._size = size
        self._position = 0
        self._descriptor = -1
        self._owned = False

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes of what is left, or all of it; nothing at the end of the window."""
        left = self._size - self._position
        wanted = left if size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        try:
            data = self._read_at(self._offset + self._position, wanted)
        except OSError as error:
            raise self._unreadable(error) from error
        if not data:
            name = getattr(self._source, "name", self._source)
            raise IntegrityError(f"{name} ends {left} bytes too early", hint="the file was cut; copy it again")
        self._position += len(data)
        return data

    def rewind(self) -> None:
        """Go back to the first byte of the window."""
        self._position = 0

    def passed(self, size: int) -> None:
        """Count ``size`` bytes as read (see Placed)."""
        self._position += size

    def part(self, offset: int, size: int) -> Window:
        """Return a window on ``size`` bytes from ``offset`` of this one, over the same source."""
        start = min(offset, self._size)
        return Window(self._source, self._offset + start, min(size, self._size - start))

    def place(self) -> tuple[int, int] | None:
        """Return the file descriptor and the offset of the first byte, for sendfile; None for a file in memory.

        Raises DiskError when the file cannot be opened.
        """
        if self._descriptor < 0:
            try:
                self._open()
            except OSError as error:
                raise self._unreadable(error) from error
        return (self._descriptor, self._offset) if self._descriptor >= 0 else None

    def close(self) -> None:
        """Close the file if this window opened it."""
        if self._owned:
            os.close(self._descriptor)
        self._owned, self._descriptor = False, -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _unreadable(self, error: OSError) -> DiskError:
        name = getattr(self._source, "name", self._source)
        return DiskError(
            f"{name} cannot be read at byte {self._offset + self._position}: {error.strerror}",
            hint="the medium may be damaged or gone; check it and run this again",
        )

    def _read_at(self, position: int, size: int) -> bytes:
        if self._descriptor < 0:
            self._open()
        if self._descriptor >= 0:
            return os.pread(self._descriptor, size, position)
        assert not isinstance(self._source, (Path, str))  # noqa: S101  # _open gave those a descriptor
        self._source.seek(position)
        return self._source.read(size)

    def _open(self) -> None:
        if isinstance(self._source, (Path, str)):
            self._descriptor, self._owned = os.open(self._source, os.O_RDONLY | os.O_CLOEXEC), True
            return
        try:
            self._descriptor = self._source.fileno()
        except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError: a file in memory
            self._descriptor = -1
