"""Events: progress as JSON, one object a line on stderr (--log-format json), for those who collect logs.

Invariants: each line has ``time`` (UTC), ``level`` and ``event``: begin | there (``size`` bytes of the phase stood before) |
done | progress | end | say | warning | debug | error. Sizes are bytes, rates bytes per second, durations seconds. While bytes
move there is a ``progress`` line every PERIOD seconds.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timezone

import click

from airgap.cli.pace import Current, Pace
from airgap.progress import Progress

PERIOD = 5.0
"""Seconds between two lines of progress."""


class Events(Progress):
    """Every call as a line."""

    def __init__(self, *, verbose: int = 0, quiet: bool = False) -> None:
        self._verbose, self._quiet = verbose, quiet
        self._lock = threading.Lock()
        self._what, self._items, self._count = "", 0, 0
        self._pace = Pace(0, time.monotonic())
        self._told_at = 0.0
        self._current = Current()

    def begin(self, what: str, items: int, size: int = 0) -> None:
        """Tell the phase with its number of items and bytes."""
        now = time.monotonic()
        with self._lock:
            self._what, self._items, self._count = what, items, 0
            self._current.clear()
            self._pace, self._told_at = Pace(size, now), now
        self._info("begin", items=items, bytes=size)

    def start(self, item: str) -> None:
        """Keep in mind what is under way: ``progress`` lines name it (``now``)."""
        with self._lock:
            self._current.begin(item)

    def there(self, size: int) -> None:
        """Count what was there before, and tell."""
        with self._lock:
            self._pace.there(size)
        if size:
            self._info("there", size=size, **self._state(time.monotonic()))

    def advance(self, size: int) -> None:
        """Count bytes, and tell now and then."""
        now = time.monotonic()
        with self._lock:
            self._pace.moved(size, now)
            due = now - self._told_at >= PERIOD
            if due:
                self._told_at = now
        if due:
            self._info("progress", now=list(self._current.items), **self._state(now))

    def done(self, item: str, note: str = "") -> None:
        """Tell an item."""
        with self._lock:
            self._count += 1
            self._current.end(item)
            count = self._count
        self._info("done", item=item, note=note, number=count, items=self._items, **self._state(time.monotonic()))

    def end(self) -> None:
        """Tell the end of the phase."""
        self._info("end", **self._state(time.monotonic()))

    def say(self, message: str) -> None:
        """Tell what has just changed."""
        self._info("say", message=message)

    def warn(self, message: str) -> None:
        """Tell a warning."""
        self._write("warning", "warning", message=message)

    def debug(self, message: str) -> None:
        """Tell a detail when -v was given."""
        if self._verbose:
            self._write("debug", "debug", message=message)

    def error(self, message: str, hint: str, code: int) -> None:
        """Tell what ended the run."""
        self._write("error", "error", message=message, hint=hint, exitCode=code)

    def _state(self, now: float) -> dict[str, object]:
        with self._lock:
            left = self._pace.left(now)
            return {
                "bytes": self._pace.done,
                "ofBytes": self._pace.total,
                "bytesPerSecond": round(self._pace.rate(now)),
                "secondsLeft": None if left is None else round(left),
            }

    def _info(self, event: str, **fields: object) -> None:
        if not self._quiet:
            self._write("info", event, phase=self._what, **fields)

    def _write(self, level: str, event: str, **fields: object) -> None:
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        click.echo(json.dumps({"time": moment, "level": level, "event": event, **fields}), err=True)
