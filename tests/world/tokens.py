"""A token server as the Docker registry token protocol describes it, for registries with ``auth: token``.

It grants what is asked for to the users it knows (and pull to anybody, if ``anonymous_pull``), by GET with Basic or by the
OAuth2 POST with a password or a refresh token, and remembers every request in ``seen`` (and in ``log``, as lines of JSON).
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.authority import Authority, Pair

LEEWAY = 60
"""Seconds after ``exp`` for which distribution still takes a token (registry/auth/token/token.go, Leeway)."""


@dataclass(frozen=True)
class Asked:
    """One request to the token server: its method, its parameters, who asked (empty: nobody) and whether it was granted."""

    method: str
    parameters: dict[str, list[str]]
    user: str
    granted: bool


@dataclass
class TokenServer(AbstractContextManager["TokenServer"]):
    """A running token server; ``lifetime`` seconds is when a registry really refuses the token."""

    signing: Pair
    root_certificates: Path
    users: dict[str, str]
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    lifetime: int = 300
    announce_lifetime: bool = True
    token_field: str = "token"
    anonymous_pull: bool = False
    service: str = "registry.world"
    issuer: str = "world"
    tls: Pair | None = None
    host_name: str = "127.0.0.1"
    seen: list[Asked] = field(default_factory=list)
    log: Path | None = None
    server: ThreadingHTTPServer | None = field(default=None, repr=False)

    @classmethod
    def start(cls, authority: Authority, users: dict[str, str], *, tls: bool = False, **more: Any) -> TokenServer:
        """Start one on a free port; with ``tls`` under the name localhost, by the same authority."""
        pair = authority.issue("localhost", "127.0.0.1") if tls else None
        name = "localhost" if tls else "127.0.0.1"
        made = cls(authority.issue("token signer", rsa=True), authority.root, users, tls=pair, host_name=name, **more)
        return made.listen(("127.0.0.1", 0))

    def listen(self, address: tuple[str, int]) -> TokenServer:
        """Serve at ``address``, with ``tls`` if that is set; port 0 is any free one."""
        self.server = ThreadingHTTPServer(address, _handler(self))
        self.server.daemon_threads = True
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    @property
    def realm(self) -> str:
        """Where tokens are asked for."""
        assert self.server
        return f"{'https' if self.tls else 'http'}://{self.host_name}:{self.server.server_address[1]}/token"

    def note(self, asked: Asked) -> None:
        """Remember a request."""
        self.seen.append(asked)
        if self.log:
            with self.log.open("a") as out:
                out.write(json.dumps(asdict(asked)) + "\n")

    def stop(self) -> None:
        """Stop serving."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, user: str, scopes: list[str]) -> dict[str, object]:
        """Return the JSON of a granted request."""
        access: list[dict[str, object]] = []
        for scope in " ".join(scopes).split():
            kind, rest = scope.split(":", 1)
            name, actions = rest.rsplit(":", 1)
            granted = actions.split(",") if user else ["pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        out: dict[str, object] = {self.token_field: self._sign(user, access)}
        if self.announce_lifetime:
            out["expires_in"] = self.lifetime
        return out

    def _sign(self, user: str, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        pem = self.signing.certificate.read_text()
        der = "".join(line for line in pem.splitlines() if "-----" not in line)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "exp": now + self.lifetime - LEEWAY,
            "nbf": now - 10,
            "iat": now - 10,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        signed = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.signing.key)]
        signature = subprocess.run(command, input=signed.encode(), capture_output=True, check=True).stdout
        return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _handler(world: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base class's
            pass

        def do_GET(self) -> None:
            parameters = parse_qs(urlsplit(self.path).query)
            scheme, _, encoded = self.headers.get("Authorization", "").partition(" ")
            user, _, word = base64.b64decode(encoded).decode().partition(":") if scheme == "Basic" else ("", "", "")
            granted = (bool(user) and world.users.get(user) == word) or (not scheme and world.anonymous_pull)
            self._finish(parameters, user, granted=granted)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            parameters = parse_qs(self.rfile.read(length).decode())
            kind = parameters.get("grant_type", [""])[0]
            if kind == "refresh_token":
                user = world.refresh_tokens.get(parameters.get("refresh_token", [""])[0], "")
                self._finish(parameters, user, granted=bool(user))
            else:
                user = parameters.get("username", [""])[0]
                granted = world.users.get(user) == parameters.get("password", [""])[0]
                self._finish(parameters, user, granted=granted)

        def _finish(self, parameters: dict[str, list[str]], user: str, *, granted: bool) -> None:
            world.note(Asked(self.command, parameters, user, granted))
            body = json.dumps(world.answer(user, parameters.get("scope", [])) if granted else {"details": "no"}).encode()
            self.send_response(200 if granted else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
