"""The one retry policy, and the back-off that all requests to one host share.

Invariants: everything is bounded: attempts, each wait, and what a server may ask us to wait. Only what is safe is repeated:
idempotent requests, requests that never left (no connection), and those a server says it did not look at (429).
``decide`` is pure; only ``Backoff.wait`` sleeps.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
"""Methods that may be repeated blindly (RFC 9110, 9.2.2)."""
RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that a second try may change (the list of regclient, peers.md 2; 501 and 505 never do)."""
NOT_PROCESSED = frozenset({429})
"""Statuses by which a server says it did nothing: safe to repeat for every method (RFC 6585, 4)."""
UNREACHED_ATTEMPTS = 3
"""Attempts when no connection comes about: a wrong name or port should not keep anybody waiting. A host that has answered in
this run has the right name, and is being restarted: it gets all attempts."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long: ``attempts`` in all; waits in seconds double from ``base`` to ``cap``, with jitter.

    ``retry_after_cap``: the longest Retry-After that is obeyed; a longer one ends the run, saying when it can go on. Six
    attempts wait about 15 seconds in all, which outlives the restart of a registry behind a proxy (ours).
    """

    attempts: int = 6
    base: float = 0.5
    cap: float = 30.0
    retry_after_cap: float = 120.0

    def pause(self, attempt: int) -> float:
        """Return seconds to wait after failed attempt number ``attempt`` (from 1): exponential, half of it jitter."""
        full = min(self.cap, self.base * 2.0 ** (attempt - 1))
        return full * random.uniform(0.5, 1.0)  # noqa: S311  # jitter is no secret

    def decide(
        self,
        attempt: int,
        *,
        safe: bool,
        status: int = 0,
        reached: bool = True,
        retry_after: float | None = None,
        known: bool = False,
        most: int | None = None,
    ) -> float | None:
        """Return seconds to wait before the next attempt, or None to give up.

        ``status`` 0 means that no answer came; ``reached`` is False when not even a connection did; ``known``: the host has
        answered before; ``most``: attempts that are left to the caller, where those are fewer.
        """
        limit = self.attempts if most is None else min(self.attempts, most)
        if attempt >= (limit if reached or known else min(limit, UNREACHED_ATTEMPTS)):
            return None
        if status and status not in RETRIED:
            return None
        if not (safe or not reached or status in NOT_PROCESSED):
            return None
        if retry_after is None:
            return self.pause(attempt)
        if retry_after > self.retry_after_cap:
            return None
        return retry_after + random.uniform(0, min(1.0, self.base))  # noqa: S311  # so that not all come back at once


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header, given as a number or a date (RFC 9110, 10.2.3), or None."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - (now or datetime.now(timezone.utc))).total_seconds())


class Backoff:
    """When each host may be asked again: one host that is overloaded is left alone by all threads at once."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self._sleep = sleep
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def pause(self, host: str, seconds: float) -> None:
        """Let nobody ask ``host`` for ``seconds``; with no host, only the caller sleeps."""
        if not host:
            self._sleep(seconds)
            return
        with self._lock:
            self._until[host] = max(self._until.get(host, 0.0), self._clock() + seconds)

    def wait(self, host: str) -> None:
        """Sleep until ``host`` may be asked."""
        while (left := self._until.get(host, 0.0) - self._clock()) > 0:
            self._sleep(left)
