"""What a preflight found: findings with their remedies; truthy when nothing stops the install. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

FINE, WARN, STOP = "fine", "warn", "stop"
"""Levels: as it should be; should be known, the install goes on; the install would fail."""
_ORDER = {STOP: 0, WARN: 1, FINE: 2}


@dataclass(frozen=True)
class Finding:
    """One finding of one check: a sentence without a full stop, and what to do about it."""

    check: str
    level: str
    message: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return all fields."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


@dataclass(frozen=True)
class Report:
    """All findings, what stops first."""

    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Collection[Finding], ignored: Collection[str] = ()) -> Report:
        """Order the findings; of the ``ignored`` checks what would stop only warns."""
        shown = [replace(it, level=WARN) if it.level == STOP and it.check in ignored else it for it in findings]
        return cls(tuple(sorted(dict.fromkeys(shown), key=lambda it: _ORDER[it.level])))

    @property
    def stops(self) -> tuple[Finding, ...]:
        """What would stop the install."""
        return tuple(it for it in self.findings if it.level == STOP)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What should be known."""
        return tuple(it for it in self.findings if it.level == WARN)

    def __bool__(self) -> bool:
        return not self.stops
