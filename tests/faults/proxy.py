"""A proxy that does harm by rule, between a client and a real registry.

::

    with Faulty(registry.host) as proxy:
        proxy.play(Rule("PATCH", "/uploads/", CutBody(0.5), first=3))      # the third PATCH, once
        ...                                                               # talk to proxy.host
        proxy.mend()                                                      # from now on it only passes things on
        proxy.seen                                                        # every exchange, with the bytes of each side

Invariants: loopback, a port of the kernel's choice; every exchange is noted; what passes is passed byte for byte, on a
connection of its own to the registry. The caller's credential (``password``) is asked for here and never goes further.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from tests.faults.actions import Action, Answer, Gone, Head, Pass, Rule
from tests.faults.guards import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

BLOCK = 16 * 1024
_DROPPED = {"transfer-encoding", "connection", "keep-alive", "date"}
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends RST."""


@dataclass
class Passed:
    """One exchange: what was asked, the bytes of its body that came in, the status and the bytes that went out (0: none)."""

    head: Head
    began: float
    came: int = 0
    status: int = 0
    went: int = 0
    hurt: bool = False

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.path


class Exchange:
    """One request on its way, for an action to handle: forward it (whole or in part), reply, reset."""

    def __init__(self, proxy: Faulty, client: socket.socket, reader: BufferedReader, passed: Passed) -> None:
        self.proxy, self.head, self.passed = proxy, passed.head, passed
        self._client, self._reader = client, reader
        self._left = self.head.length
        self.body = b""

    def read_body(self, count: int | None = None) -> bytes:
        """Read up to ``count`` more bytes of the request's body (default: all of it)."""
        wanted = self._left if count is None else min(count, self._left)
        out = bytearray()
        while len(out) < wanted:
            piece = self._reader.read1(min(BLOCK, wanted - len(out)))
            if not piece:
                raise Gone
            out += piece
            self.passed.came += len(piece)
            self._left -= len(piece)
        return bytes(out)

    def forward(self, path: str = "", *, twice: bool = False) -> Answer:
        """Send the whole request to the registry and return its answer."""
        self.body = self.body or self.read_body()
        answer = self._ask(path or self.head.path, self.body)
        return self._ask(path or self.head.path, self.body) if twice else answer

    def forward_part(self, count: int) -> None:
        """Send the head and ``count`` bytes of the body to the registry, then reset that connection."""
        connection = self._connect()
        self._begin(connection, self.head.path)
        if data := self.read_body(count):
            connection.send(data)
        time.sleep(0.05)  # that the registry reads it before the connection breaks
        assert connection.sock
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.close()

    def reply(self, answer: Answer, *, cut: int | None = None) -> None:
        """Send an answer; ``cut``: only so many bytes of its body."""
        body = b"" if self.head.method == "HEAD" else answer.body
        lines = [f"HTTP/1.1 {answer.status} as played"]
        named = {name.lower() for name, _ in answer.headers}
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if not named & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(answer.body)}")
        self.passed.status = answer.status
        self._client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        body = body if cut is None else body[:cut]
        if body:
            self.pour(body)

    def pour(self, block: bytes) -> None:
        """Send bytes of a body as they are."""
        self._client.sendall(block)
        self.passed.went += len(block)

    def hold(self, seconds: float) -> None:
        """Do nothing for a while, or until the client has gone or the proxy ends."""
        until = time.monotonic() + seconds
        self._client.settimeout(0)
        while time.monotonic() < until and not self.proxy.ending.wait(0.02):
            with contextlib.suppress(BlockingIOError):
                if not self._client.recv(1, socket.MSG_PEEK):
                    return

    def reset(self) -> None:
        """Break the client's connection with RST."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise Gone

    def _connect(self) -> HTTPConnection:
        host, _, port = self.proxy.upstream.rpartition(":")
        return HTTPConnection(host, int(port), timeout=20)

    def _begin(self, connection: HTTPConnection, path: str) -> None:
        connection.putrequest(self.head.method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.head.headers.items():
            if name not in {"authorization", "connection"}:
                connection.putheader(name, value)
        connection.endheaders()

    def _ask(self, path: str, body: bytes) -> Answer:
        connection = self._connect()
        try:
            self._begin(connection, path)
            if body:
                connection.send(body)
            response = connection.getresponse()
            data = response.read()
            headers = tuple((name, value) for name, value in response.getheaders() if name.lower() not in _DROPPED)
            return Answer(response.status, headers, data)
        except (OSError, HTTPException):
            raise Gone from None
        finally:
            connection.close()


@dataclass
class Faulty:
    """The proxy in front of ``upstream`` (host:port). ``names`` replace {words} in answers' headers."""

    upstream: str
    guard: Guard = field(default_factory=Guard)
    names: dict[str, str] = field(default_factory=dict)
    seen: list[Passed] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._rules: list[Rule] = []
        self._matches: dict[int, int] = {}
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lines: set[socket.socket] = set()
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.names["host"] = self.host
        threading.Thread(target=self._listen, daemon=True).start()

    def play(self, *rules: Rule) -> None:
        """From now on hurt what ``rules`` say; the first that matches acts."""
        with self._lock:
            self._rules, self._matches = list(rules), {}

    def mend(self) -> None:
        """From now on hurt nothing."""
        self.play()

    def action(self, head: Head) -> Action | None:
        """Return what is to be done to a request, or None for nothing."""
        with self._lock:
            for number, rule in enumerate(self._rules):
                if rule.fits(head):
                    count = self._matches[number] = self._matches.get(number, 0) + 1
                    if rule.acts(count):
                        return rule.action
        return None

    def stop(self) -> None:
        """Close everything."""
        self.ending.set()
        self._socket.close()
        for line in list(self._lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Faulty:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self) -> None:
        while not self.ending.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._lines.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        with contextlib.suppress(Gone, OSError, ValueError):
            for head in _heads(reader):
                passed = Passed(head, time.monotonic())
                with self._lock:
                    self.seen.append(passed)
                self._handle(Exchange(self, client, reader, passed))
        reader.close()
        client.close()
        self._lines.discard(client)

    def _handle(self, exchange: Exchange) -> None:
        head = exchange.head
        if refusal := self.guard.answer(head):
            exchange.read_body()
            exchange.reply(refusal.named(self.names))
            return
        action = self.action(head)
        exchange.passed.hurt = action is not None
        (action or Pass()).act(exchange)


def _heads(reader: BufferedReader) -> Iterator[Head]:
    while line := reader.readline(65536):
        method, path, _ = line.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while (text := reader.readline(65536).decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        yield Head(method, path, headers)


def matching(seen: list[Passed], method: str, path: str) -> list[Passed]:
    """Return the exchanges of a method (regular expression) whose path holds ``path`` (likewise)."""
    return [it for it in seen if re.fullmatch(method, it.method) and re.search(path, it.path)]
