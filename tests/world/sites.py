"""The outside world's web servers: release channel, chart repository, release assets; real HTTPS servers over files.

What they serve is decided by files that a test may change while they run::

    channel/spec.json              what an anonymous caller gets, and everybody else without a spec of his own
    channel/licenses/LICENCE.json  what the holder of that licence gets; other licences are refused
    channel/releases/ID.json       a pinned release
    charts/index.yaml              the index of the chart repository
    assets/...                     the files that the index points to, on another host, behind a redirect

Each request is a line of JSON in ``requests.jsonl``: host, method, path, authorization (its scheme only), status.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import tarfile
import threading
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from tests.world.authority import Pair

CHANNEL_PATH = "/api/v1/operator/channel"
ASSETS = "wandb/helm-charts/releases/download"
"""Where chart-releaser puts archives: https://github.com/OWNER/REPOSITORY/releases/download/NAME-VERSION/FILE."""
PRERELEASES = ("99.0.0-alpha.1", "99.0.0-rc.1+local")
"""Versions that stand in the index and must not be chosen: newer than everything, and not there when asked for."""
DATE = "2024-01-01T00:00:00Z"


@dataclass(frozen=True)
class Asked:
    """One request, as it is logged."""

    host: str
    method: str
    path: str
    authorization: str
    status: int


@dataclass(frozen=True)
class Answer:
    """What a site answers."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    location: str = ""


def channel(folder: Path) -> Callable[[str, str], Answer]:
    """The release channel over ``folder``/channel."""
    root = folder / "channel"

    def answer(path: str, authorization: str) -> Answer:
        file = root / "spec.json"
        if authorization:
            user, _, license_ = base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")
            file = root / "licenses" / f"{license_}.json"
            if user != "license" or not license_ or not file.is_file():
                return Answer(401, b'{"error": "invalid license"}')
        if path != CHANNEL_PATH:
            file = root / "releases" / f"{path.removeprefix(CHANNEL_PATH + '/release/')}.json"
        if not path.startswith(CHANNEL_PATH) or not file.is_file():
            return Answer(404, b'{"error": "not found"}')
        return Answer(200, file.read_bytes())

    return answer


def chart_repository(folder: Path) -> Callable[[str, str], Answer]:
    """The chart repository: an index and nothing else; the archives lie elsewhere."""

    def answer(path: str, _: str) -> Answer:
        if path != "/index.yaml":
            return Answer(404, b"not found", "text/plain")
        return Answer(200, (folder / "charts" / "index.yaml").read_bytes(), "text/yaml")

    return answer


def redirecting(host: str) -> Callable[[str, str], Answer]:
    """The download host: sends everybody on to the storage behind it."""
    return lambda path, _: Answer(302, location=f"https://{host}{path}?signature=throwaway")


def assets(folder: Path) -> Callable[[str, str], Answer]:
    """The storage of release assets; like the real one it refuses whoever brings an Authorization header."""

    def answer(path: str, authorization: str) -> Answer:
        file = folder / "assets" / path.removeprefix("/")
        if authorization:
            return Answer(400, b"only one authorization mechanism is allowed", "text/plain")
        if ".." in path or not file.is_file():
            return Answer(404, b"not found", "text/plain")
        return Answer(200, file.read_bytes(), "application/octet-stream")

    return answer


def serve(host: str, address: str, pair: Pair, site: Callable[[str, str], Answer], log: Path) -> ThreadingHTTPServer:
    """Serve ``site`` at ``address``:443 under ``host``'s certificate, from threads of this process."""
    server = ThreadingHTTPServer((address, 443), _handler(host, site, log))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    # The handshake is left to the connection's own thread: a slow client must not keep the others waiting.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def _handler(host: str, site: Callable[[str, str], Answer], log: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
            pass

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization", "")
            made = site(urlsplit(self.path).path, authorization)
            asked = Asked(host, self.command, self.path, authorization.partition(" ")[0], made.status)
            with log.open("a") as out:
                out.write(json.dumps(asdict(asked)) + "\n")
            self.send_response(made.status)
            self.send_header("Content-Type", made.content_type)
            self.send_header("Content-Length", str(len(made.body)))
            if made.location:
                self.send_header("Location", made.location)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(made.body)

        def do_HEAD(self) -> None:
            self.do_GET()

    return Handler


def publish(folder: Path, charts: Iterable[Path]) -> None:
    """Pack chart folders into ``folder``/assets and write the index that points to them, prereleases among them."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for chart in charts:
        metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
        name, version = metadata["name"], metadata["version"]
        archive = pack(chart, name)
        place = folder / "assets" / ASSETS / f"{name}-{version}" / f"{name}-{version}.tgz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(archive)
        known = entries.setdefault(name, [_entry(metadata, early, "0" * 64) for early in PRERELEASES])
        known.append(_entry(metadata, version, hashlib.sha256(archive).hexdigest()))
    index = folder / "charts" / "index.yaml"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text(yaml.dump({"apiVersion": "v1", "generated": DATE, "entries": entries}, Dumper=_AsHelm))


class _AsHelm(yaml.SafeDumper):
    """Helm writes every entry in full, without anchors and aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # the name is the base class's
        return True


def _entry(metadata: Mapping[str, Any], version: str, digest: str) -> dict[str, Any]:
    name = metadata["name"]
    url = f"https://github.com/{ASSETS}/{name}-{version}/{name}-{version}.tgz"
    return {**metadata, "version": version, "created": DATE, "digest": digest, "urls": [url]}


def pack(chart: Path, name: str) -> bytes:
    """Pack a chart folder as ``helm package`` does, without its time stamps."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for file in sorted(it for it in chart.rglob("*") if it.is_file()):
            member = tarfile.TarInfo(f"{name}/{file.relative_to(chart)}")
            member.size = file.stat().st_size
            with file.open("rb") as stream:
                tar.addfile(member, stream)
    return out.getvalue()
