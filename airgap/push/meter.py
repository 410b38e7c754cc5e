"""Meter: how far one blob is on its way into one repository, told so that progress stays honest.

Invariants: bytes that were there before count as done and not as speed; bytes that have to be sent again are taken back first.
A request that has begun is not cut: only between requests a stop is obeyed, because a registry keeps what ended, and many lose
what broke off (cases.md P13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.transport import Window

if TYPE_CHECKING:
    from airgap.bundle.crew import Crew
    from airgap.progress import Progress


class Meter:
    """The way of one blob. ``kept``: bytes that the registry had from an earlier run; ``position``: bytes told so far."""

    def __init__(self, crew: Crew, progress: Progress) -> None:
        self._crew, self._progress = crew, progress
        self._begun = False
        self.kept = self.position = 0

    def at(self, offset: int) -> None:
        """Say that the next request begins at ``offset``."""
        self._crew.check()
        if not self._begun and offset:
            self.kept = self.position = offset
            self._progress.there(offset)
        self._begun = True
        self.moved(offset - self.position)

    def moved(self, size: int) -> None:
        """Say that ``size`` bytes more were sent; negative: so many are sent again."""
        if size:
            self.kept = min(self.kept, self.position + size)
            self.position += size
            self._progress.advance(size)


class MeteredWindow(Window):
    """A window whose reads the meter hears of."""

    def __init__(self, inner: Window, meter: Meter) -> None:
        super().__init__("", 0, len(inner))
        self._inner, self._meter = inner, meter

    def read(self, size: int = -1, /) -> bytes:
        """See Window."""
        data = self._inner.read(size)
        self._position += len(data)
        self._meter.moved(len(data))
        return data

    def passed(self, size: int) -> None:
        """See Window."""
        self._inner.passed(size)
        super().passed(size)
        self._meter.moved(size)

    def rewind(self) -> None:
        """See Window."""
        self._meter.moved(-self._position)
        self._inner.rewind()
        super().rewind()

    def place(self) -> tuple[int, int] | None:
        """See Window."""
        return self._inner.place()

    def close(self) -> None:
        """See Window."""
        self._inner.close()
