"""The two registries of the demonstration: ``airgap serve`` as a process of its own, started and ended here.

Invariants: it listens on a free port of loopback; leaving the block ends the process by its handle; what it says lies in a log
beside its store, and its last line is told when it does not start.
"""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airgap.demo.web import LOOPBACK
from airgap.errors import AirgapError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_LIMIT = 30.0
"""Seconds until the registry must listen; it takes half a second."""
STOP_LIMIT = 10.0
"""Seconds between asking it to end and killing it."""
_PAUSE = 0.05


def free_host() -> str:
    """Return HOST:PORT on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return f"{LOOPBACK}:{probe.getsockname()[1]}"


@contextmanager
def registry(command: Sequence[str], directory: Path, host: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Run ``command``, which listens on ``host``, for the length of the block; raises AirgapError when it does not start."""
    log = directory / f"registry-{host.rpartition(':')[2]}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, host, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    name, _, port = host.rpartition(":")
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((name, int(port)), timeout=1).close()
        except OSError:
            time.sleep(_PAUSE)
        else:
            return
    said = log.read_text(errors="replace").strip().splitlines()
    raise AirgapError(f"the registry at {host} did not start: {said[-1] if said else 'it said nothing'}")
