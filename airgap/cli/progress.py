"""Progress as people see it: tqdm bars on a terminal, one line per finished item elsewhere; always on stderr."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from airgap.cli.events import Events
from airgap.cli.pace import Current, Pace, duration
from airgap.progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

NOW, SHORT = 100, 40
"""Characters for what is under way: in a line, and beside a bar."""
SIZE = {"ncols": 80, "nrows": 24}
"""The size of a terminal that says it has none (ssh -tt, docker exec -t of some versions); tqdm would show nothing there."""
HEARTBEAT = 30.0
"""Seconds without a finished item after which a line says that bytes move."""


class Lines(Progress):
    """One line per finished item: for logs, CI and pipes."""

    def __init__(self, *, verbose: int = 0) -> None:
        self._verbose = verbose
        self._lock = threading.Lock()
        self._what, self._items, self._count = "", 0, 0
        self._pace, self._told_at = Pace(0, 0.0), 0.0
        self._current = Current()

    def _write(self, text: str) -> None:
        click.echo(text, err=True)

    def begin(self, what: str, items: int, size: int = 0) -> None:
        """Print the phase with its number of items and bytes."""
        self._what, self._items, self._count = what, items, 0
        self._current.clear()
        self._told_at = time.monotonic()
        self._pace = Pace(size, self._told_at)
        self._write(f"{what}: {items} item{'' if items == 1 else 's'}" + (f", {human(size)}" if size else ""))

    def start(self, item: str) -> None:
        """Keep in mind what is under way."""
        with self._lock:
            self._current.begin(item)

    def there(self, size: int) -> None:
        """Count what was there before, and say so."""
        with self._lock:
            self._pace.there(size)
        if size:
            self._write(f"  {human(size)} of it were there already")

    def advance(self, size: int) -> None:
        """Count bytes; print a line when nothing else was printed for a while."""
        now = time.monotonic()
        with self._lock:
            self._pace.moved(size, now)
            due = self._pace.total and now - self._told_at >= HEARTBEAT
            if due:
                self._told_at = now
                under_way = f"; now {told}" if (told := self._current.told(NOW)) else ""
                self._write(f"  {self._count}/{self._items} finished{self._state(now)}{under_way}")

    def done(self, item: str, note: str = "") -> None:
        """Print the item with its number, and where the whole phase stands."""
        with self._lock:
            self._count += 1
            self._current.end(item)
            self._told_at = time.monotonic()
            told = f" ({note})" if note else ""
            self._write(f"  {self._count}/{self._items} {item}{told}{self._state(self._told_at)}")

    def _state(self, now: float) -> str:
        """Return bytes, rate and time left of a phase whose size is known."""
        pace = self._pace
        if not pace.total:
            return ""
        left, rate = pace.left(now), pace.rate(now)
        speed = f", {human(rate)}/s" if rate else ""
        rest = f", {duration(left)} left" if left else ""
        return f", {human(pace.done)} of {human(pace.total)}{speed}{rest}"

    def say(self, message: str) -> None:
        """Print what has just changed."""
        self._write(f"  {message}")

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._write(f"{click.style('Warning:', fg='yellow')} {message}")

    def debug(self, message: str) -> None:
        """Print a detail when -v was given."""
        if self._verbose:
            self._write(f"  {message}")


class Bars(Lines):
    """One bar per phase, in bytes where the size is known and in items elsewhere."""

    def __init__(self, *, verbose: int = 0) -> None:
        super().__init__(verbose=verbose)
        from tqdm import tqdm  # noqa: PLC0415  (a good part of the start of a short command, and only for terminals)

        self._tqdm = tqdm
        self._bar: tqdm[None] | None = None
        self._bytes = False

    def _write(self, text: str) -> None:
        self._tqdm.write(text, file=sys.stderr)

    def begin(self, what: str, items: int, size: int = 0) -> None:
        """Start the phase's bar."""
        self.end()
        self._bytes = bool(size)
        self._what, self._items, self._count = what, items, 0
        self._current.clear()
        unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if self._bytes else {"unit": ""}
        self._bar = self._tqdm(total=size or items, desc=what, file=sys.stderr, leave=True, **_size(), **unit)

    def there(self, size: int) -> None:
        """Move the bar's beginning: the speed is that of what is moved now."""
        if self._bar is not None and self._bytes:
            with self._lock:
                for name in ("initial", "n", "last_print_n"):
                    setattr(self._bar, name, getattr(self._bar, name) + size)
                self._bar.refresh()

    def advance(self, size: int) -> None:
        """Move the bar by bytes."""
        if self._bar is not None and self._bytes:
            with self._lock:
                self._bar.update(size)

    def done(self, item: str, note: str = "") -> None:
        """Move the bar by an item and name it."""
        if self._bar is None:
            return
        with self._lock:
            self._count += 1
            self._current.end(item)
            if not self._bytes:
                self._bar.update(1)
            self._beside()
        self.debug(f"{item}" + (f" ({note})" if note else ""))

    def start(self, item: str) -> None:
        """Name what is under way beside the bar."""
        with self._lock:
            self._current.begin(item)
            self._beside()

    def _beside(self) -> None:
        if self._bar is not None:
            told = f"{self._count}/{self._items} {self._current.told(SHORT)}".rstrip()
            self._bar.set_postfix_str(told, refresh=False)

    def end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _size() -> dict[str, Any]:
    """Return how large the terminal is: as it says at any moment, or SIZE where it says nothing."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return SIZE
    return {"dynamic_ncols": True} if size.columns and size.lines else SIZE


class Quiet(Progress):
    """Warnings only."""

    def warn(self, message: str) -> None:
        """Print a warning."""
        click.echo(f"Warning: {message}", err=True)


class Told(logging.Handler):
    """Pass log records on to a Progress: warnings as warnings, the rest as details."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        tell = self.progress.warn if record.levelno >= logging.WARNING else self.progress.debug
        tell(record.getMessage())


def progress_for(*, verbose: int, quiet: bool, bars: bool, events: bool = False) -> Progress:
    """Return what suits the terminal and the flags; ``events``: JSON, whatever the terminal."""
    if events:
        return Events(verbose=verbose, quiet=quiet)
    if quiet:
        return Quiet()
    if bars and sys.stderr.isatty():
        return Bars(verbose=verbose)
    return Lines(verbose=verbose)


def human(size: float) -> str:
    """Return bytes in IEC units, as ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - IEC: 1024 of one unit make the next
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
