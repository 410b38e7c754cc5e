"""kill -9 at random moments, with real registries: a rerun moves again no more than it must, and the digests are right."""

from __future__ import annotations

import functools
import json
import os
import random
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from airgap.bundle import BundleReader
from airgap.layout import verified
from airgap.lock import LockedArtifact
from tests.bundle.estate import Estate, bundle
from tests.fetch.conftest import connect, fill
from tests.world.registries import start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.conftest import Relay

pytestmark = pytest.mark.registry
MB = 1_000_000
KINDS = {"distribution2": start_docker_registry, "distribution3": start_distribution3}
SIZES = [pytest.param(90, 45, id="90MB"), pytest.param(300, 100, id="300MB", marks=pytest.mark.slow)]
"""Megabytes of the layer, and megabytes per second."""
LIMIT = 60.0
NOTE = re.compile(rb"\nsha256:[0-9a-f]{64} [0-9]{6,}\n")
"""A journal's line about a blob that was begun."""
HEADERS = MB // 5
"""Bytes of requests and answers beside the blobs."""


def make(size: int) -> Estate:
    chance, estate = random.Random(size), Estate()  # noqa: S311  # bytes, no secret
    layer = b"".join(chance.randbytes(MB) for _ in range(size))
    estate.image("docker.io/big/layer:1", layer)
    estate.image("docker.io/big/small:1", chance.randbytes(3 * MB))
    return estate


def started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + LIMIT
    while not condition() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)


def passed(counted: Relay, count: int) -> bool:
    return counted.down > count


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "speed"), SIZES)
def test_a_push_that_is_killed_goes_on_where_it_was(tmp_path, relay, kind, size, speed):
    estate = make(size)
    path, total = bundle(estate, tmp_path / "wandb.tar"), sum(map(len, estate.contents.values()))
    with KINDS[kind](tmp_path) as registry:
        counted: Relay = relay(registry.port)
        command = [sys.executable, "-m", "airgap", "push", str(path), "--registry", f"{counted.host}/m", "--plain-http"]
        command += ["--limit-rate", f"{speed}MB", "-o", "json"]
        moment = random.randrange(5 * MB, total - 5 * MB)  # noqa: S311
        process = started(command)
        until(lambda: counted.up > moment, process)
        kill(process)
        again = subprocess.run(command, check=True, capture_output=True, text=True)
        told = json.loads(again.stdout)
        assert counted.up <= total + HEADERS, f"killed at {moment}: {told}"
        assert told["keptBytes"] + told["sentBytes"] <= total
        assert not list(tmp_path.glob("*.journal"))
        arrived(estate, registry.host, "m/docker.io/big")


def arrived(estate: Estate, host: str, prefix: str) -> None:
    """Check every blob of the registry, digest by digest."""
    registry = connect(host)
    for image in estate.images:
        repository = f"{prefix}/{image.reference.repository.rpartition('/')[2]}"
        assert registry.get_manifest(repository, "1").descriptor.digest == image.digest
        for blob in image.tree.blobs:
            for _ in verified(registry.stream_blob(repository, blob), blob, "what arrived"):
                pass


@pytest.mark.parametrize(("size", "speed"), SIZES)
def test_a_mirror_that_is_killed_goes_on_inside_its_blob(tmp_path, relay, size, speed):
    estate = make(size)
    folder = tmp_path / "contents"
    folder.mkdir()
    for artifact in estate.artifacts:
        assert isinstance(artifact, LockedArtifact)
    lock = tmp_path / "lock"
    lock.write_bytes(estate.lock.to_bytes())
    total = sum(blob.size for blob in estate.lock.blobs().values())
    with start_docker_registry(tmp_path) as registry:
        fill(estate, connect(registry.host))
        counted: Relay = relay(registry.port)
        path = tmp_path / "wandb.tar"
        arguments = [counted.host, str(path), str(lock), str(folder), str(speed * MB)]
        command = [sys.executable, "-m", "tests.engine.child", *arguments]
        for _ in range(3):
            before, moment = counted.down, random.randrange(5 * MB, total // 3)  # noqa: S311
            process = started(command)
            until(functools.partial(passed, counted, before + moment), process)
            kill(process)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        told = json.loads(done.stdout)
        # Each kill costs what was on its way and what the journal had not heard of: 1 MiB or a second for each job.
        assert counted.down <= total + 3 * 3 * (speed // 10 + 6) * MB, told
        assert told["resumed"] > 0
        with BundleReader.open(path) as made:
            assert made.verify()
    clean = bundle(estate, tmp_path / "clean.tar")
    assert path.read_bytes() == clean.read_bytes()


def test_what_was_written_and_never_reached_the_disk_is_fetched_again(tmp_path):
    """A power cut: the journal is there, the bytes are not."""
    estate = make(9)
    lock, path = tmp_path / "lock", tmp_path / "wandb.tar"
    lock.write_bytes(estate.lock.to_bytes())
    folder: Path = tmp_path / "none"
    folder.mkdir()
    with start_docker_registry(tmp_path) as registry:
        fill(estate, connect(registry.host))
        command = [sys.executable, "-m", "tests.engine.child", registry.host, str(path), str(lock), str(folder)]
        process = started([*command, str(3 * MB)])
        journal = tmp_path / "wandb.tar.partial.journal"
        until(lambda: journal.exists() and NOTE.search(journal.read_bytes()) is not None, process)
        kill(process)
        partial = tmp_path / "wandb.tar.partial"
        size = partial.stat().st_size
        os.truncate(partial, 0)
        os.truncate(partial, size)
        done = subprocess.run([*command, str(1000 * MB)], check=True, capture_output=True, text=True)
        assert json.loads(done.stdout)["resumed"] > 0
        with BundleReader.open(path) as made:
            assert made.verify()
