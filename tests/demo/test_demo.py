"""``airgap demo`` as a user runs it, once; then a look at what it said and what it left."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from airgap.demo.run import disconnected
from airgap.demo.servers import free_host, registry
from airgap.demo.steps import inside, outside, store
from airgap.errors import NotClosedError
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.helm, pytest.mark.slow]

LIMIT = 300.0
"""Seconds for the whole demonstration; alone on two cores it takes a tenth of that."""


@dataclass(frozen=True)
class Played:
    folder: Path
    code: int
    said: str
    beside: str

    @property
    def commands(self) -> list[list[str]]:
        return [shlex.split(line[2:].removesuffix(" &")) for line in self.said.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = subprocess.run(
        [sys.executable, "-m", "airgap", "demo", "--keep", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env={**os.environ, "AIRGAP_HELM": find_binary("helm")},
    )
    return Played(folder, done.returncode, done.stdout, done.stderr)


def test_the_demonstration_ends_with_a_closed_verdict(played: Played) -> None:
    assert played.code == 0, played.said + played.beside
    assert played.said.rstrip().endswith("# Verdict: closed.")


def test_every_command_is_printed_as_a_user_types_it(played: Played) -> None:
    host = next(word for word in played.commands[len(outside())] if word.startswith("127.0.0.1:"))
    expected = [*outside(), store("registry", host, inside=True), *inside(host)]
    assert played.commands == [shlex.split(step.shown) for step in expected]


def test_the_second_push_sends_nothing(played: Played) -> None:
    first, second = re.findall(r"sent (\d+) \(", played.said)
    assert int(first) > 0
    assert int(second) == 0


def test_no_server_is_left_behind(played: Played) -> None:
    logs = list(played.folder.glob("registry-*.log"))
    assert len(logs) == 2
    for log in logs:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(log.stem.partition("-")[2])), timeout=5)


def test_the_verdict_is_no_matter_of_course(played: Played) -> None:
    """The same bundle and registry, but a site that names no mail server: its mail would leave."""
    lines = (played.folder / "values.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.strip().startswith(("email:", "smtp:"))]
    assert len(kept) == len(lines) - 2
    (played.folder / "no-mail.yaml").write_text("\n".join(kept))
    environment, host = disconnected(os.environ, played.folder), free_host()
    audit = inside(host)[-1].command
    audit = tuple("no-mail.yaml" if word == "values.yaml" else word for word in audit)
    with registry(store("registry", host, inside=True).command, played.folder, host, environment):
        done = subprocess.run(
            audit, cwd=played.folder, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
        )
    assert done.returncode == NotClosedError.exit_code, done.stdout + done.stderr
    assert "api.wandb.ai" in done.stdout + done.stderr
