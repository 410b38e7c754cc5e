"""Response: status, headers and a body of raw bytes that is read once, in pieces, with a floor under its speed.

Invariants: bytes are as sent (no decoding: digests are theirs, faults F30); a body that ends early raises NetworkError, one
that is longer than the reader allows raises IntegrityError; memory is one chunk.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, TypeVar, overload

import requests
import urllib3.exceptions

from airgap.errors import IntegrityError, NetworkError
from airgap.transport.failures import Place, explain
from airgap.transport.rate import Tally
from airgap.transport.url import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from airgap.transport.rate import Rate
    from airgap.transport.stall import Watch

CHUNK = 1024 * 1024
"""Bytes of a read on a fast connection."""
FIRST_CHUNK = 64 * 1024
"""Bytes of the first read, and of all on a slow connection."""
CHUNK_TIME = 64.0
"""Seconds that one chunk may take: with FIRST_CHUNK a floor of 1 KiB/s."""
FAST, SLOW = 0.5, 8.0
"""Seconds for a chunk below which the next one is larger, and above which it is smaller."""
DRAIN_LIMIT = 64 * 1024
"""Bytes that are read away on close, so that the connection can be used again."""
Room = Callable[[], memoryview]
"""Gives memory in which the next bytes may be put; empty: there is none."""
_Piece = TypeVar("_Piece", bytes, "bytes | memoryview")

WIRE_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""All that requests and urllib3 raise when something is wrong on the wire."""


def _put(source: HTTPResponse, room: memoryview) -> memoryview:
    """Read into ``room``; return what is filled of it, nothing at the end. Raises what urllib3 does where that comes early."""
    count = source.readinto(room)
    if room and not count and source.length:
        raise urllib3.exceptions.IncompleteRead(0, source.length)
    return room[:count]


class Response:
    """An answer. Use as a context manager, or ``close`` it."""

    def __init__(self, raw: Any, place: Place, watch: Watch, rate: Rate | None = None, tally: Tally | None = None) -> None:
        self._raw = raw
        self._rate, self._tally = rate, tally or Tally()
        self._place = place
        self._watch = watch
        self._content: bytes | None = None
        inner = getattr(raw, "_fp", None)  # urllib3 reads into memory of its own and copies; the standard library need not
        self._plain = inner if isinstance(inner, HTTPResponse) and not inner.chunked else None
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.url = place.url
        self.stalled = False
        self.attempts = 1

    @property
    def place(self) -> Place:
        """Where it came from, for messages."""
        return self._place

    def header_values(self, name: str) -> list[str]:
        """Return all values of a header that may come several times."""
        return list(self._raw.headers.getlist(name))

    def length(self) -> int | None:
        """Return Content-Length, or None when it is absent or no number."""
        return number(self.headers.get("Content-Length", ""))

    def read(self, limit: int) -> bytes:
        """Return the whole body; raises IntegrityError when it is longer than ``limit`` bytes (faults F31)."""
        if self._content is None:
            pieces, size = [], 0
            for piece in self.stream(min(CHUNK, limit + 1)):
                pieces.append(piece)
                size += len(piece)
                self._check(size, limit)
            self._content = b"".join(pieces)
        self._check(len(self._content), limit)
        return self._content

    def _check(self, size: int, limit: int) -> None:
        if size > limit:
            self.close()
            raise IntegrityError(f"the answer to {self._place} is longer than the {limit} bytes that it may have")

    def stream(self, chunk: int = CHUNK) -> Iterator[bytes]:
        """Yield the body in pieces of at most ``chunk`` bytes; raises NetworkError when it stalls or ends early."""
        return self._paced(chunk, self._read)

    def fill(self, room: Room) -> Iterator[bytes | memoryview]:
        """Yield the body as ``stream`` does, but each piece in ``room()`` where that can be, until the next is asked for.

        Large bodies are worth it: nothing is allocated for them and nothing copied.
        """
        return self._paced(CHUNK, lambda size: self._read(size, room()))

    def _paced(self, chunk: int, read: Callable[[int], _Piece]) -> Iterator[_Piece | bytes]:
        """Yield pieces that are as large as the connection is fast."""
        if self._content is not None:
            if self._content:
                yield self._content
            return
        size = min(FIRST_CHUNK, chunk)
        while True:
            start = time.monotonic()
            piece = read(size)
            taken = time.monotonic() - start
            if not piece:
                return
            yield piece
            if taken < FAST:
                size = min(size * 2, chunk)
            elif taken > SLOW:
                size = max(size // 2, min(FIRST_CHUNK, chunk))

    def skip(self, count: int) -> None:
        """Read ``count`` bytes away."""
        while count > 0:
            piece = self._read(min(count, CHUNK))
            if not piece:
                raise NetworkError(f"the answer to {self._place} was cut short")
            count -= len(piece)

    @overload
    def _read(self, size: int) -> bytes: ...
    @overload
    def _read(self, size: int, room: memoryview) -> bytes | memoryview: ...
    def _read(self, size: int, room: memoryview | None = None) -> bytes | memoryview:
        if self._rate:
            size = self._rate.block(size)
        try:
            with self._watch.guard(self, CHUNK_TIME):
                piece: bytes | memoryview
                piece = _put(self._plain, room[:size]) if room and self._plain else self._raw.read(size, decode_content=False)
        except WIRE_ERRORS as error:
            failure = explain(error, self._place)
            self.close()
            raise (self._stall() if self.stalled else failure.error) from None
        if self.stalled:
            self.close()
            raise self._stall()
        self._tally.came(len(piece))
        if self._rate and piece:
            self._rate.take(len(piece))
        return piece

    def _stall(self) -> NetworkError:
        floor = FIRST_CHUNK / CHUNK_TIME / 1024
        return NetworkError(f"{self._place.host} sends less than {floor:.0f} KiB/s{self._place.via}: given up at {self._place}")

    def cut(self) -> None:
        """Shut the connection down, from another thread."""
        end = getattr(self._raw, "shutdown", None) or self._raw.close  # shutdown is there since urllib3 2.3
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            end()

    def close(self) -> None:
        """Give the connection back for further use if little of the body is left, else close it."""
        raw = self._raw
        if raw.closed:  # read to its end, or a HEAD
            raw.release_conn()
            return
        length = raw.length_remaining
        if length is not None and length <= DRAIN_LIMIT and not self.stalled:
            with contextlib.suppress(*WIRE_ERRORS):
                raw.read(decode_content=False)
                raw.release_conn()
                return
        raw.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
