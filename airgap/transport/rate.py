"""Rate: how fast the whole run may be (--limit-rate), and Tally: what it moved and repeated.

Invariants: one bucket serves all threads and both directions, so jobs do not multiply it; who takes more than is there sleeps,
outside of every time limit on the wire. ``due`` is pure.

>>> due(10.0, 10.5, 500, 1000.0)
(11.0, 0.5)
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airgap.transport.body import Body

SLICE = 0.125
"""Seconds that one block should take at the full rate: smooth enough for people who watch the line."""
SMALLEST = 4096
"""Bytes of the smallest block."""


def due(paid: float, now: float, size: int, rate: float) -> tuple[float, float]:
    """Return when everything taken so far is paid for, ``size`` bytes included, and the seconds to sleep until then.

    What was not used earlier is not saved up: a pause is no licence for a burst.
    """
    until = max(paid, now) + size / rate
    return until, until - now


class Rate:
    """At most ``limit`` bytes per second, over all threads."""

    def __init__(
        self, limit: float, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._sleep, self._clock = sleep, clock
        self._paid = 0.0
        self._lock = threading.Lock()

    def block(self, size: int) -> int:
        """Return how much of ``size`` to move at once."""
        return min(size, max(SMALLEST, int(self.limit * SLICE)))

    def take(self, size: int) -> None:
        """Sleep until ``size`` bytes are allowed."""
        with self._lock:
            self._paid, left = due(self._paid, self._clock(), size, self.limit)
        if left > 0:
            self._sleep(left)


class Metered:
    """A request body that keeps to a Rate."""

    def __init__(self, body: Body, rate: Rate) -> None:
        self._body, self._rate = body, rate

    def __len__(self) -> int:
        return len(self._body)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes when they are allowed."""
        data = self._body.read(self._rate.block(len(self._body) if size < 0 else size))
        self._rate.take(len(data))
        return data

    def rewind(self) -> None:
        """Go back to the first byte."""
        self._body.rewind()


@dataclass
class Tally:
    """Counts of a run: requests and transfers that were repeated, bytes of bodies received. Thread-safe."""

    retried: int = 0
    received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def again(self) -> None:
        """Count one repetition."""
        with self._lock:
            self.retried += 1

    def came(self, size: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self.received += size
