"""The words between the wire and the endpoints: Request, Body, Answer, and the refusal that a client is told.

Invariants: nothing here opens a socket. An answer's body may be a Window, which names bytes of a file without reading them,
so it costs no memory whatever its size; a ``Body`` hands out what a client sends piece by piece and never more than was
announced.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from airgap.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.transport.body import Window

PIECE = 1 << 20
"""Bytes read, hashed and written at a time."""

OCTETS = "application/octet-stream"
JSON_TYPE = "application/json"


class RefusalError(RegistryError):
    """A request that is answered with an error: ``status``, ``code`` (distribution-spec, "Error Codes") and more headers."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, status=status, code=code)
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        """Return what goes over the wire."""
        body = json.dumps({"errors": [{"code": self.code, "message": self.message}]}).encode()
        return Answer(self.status, {"Content-Type": JSON_TYPE, **self.headers}, body)


class Body(Protocol):
    """What a client sends after the headers; ``length`` is None where it is not announced (chunked transfer coding)."""

    length: int | None

    def read(self, limit: int = PIECE) -> bytes:
        """Return up to ``limit`` bytes, empty at the end; raises ConnectionError when the client breaks off."""
        ...


class Headers(Protocol):
    """What is needed of a message's headers."""

    def get(self, name: str, /) -> str | None:
        """Return a header's value; names are looked up without regard to case."""
        ...


@dataclass(frozen=True)
class Request:
    """One request. ``path`` is percent-decoded, ``query`` keeps repeated parameters, ``host`` is in lower case.

    ``headers`` looks names up without regard to case. HEAD arrives here as GET: the wire leaves the body out.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]
    headers: Headers
    body: Body
    scheme: str = "http"
    host: str = ""

    def first(self, parameter: str) -> str:
        """Return the first value of a query parameter, or an empty string."""
        return self.query.get(parameter, ("",))[0]

    def header(self, name: str) -> str:
        """Return a header, or an empty string."""
        return self.headers.get(name) or ""


@dataclass(frozen=True)
class Answer:
    """A status, headers and a body; Content-Length is the wire's business unless ``length`` says otherwise (HEAD)."""

    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Window = b""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body)


@dataclass(frozen=True)
class Access:
    """One served request; ``str()`` is the line for a log. It holds no credentials."""

    client: str
    method: str
    host: str
    target: str
    status: int
    sent: int
    seconds: float
    agent: str = ""

    def __str__(self) -> str:
        """Client, request, status, bytes, milliseconds, user agent; control characters made visible."""
        target = f"{self.host}{self.target}".encode("unicode_escape").decode()
        agent = self.agent.encode("unicode_escape").decode()
        return f'{self.client} "{self.method} {target}" {self.status} {self.sent} {self.seconds * 1000:.0f}ms "{agent}"'


def json_answer(data: object, headers: Mapping[str, str] | None = None, media_type: str = JSON_TYPE) -> Answer:
    """Return 200 with ``data`` as JSON."""
    return Answer(HTTPStatus.OK, {"Content-Type": media_type, **(headers or {})}, json.dumps(data).encode())
