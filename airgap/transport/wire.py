"""The requests adapter: our own TLS context, no certifi, no environment, large blocks.

Traps of requests that decide this (faults 4.2, each was run): netrc replaces headers and follows redirects, environment CAs
win over the caller's, gzip is undone silently. A Session is therefore not used at all: an adapter sends one prepared request
and returns raw bytes.
"""

from __future__ import annotations

import errno
import os
import select
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airgap.transport.body import Placed

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

    from airgap.transport.body import Body

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to come about (faults F34: a black hole is not waited for)."""
READ_TIMEOUT = 60.0
"""Seconds without one byte before a read is given up (the default of docker's and Go's registry clients is 30 to 60)."""
SEND_TIMEOUT = 60.0
"""Seconds in which one block must be taken: with SEND_BLOCK a floor of 4 KiB/s."""
SEND_BLOCK = 256 * 1024
"""Bytes read from a body and sent at once; urllib3's 16 KiB cost a third of the speed on loopback (ours)."""
_OF_THE_SOCKET = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}
    | {errno.ENETDOWN, errno.EHOSTDOWN, errno.EBADF}
)
"""What sendfile says when it is the connection that failed; anything else is the file's."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds without anything: until a connection stands, and then until the next byte of an answer."""

    connect: float = CONNECT_TIMEOUT
    read: float = READ_TIMEOUT


class _Sending:
    """Gives sending a time limit of its own: urllib3 keeps the one for connecting on a fresh socket."""

    sock: Any

    def connect(self) -> None:
        """Connect, then allow each block its time."""
        super().connect()  # type: ignore[misc]  # mixed into connections, which have it
        if self.sock is not None:
            self.sock.settimeout(SEND_TIMEOUT)


class Straight:
    """A body that lies in a file, on its way into a plain socket by sendfile: no byte of it passes through this process.

    It stands for its only chunk (urllib3 and http.client take any iterable as a body, and give each chunk to ``send``).
    """

    def __init__(self, body: Placed, descriptor: int, offset: int) -> None:
        self._body, self._descriptor, self._offset = body, descriptor, offset

    def __iter__(self) -> Iterator[Straight]:
        yield self

    def over(self, sock: socket.socket) -> None:
        """Send it; raises OSError of the socket, and what reading raises where the kernel cannot read the file.

        The kernel takes what the socket has room for at once; each SEND_BLOCK has the time that ``sendall`` would give it.
        """
        sent, size, limit = 0, len(self._body), sock.gettimeout() or SEND_TIMEOUT
        goal, end = SEND_BLOCK, time.monotonic() + limit
        while sent < size:
            try:
                count = os.sendfile(sock.fileno(), self._descriptor, self._offset + sent, size - sent)
            except BlockingIOError:
                _writable(sock, end - time.monotonic())
                continue
            except OSError as error:
                if error.errno in _OF_THE_SOCKET:
                    raise
                count = 0
            if count:
                self._body.passed(count)
            else:  # the file is cut short, or the kernel cannot send from it: reading says which
                data = self._body.read(SEND_BLOCK)
                if not data:
                    return
                sock.sendall(data)
                count = len(data)
            sent += count
            if sent >= goal:
                goal, end = sent + SEND_BLOCK, time.monotonic() + limit


def _writable(sock: socket.socket, seconds: float) -> None:
    """Wait until ``sock`` takes bytes; raises TimeoutError."""
    waiting = select.poll()
    waiting.register(sock, select.POLLOUT)
    if seconds <= 0 or not waiting.poll(seconds * 1000):
        raise TimeoutError("timed out")


class _PlainConnection(_Sending, HTTPConnection):
    def send(self, data: Any) -> None:
        """Send bytes, or what lies in a file."""
        if isinstance(data, Straight):
            assert self.sock is not None  # noqa: S101  # the head of the request was sent over it
            data.over(self.sock)
        else:
            super().send(data)


class _TLSConnection(_Sending, HTTPSConnection):
    def send(self, data: Any) -> None:
        """Send; a server that hung up first is listened to, as over a plain socket, where urllib3 reads on after EPIPE.

        What it said before is an answer (413) or an alert: with TLS 1.3 a server refuses a client's certificate only after
        the handshake (RFC 8446, 4.4.2.4), so the refusal and our request cross.
        """
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            raise BrokenPipeError(errno.EPIPE, "the other side closed the connection") from error

    def connect(self) -> None:
        """Connect; the context has checked what it was told to, and Client has warned where that is nothing."""
        super().connect()
        self.is_verified = True  # else urllib3 warns at each connection


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class Wire(HTTPAdapter):
    """Sends requests over pooled connections whose TLS is ``context`` (None: none is spoken).

    At most ``connections`` are kept per host.
    """

    def __init__(self, context: ssl.SSLContext | None, connections: int, connect_timeout: float = CONNECT_TIMEOUT) -> None:
        self._context = context
        self._connect_timeout = connect_timeout
        super().__init__(pool_connections=connections, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pools (called by the base class)."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, blocksize=SEND_BLOCK, **kwargs)
        _use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools for one proxy; a proxy that speaks TLS is checked like the host."""
        manager = super().proxy_manager_for(
            proxy, ssl_context=self._context, proxy_ssl_context=self._context, blocksize=SEND_BLOCK, **kwargs
        )
        _use_our_pools(manager)
        return manager

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:  # noqa: ARG002  # as the base
        """Return the pool for a request, by scheme, host and port only (requests would put in certifi's authorities)."""
        parts = urlsplit(request.url)
        proxy = (proxies or {}).get(parts.scheme)
        manager = self.proxy_manager_for(proxy) if proxy else self.poolmanager
        return manager.connection_from_host(parts.hostname, parts.port, scheme=parts.scheme)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the connection alone: checking is the context's."""

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Body | None, *, proxy: str, read_timeout: float
    ) -> requests.Response:
        """Send one request and return its response, the body unread; raises what requests and urllib3 raise."""
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url = method, url
        prepared.headers = CaseInsensitiveDict(headers)
        place = body.place() if isinstance(body, Placed) and len(body) and url.startswith("http:") else None
        prepared.body = Straight(body, *place) if place else body  # type: ignore[assignment,arg-type]  # urllib3 takes both
        if body is not None:
            prepared.headers["Content-Length"] = str(len(body))
        elif method in {"POST", "PUT", "PATCH"}:
            prepared.headers["Content-Length"] = "0"
        proxies = {urlsplit(url).scheme: proxy} if proxy else None
        return self.send(prepared, stream=True, timeout=(self._connect_timeout, read_timeout), proxies=proxies)


def _use_our_pools(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}
