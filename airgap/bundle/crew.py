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

POLL = 1.0
"""Seconds between two looks at a thread; joining without a limit would delay Ctrl-C on some platforms."""


class StoppedError(Exception):
    """Work given up because another thread's failed; never seen outside a crew."""


class Crew:
    """``jobs`` threads for one stage (the one budget of parallelism)."""

    def __init__(self, jobs: int, grace: float = GRACE) -> None:
        self.jobs = max(1, jobs)
        self._grace = grace
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []

    def check(self) -> None:
        """Return at once, or raise StoppedError when the crew was told to stop; call it with every chunk."""
        if self._stopping.is_set():
            raise StoppedError

    def run(self, items: Iterable[T], work: Callable[[T], object]) -> None:
        """Call ``work`` for each item, ``jobs`` at a time; raise the first failure when all threads have come to rest."""
        pending, turn = iter(items), threading.Lock()
        threads = [threading.Thread(target=self._work, args=(pending, turn, work), daemon=True) for _ in range(self.jobs)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads) and not self._stopping.is_set():
                next(thread for thread in threads if thread.is_alive()).join(POLL)
        finally:
            self._rest(threads)
        if self._failures:
            raise self._failures[0]

    def _work(self, pending: Iterator[T], turn: threading.Lock, work: Callable[[T], object]) -> None:
        with _HandOver(self._failures, self._stopping):
            while not self._stopping.is_set():
                with turn:
                    item = next(pending, self)
                if item is self:
                    return
                work(item)  # type: ignore[arg-type]  # self is the end mark, nothing else

    def _rest(self, threads: list[threading.Thread]) -> None:
        """Wait until the threads have ended: for ever if all is well, for the grace once they were told to stop."""
        if any(thread.is_alive() for thread in threads):
            self._stopping.set()
        limit = time.monotonic() + self._grace
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, limit - time.monotonic()))


class _HandOver:
    """Takes whatever ends a thread to the thread that waits for it."""

    def __init__(self, failures: list[BaseException], stopping: threading.Event) -> None:
        self._failures, self._stopping = failures, stopping

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is not None and not isinstance(error, StoppedError):
            self._failures.append(error)
        if error is not None:
            self._stopping.set()
        return True
