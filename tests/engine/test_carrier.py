"""A push ends its pieces however its command ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

LIMIT = 60.0


def begin(path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "tests.engine.carried", str(path)], stderr=subprocess.DEVNULL)
    wait_for(path, "begun 0")
    return process


def wait_for(path, text: str) -> None:
    limit = time.monotonic() + LIMIT
    while not path.exists() or path.read_text() != text:
        assert time.monotonic() < limit, path.read_text() if path.exists() else "nothing"
        time.sleep(0.02)


def test_the_exit_code_is_the_childs(tmp_path):
    assert begin(tmp_path / "log").wait(LIMIT) == 7


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_piece_is_ended_and_no_other_begun(tmp_path, signum):
    path = tmp_path / "log"
    process = begin(path)
    process.send_signal(signum)
    code = process.wait(LIMIT)
    wait_for(path, "ended 0")
    time.sleep(1)
    assert path.read_text() == "ended 0"
    if signum == signal.SIGTERM:
        assert code == 143
