"""Target registries that are real, and one that misbehaves by a script."""

from __future__ import annotations

import http.server
import re
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest

from tests.bundle.estate import bundle, small
from tests.world.registries import start_crane, start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.world.registries import RunningRegistry

ACCESS = {"log": {"level": "info", "accesslog": {"disabled": False}}}
LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>/v2/[^ ]*) HTTP/[0-9.]+" (?P<status>\d\d\d)')
KINDS = {
    "distribution2": lambda tmp_path: start_docker_registry(tmp_path, config=ACCESS),
    "distribution3": lambda tmp_path: start_distribution3(tmp_path, config=ACCESS),
    "crane": start_crane,
}


@pytest.fixture(params=KINDS)
def anyone(request, tmp_path):
    """Each registry in turn."""
    with KINDS[request.param](tmp_path) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    """A distribution 2.8 with its access log on."""
    with KINDS["distribution2"](tmp_path) as running:
        yield running


@pytest.fixture
def path(tmp_path):
    return bundle(small(), tmp_path / "wandb.tar")


def asked(running: RunningRegistry) -> list[tuple[str, str, int]]:
    """Every request by the registry's own log: method, path without its query, status."""
    return [(found["method"], found["path"].partition("?")[0], int(found["status"])) for found in LINE.finditer(running.log)]


Rule = Callable[[str, str], "tuple[int, dict[str, str], bytes] | None"]


@dataclass
class Proxy:
    """In front of a real registry: a rule may answer in its place; what came through is noted in ``seen``."""

    upstream: str
    before: Rule = lambda *_: None
    seen: list[tuple[str, str]] = field(default_factory=list)
    host: str = ""


@pytest.fixture
def proxy(target) -> Iterator[Proxy]:
    scripted = Proxy(target.url)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            scripted.seen.append((self.command, self.path))
            answer = scripted.before(self.command, self.path)
            status, headers, data = answer or self.forward(body)
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in {"connection", "transfer-encoding", "content-length", "date"}:
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            request = urllib.request.Request(  # noqa: S310  # http, to our own registry
                scripted.upstream + self.path, body or None, dict(self.headers), method=self.command
            )
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
                    return response.status, dict(response.headers), response.read()
            except HTTPError as error:
                with error:
                    return error.code, dict(error.headers), error.read()

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    scripted.host = f"127.0.0.1:{server.server_address[1]}"
    yield scripted
    server.shutdown()
    server.server_close()
    thread.join()
