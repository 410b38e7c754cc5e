"""A small web server on loopback that plays channels and chart repositories."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from airgap.manifest import Mirror
from airgap.sources import Places
from airgap.transport import Client, CredentialStore, HostSettings, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Site:
    """``answers``: path to (status, body), or a list of them for one request each; ``asked``: (path, Authorization)."""

    host: str = ""
    answers: dict[str, tuple[int, bytes] | list[tuple[int, bytes]]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, bytes]:
        found = self.answers.get(path, (404, b"nothing here"))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


def serve() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers.get("Authorization", "")))
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status, body = site.answer(self.path)
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="site"')
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    yield from serve()


@pytest.fixture
def other() -> Iterator[Site]:
    yield from serve()


def client_for(*hosts: str, credentials: CredentialStore | None = None) -> Client:
    """A client that speaks plain HTTP with these hosts and does not wait long."""
    plain = {host: HostSettings(plain_http=True) for host in hosts}
    return Client(hosts=plain, credentials=credentials, retry=RetryPolicy(attempts=2, base=0.01))


def places_for(**sites: Site) -> Places:
    """Play hosts (``charts_example`` is charts.example) on loopback."""
    mirrors = {name.replace("_", "."): Mirror(site.host, plain_http=True) for name, site in sites.items()}
    return Places({}, mirrors)
