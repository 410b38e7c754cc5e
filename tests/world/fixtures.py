"""The world's two halves as fixtures: ``world`` (connected) and ``inside`` (disconnected).

::

    def test_something(world, inside, tmp_path):
        world.run("airgap", "mirror", tmp_path / "b.tar")
        inside.run("airgap", "push", tmp_path / "b.tar", "--registry", inside.registry)

Each half is a network namespace with its own /etc/hosts, no route and no name server; the file system is the medium. Both are
made once per worker; what a test changes in ``world`` (files under ``world.folder``) it puts back, or it builds its own with
``build_world``. The private registry is filled by tests: each uses a prefix of its own.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.world.authority import Authority
from tests.world.images import Picture
from tests.world.netns import Namespace
from tests.world.outside import HOSTS, REGISTRIES, Script
from tests.world.sites import Asked, publish

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "airgap" / "demo" / "data"
LICENSE = "a-licence-of-the-test-world"
PRIVATE_REGISTRY = "registry.corp.test"
PRIVATE_USER = ("robot", "throwaway-secret")
START_LIMIT = 60.0
PASSED_ON = ("PATH", "LANG", "COVERAGE_", "COV_")
"""Of our environment, the variables (or their beginnings) that a command in a half sees; no proxies, no credentials."""


@dataclass(frozen=True)
class Half:
    """A half of the world: commands run in its namespace, with ``environ`` and nothing else."""

    namespace: Namespace
    folder: Path
    environ: Mapping[str, str]
    ca_file: Path

    def run(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, folder: Path | None = None, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; ``airgap`` means this checkout's, in this Python. ``env`` is added to the half's environment."""
        command = (sys.executable, "-m", "airgap", *argv[1:]) if argv[0] == "airgap" else argv
        return self.namespace.run(*command, env={**self.environ, **(env or {})}, folder=folder, text=text)


@dataclass(frozen=True)
class World(Half):
    """The connected half: every upstream under its own name, with tiny images."""

    pictures: tuple[Picture, ...]

    @property
    def channel(self) -> Path:
        """The folder that decides what the release channel answers (see tests/world/sites.py)."""
        return self.folder / "channel"

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Every request to the channel, the chart repository and the hosts behind it, in order."""
        log = self.folder / "requests.jsonl"
        return tuple(Asked(**json.loads(line)) for line in log.read_text().splitlines()) if log.exists() else ()

    @property
    def tokens(self) -> tuple[dict[str, Any], ...]:
        """Every request to Docker Hub's token server, in order: method, parameters, user, granted."""
        log = self.folder / "tokens.jsonl"
        return tuple(json.loads(line) for line in log.read_text().splitlines()) if log.exists() else ()

    def registry_log(self, host: str) -> str:
        """What the registry of that host has logged, its access log included."""
        return (self.folder / "registries" / host / "registry-0" / "registry.log").read_text(errors="replace")


@dataclass(frozen=True)
class Inside(Half):
    """The disconnected half: a private registry with TLS and Basic authentication, and nothing else."""

    registry: str
    username: str
    password: str
    storage: Path

    @property
    def auth_file(self) -> Path:
        """A docker config.json that knows the registry (REGISTRY_AUTH_FILE points to it in ``environ``)."""
        return self.folder / "auth.json"


@contextmanager
def build_world(folder: Path, pictures: Sequence[Picture], charts: Sequence[Path], spec: bytes) -> Iterator[World]:
    """Play a connected half with these images, charts (folders) and channel spec."""
    extra = sorted({picture.host for picture in pictures} - set(REGISTRIES))
    hosts = {host: f"127.1.0.{number}" for number, host in enumerate((*HOSTS, *extra), 1)}
    authority = Authority.create(folder)
    pairs = {host: authority.issue(host) for host in hosts}
    script = Script(hosts, pairs, authority.issue("token signer", rsa=True), tuple(pictures))
    (folder / "world.json").write_text(json.dumps(script.to_json()))
    (folder / "channel" / "licenses").mkdir(parents=True)
    (folder / "channel" / "releases").mkdir()
    for name in ("spec.json", f"licenses/{LICENSE}.json", "releases/pinned-1.json"):
        (folder / "channel" / name).write_bytes(spec)
    publish(folder, charts)
    with Namespace.open(folder / "namespace", hosts) as namespace, _playing(namespace, "tests.world.outside", folder):
        yield World(namespace, folder, _environ(folder, authority.root), authority.root, tuple(pictures))


@contextmanager
def build_inside(folder: Path) -> Iterator[Inside]:
    """Play a disconnected half."""
    authority = Authority.create(folder)
    pair = authority.issue(PRIVATE_REGISTRY)
    user, password = PRIVATE_USER
    settings = {"address": "127.2.0.1:5000", "pair": [str(pair.certificate), str(pair.key)], "users": {user: password}}
    (folder / "inside.json").write_text(json.dumps(settings))
    registry = f"{PRIVATE_REGISTRY}:5000"
    environ = {**_environ(folder, authority.root), "REGISTRY_AUTH_FILE": str(folder / "auth.json")}
    hosts = {PRIVATE_REGISTRY: "127.2.0.1"}
    with Namespace.open(folder / "namespace", hosts) as namespace, _playing(namespace, "tests.world.within", folder):
        made = Inside(namespace, folder, environ, authority.root, registry, user, password, folder / "registry-0" / "storage")
        made.auth_file.write_text(json.dumps({"auths": {registry: {"auth": _basic(user, password)}}}))
        yield made


@contextmanager
def _playing(namespace: Namespace, module: str, folder: Path) -> Iterator[None]:
    """Run a module of ours in the namespace, from its ``ready`` until the end of the block."""
    environ = {**_environ(folder, None), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environ = {name: value for name, value in environ.items() if not name.startswith(("COVERAGE_", "COV_"))}
    log = folder / "player.log"
    player = namespace.start(sys.executable, "-m", module, folder, env=environ, log=log)
    assert player.stdin
    assert player.stdout
    try:
        said = player.stdout.readline().strip()
        if said != "ready":
            raise AssertionError(f"{module} did not start: {said} {log.read_text(errors='replace')[-3000:]}")
        yield
    finally:
        player.stdin.close()
        player.wait(START_LIMIT)
        player.stdout.close()


def _environ(folder: Path, ca_file: Path | None) -> dict[str, str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return {**passed_on, "HOME": str(home), **({"SSL_CERT_FILE": str(ca_file)} if ca_file else {})}


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def demo_pictures() -> tuple[Picture, ...]:
    """The images of the demo's data, as the world plays them."""
    return tuple(Picture.from_json(item) for item in json.loads((DEMO / "images.json").read_text())["images"])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The connected half, with the charts, the channel's spec and the images of the demo's data."""
    charts = sorted((DEMO / "charts").iterdir())
    folder = tmp_path_factory.mktemp("world")
    with build_world(folder, demo_pictures(), charts, (DEMO / "channel.json").read_bytes()) as made:
        yield made


@pytest.fixture(scope="session")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """The disconnected half."""
    with build_inside(tmp_path_factory.mktemp("inside")) as made:
        yield made
