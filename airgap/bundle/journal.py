r"""Journal: what a partial bundle is going to be, and which of its blobs are finished.

Invariants: a text file beside the partial bundle. First line ``airgap-journal 1 <digest of the lock>``, second the lock
itself, then one line per finished blob, and lines ``<digest> <bytes>`` for blobs that were begun (the last one counts; 0:
anew). Lines are appended with one write each; a torn last line counts as not written. A line is a claim, not a proof: the
writer hashes again what it finds claimed, so neither a power cut nor a damaged file can make a wrong bundle. Further words on
a line are reserved: such lines are ignored here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, IntegrityError
from airgap.lock import Lock
from airgap.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TITLE = "airgap-journal 1"


@dataclass(frozen=True)
class Story:
    """What a journal tells."""

    lock: Lock
    digest: Digest
    finished: frozenset[Digest]
    begun: Mapping[Digest, int] = field(default_factory=dict)


class Journal:
    """The journal at ``path``, open for appending."""

    def __init__(
        self, path: Path, raw: bytes, finished: frozenset[Digest] = frozenset(), begun: Mapping[Digest, int] | None = None
    ) -> None:
        """Write a new journal for the lock ``raw``, with what is finished and begun; the old one stands until it is whole."""
        self._path = path
        fresh = _fresh(path)
        told = [*(str(digest) for digest in sorted(finished)), *(f"{digest} {size}" for digest, size in (begun or {}).items())]
        lines = [f"{_TITLE} {Digest.of(raw)}".encode(), raw, *(line.encode() for line in told)]
        fresh.write_bytes(b"\n".join(lines) + b"\n")
        fresh.replace(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def finish(self, digest: Digest) -> None:
        """Note that a blob is finished (from any thread: one write, which O_APPEND keeps whole)."""
        os.write(self._fd, f"{digest}\n".encode())

    def note(self, digest: Digest, size: int) -> None:
        """Note that so many bytes of a blob are written (from any thread)."""
        os.write(self._fd, f"{digest} {size}\n".encode())

    def close(self) -> None:
        """Close the file; it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Close and delete it: the bundle is whole."""
        self.close()
        remove_journal(self._path)


def remove_journal(path: Path) -> None:
    """Delete the journal at ``path`` and what an interrupted beginning of one left."""
    _fresh(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def read_journal(path: Path) -> Story | None:
    """Return what the journal at ``path`` tells, or None if there is none that can be used."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    *lines, _torn = data.split(b"\n")
    if len(lines) < 2 or lines[0] != f"{_TITLE} {Digest.of(lines[1])}".encode():  # noqa: PLR2004 - title and lock
        return None
    try:
        lock = Lock.from_bytes(lines[1], str(path))
    except ConfigurationError:
        return None
    sizes = dict(_sizes(lines[2:]))
    finished = frozenset(digest for digest, size in sizes.items() if size is None)
    return Story(lock, Digest.of(lines[1]), finished, {digest: size for digest, size in sizes.items() if size})


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _sizes(lines: list[bytes]) -> Iterator[tuple[Digest, int | None]]:
    """Yield each digest with the bytes that are there of it; None: all."""
    for line in lines:
        text, _, size = line.decode("ascii", "replace").partition(" ")
        try:
            digest = Digest.parse(text)
        except IntegrityError:
            continue
        if not size:
            yield digest, None
        elif len(size) < 20 and size.isdecimal():  # noqa: PLR2004  # no file has more bytes than 19 digits count
            yield digest, int(size)
