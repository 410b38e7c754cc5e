"""Progress: what a stage tells about long work. Stages call it, ``cli`` draws it; nothing here prints.

Invariants: every method may be called from any thread; the base class does nothing, so a stage needs no check for None.
"""

from __future__ import annotations


class Progress:
    """A listener that ignores everything; subclass it to draw bars or write lines."""

    def begin(self, what: str, items: int, size: int = 0) -> None:
        """Say that a phase starts: its name, how many items it has and their size in bytes (0: unknown)."""

    def start(self, item: str) -> None:
        """Say that work on an item of the phase has begun; it ends with ``done`` by the same name, or with the phase."""

    def there(self, size: int) -> None:
        """Say that ``size`` bytes of the phase were there before it began: they count as done, and not as speed."""

    def advance(self, size: int) -> None:
        """Say that ``size`` bytes of the phase were moved (or read); negative: so many have to be moved again."""

    def done(self, item: str, note: str = "") -> None:
        """Say that an item of the phase is finished; ``note`` is what happened to it (sent, mounted, already there)."""

    def say(self, message: str) -> None:
        """Tell what has just changed in something that takes long (a pod came up, or what keeps it from it)."""

    def end(self) -> None:
        """Say that the phase is over."""

    def warn(self, message: str) -> None:
        """Tell something the user must know though the work goes on."""

    def debug(self, message: str) -> None:
        """Tell a detail for -v; never a credential."""
