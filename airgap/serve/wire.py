"""HTTP/1.1 on the standard library: sockets to Request, Answer to sockets. It knows nothing of registries.

Invariants: every wait has an end (the table below); a request body is bounded by what was announced and is read only if an
endpoint asks for it; a request with two opinions about its length is refused; files leave by sendfile where the system has
it; after ``close`` no thread and no socket is left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import socketserver
import ssl
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from airgap.errors import AirgapError, DiskError
from airgap.serve.messages import PIECE, Access, Answer, RefusalError, Request
from airgap.transport.body import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BufferedReader

    from airgap.serve.messages import Body

IDLE_LIMIT = 60.0
"""Seconds that a kept connection may be silent, and that one read or write of a body may take (nginx's default: 60-75)."""
HEAD_LIMIT = 20.0
"""Seconds from a request's first byte to the end of its headers: a client that trickles them is cut off."""
HANDSHAKE_LIMIT = 10.0
"""Seconds for a TLS handshake."""
CONNECTION_LIMIT = 512
"""Connections at a time; nodes keep a handful each. One more is told to come back."""
DRAIN_LIMIT = 1 << 20
"""Bytes of an unwanted body that are read and dropped to keep the connection; beyond, it is closed."""
LINGER = 2.0
"""Seconds in which a client may finish sending after a refusal, so that it sees the answer and not a reset."""
POLL = 0.1
"""Seconds after which the accepting thread looks whether it shall stop."""
WATCH_EVERY = 1.0
"""Seconds between two looks at slow clients."""
FIELD_LIMIT = 100
"""Parameters of one query; a manifest may come with a few dozen tags."""
CHUNK_LINE = 1024
"""Bytes of a chunk-size line (RFC 9112, 7.1); extensions longer than that are nobody's."""

_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
"""Statuses without body or length (RFC 9110, 8.6)."""
_NUMBER = re.compile(r"[0-9]{1,18}")
"""A length: no more digits than any file has, and no signs, blanks or digits of other scripts as int() takes them."""

_LOG = logging.getLogger(__name__)
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class SizedBody:
    """A body of announced length."""

    def __init__(self, exchange: Exchange, length: int) -> None:
        self.length: int | None = length
        self.left = length
        self._exchange = exchange

    def read(self, limit: int = PIECE) -> bytes:
        """Return up to ``limit`` bytes, empty at the end; raises ConnectionError when the client breaks off."""
        if not self.left:
            return b""
        self._exchange.invite()
        data = self._exchange.rfile.read1(min(limit, self.left))
        if not data:
            raise ConnectionResetError(f"the client broke off {self.left} bytes before the end")
        self.left -= len(data)
        return data


class ChunkedBody:
    """A body in chunked transfer coding (RFC 9112, 7.1); trailers are read and dropped."""

    def __init__(self, exchange: Exchange) -> None:
        self.length: int | None = None
        self.left = -1  # in the chunk at hand; -1: before the first, 0: after the last
        self._exchange = exchange

    def read(self, limit: int = PIECE) -> bytes:
        """Return up to ``limit`` bytes, empty at the end; raises ConnectionError for a broken coding."""
        self._exchange.invite()
        if self.left < 0:
            self._next()
        if not self.left:
            return b""
        data = self._exchange.rfile.read1(min(limit, self.left))
        if not data:
            raise ConnectionResetError("the client broke off inside a chunk")
        self.left -= len(data)
        if not self.left:
            self._line(expected=b"")
            self.left = -1
        return data

    def _next(self) -> None:
        size = self._line().partition(b";")[0].strip()
        if not size or any(byte not in b"0123456789abcdefABCDEF" for byte in size):
            raise ConnectionAbortedError("a chunk without a size")
        self.left = int(size, 16)
        if not self.left:
            while self._line():
                pass

    def _line(self, expected: bytes | None = None) -> bytes:
        line = self._exchange.rfile.readline(CHUNK_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionAbortedError("a chunk line that does not end")
        bare = line.rstrip(b"\r\n")
        if expected is not None and bare != expected:
            raise ConnectionAbortedError("a chunk longer than its size")
        return bare


class Exchange(BaseHTTPRequestHandler):
    """One connection: requests in, answers out, one after the other."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_LIMIT
    rbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: Listener
    rfile: BufferedReader

    def setup(self) -> None:
        """Shake hands if TLS is spoken (here, not in the accepting thread), then as the base does."""
        self.head_since = 0.0  # when the first byte of a request came; 0 outside of headers
        self.busy = False
        self._invited = True
        if self.server.tls:
            self.request.settimeout(HANDSHAKE_LIMIT)
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.note(self)

    def finish(self) -> None:
        """Close what setup opened."""
        self.server.forget(self)
        with contextlib.suppress(OSError):
            super().finish()
        if self.server.tls:
            with contextlib.suppress(OSError):
                self.request.close()

    def handle(self) -> None:
        """Serve until either side has enough; a client that goes away is no event."""
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
            super().handle()

    def handle_one_request(self) -> None:
        """Wait for a first byte as long as a kept connection may idle, then for the rest within HEAD_LIMIT."""
        self.busy = False
        self.close_connection = True
        if self.server.stopping or not self.rfile.peek(1):
            return
        self.head_since = time.monotonic()
        self.busy = True
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Parse the headers as the base does; after them HEAD_LIMIT is off."""
        try:
            return super().parse_request()
        finally:
            self.head_since = 0.0

    def handle_expect_100(self) -> bool:
        """Say "100 Continue" only when the body is really wanted (first read)."""
        self._invited = False
        return True

    def invite(self) -> None:
        """Send the deferred "100 Continue"."""
        if not self._invited:
            self._invited = True
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()

    def serve(self) -> None:
        """Answer one request and write its access line."""
        began = time.monotonic()
        status, sent = 499, 0  # nginx's number for "the client went away"
        try:
            answer, body = self._answer()
            if self.server.stopping or (body and not self._drained(body)):
                self.close_connection = True
            status = int(answer.status)
            sent = self._send(answer)
            if self.close_connection and body:
                self._linger()
        finally:
            self.server.log(
                Access(
                    str(self.client_address[0]),
                    self.command,
                    self.headers.get("Host", ""),
                    self.path,
                    status,
                    sent,
                    time.monotonic() - began,
                    self.headers.get("User-Agent", ""),
                )
            )

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815 - names that http.server looks for

    def _answer(self) -> tuple[Answer, SizedBody | ChunkedBody | None]:
        """Return the answer and the body, which may hold unread bytes; every deliberate error has its status here."""
        body = None
        try:
            body = self._body()
            return self.server.respond(self._request(body)), body
        except RefusalError as error:
            return error.answer(), body
        except DiskError as error:
            return RefusalError(HTTPStatus.INSUFFICIENT_STORAGE, "DENIED", error.message).answer(), body
        except AirgapError as error:
            return RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", error.message).answer(), body
        except (ConnectionError, TimeoutError, ssl.SSLError):
            raise  # the client's line, not our disk
        except OSError as error:
            _LOG.error("%s %s failed: %s", self.command, self.path, error)
            message = f"the server's files cannot be used: {error.strerror}"
            return RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", message).answer(), body

    def _request(self, body: Body) -> Request:
        try:
            target = urlsplit(self.path)
            query = parse_qs(target.query, keep_blank_values=True, max_num_fields=FIELD_LIMIT)
        except ValueError as error:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "UNSUPPORTED", f"the URL cannot be read: {error}") from error
        path = unquote(target.path)
        if not path.isprintable():
            raise RefusalError(HTTPStatus.BAD_REQUEST, "NAME_INVALID", "a path holds control characters")
        return Request(
            method="GET" if self.command == "HEAD" else self.command,
            path=path,
            query={key: tuple(values) for key, values in query.items()},
            headers=self.headers,
            body=body,
            scheme="https" if self.server.tls else "http",
            host=self.headers.get("Host", "").lower(),
        )

    def _body(self) -> SizedBody | ChunkedBody:
        lengths = self.headers.get_all("Content-Length") or []
        codings = self.headers.get_all("Transfer-Encoding") or []
        if codings and (lengths or [coding.strip().lower() for coding in codings] != ["chunked"]):
            self.close_connection = True
            raise RefusalError(HTTPStatus.BAD_REQUEST, "SIZE_INVALID", "the length of the request is ambiguous (RFC 9112, 6.3)")
        if codings:
            return ChunkedBody(self)
        if len(set(lengths)) > 1 or not all(_NUMBER.fullmatch(length) for length in lengths):
            self.close_connection = True
            raise RefusalError(HTTPStatus.BAD_REQUEST, "SIZE_INVALID", "Content-Length is not one whole number")
        return SizedBody(self, int(lengths[0]) if lengths else 0)

    def _drained(self, body: SizedBody | ChunkedBody) -> bool:
        """Whether nothing of the body is left; a little that is, is read away if the client sends it anyway."""
        if not body.left:
            return True
        if not self._invited or (body.length or DRAIN_LIMIT) > DRAIN_LIMIT:
            return False
        seen = 0
        while seen <= DRAIN_LIMIT and (piece := body.read()):
            seen += len(piece)
        return not body.left

    def _send(self, answer: Answer) -> int:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in _BODILESS:
            self.send_header("Content-Length", str(answer.length))
        if self.close_connection:
            self.send_header("Connection", "close")
        if self.command == "HEAD" or isinstance(answer.body, Window):
            self.end_headers()
        else:
            self._headers_buffer: list[bytes]  # one segment for headers and a small body
            self._headers_buffer.append(b"\r\n" + answer.body)
            self.flush_headers()
        if self.command == "HEAD":
            return 0
        return self._send_window(answer.body) if isinstance(answer.body, Window) else len(answer.body)

    def _send_window(self, window: Window) -> int:
        """Send a file's bytes: by sendfile where there is a plain socket and a plain file, else piece by piece."""
        sent = 0
        with window:
            place = None if self.server.tls else window.place()
            while place and sent < len(window):
                count = self._sendfile(place[0], place[1] + sent, len(window) - sent)
                if not count:
                    break
                sent += count
            while not place and (piece := window.read(PIECE)):
                self.connection.sendall(piece)
                sent += len(piece)
        if sent != len(window):
            _LOG.error("a file under this server was cut: %d of %d bytes could be sent", sent, len(window))
            self.close_connection = True
        return sent

    def _sendfile(self, descriptor: int, offset: int, size: int) -> int:
        """Let the kernel move bytes; waits for the socket as long as any other write may take."""
        while True:
            try:
                return os.sendfile(self.connection.fileno(), descriptor, offset, size)
            except BlockingIOError:  # a socket with a timeout does not block by itself
                poll = select.poll()
                poll.register(self.connection, select.POLLOUT)
                if not poll.poll(IDLE_LIMIT * 1000):
                    raise TimeoutError("the client reads nothing") from None

    def _linger(self) -> None:
        """Read on for a moment after the last answer: closing with unread bytes would reset it away."""
        until = time.monotonic() + LINGER
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER)
            while time.monotonic() < until and self.rfile.read1(PIECE):
                pass

    def version_string(self) -> str:
        """Say who answers, but not on which Python."""
        return "airgap"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Keep the base quiet: what it would print on stderr goes to the log as a malformed request."""
        _LOG.debug(format, *args)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: ``serve`` writes the access line."""


class Listener(ThreadingHTTPServer):
    """The accepting side: a thread for each connection, a watch over slow ones, a stop that waits for running answers."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        respond: Callable[[Request], Answer],
        *,
        tls: ssl.SSLContext | None = None,
        access_log: Callable[[Access], object] | None = None,
    ) -> None:
        self.respond = respond
        self.tls = tls
        self.stopping = False
        self._access_log = access_log
        self._exchanges: set[Exchange] = set()
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._open = 0
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Exchange)
        self._own_threads = [
            threading.Thread(target=self.serve_forever, args=(POLL,), name="airgap-serve", daemon=True),
            threading.Thread(target=self._watch_slow, name="airgap-serve-watch", daemon=True),
        ]

    def start(self) -> None:
        """Accept from now on, in a thread."""
        for thread in self._own_threads:
            thread.start()

    def server_bind(self) -> None:
        """Bind without the base's look-up of our own name in DNS."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def log(self, access: Access) -> None:
        """Hand one line to whoever keeps the log."""
        if self._access_log:
            self._access_log(access)

    def note(self, exchange: Exchange) -> None:
        """Remember a connection."""
        with self._changed:
            self._exchanges.add(exchange)

    def forget(self, exchange: Exchange) -> None:
        """Forget a connection."""
        with self._changed:
            self._exchanges.discard(exchange)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread, unless too many connections are open: then say so and close."""
        with self._changed:
            full = self._open >= CONNECTION_LIMIT
            self._open += not full
        if not full:
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.settimeout(1)
            request.sendall(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, and count it out."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base's signature
        """Log what ended a connection: quietly when it was the client or a handshake, loudly when it was us."""
        error = sys.exc_info()[1]
        if isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError)):
            _LOG.debug("%s: %s", client_address, error)
        else:
            _LOG.error("a request from %s failed unexpectedly", client_address, exc_info=error)

    def close(self, grace: float) -> None:
        """Stop accepting, let running answers finish for ``grace`` seconds, then cut what is left."""
        self.stopping = True
        self._over.set()
        self.shutdown()
        for thread in self._own_threads:
            thread.join()
        self.server_close()
        self._cut(lambda exchange: not exchange.busy)
        until = time.monotonic() + grace
        with self._changed:
            while self._open and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
        self._cut(lambda _: True)
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout=LINGER)

    def _cut(self, chosen: Callable[[Exchange], bool]) -> None:
        with self._changed:
            exchanges = [exchange for exchange in self._exchanges if chosen(exchange)]
        for exchange in exchanges:
            with contextlib.suppress(OSError):
                # the plain socket's shutdown: a TLS one would want to say goodbye first
                socket.socket.shutdown(exchange.connection, socket.SHUT_RDWR)

    def _watch_slow(self) -> None:
        while not self._over.wait(WATCH_EVERY):
            now = time.monotonic()
            self._cut(lambda exchange: bool(exchange.head_since) and now - exchange.head_since > HEAD_LIMIT)  # noqa: B023 - called at once
