"""What the proxy can do to an exchange, and the rules that say when.

An action gets the exchange before anything was read of its body, and either comes to its end (the connection goes on) or
raises Gone (the connection is closed; with RST after ``exchange.reset()``).
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.faults.proxy import Exchange


class Gone(Exception):  # noqa: N818  # no error: how a connection ends
    """The connection is over."""


@dataclass(frozen=True)
class Head:
    """A request without its body; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length") or 0)


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)

    def named(self, names: Mapping[str, str]) -> Answer:
        """Return it with the {words} in its headers replaced."""
        headers = []
        for name, value in self.headers:
            for word, text in names.items():
                value = value.replace(f"{{{word}}}", text)  # noqa: PLW2901  # word by word
            headers.append((name, value))
        return replace(self, headers=tuple(headers))

    def edited(self, status: int | None, changes: Mapping[str, str | None], body: Callable[[bytes], bytes] | None) -> Answer:
        """Return it with another status, other headers (None: without), another body of whatever length."""
        lower = {name.lower() for name in changes}
        data = body(self.body) if body else self.body
        kept = [(name, value) for name, value in self.headers if name.lower() not in lower]
        if body:
            kept = [(name, value) for name, value in kept if name.lower() != "content-length"]
        return Answer(
            status or self.status, (*kept, *((name, value) for name, value in changes.items() if value is not None)), data
        )


class Action(Protocol):
    """What is done to an exchange."""

    def act(self, x: Exchange, /) -> None: ...


@dataclass(frozen=True)
class Rule:
    """When: method (full match) and path with query (search), as regular expressions, and ``when`` if given; from the
    ``first`` match on, ``times`` times (None: always). ``lasts``: whether "always" makes it endless."""

    method: str
    path: str
    action: Action
    first: int = 1
    times: int | None = 1
    when: Callable[[Head], bool] | None = None
    lasts: bool = True

    def fits(self, head: Head) -> bool:
        fits = re.fullmatch(self.method, head.method) and re.search(self.path, head.path)
        return bool(fits) and (self.when is None or self.when(head))

    def acts(self, count: int) -> bool:
        return count >= self.first and (self.times is None or count < self.first + self.times)


@dataclass(frozen=True)
class Pass:
    """Pass it on."""

    def act(self, x: Exchange) -> None:
        x.reply(x.forward())


@dataclass(frozen=True)
class Hangup:
    """Break the connection before anything of the request goes further."""

    def act(self, x: Exchange) -> None:
        x.reset()


@dataclass(frozen=True)
class CutBody:
    """Break both connections when so much of the request's body went through: bytes, or a share."""

    at: float

    def act(self, x: Exchange) -> None:
        x.forward_part(int(self.at * x.head.length) if isinstance(self.at, float) else int(self.at))
        x.reset()


@dataclass(frozen=True)
class LoseAnswer:
    """Let the request through, and break the connection instead of answering."""

    def act(self, x: Exchange) -> None:
        x.forward()
        x.reset()


@dataclass(frozen=True)
class Say:
    """Answer in the registry's place. ``early``: before reading the body, then close; ``through``: the request goes on all
    the same."""

    status: int
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    early: bool = False
    through: bool = False

    def act(self, x: Exchange) -> None:
        if self.through:
            x.forward()
        elif not self.early:
            x.read_body()
        body = self.text.encode()
        kind = "text/html" if body.startswith(b"<") else "application/json"
        if self.code:
            body = b'{"errors":[{"code":"%s","message":"%s"}]}' % (self.code.encode(), self.text.encode() or b"no")
        headers = {"Content-Type": kind, **self.headers} | ({"Connection": "close"} if self.early else {})
        x.reply(Answer(self.status, tuple(headers.items()), body).named({**x.proxy.names, "path": x.head.path}))
        if self.early:
            x.hold(0.2)
            raise Gone


@dataclass(frozen=True)
class Edit:
    """Change the answer: status, headers (None: taken away), body."""

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: Callable[[bytes], bytes] | None = None

    def act(self, x: Exchange) -> None:
        x.reply(x.forward().edited(self.status, self.headers, self.body).named(x.proxy.names))


@dataclass(frozen=True)
class Location:
    """Change the Location of an answer; ``back``: the path to ask the registry for."""

    change: Callable[[str], str]
    back: Callable[[str], str] = str

    def act(self, x: Exchange) -> None:
        answer = x.forward(self.back(x.head.path))
        told = {name: self.change(value) for name, value in answer.headers if name.lower() == "location"}
        x.reply(answer.edited(None, told, None).named(x.proxy.names))


@dataclass(frozen=True)
class At:
    """Ask the registry for another path than the client did."""

    path: Callable[[str], str]

    def act(self, x: Exchange) -> None:
        x.reply(x.forward(self.path(x.head.path)))


@dataclass(frozen=True)
class Twice:
    """The request reaches the registry twice; the second answer is the one that comes back."""

    def act(self, x: Exchange) -> None:
        x.reply(x.forward(twice=True))


@dataclass(frozen=True)
class CutAnswer:
    """End the connection when so much of the answer's body went out: bytes, or a share. ``chunked``: in chunked coding;
    ``reset``: by RST."""

    at: float
    chunked: bool = False
    reset: bool = False

    def act(self, x: Exchange) -> None:
        answer = x.forward()
        count = int(self.at * len(answer.body)) if isinstance(self.at, float) else int(self.at)
        if self.chunked:
            x.reply(answer.edited(None, {"Content-Length": None, "Transfer-Encoding": "chunked"}, None), cut=0)
            x.pour(b"%x\r\n" % len(answer.body) + answer.body[:count])
            raise Gone
        x.reply(answer, cut=count)
        if self.reset:
            x.reset()
        raise Gone


@dataclass(frozen=True)
class Ignorant:
    """Answer a request for a range with the whole, as a server that knows no ranges."""

    def act(self, x: Exchange) -> None:
        x.head = replace(x.head, headers={name: value for name, value in x.head.headers.items() if name != "range"})
        x.reply(x.forward())


@dataclass(frozen=True)
class Stall:
    """Send so much of the answer's body and then nothing (None: not even a head); ``drip``: then a byte at a time."""

    at: float | None
    seconds: float = 30.0
    drip: float = 0.0

    def act(self, x: Exchange) -> None:
        answer = x.forward()
        if self.at is not None:
            x.reply(answer, cut=int(self.at * len(answer.body)))
            rest = answer.body[int(self.at * len(answer.body)) :]
            for at in range(len(rest) if self.drip else 0):
                x.pour(rest[at : at + 1])
                if x.proxy.ending.wait(self.drip):
                    break
        x.hold(self.seconds)
        raise Gone


@dataclass(frozen=True)
class Endless:
    """A body without an end, in chunked coding."""

    def act(self, x: Exchange) -> None:
        answer = x.forward()
        x.reply(answer.edited(None, {"Content-Length": None, "Transfer-Encoding": "chunked"}, None), cut=0)
        block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        while not x.proxy.ending.is_set():
            x.pour(block)


@dataclass(frozen=True)
class Then:
    """Do something to the world first (restart a registry, say), and pass the request on."""

    effect: Callable[[], object]

    def act(self, x: Exchange) -> None:
        self.effect()
        x.reply(x.forward())


class OnlyTheLast:
    """A registry that changes the upload URL with each answer and knows only the last one (cases.md P6)."""

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[str, str] = {}

    def act(self, x: Exchange) -> None:
        parts = urlsplit(x.head.path)
        found = re.search(r"serial=(\d+)", parts.query)
        if (found[1] if found else "") != self._last.get(parts.path, found[1] if found else ""):
            x.read_body()
            x.reply(Answer(404, (), b'{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"an old URL"}]}'))
            return
        answer = x.forward()
        told = {}
        for name, value in answer.headers:
            if name.lower() == "location" and answer.status in {202, 204}:
                self._count += 1
                self._last[urlsplit(value).path] = str(self._count)
                plain = re.sub(r"[?&]serial=\d+", "", value)
                told[name] = f"{plain}{'&' if '?' in plain else '?'}serial={self._count}"
        x.reply(answer.edited(None, told, None))


def flipped(body: bytes) -> bytes:
    """One byte in the middle is another."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def longer(body: bytes) -> bytes:
    """Bytes behind the end."""
    return body + b"more"


def zipped(body: bytes) -> bytes:
    """Really compressed."""
    return gzip.compress(body, mtime=0)
