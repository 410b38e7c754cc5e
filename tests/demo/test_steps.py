from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from airgap.demo.run import connected, disconnected
from airgap.demo.servers import free_host, registry
from airgap.demo.steps import inside, outside, store
from airgap.errors import AirgapError

if TYPE_CHECKING:
    from pathlib import Path

LISTENER = """
import socket, sys
host, port = sys.argv[1].split(":")
with socket.create_server((host, int(port))) as server:
    while True:
        server.accept()[0].close()
"""


def test_what_is_printed_is_what_runs() -> None:
    for step in (*outside(), *inside("127.0.0.1:1"), store("registry", "127.0.0.1:1", inside=True)):
        shown, command = shlex.split(step.shown), list(step.command)
        assert command[0] == sys.executable
        if shown[0] == "airgap":
            assert command[1:] == ["-m", "airgap", *shown[1:]]
        else:
            assert ["python3", *command[1:]] == shown


def test_the_first_half_makes_the_bundle_and_the_second_runs_out_of_it() -> None:
    assert [step.arguments[0] for step in outside()] == ["plan", "plan", "mirror", "verify", "inspect"]
    assert [step.arguments[0] for step in inside("h:1")] == ["push", "push", "render", "audit"]
    assert not any(step.inside for step in outside())
    assert all(step.shown.startswith("python3 wandb.tar ") for step in inside("h:1"))


def test_outside_the_users_settings_of_airgap_take_no_part_but_where_helm_is() -> None:
    environment = connected({"AIRGAP_HELM": "/helm", "AIRGAP_REGISTRY": "elsewhere", "PATH": "/bin", "PYTHONPATH": "/mine"})
    assert environment["AIRGAP_HELM"] == "/helm"
    assert "AIRGAP_REGISTRY" not in environment
    assert environment["PYTHONPATH"].endswith(f"{os.pathsep}/mine")
    assert environment["NO_PROXY"] == "127.0.0.1"


def test_inside_there_is_no_other_airgap_no_other_helm_and_no_proxy(tmp_path: Path) -> None:
    user = {"AIRGAP_HELM": "/helm", "PATH": "/home/me/bin", "PYTHONPATH": "/mine", "https_proxy": "http://p", "LANG": "C"}
    assert disconnected(user, tmp_path) == {"LANG": "C", "PATH": os.defpath, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_a_registry_lives_as_long_as_the_block(tmp_path: Path) -> None:
    host = free_host()
    command = [sys.executable, "-c", LISTENER, host]
    with registry(command, tmp_path, host, os.environ):
        pass
    with (
        pytest.raises(RuntimeError, match="in the block"),
        registry(command, tmp_path, host, os.environ),
    ):  # the port is free again
        raise RuntimeError("in the block")


def test_a_registry_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('warming up', flush=True); raise SystemExit('no room in the inn')"]
    with pytest.raises(AirgapError, match="did not start: no room in the inn"), registry(command, tmp_path, free_host(), {}):
        pass
