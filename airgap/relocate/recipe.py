"""Recipe: which values make an image reference, and what to set them to so that it comes out elsewhere. Pure.

A rendering with sentinels in place of values shows each reference as a row of literal text and values: for Bitnami's
``{registry}/{repository}:{tag}`` that is ``[registry, "/", repository, ":", tag]``. Moving the image is then an equation: which
texts for the unknown values make the row read as the target? (design.md decision 3.)

Invariants: a value that several images share is given one text; who cannot live with it is told, never overwritten. Values
with fewer unknowns are solved first, because they leave no choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.values import ValuePath

NAME, TAG, DIGEST, WHOLE = "name", "tag", "digest", "whole"
"""What a value holds: a part of ``registry/repository``, a tag, a digest, or a whole reference with its tag or digest."""


@dataclass(frozen=True)
class Candidate:
    """A value that may make images: its path, what it holds now, and in which role."""

    path: ValuePath
    text: str
    role: str


@dataclass(frozen=True)
class Sentinel:
    """The text that stands for a candidate in a probe; ``mark`` is the part of it that nothing else can hold."""

    candidate: Candidate
    text: str
    mark: str


@dataclass(frozen=True)
class Recipe:
    """A reference as a row of literal texts and candidates."""

    pieces: tuple[str | Candidate, ...]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Candidate))

    @property
    def moves(self) -> bool:
        """Whether any value makes a part of the name; a tag or digest alone cannot move an image."""
        return any(candidate.role in (NAME, WHOLE) for candidate in self.candidates)

    def of_role(self, role: str) -> Candidate | None:
        """Return the last candidate of a role, or None."""
        return next((candidate for candidate in reversed(self.candidates) if candidate.role == role), None)

    @property
    def original(self) -> str:
        """The reference with every candidate's present text."""
        return "".join(piece if isinstance(piece, str) else piece.text for piece in self.pieces)

    @property
    def name(self) -> tuple[str | Candidate, ...]:
        """The pieces of ``registry/repository``: all before a tag or digest, or before the colon or @ that leads it."""
        pieces: list[str | Candidate] = []
        for number, piece in enumerate(self.pieces):
            if isinstance(piece, Candidate):
                if piece.role in (TAG, DIGEST):
                    break
                pieces.append(piece)
                continue
            end = _end_of_name(piece, is_last=not any("/" in _text(later) for later in self.pieces[number + 1 :]))
            pieces.append(piece[:end])
            if end < len(piece):
                break
        return tuple(piece for piece in pieces if piece != "")


def _text(piece: str | Candidate) -> str:
    """Return the text of a piece; a name candidate counts as one with a slash, because its target will have one."""
    return piece if isinstance(piece, str) else ("/" if piece.role == NAME else "")


def _end_of_name(literal: str, *, is_last: bool) -> int:
    """Return where the name ends inside a literal: at an @, or at a colon that no slash follows (cases.md R1)."""
    at = literal.find("@")
    end = len(literal) if at < 0 else at
    colon = literal.rfind(":", 0, end)
    if colon >= 0 and is_last and "/" not in literal[colon:end]:
        return colon
    return end


def read(text: str, sentinels: Sequence[Sentinel]) -> Recipe | None:
    """Return the recipe that a rendered text shows, or None if no sentinel is in it or one is only there in part."""
    known = {sentinel.text: sentinel.candidate for sentinel in sentinels if sentinel.mark in text}
    if not known:
        return None
    pattern = "|".join(re.escape(marked) for marked in sorted(known, key=len, reverse=True))
    pieces: list[str | Candidate] = []
    at = 0
    for found in re.finditer(pattern, text):
        if found.start() > at:
            pieces.append(text[at : found.start()])
        pieces.append(known[found[0]])
        at = found.end()
    if at < len(text):
        pieces.append(text[at:])
    rest = "".join(piece for piece in pieces if isinstance(piece, str))
    if any(sentinel.mark in rest for sentinel in sentinels):
        return None
    return Recipe(tuple(pieces))


@dataclass
class Assignments:
    """The texts given to values so far; a value is given one text only."""

    texts: dict[ValuePath, str] = field(default_factory=dict)

    def solve(self, pieces: Sequence[str | Candidate], target: str) -> dict[ValuePath, str] | None:
        """Return texts for the unknown values that make ``pieces`` read ``target``, or None if there are none.

        Nothing is kept: call ``accept`` with the answer.
        """
        row = _merged(self.texts[p.path] if isinstance(p, Candidate) and p.path in self.texts else p for p in pieces)
        return _solve(row, target)

    def accept(self, solution: Mapping[ValuePath, str]) -> None:
        """Keep a solution."""
        self.texts.update(solution)


def unknowns(pieces: Iterable[str | Candidate], known: Mapping[ValuePath, str]) -> int:
    """Return how many different values of ``pieces`` have no text yet."""
    return len({piece.path for piece in pieces if isinstance(piece, Candidate) and piece.path not in known})


def _merged(pieces: Iterable[str | Candidate]) -> list[str | Candidate]:
    """Join neighbouring literals."""
    row: list[str | Candidate] = []
    for piece in pieces:
        if isinstance(piece, str) and row and isinstance(row[-1], str):
            row[-1] += piece
        elif piece != "":
            row.append(piece)
    return row


def _solve(row: list[str | Candidate], target: str) -> dict[ValuePath, str] | None:
    if not row:
        return {} if not target else None
    first = row[0]
    if isinstance(first, str):
        return _solve(row[1:], target.removeprefix(first)) if target.startswith(first) else None
    paths = {piece.path for piece in row if isinstance(piece, Candidate)}
    if len(paths) == 1:
        return _solve_one(row, first, target)
    follows = row[1] if len(row) > 1 else ""
    if not isinstance(follows, str) or not follows.startswith("/"):
        return None
    share = _share(first, target, len(paths) - 1)
    if not share:
        return None
    rest = [share if isinstance(piece, Candidate) and piece.path == first.path else piece for piece in row]
    solved = _solve(_merged(rest), target)
    return None if solved is None else {first.path: share, **solved}


def _solve_one(row: Sequence[str | Candidate], value: Candidate, target: str) -> dict[ValuePath, str] | None:
    """Solve for one unknown that may stand in the row more than once."""
    count = sum(isinstance(piece, Candidate) for piece in row)
    fixed = sum(len(piece) for piece in row if isinstance(piece, str))
    length, odd = divmod(len(target) - fixed, count)
    if odd or length < 0:
        return None
    text = target[:length]
    read_back = "".join(piece if isinstance(piece, str) else text for piece in row)
    return {value.path: text} if read_back == target and text else None


def _share(first: Candidate, target: str, others: int) -> str:
    """Return what the first of several values takes: the host if it held one, else all but one segment for each other."""
    host, slash, _ = target.partition("/")
    held_host = "/" not in first.text and ("." in first.text or ":" in first.text or first.text in ("", "localhost"))
    if held_host:
        return host if slash else ""
    segments = target.split("/")
    return "/".join(segments[:-others]) if len(segments) > others else ""
