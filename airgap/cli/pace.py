"""Pace: how fast a phase is, and how long it will still take; pure, the clock's reading is an argument.

Invariants: what was there before counts as done and never as speed; what has to be moved again is taken back; the rate is that
of the last WINDOW seconds, so a pause shows, and an old burst does not promise anything.

>>> pace = Pace(1000, 0.0)
>>> pace.there(400); pace.moved(100, 10.0)
>>> pace.rate(10.0), pace.left(10.0)
(10.0, 50.0)
"""

from __future__ import annotations

from collections import deque

WINDOW = 30.0
"""Seconds that the rate looks back."""
STEP = 0.5
"""Seconds between two points that are kept."""
SETTLED = 2.0
"""Seconds of a phase before which it says nothing of what is left: the first small answers promise hours."""


class Pace:
    """Bytes of one phase: ``total``, ``done`` (there before or moved), ``net`` (moved)."""

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.done = self.net = 0
        self._begun = now
        self._points: deque[tuple[float, int]] = deque([(now, 0)])

    def there(self, size: int) -> None:
        """Count bytes that were there before."""
        self.done += size

    def moved(self, size: int, now: float) -> None:
        """Count bytes that were moved by ``now`` (negative: they have to be moved again)."""
        self.done += size
        self.net += size
        if now - self._points[-1][0] >= STEP:
            self._points.append((now, self.net))
            while len(self._points) > 1 and now - self._points[1][0] >= WINDOW:
                self._points.popleft()

    def rate(self, now: float) -> float:
        """Return bytes per second."""
        begun, before = self._points[0]
        return max(0.0, (self.net - before) / (now - begun)) if now > begun else 0.0

    def left(self, now: float) -> float | None:
        """Return the seconds that are left at this rate; None: nobody knows (yet)."""
        rate = self.rate(now)
        return max(0, self.total - self.done) / rate if rate and now - self._begun >= SETTLED else None


class Current:
    """The items under way, oldest first."""

    def __init__(self) -> None:
        self._items: dict[str, None] = {}

    def begin(self, item: str) -> None:
        """Note an item."""
        self._items[item] = None

    def end(self, item: str) -> None:
        """Forget it."""
        self._items.pop(item, None)

    def clear(self) -> None:
        """Forget all: another phase."""
        self._items.clear()

    @property
    def items(self) -> tuple[str, ...]:
        """The items, oldest first."""
        return tuple(self._items)

    def told(self, width: int) -> str:
        """Return the oldest and how many more there are, in at most ``width`` characters; empty for none.

        >>> current = Current()
        >>> current.begin("quay.io/a/b:1 3f2a"); current.begin("x"); current.told(16)
        '...1 3f2a (+1)'
        """
        items = self.items
        if not items:
            return ""
        more = f" (+{len(items) - 1})" if len(items) > 1 else ""
        room = max(8, width - len(more))
        name = items[0] if len(items[0]) <= room else f"...{items[0][3 - room :]}"
        return f"{name}{more}"


def duration(seconds: float) -> str:
    """Return seconds for people: ``40 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  # of a minute
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004  # of an hour
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
