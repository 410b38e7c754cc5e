"""A registry for uploads that keeps what it gets, and can be told to misbehave; what its tests share."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.transport.scripted import Answer, Scripted, Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from airgap.registry import Registry
    from tests.registry.conftest import Blob

JSON = {"Content-Type": "application/json"}


def refusal(code: str, message: str = "no") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass
class Shelf:
    """A registry for uploads that keeps what it gets; ``rule`` may answer first. Every answer has a new Location."""

    rule: Callable[[Seen, Shelf], Answer | None] | None = None
    location: str = "/v2/{repository}/blobs/uploads/{session}?_state=s{step}%3D%3D"
    blobs: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    step: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, seen: Seen) -> Answer:
        with self.lock:
            if self.rule and (answer := self.rule(seen, self)):
                return answer
            verbs: dict[str, Callable[[Seen], Answer]] = {
                "HEAD": self.head,
                "GET": self.head,
                "POST": self.post,
                "PATCH": self.patch,
                "PUT": self.put,
                "DELETE": self.delete,
            }
            return verbs[seen.method](seen)

    def head(self, seen: Seen) -> Answer:
        digest = seen.path.rpartition("/")[2]
        return Answer(200, body=self.blobs[digest]) if digest in self.blobs else Answer(404)

    def post(self, _: Seen) -> Answer:
        session = f"session{len(self.sessions)}"
        self.sessions[session] = bytearray()
        return Answer(202, {"Location": self._next(session)})

    def patch(self, seen: Seen) -> Answer:
        session = self._session(seen)
        if session is None:
            return Answer(404, JSON, refusal("BLOB_UPLOAD_UNKNOWN"))
        self.sessions[session] += seen.body
        return Answer(202, {"Location": self._next(session), "Range": f"0-{len(self.sessions[session]) - 1}"})

    def put(self, seen: Seen) -> Answer:
        session = self._session(seen)
        if session is None:
            return Answer(404, JSON, refusal("BLOB_UPLOAD_UNKNOWN"))
        data = bytes(self.sessions.pop(session) + seen.body)
        digest = parse_qs(urlsplit(seen.path).query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            return Answer(400, JSON, refusal("DIGEST_INVALID"))
        self.blobs[digest] = data
        return Answer(201, {"Docker-Content-Digest": digest, "Location": "/x"})

    def delete(self, seen: Seen) -> Answer:
        self.sessions.pop(self._session(seen) or "", None)
        return Answer(204)

    def _next(self, session: str) -> str:
        self.step += 1
        return self.location.format(repository="a/b", session=session, step=self.step)

    def _session(self, seen: Seen) -> str | None:
        """The session of the last Location given; an older one is refused (P6)."""
        path = urlsplit(seen.path)
        if f"s{self.step}%3D%3D" not in path.query and "{step}" in self.location:
            return None
        return next((name for name in self.sessions if name in path.path), None)


def upload(registry: Registry, blob: Blob, mount_from: tuple[str, ...] = ()) -> str:
    return registry.upload("a/b", blob.descriptor, blob.open, mount_from)


def methods(server: Scripted) -> list[str]:
    return [one.method for one in server.seen]
