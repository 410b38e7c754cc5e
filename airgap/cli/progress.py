"""Progress as people see it: tqdm bars on a terminal, one line per finished item elsewhere; always on stderr."""

from __future__ import annotations

import logging
import sys
import threading

import click
from tqdm import tqdm

from airgap.progress import Progress


class Lines(Progress):
    """One line per finished item: for logs, CI and pipes."""

    def __init__(self, *, verbose: int = 0) -> None:
        self._verbose = verbose
        self._lock = threading.Lock()
        self._what, self._items, self._count = "", 0, 0

    def _write(self, text: str) -> None:
        click.echo(text, err=True)

    def begin(self, what: str, items: int, size: int = 0) -> None:
        """Print the phase with its number of items and bytes."""
        self._what, self._items, self._count = what, items, 0
        self._write(f"{what}: {items} item{'' if items == 1 else 's'}" + (f", {human(size)}" if size else ""))

    def done(self, item: str, note: str = "") -> None:
        """Print the item with its number."""
        with self._lock:
            self._count += 1
            self._write(f"  {self._count}/{self._items} {item}" + (f" ({note})" if note else ""))

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
        self._bar: tqdm[None] | None = None
        self._bytes = False

    def _write(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def begin(self, what: str, items: int, size: int = 0) -> None:
        """Start the phase's bar."""
        self.end()
        self._bytes = bool(size)
        self._what, self._items, self._count = what, items, 0
        unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} if self._bytes else {"unit": ""}
        self._bar = tqdm(total=size or items, desc=what, file=sys.stderr, leave=True, dynamic_ncols=True, **unit)

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
            if not self._bytes:
                self._bar.update(1)
            self._bar.set_postfix_str(f"{self._count}/{self._items}", refresh=False)
        self.debug(f"{item}" + (f" ({note})" if note else ""))

    def end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Quiet(Progress):
    """Warnings only."""

    def warn(self, message: str) -> None:
        """Print a warning."""
        click.echo(f"Warning: {message}", err=True)


class Told(logging.Handler):
    """Pass log records on to a Progress: warnings as warnings, the rest as details."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one record."""
        tell = self._progress.warn if record.levelno >= logging.WARNING else self._progress.debug
        tell(record.getMessage())


def progress_for(*, verbose: int, quiet: bool, bars: bool) -> Progress:
    """Return what suits the terminal and the flags."""
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
