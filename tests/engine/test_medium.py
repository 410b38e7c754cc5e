"""The medium fails in the middle of a push (F39): the file shrinks, or a disk gives no more bytes; the next run finishes."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from airgap.fetch import mirror
from tests.bundle.estate import Estate, bundle
from tests.engine.conftest import Relay
from tests.engine.test_killed import arrived
from tests.world.registries import find_binary, start_distribution3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.registry
MIB = 1024 * 1024
RATE = "6M"
PATIENCE = 60.0
"""Seconds for what takes two or three."""


def estate(size: int = 4) -> Estate:
    """Three layers of ``size`` MiB each, so that some are finished when the medium goes."""
    made, chance = Estate(), random.Random(7)  # noqa: S311  # bytes
    for number in range(3):
        made.image(f"docker.io/big/app{number}:1", b"".join(chance.randbytes(MIB) for _ in range(size)))
    return made


def push(path: Path, host: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "airgap", "push", str(path), "--registry", f"{host}/m", "--plain-http", "--jobs", "1", *more]


def after(counted: Relay, size: int, process: subprocess.Popen[str]) -> None:
    """Wait until ``size`` bytes went to the registry."""
    limit = time.monotonic() + PATIENCE
    while counted.up < size and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    """What it said on stderr, once it has ended."""
    _, told = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in told
    return told


def test_a_bundle_that_gets_shorter_in_the_middle_of_a_push_is_named(tmp_path, relay: Callable[[int], Relay]):
    made = estate()
    path = bundle(made, tmp_path / "b.tar")
    whole = path.read_bytes()
    with start_distribution3(tmp_path) as registry:
        counted = relay(registry.port)
        pipe = subprocess.PIPE
        process = subprocess.Popen([*push(path, counted.host, "--limit-rate", RATE)], stdout=pipe, stderr=pipe, text=True)
        after(counted, 6 * MIB, process)
        os.truncate(path, 64 * 1024)
        told = ended(process)
        assert process.returncode == 4, told
        assert "b.tar" in told
        assert "Hint:" in told
        path.write_bytes(whole)
        before = counted.up
        subprocess.run(push(path, counted.host), check=True, capture_output=True)
        assert counted.up - before < 10 * MIB, "what was pushed stays pushed"
        arrived(made, registry.host, "m/docker.io/big")


SCRIPT = """
set -e
mount -o loop,ro,noload "$1" "$2"
shift 2
exec "$@"
"""
"""$1 the image, $2 where to mount it, then the command. The mount is in a namespace of its own and ends with it."""


def disk(folder: Path, files: list[Path]) -> Path:
    """Return the image of a disk with ``files`` on it."""
    content = folder / "content"
    content.mkdir()
    for file in files:
        shutil.move(file, content)
    image = folder / "disk.img"
    image.touch()
    os.truncate(image, sum(it.stat().st_size for it in content.iterdir()) + 16 * MIB)
    subprocess.run([find_binary("mkfs.ext4"), "-q", "-d", content, image], check=True, capture_output=True)
    shutil.rmtree(content)
    return image


@contextmanager
def mounted(image: Path, where: Path, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command that sees the disk at ``where``; skip where that may not be done."""
    where.mkdir(exist_ok=True)
    unshare = [find_binary("unshare"), "--mount"]
    look = subprocess.run(
        [*unshare, "sh", "-c", SCRIPT, "sh", image, where, "true"], capture_output=True, text=True, check=False
    )
    if look.returncode:
        pytest.skip(f"no loop device can be mounted here: {look.stderr.strip()[-200:]}")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*unshare, "sh", "-c", SCRIPT, "sh", str(image), str(where), *command], stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.netns
@pytest.mark.parametrize("split", [None, 5 * MIB], ids=["one file", "volumes"])
def test_a_disk_that_fails_in_the_middle_of_a_push_is_named_with_the_byte(tmp_path, relay: Callable[[int], Relay], split):
    """A real disk with a real error: the rest of the device is gone."""
    made = estate()
    path = tmp_path / "b.tar"
    mirror(made.lock, made, path, split=split)
    image = disk(tmp_path, sorted(tmp_path.glob("b.tar*")))
    where = tmp_path / "mnt"
    whole = image.stat().st_size
    saved = shutil.copy(image, tmp_path / "saved.img")
    with start_distribution3(tmp_path) as registry:
        counted = relay(registry.port)
        with mounted(image, where, push(where / "b.tar", counted.host, "--limit-rate", RATE)) as process:
            after(counted, 6 * MIB, process)
            os.truncate(image, MIB)
            told = ended(process)
        assert process.returncode == 1, told
        name = r"volume \d of 3, \S*b\.tar\.00\d," if split else r"b\.tar"
        assert re.search(rf"{name} cannot be read at byte \d+: Input/output error", told), told
        assert "medium" in told
        assert image.stat().st_size < whole
        shutil.copy(saved, image)
        before = counted.up
        with mounted(image, where, push(where / "b.tar", counted.host)) as process:
            ended(process)
        assert process.returncode == 0
        assert counted.up - before < 10 * MIB, "what was pushed stays pushed"
        arrived(made, registry.host, "m/docker.io/big")


class Holding(Relay):
    """Takes so many bytes and then no more until it is told to: what sends by the kernel has to wait."""

    def __init__(self, port: int, size: int) -> None:
        self.size, self.go = size, threading.Event()
        super().__init__(port)

    def _pump(self, source: socket.socket, target: socket.socket, name: str) -> None:
        with suppress(OSError):
            while data := source.recv(64 * 1024):
                setattr(self, name, getattr(self, name) + len(data))
                target.sendall(data)
                if name == "up" and self.up > self.size:
                    self.go.wait(PATIENCE)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.mark.netns
def test_a_disk_that_fails_is_named_where_the_kernel_sends_from_it_too(tmp_path):
    """Without a rate the kernel reads the file (sendfile), and says no more than that it could not."""
    made = estate(24)
    image = disk(tmp_path, [bundle(made, tmp_path / "b.tar")])
    where = tmp_path / "mnt"
    with (
        start_distribution3(tmp_path) as registry,
        closing(Holding(registry.port, 4 * MIB)) as counted,
        mounted(image, where, push(where / "b.tar", counted.host)) as process,
    ):
        after(counted, 4 * MIB, process)
        os.truncate(image, 16 * MIB)
        counted.go.set()
        told = ended(process)
    assert process.returncode == 1, told
    assert re.search(r"b\.tar cannot be read at byte \d+: Input/output error", told), told
