"""Ways: how a registry lets itself be filled, found out once and remembered for the run. Pure but for one clock reading.

Three ways (cases.md P7, P15): a POST and one PUT of everything; one PATCH of everything and a closing PUT; PATCHes of a piece
each and a closing PUT. What fits into a piece goes in one request, which is one less; what is larger goes in pieces, because
many registries can continue a session only where a piece has ended (CNCF distribution: P13). A piece lasts about PIECE_TIME, so
that it is soon finished when the user wants to stop, and so that fast links lose nothing: measured on loopback, where
distribution 3 syncs its disk after each piece, pieces of 16 MiB cost 15 to 30 %, pieces of 64 MiB up to 20 %.

>>> next_way(Way(), Step("PUT", 5 * MIB), 413, failures=1).cap == 4 * MIB
True
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

MIB = 1024 * 1024
PIECE_TIME = 8.0
"""Seconds that a piece should last."""
LEAST, FIRST, MOST = 8 * MIB, 64 * MIB, 256 * MIB
"""Bytes of a piece while no limit is known: at least (ECR takes none below 5 MiB), in the beginning, at most."""
CAPS = (4 * MIB, MIB)
"""What a body is limited to where it was found too large: GHCR's PATCH (P15), nginx's default (P7)."""
NOT_TAKEN = frozenset({400, 404, 405, 411, 415, 501})
"""Answers by registries that want it otherwise (P15: Artifactory 404 to a PUT, Gitea 400 to a second PATCH,
others 405 or 411)."""
TOO_LARGE, BAD_RANGE, SERVER_ERROR = 413, 416, 500
AGAIN = 2
"""Breaks after which a proxy is suspected to say "too large" that way (P7)."""


@dataclass(frozen=True)
class Way:
    """What was found: what a registry takes, and what has worked and is left only for size.

    ``cap``: bytes of the largest body (0: none known); ``whole``: no pieces; ``put``: a PUT with everything is taken; ``tail``:
    the closing PUT must carry the last piece.
    """

    cap: int = 0
    whole: bool = False
    put: bool = True
    tail: bool = False
    put_works: bool = False
    pieces_work: bool = False


@dataclass(frozen=True)
class Step:
    """What was being sent when it failed: the method, the bytes of its body, and the offset of these in the blob."""

    method: str
    body: int
    offset: int = 0
    whole: bool = True


def next_way(way: Way, step: Step, status: int, *, failures: int) -> Way:
    """Return the way to try after ``step`` ended with ``status`` (0: no answer); the same one: stay.

    A 416 before anything was taken is about the size, not the offset. A refusal ends a way only until it has worked; after that
    a 404 is a lost session.
    """
    pieces = step.method == "PATCH" and not step.whole
    if status == TOO_LARGE:
        return _smaller(way, step.body)
    if status == BAD_RANGE and not step.offset:
        return replace(way, whole=True) if pieces and not way.whole and not way.cap else _smaller(way, step.body)
    if pieces and not way.pieces_work and not way.cap and (status in NOT_TAKEN or status == BAD_RANGE):
        return replace(way, whole=True)
    if step.method == "PUT":
        return _after_put(way, step, status, failures)
    return _suspect(way, step, status, failures)


def _after_put(way: Way, step: Step, status: int, failures: int) -> Way:
    if status in NOT_TAKEN and step.whole and step.body and not way.put_works:
        return replace(way, put=False)
    ended = status == SERVER_ERROR or (status > SERVER_ERROR and failures >= AGAIN)  # 502 to 504 may pass, and cost no blob
    if ended and not step.body and not step.whole and not way.tail and not way.pieces_work:
        return replace(way, tail=True)  # ECR (P15)
    return _suspect(way, step, status, failures)


def _suspect(way: Way, step: Step, status: int, failures: int) -> Way:
    works = way.put_works if step.whole else way.pieces_work
    if status == 0 and failures == AGAIN and step.body > MIB and not way.cap and not works:
        return _smaller(way, step.body)
    return way


def _smaller(way: Way, body: int) -> Way:
    """Return the way with bodies smaller than ``body``; the same one where there is no smaller cap."""
    cap = next((cap for cap in CAPS if cap < body and (not way.cap or cap < way.cap)), 0)
    return replace(way, cap=cap, whole=False) if cap else way


@dataclass
class Ways:
    """The way that holds now, and how large a piece is; shared by the threads of a run (a lost update costs one request)."""

    way: Way = field(default_factory=Way)
    limit: int = field(default_factory=lambda: FIRST)
    least: int = 0

    def bound(self, least: int, most: int) -> None:
        """Begin with pieces of ``least`` to ``most`` bytes (0: no limit), unless something was found out already."""
        self.least = least
        if most and self.way == Way():
            self.way = Way(cap=most)

    def piece(self, size: int, minimum: int = 0) -> int:
        """Return the bytes of a piece for a blob of ``size``; ``minimum``: what the registry asked for."""
        least = max(minimum, self.least)
        if self.way.cap:
            return max(self.way.cap, least)
        return size if self.way.whole else max(self.limit, least)

    def measured(self, size: int, seconds: float) -> None:
        """Learn from a body of ``size`` that took ``seconds``: the piece is what lasts PIECE_TIME, a power of two."""
        if size < MIB:
            return  # says more about latency
        fits = int(size / max(seconds, 0.001) * PIECE_TIME)
        self.limit = min(max(1 << max(fits.bit_length() - 1, 0), LEAST), MOST)

    def worked(self, step: Step) -> None:
        """Note that an upload whose last step was ``step`` came to its end."""
        mark = {"put_works": True} if step.whole else {"pieces_work": True}
        self.way = replace(self.way, **mark)
