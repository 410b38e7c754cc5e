"""A Docker engine of the tests' own, and registry:2 in it by testcontainers.

::

    @pytest.mark.docker
    def test_something(docker_engine, registry2): ...

Invariants: the engine keeps everything in one folder, listens on a socket there and publishes ports on loopback only; it
touches no firewall rule. It has a bridge of its own, named after this process, so that several can run side by side (each
worker has one); the bridge goes with it. Needs root and the program dockerd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

START_LIMIT = 30.0
"""Seconds until the engine answers; 0.3 to 1.3 on an idle machine."""
STOP_LIMIT = 30.0
SETTINGS = {
    "TESTCONTAINERS_RYUK_DISABLED": "true",  # its image cannot be pulled; containers are removed below
    "TESTCONTAINERS_CONNECTION_MODE": "docker_host",  # else it takes a machine with /.dockerenv for a container
}
CONFIG = """version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ":5000"}
"""


@dataclass(frozen=True)
class Engine:
    """A running engine; ``host`` is what DOCKER_HOST takes."""

    host: str
    folder: Path

    def docker(self, *arguments: str | Path) -> str:
        """Run the docker command against it; return what it prints."""
        done = subprocess.run(
            [find_binary("docker"), "--host", self.host, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"docker {arguments}: {done.stderr}"
        return done.stdout.strip()


@contextmanager
def start_engine(folder: Path) -> Iterator[Engine]:
    """Start dockerd under ``folder``; its containers are removed and it is ended with the block."""
    if os.geteuid() != 0:
        pytest.skip("a Docker engine can be started by root only")
    host = f"unix://{folder}/docker.sock"
    command = [
        find_binary("dockerd"),
        "--data-root",
        folder / "data",
        "--exec-root",
        folder / "exec",
        "--pidfile",
        folder / "pid",
    ]
    command += ["-H", host, "--ip", "127.0.0.1"]
    command += [f"--{it}=false" for it in ("iptables", "ip6tables", "ip-forward", "ip-masq")]
    engine = Engine(host, folder)
    with _bridge() as bridge, (folder / "dockerd.log").open("wb") as log:
        command += ["--bridge", bridge]
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _wait(process, engine)
            yield engine
            for container in engine.docker("ps", "-aq").split():
                engine.docker("rm", "-f", container)
        finally:
            process.terminate()
            process.wait(STOP_LIMIT)


@contextmanager
def _bridge() -> Iterator[str]:
    """Make a bridge that no other engine uses; its network is told apart by the process id."""
    ip, name = find_binary("ip"), f"airgap{os.getpid()}"
    made = subprocess.run([ip, "link", "add", name, "type", "bridge"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no bridge can be made for a Docker engine here: {made.stderr.strip()}")
    try:
        subprocess.run([ip, "address", "add", f"172.31.{os.getpid() % 250}.1/24", "dev", name], check=True)
        subprocess.run([ip, "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run([ip, "link", "delete", name], check=False)


def _wait(process: subprocess.Popen[bytes], engine: Engine) -> None:
    docker = find_binary("docker")
    deadline = time.monotonic() + START_LIMIT
    while subprocess.run([docker, "--host", engine.host, "version"], capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            said = (engine.folder / "dockerd.log").read_text(errors="replace").strip().splitlines()
            pytest.skip(f"no Docker engine starts here: {said[-1] if said else 'no reason given'}")
        time.sleep(0.1)


def import_registry(engine: Engine) -> None:
    """Make the image registry:2 out of Debian's docker-registry and the libraries it needs; nothing is pulled."""
    program = find_binary("docker-registry")
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    rootfs = engine.folder / "registry.tar"
    config = engine.folder / "config.yml"
    config.write_text(CONFIG)
    with tarfile.open(rootfs, "w") as tar:
        for library in re.findall(r"(/\S+\.so\S*)", linked):
            tar.add(Path(library).resolve(), library.lstrip("/"))
        tar.add(program, "bin/registry")
        tar.add(config, "etc/docker/registry/config.yml")
    changes = ['ENTRYPOINT ["/bin/registry"]', 'CMD ["serve","/etc/docker/registry/config.yml"]']
    changes += ["EXPOSE 5000", "VOLUME /var/lib/registry"]
    engine.docker("import", *(word for change in changes for word in ("-c", change)), rootfs, "registry:2")


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine for all tests marked docker; DOCKER_HOST points to it meanwhile."""
    folder = tmp_path_factory.mktemp("engine")
    with start_engine(folder) as engine, pytest.MonkeyPatch.context() as patch:
        for name, value in {**SETTINGS, "DOCKER_HOST": engine.host}.items():
            patch.setenv(name, value)
        yield engine
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def registry2(docker_engine: Engine) -> Iterator[str]:
    """registry:2 in a container, by testcontainers: its host:port on loopback, plain HTTP."""
    from testcontainers.community.registry import DockerRegistryContainer  # noqa: PLC0415 - slow, and only these tests need it

    import_registry(docker_engine)
    with DockerRegistryContainer("registry:2") as container:
        yield container.get_registry()
