"""Real registries on loopback, each with the TLS and the authentication that a test asks for.

::

    with start_docker_registry(tmp_path, tls=authority, htpasswd={"ann": "secret"}) as registry:
        registry.host        # "localhost:43211"
        registry.ca_file     # what a client must trust

Invariants: ports are picked by the kernel, only loopback is listened on, and only processes started here are ended, by
their own handle. A binary that is absent skips the test with its name (PATH is searched, then ``$AIRGAP_TOOLS``).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.world.authority import Authority, Pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.world.tokens import TokenServer

START_LIMIT = 30.0
"""Seconds that a registry may take to say where it listens (two busy cores)."""
STOP_LIMIT = 10.0
"""Seconds between asking a process to end and killing it."""
_LISTENING = re.compile(r"listening on [^\s\"]*?:(\d+)|serving on port:? ?(\d+)|127\.0\.0\.1:(\d+)")


def find_binary(*names: str) -> str:
    """Return the path of the first of ``names`` that is installed, or skip the test that asks."""
    where = os.pathsep.join(part for part in (os.environ.get("PATH", ""), os.environ.get("AIRGAP_TOOLS", "")) if part)
    for name in names:
        if found := shutil.which(name, path=where):
            return found
    return pytest.skip(f"none of the programs {', '.join(names)} is installed")


@dataclass
class RunningRegistry(AbstractContextManager["RunningRegistry"]):
    """A registry process: ``host`` is what a reference names; ``ca_file`` is set when it speaks TLS."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    host_name: str = "127.0.0.1"
    ca_file: Path | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """``name:port``."""
        return f"{self.host_name}:{self.port}"

    @property
    def plain_http(self) -> bool:
        """Whether it speaks no TLS."""
        return self.ca_file is None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}"

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        return (self.folder / "registry.log").read_text(errors="replace")

    def start(self) -> RunningRegistry:
        """Start the process and wait until it listens."""
        path = self.folder / "registry.log"
        with path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                cwd=self.folder,
            )
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if found := _LISTENING.search(self.log):
                self.port = int(next(group for group in found.groups() if group))
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.stop()
        raise AssertionError(f"{self.command[0]} did not start: {self.log[-2000:]}")

    def stop(self) -> None:
        """End the process, gently and then not."""
        if not self.process:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self) -> RunningRegistry:
        """End it and start it again at the same port, with what it has on disk."""
        port = self.port
        self.stop()
        path = self.folder / "config.yml"
        path.write_text(path.read_text().replace('"addr": "127.0.0.1:0"', f'"addr": "127.0.0.1:{port}"'))
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    """The environment of this process without what would change a registry's configuration."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_", "OTEL_"))}


def _auth(folder: Path, htpasswd: Mapping[str, str] | None, token: TokenServer | None) -> dict[str, object]:
    if htpasswd is not None:
        program = find_binary("htpasswd")
        lines = [
            subprocess.run([program, "-nbB", "-C", "4", user, word], check=True, capture_output=True, text=True).stdout.strip()
            for user, word in htpasswd.items()
        ]
        (folder / "htpasswd").write_text("\n".join(lines) + "\n")
        return {"auth": {"htpasswd": {"realm": "world", "path": str(folder / "htpasswd")}}}
    if token is not None:
        settings = {
            "realm": token.realm,
            "service": token.service,
            "issuer": token.issuer,
            "rootcertbundle": str(token.root_certificates),
        }
        return {"auth": {"token": settings}}
    return {}


def _start_distribution(
    program: str,
    tmp_path: Path,
    *,
    tls: Authority | Pair | None,
    htpasswd: Mapping[str, str] | None,
    token: TokenServer | None,
    config: Mapping[str, object] | None,
) -> RunningRegistry:
    """Start CNCF distribution (2.x or 3.x) in a folder of its own under ``tmp_path``; its storage is ``storage/``."""
    folder = _folder(tmp_path, "registry")
    http: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "constant-so-that-a-restart-keeps-uploads"}
    pair = tls.issue("localhost", "127.0.0.1") if isinstance(tls, Authority) else tls
    if pair:
        http["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": http,
        **_auth(folder, htpasswd, token),
        **(config or {}),
    }
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    command = [program, "serve", str(folder / "config.yml")]
    environment = {**_environment(), "OTEL_TRACES_EXPORTER": "none"}
    name = "localhost" if pair else "127.0.0.1"
    return RunningRegistry(command, folder, environment, name, pair.root if pair else None).start()


def start_docker_registry(
    tmp_path: Path,
    *,
    tls: Authority | Pair | None = None,
    htpasswd: Mapping[str, str] | None = None,
    token: TokenServer | None = None,
    config: Mapping[str, object] | None = None,
) -> RunningRegistry:
    """Start distribution 2.8 (Debian's docker-registry).

    ``tls``: an Authority (a certificate for localhost is issued) or a Pair; ``htpasswd``: users for Basic; ``token``: a
    TokenServer; ``config``: further top-level keys of its configuration.
    """
    return _start_distribution(find_binary("docker-registry"), tmp_path, tls=tls, htpasswd=htpasswd, token=token, config=config)


def start_distribution3(
    tmp_path: Path,
    *,
    tls: Authority | Pair | None = None,
    htpasswd: Mapping[str, str] | None = None,
    token: TokenServer | None = None,
    config: Mapping[str, object] | None = None,
) -> RunningRegistry:
    """Start distribution 3 (``registry`` or ``distribution`` on PATH); arguments as for start_docker_registry."""
    return _start_distribution(
        find_binary("registry", "distribution3"), tmp_path, tls=tls, htpasswd=htpasswd, token=token, config=config
    )


def start_crane(tmp_path: Path, *, disk: bool = False) -> RunningRegistry:
    """Start ``crane registry serve``: plain HTTP, no authentication, referrers API; in memory unless ``disk``."""
    folder = _folder(tmp_path, "crane")
    command = [find_binary("crane"), "registry", "serve", "--address", "127.0.0.1:0"]
    if disk:
        (folder / "storage").mkdir()
        command += ["--disk", str(folder / "storage")]
    return RunningRegistry(command, folder, _environment()).start()


def _folder(tmp_path: Path, stem: str) -> Path:
    """Make a fresh folder, so that one test may start several registries."""
    for number in range(100):
        folder = tmp_path / f"{stem}-{number}"
        if not folder.exists():
            folder.mkdir(parents=True)
            return folder
    raise AssertionError(f"a hundred registries under {tmp_path}")
