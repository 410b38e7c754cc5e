"""What the engine's tests share: a relay that counts bytes, and a registry that keeps sessions by a script."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airgap.registry import Registry
from airgap.transport import Client, CredentialStore, HostSettings
from tests.registry.conftest import QUICK, Blob
from tests.registry.shelf import Shelf
from tests.transport.scripted import Answer, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airgap.registry.sessions import Sessions

MIB = 1024 * 1024


class Relay:
    """Passes bytes on to a port of this host and counts them in both directions."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.up = self.down = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with suppress(OSError), near, socket.create_connection(("127.0.0.1", self._port)) as far:
            back = threading.Thread(target=self._pump, args=(far, near, "down"), daemon=True)
            back.start()
            self._pump(near, far, "up")
            back.join()

    def _pump(self, source: socket.socket, target: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(64 * 1024):
                setattr(self, name, getattr(self, name) + len(data))
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay() -> Iterator[Callable[[int], Relay]]:
    """Put a relay before a port."""
    opened: list[Relay] = []

    def before(port: int) -> Relay:
        opened.append(Relay(port))
        return opened[-1]

    yield before
    for one in opened:
        one.close()


@dataclass
class Keeping(Shelf):
    """A registry that keeps a session whose request broke off, with ``kept`` bytes of that request's body; it says where it is.

    ``broken``: how many of the next bodies break off; ``lies``: what it says instead of where it stands.
    """

    kept: int = 0
    broken: int = 0
    lies: str | None = None
    asked: list[str] = field(default_factory=list)

    def __call__(self, seen: Seen) -> Answer:
        path = urlsplit(seen.path).path
        if seen.method == "GET" and "/uploads/" in path:
            return self.stands(path)
        if seen.body and self.broken and (session := self.session(path)) is not None:
            self.broken -= 1
            session += seen.body[: self.kept]
            return Answer(hang_up=True)
        return super().__call__(seen)

    def stands(self, path: str) -> Answer:
        self.asked.append(path)
        session = self.session(path)
        if session is None:
            return Answer(404)
        told = f"0-{max(0, len(session) - 1)}" if self.lies is None else self.lies
        return Answer(204, {"Range": told} if told else {})

    def session(self, path: str) -> bytearray | None:
        return next((data for name, data in self.sessions.items() if name in path), None)


def connect(host: str, sessions: Sessions | None = None) -> Registry:
    client = Client(hosts={host: HostSettings(plain_http=True)}, credentials=CredentialStore(), environ={}, retry=QUICK)
    return Registry(client, host, push=True, sessions=sessions)


@pytest.fixture
def large(tmp_path) -> Blob:
    """A blob that is worth a note: 20 MiB that no two places have in common."""
    data = b"".join(index.to_bytes(8, "big") for index in range(20 * MIB // 8))
    return Blob.make(tmp_path, data, "large")


def ranges(seen: list[Seen]) -> list[str]:
    """The Content-Range of every body that was sent."""
    return [one.headers.get("content-range", "") for one in seen if one.body]


def digests(text: str) -> set[str]:
    return set(re.findall(r"sha256:[0-9a-f]{64}", text))
