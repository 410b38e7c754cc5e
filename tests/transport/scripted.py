"""A web server that does what a test tells it: for what a real registry cannot be made to do.

::

    with Scripted(answer) as server:          # answer(request) -> Answer
        client.request("GET", f"{server.url}/x")
    server.seen                               # every request, with its body

Invariants: loopback, a port of the kernel's choice, every request remembered; connections are kept open as HTTP/1.1 does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.world.authority import Pair


@dataclass(frozen=True)
class Seen:
    """A request as it came in; header names in lower case; ``port``: the client's, one per connection."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    port: int = 0


@dataclass
class Answer:
    """What to send. ``cut``: close after so many bytes of the body; ``drip``: seconds between single bytes;
    ``wait``: seconds before the answer; ``hang_up``: close without an answer; ``early``: answer before reading the body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    drip: float = 0.0
    wait: float = 0.0
    hang_up: bool = False


class Scripted:
    """The server; ``answer`` is called once per request, from several threads."""

    def __init__(
        self,
        answer: Callable[[Seen], Answer],
        *,
        pair: Pair | None = None,
        client_authority: Path | None = None,
        name: str = "127.0.0.1",
        early: Callable[[str, str], Answer | None] | None = None,
    ) -> None:
        self.answer = answer
        self.early = early
        self.seen: list[Seen] = []
        self.name = name
        self.secure = pair is not None
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if pair:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            if client_authority:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_authority)
            self._server.context = context
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"{self.name}:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}"

    def requests(self, method: str = "", path: str = "") -> list[Seen]:
        """Return the requests seen, of a method, whose path begins so."""
        return [one for one in self.seen if one.method.startswith(method) and one.path.startswith(path)]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        with contextlib.suppress(OSError):  # clients of these tests break off, and refuse certificates
            if not self.context:
                super().finish_request(request, client_address)
                return
            request.settimeout(20)
            with self.context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)


def _handler(world: Scripted) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # a class closed over its world
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
            pass

        def any_verb(self) -> None:
            if world.early and (answer := world.early(self.command, self.path)):
                world.seen.append(self._see(b""))
                self.close_connection = True
                self._send(answer)
                return
            body = self._body()
            seen = self._see(body)
            world.seen.append(seen)
            self._send(world.answer(seen))

        def _see(self, body: bytes) -> Seen:
            headers = {name.lower(): value for name, value in self.headers.items()}
            return Seen(self.command, self.path, headers, body, self.client_address[1])

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding"):
                raise AssertionError("a body came in chunked coding")
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _send(self, answer: Answer) -> None:
            time.sleep(answer.wait)
            if answer.hang_up:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                for one in value.split("\n"):
                    self.send_header(name, one)
            if not any(name.lower() in {"content-length", "transfer-encoding"} for name in answer.headers):
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            for piece in self._pieces(answer):
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(answer.drip)
            if answer.cut is not None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        @staticmethod
        def _pieces(answer: Answer) -> list[bytes]:
            body = answer.body if answer.cut is None else answer.body[: answer.cut]
            return [body[at : at + 1] for at in range(len(body))] if answer.drip else [body]

    for verb in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT"):
        setattr(Handler, f"do_{verb}", Handler.any_verb)
    return Handler


def in_turn(*answers: Answer) -> Callable[[Seen], Answer]:
    """Give the answers in turn; the last one for ever."""
    left = list(answers)
    lock = threading.Lock()

    def answer(_: Seen) -> Answer:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer
