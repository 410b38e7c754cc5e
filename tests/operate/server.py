"""A small W&B server and its bucket: enough GraphQL and signed URLs for what is checked, over real HTTPS; faults on request."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import ssl
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from types import TracebackType

    from tests.world.authority import Pair

KEY = "0123456789abcdef0123456789abcdef01234567"
SIGNING = b"bucket"


@dataclass
class World:
    """What both servers know; ``faults`` are the words that their handlers look for."""

    faults: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    projects: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    server: str = ""
    bucket: str = ""

    def signed(self, path: str, method: str) -> str:
        signature = hmac.new(SIGNING, f"{method} {path}".encode(), hashlib.sha256).hexdigest()
        return f"{self.bucket}{quote(path)}?X-Signature={signature}"


class Talk(BaseHTTPRequestHandler):
    world: World

    def log_message(self, *_: object) -> None:
        return

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class WandB(Talk):
    def do_GET(self) -> None:
        self.answer(200, b"ok")

    def do_POST(self) -> None:
        raw, world = self.body(), self.world
        if "login-page" in world.faults:
            self.answer(200, b"<html>sign in</html>")
            return
        if "small-proxy" in world.faults and len(raw) > 1_000_000:
            self.answer(413, b"too large")
            return
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            self.answer(401, b"{}")
            return
        question = json.loads(raw)
        world.operations.append(question["operationName"])
        named = re.sub(r"(?<!^)([A-Z])", r"_\1", question["operationName"]).lower()
        data = getattr(self, named)(question["variables"])
        self.answer(200, json.dumps({"data": data}).encode(), Content_Type="application/json")

    def viewer(self, _: Any) -> Any:
        return {"viewer": {"id": "u", "entity": "team", "username": "ann"}}

    def server_info(self, _: Any) -> Any:
        info = {"cliVersionInfo": {"min_cli_version": "0.10", "max_cli_version": "0.20"}}
        return {"serverInfo": {**info, "latestLocalVersionInfo": {"versionOnThisInstanceString": "0.70.1"}}}

    def project(self, _: Any) -> Any:
        return {"project": None}

    def upsert_bucket(self, it: Any) -> Any:
        self.world.projects["p"], self.world.runs["r"] = it["project"], it["name"]
        project = {"id": "p", "name": it["project"], "entity": {"name": it["entity"]}}
        return {"upsertBucket": {"bucket": {"id": "r", "name": it["name"], "project": project}, "inserted": True}}

    def create_run_files(self, it: Any) -> Any:
        url = self.world.signed(f"/{it['run']}/{it['files'][0]}", "PUT")
        files = [{"name": it["files"][0], "uploadUrl": url}]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": ["X-Test: one"], "files": files}}

    def run_files(self, it: Any) -> Any:
        path = f"/{it['run']}/{it['files'][0]}"
        known = path in self.world.objects and "lost" not in self.world.faults
        node = {"name": it["files"][0], "url": "", "directUrl": self.world.signed(path, "GET"), "sizeBytes": 1}
        return {"project": {"run": {"files": {"edges": [{"node": node}] if known else []}}}}

    def delete_run(self, it: Any) -> Any:
        self.world.runs.pop(it["id"])
        return {"deleteRun": {"clientMutationId": None}}

    def delete_model(self, it: Any) -> Any:
        self.world.projects.pop(it["id"])
        return {"deleteModel": {"success": True}}


class Bucket(Talk):
    def path_of(self, method: str) -> str | None:
        """The object's path if the signature is right."""
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        expected = hmac.new(SIGNING, f"{method} {path}".encode(), hashlib.sha256).hexdigest()
        return path if parse_qs(parts.query).get("X-Signature") == [expected] else None

    def do_PUT(self) -> None:
        data, path = self.body(), self.path_of("PUT")
        if path is None or self.headers.get("X-Test") != "one" or "refused-put" in self.world.faults:
            self.answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        self.world.objects[path] = data
        self.answer(200)

    def do_GET(self) -> None:
        path = self.path_of("GET")
        if path is None or path not in self.world.objects:
            self.answer(403)
            return
        self.answer(200, b"else" if "changed" in self.world.faults else self.world.objects[path])

    def do_OPTIONS(self) -> None:
        if "no-cors" in self.world.faults:
            self.answer(403)
            return
        origin = "https://other.lan" if "wrong-cors" in self.world.faults else self.headers["Origin"]
        methods = "GET" if "not-put-cors" in self.world.faults else "GET, PUT, HEAD"
        self.answer(200, b"", Access_Control_Allow_Origin=origin, Access_Control_Allow_Methods=methods)


class Serving(AbstractContextManager["World"]):
    """Both, on loopback, for the length of a block."""

    def __init__(self, pair: Pair | None) -> None:
        self.world = World()
        self.servers = []
        for kind in (WandB, Bucket):
            handler = type(kind.__name__, (kind,), {"world": self.world})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            if pair:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(pair.certificate, pair.key)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            self.servers.append(server)
        scheme = "https" if pair else "http"
        self.world.server, self.world.bucket = (f"{scheme}://127.0.0.1:{it.server_address[1]}" for it in self.servers)

    def __enter__(self) -> World:
        for server in self.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        return self.world

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()
