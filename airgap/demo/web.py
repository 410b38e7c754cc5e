"""A small web server for pages that lie in memory: several hosts of the upstream under one address on loopback.

Invariants: it listens on loopback alone, answers GET and HEAD alone, and is gone when the block is left.

    with serving({"charts.wandb.ai/index.yaml": b"..."}) as host:      # http://HOST/charts.wandb.ai/index.yaml
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOOPBACK = "127.0.0.1"
_TYPES = {"yaml": "application/yaml", "tgz": "application/gzip"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a kept connection may be silent
    pages: ClassVar[Mapping[str, bytes]] = {}

    def do_GET(self) -> None:
        """Answer with the page, or 404."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the page's length alone, or 404."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0].removeprefix("/")
        page = self.pages.get(path)
        body = b"not found\n" if page is None else page
        self.send_response(HTTPStatus.NOT_FOUND if page is None else HTTPStatus.OK)
        self.send_header("Content-Type", _TYPES.get(path.rpartition(".")[2], "application/json"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: what the demonstration prints is its commands'."""


@contextmanager
def serving(pages: Mapping[str, bytes]) -> Iterator[str]:
    """Serve ``pages`` (path without a leading slash to body) on a free port of loopback; yields HOST:PORT."""
    handler = type("_Bound", (_Handler,), {"pages": pages})
    server = ThreadingHTTPServer((LOOPBACK, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
