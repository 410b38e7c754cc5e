"""Row: one fault of the matrix, what is done, and what must come of it when it happens once and when it always does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.faults.actions import Rule

D2, D3, STORE = "distribution2", "distribution3", "store"
ALL = (D2, D3, STORE)
SOME = (D3, STORE)


@dataclass(frozen=True)
class Finish:
    """The run must finish, all digests right.

    ``again``: bytes that may be moved a second time, for every registry or by registry; ``warned``: words of a warning.
    """

    again: int | Mapping[str, int] = 0
    warned: str = ""
    within: float = 60.0

    def allowed(self, kind: str) -> int:
        return self.again if isinstance(self.again, int) else self.again[kind]


@dataclass(frozen=True)
class Stop:
    """The run must stop with this exit code and these words; ``untouched``: before anything was sent."""

    code: int = 3
    words: tuple[str, ...] = ()
    within: float = 60.0
    untouched: bool = False


@dataclass(frozen=True)
class Row:
    """``number``: F1a is the fault F1 of the matrix in its first form. ``once``/``always``: what must come of it.

    ``piece``: bytes of a piece of an upload (None: as usual). ``large``: the blob is larger than 1 MiB. ``old``: tags stand
    there already, on other images. ``tokens``: the registry wants tokens.
    """

    number: str
    fault: str
    rules: tuple[Rule, ...]
    once: Finish | Stop
    always: Finish | Stop
    verb: str = "push"
    on: tuple[str, ...] = ALL
    piece: int | None = 128 * 1024
    large: bool = False
    old: bool = False
    tokens: bool = False
    jobs: int = 1
    why: str = ""

    def played(self, how: str) -> tuple[Rule, ...]:
        """Return the rules for ``once`` or ``always``."""
        if how == "once":
            return self.rules
        return tuple(replace(rule, times=None) if rule.lasts else rule for rule in self.rules)

    def expected(self, how: str) -> Finish | Stop:
        return self.once if how == "once" else self.always


@dataclass(frozen=True)
class Covered:
    """A fault that the proxy cannot play, and the tests that do: ``folder::name`` under tests/."""

    number: str
    fault: str
    tests: tuple[str, ...] = field(default=())
    lacking: str = ""
