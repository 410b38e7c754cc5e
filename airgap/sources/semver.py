"""Semantic versions and the ranges of Helm (Masterminds/semver): which chart version is meant.

Invariants: pure. Ordering is SemVer 2.0.0 section 11. A range takes a prerelease only if it names one itself, so ``""`` and
``*`` mean the newest *stable* version (charts.wandb.ai lists 1,258 prereleases).

>>> newest(["1.2.0", "1.10.0", "2.0.0-PR7"], "")
'1.10.0'
>>> newest(["1.2.0", "1.10.0"], "~1.2")
'1.2.0'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?")
_PART = r"(?:\d+|[xX*])"
_TERM = re.compile(
    rf"(=|==|!=|>|<|>=|=>|<=|=<|~|~>|\^)?\s*v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)
_HYPHEN = re.compile(r"\s*(\S+)\s+-\s+(\S+)\s*")


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version; missing parts are 0, a leading ``v`` is borne, as Masterminds/semver's NewVersion does."""

    numbers: tuple[int, int, int]
    prerelease: str = ""

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """Return the version, or None if ``text`` is none."""
        found = _VERSION.fullmatch(text.strip())
        if not found:
            return None
        major, minor, patch = (int(part or 0) for part in found.groups()[:3])
        return cls((major, minor, patch), found[4] or "")

    def __lt__(self, other: Version) -> bool:
        return self._rank() < other._rank()

    def _rank(self) -> tuple[object, ...]:
        """Stable after prerelease; numeric identifiers before and below alphanumeric ones (SemVer 11.4)."""
        identifiers = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.prerelease.split(".") if self.prerelease
        )
        return (self.numbers, not self.prerelease, identifiers)


@dataclass(frozen=True)
class _Term:
    """One comparison; ``known`` is how many of the three numbers were given (the rest are wildcards)."""

    operator: str
    version: Version
    known: int

    def admits(self, version: Version) -> bool:
        if version.prerelease and not self.version.prerelease:
            return False
        return _OPERATORS[self.operator](self, version)

    def ceiling(self, part: int) -> Version:
        """Return the first version beyond this one's ``part`` (0 major, 1 minor, 2 patch)."""
        numbers = [*self.version.numbers[:part], self.version.numbers[part] + 1, 0, 0][:3]
        return Version((numbers[0], numbers[1], numbers[2]))


def _equal(term: _Term, version: Version) -> bool:
    if term.known < 3:  # noqa: PLR2004  (a wildcard: 1.2 means ~1.2)
        return _tilde(term, version)
    return version == term.version


def _below(limit: Version, version: Version) -> bool:
    """Whether ``version`` is below a ceiling; prereleases of the ceiling itself are not."""
    return Version(version.numbers) < limit


def _tilde(term: _Term, version: Version) -> bool:
    if term.known == 0:
        return True
    return version >= term.version and _below(term.ceiling(min(term.known, 2) - 1), version)


def _caret(term: _Term, version: Version) -> bool:
    if term.known == 0:
        return True
    leading = next((part for part, number in enumerate(term.version.numbers) if number), 2)
    return version >= term.version and _below(term.ceiling(min(leading, term.known - 1)), version)


def _greater(term: _Term, version: Version) -> bool:
    if 0 < term.known < 3:  # noqa: PLR2004  (>1.2 is beyond every 1.2.x)
        return not _below(term.ceiling(term.known - 1), version)
    return version > term.version


def _at_most(term: _Term, version: Version) -> bool:
    if 0 < term.known < 3:  # noqa: PLR2004  (<=1.2 takes every 1.2.x)
        return _below(term.ceiling(term.known - 1), version)
    return term.known == 0 or version <= term.version


_OPERATORS: dict[str, Callable[[_Term, Version], bool]] = {
    **dict.fromkeys(("", "=", "=="), _equal),
    "!=": lambda term, version: not _equal(term, version),
    ">": _greater,
    "<": lambda term, version: version < term.version,
    **dict.fromkeys((">=", "=>"), lambda term, version: version >= term.version),
    **dict.fromkeys(("<=", "=<"), _at_most),
    **dict.fromkeys(("~", "~>"), _tilde),
    "^": _caret,
}


@dataclass(frozen=True)
class Range:
    """A range: alternatives (``||``) of terms that must all hold (comma or space)."""

    alternatives: tuple[tuple[_Term, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """Parse a range as Helm's ``--version`` takes it; empty is ``*``; raises ConfigurationError."""
        return cls(tuple(_terms(part, text) for part in (text.strip() or "*").split("||")))

    def admits(self, version: Version) -> bool:
        """Whether ``version`` lies in the range."""
        return any(all(term.admits(version) for term in terms) for terms in self.alternatives)


def _terms(part: str, text: str) -> tuple[_Term, ...]:
    hyphen = _HYPHEN.fullmatch(part)
    if hyphen:
        part = f">={hyphen[1]} <={hyphen[2]}"
    terms, end = [], 0
    for found in _TERM.finditer(part):
        if part[end : found.start()].strip(" ,\t"):
            break
        terms.append(_term(found))
        end = found.end()
    if not terms or part[end:].strip(" ,\t"):
        raise ConfigurationError(
            f"{text!r} is no version or version range as Helm knows them", hint="for example 1.4.8 or ~1.4"
        )
    return tuple(terms)


def _term(found: re.Match[str]) -> _Term:
    given: list[int] = []
    for part in found.groups()[1:4]:
        if part is None or not part.isdigit():
            break
        given.append(int(part))
    major, minor, patch = (*given, 0, 0, 0)[:3]
    return _Term(found[1] or "", Version((major, minor, patch), found[5] or ""), len(given))


def newest(versions: Iterable[str], wanted: str) -> str | None:
    """Return the version that Helm would take for ``wanted``: the very string if it is there, else the newest in the range."""
    known = list(versions)
    if wanted in known:
        return wanted
    chosen = Range.parse(wanted)
    fitting = [(parsed, text) for text in known if (parsed := Version.parse(text)) and chosen.admits(parsed)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None
