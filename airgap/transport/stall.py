"""The floor under every download: a chunk that does not come within its time ends the connection.

A read time-out restarts with each byte, so a server that drips one byte every ten seconds would be waited for for ever
(faults F33). Here one thread per Watch looks once a second whether a guarded read is overdue, and shuts its socket down; the
reader then sees the end of the connection and says why.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TICK = 1.0
"""Seconds between two looks."""
IDLE_TICKS = 10
"""Looks without a guarded read after which the thread ends; the next read starts another."""


class Guarded(Protocol):
    """What can be cut off from another thread."""

    stalled: bool

    def cut(self) -> None:
        """End the connection."""
        ...


class Watch:
    """Cuts reads that are overdue; thread-safe."""

    def __init__(self, tick: float = TICK, clock: Callable[[], float] = time.monotonic) -> None:
        self._tick = tick
        self._clock = clock
        self._deadlines: dict[int, tuple[float, Guarded]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def guard(self, what: Guarded, seconds: float) -> Iterator[None]:
        """Cut ``what`` if the block inside lasts longer than ``seconds``."""
        key = id(what)
        with self._lock:
            self._deadlines[key] = (self._clock() + seconds, what)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="airgap-stall-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._deadlines.pop(key, None)

    def _run(self) -> None:
        idle = 0
        while idle < IDLE_TICKS:
            time.sleep(self._tick)
            now = self._clock()
            with self._lock:
                overdue = [what for until, what in self._deadlines.values() if until < now]
                idle = 0 if self._deadlines else idle + 1
                if idle >= IDLE_TICKS:
                    self._thread = None
            for what in overdue:
                what.stalled = True
                what.cut()
