"""Crew: some threads that take items one by one until none is left, one fails, or the user has had enough.

Invariants: the first failure (or Ctrl-C) stops the others at their next ``check`` and is raised in the caller's thread; nothing
is swallowed. The threads are daemons: one that hangs in a read that nobody answers cannot keep the process alive.

::

    crew = Crew(jobs)
    crew.run(blobs, lambda blob: copy(blob, crew.check))
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")

GRACE = 2.0
"""Seconds that the others get to reach their next ``check`` after a failure or Ctrl-C; a 1 MiB chunk takes far less."""

SOON = 0.5
"""Seconds of the grace after which ``on_stop`` is called, so that somebody tells what is waited for."""

POLL = 1.0
"""Seconds between two looks at a thread; joining without a limit would delay Ctrl-C on some platforms."""


class StoppedError(Exception):
    """Work given up because another thread's failed; never seen outside a crew."""


class Crew:
    """``jobs`` threads for one stage (the one budget of parallelism)."""

    def __init__(self, jobs: int, grace: float = GRACE, on_stop: Callable[[], None] | None = None) -> None:
        self.jobs = max(1, jobs)
        self._grace, self._on_stop = grace, on_stop
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []

    def check(self) -> None:
        """Return at once, or raise StoppedError when the crew was told to stop; call it with every chunk."""
        if self._stopping.is_set():
            raise StoppedError

    def run(self, items: Iterable[T], work: Callable[[T], object]) -> None:
        """Call ``work`` for each item, ``jobs`` at a time; raise the first failure when all threads have come to rest."""
        pending, turn, ended = iter(items), threading.Lock(), [threading.Event() for _ in range(self.jobs)]
        threads = [threading.Thread(target=self._work, args=(pending, turn, work, end), daemon=True) for end in ended]
        started = 0
        try:
            for thread in threads:
                thread.start()
                started += 1
            for end in ended:  # each is looked at once: it may end between a look and a wait
                while not (self._stopping.is_set() or end.wait(POLL)):
                    pass
        finally:
            self._rest(ended[:started])
        if self._failures:
            raise self._failures[0]

    def _work(self, pending: Iterator[T], turn: threading.Lock, work: Callable[[T], object], end: threading.Event) -> None:
        with _HandOver(self._failures, self._stopping, end):
            while not self._stopping.is_set():
                with turn:
                    item = next(pending, self)
                if item is self:
                    return
                work(item)  # type: ignore[arg-type]  # self is the end mark, nothing else

    def _rest(self, ended: list[threading.Event]) -> None:
        """Wait until the threads have ended: not at all if all is well, for the grace once they were told to stop."""
        if _running(ended):
            self._stopping.set()
        begun = time.monotonic()
        _wait(ended, begun + min(self._grace, SOON))
        if self._on_stop and _running(ended):
            self._on_stop()
        _wait(ended, begun + self._grace)


def _running(ended: list[threading.Event]) -> bool:
    return not all(end.is_set() for end in ended)


def _wait(ended: list[threading.Event], limit: float) -> None:
    """Wait for all of ``ended``, until ``limit`` of the clock.

    Thread.join is of no use: until Python 3.12 it takes a thread for ended when a signal's exception comes out of it.
    """
    for end in ended:
        end.wait(max(0.0, limit - time.monotonic()))


class _HandOver:
    """Takes whatever ends a thread to the thread that waits for it."""

    def __init__(self, failures: list[BaseException], stopping: threading.Event, end: threading.Event) -> None:
        self._failures, self._stopping, self._end = failures, stopping, end

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is not None and not isinstance(error, StoppedError):
            self._failures.append(error)
        if error is not None:
            self._stopping.set()
        self._end.set()
        return True
