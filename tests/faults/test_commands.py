"""Some rows by the command itself, with its own patience: exit codes, one sentence on stderr; and signals in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults import judge
from tests.faults.actions import CutBody, Edit, Rule, Say, Stall
from tests.faults.guards import PASSWORD, SECRETS, USER
from tests.faults.proxy import Faulty, matching
from tests.faults.rows import D3, STORE
from tests.faults.world import Run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Shop

pytestmark = pytest.mark.registry
PATIENCE = 60.0
SESSION = "/uploads/[^?]"


def started(run: Run, *more: str) -> subprocess.Popen[str]:
    """Start airgap push of the run's bundle through the proxy."""
    command = [sys.executable, "-m", "airgap", "push", str(run.path), "--registry", f"{run.host}/{run.prefix}", "--plain-http"]
    environ = {**os.environ, "HOME": str(run.path.parent), "AIRGAP_USERNAME": USER, "AIRGAP_PASSWORD": PASSWORD}
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *more], env=environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def ended(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for it; its code and what it said, in which there is no secret and no traceback."""
    with running:
        out, told = running.communicate(timeout=PATIENCE)
    assert "Traceback" not in told
    assert not [secret for secret in SECRETS if secret in out + told]
    return running.returncode, out, told


def run_for(shop: Shop, proxy: Faulty, prefix: str, tmp_path: Path) -> Run:
    path, made = shop.bundles["big"]
    (tmp_path / "b.tar").hardlink_to(path)
    return Run(proxy.host, prefix, tmp_path / "b.tar", made)


@pytest.mark.parametrize(
    ("rule", "code", "words"),
    [
        (Rule("PUT", SESSION, CutBody(0.5), when=lambda head: head.length > 0), 0, ()),
        (
            Rule("PUT", SESSION, Edit(headers={"Docker-Content-Digest": "sha256:" + "0" * 64}), times=None),
            4,
            ("instead of", "Hint: "),
        ),
        (Rule("POST", "/uploads/", Say(403, "DENIED"), times=None), 3, ("nothing was sent",)),
        (
            Rule("POST", "/uploads/", Say(429, headers={"Retry-After": "86400"}), times=None),
            3,
            ("429", "Hint: it wants no request before"),
        ),
    ],
    ids=["F1e", "F11", "F17b", "F14c"],
)
def test_the_command_ends_with_its_code_and_one_sentence(
    shop: Shop, tmp_path: Path, rule: Rule, code: int, words: tuple[str, ...]
) -> None:
    with Faulty(shop.start(D3)) as proxy:
        run = run_for(shop, proxy, tmp_path.name.lower().replace("_", "-").strip("-"), tmp_path)
        proxy.play(rule)
        found, _, told = ended(started(run))
        assert found == code, told
        errors = [line for line in told.splitlines() if line.startswith("Error: ")]
        assert len(errors) == (1 if code else 0), told
        assert not [word for word in words if word not in told], told
        assert matching([one for one in proxy.seen if one.hurt], ".*", "/")
        proxy.mend()
        assert ended(started(run))[0] == 0
        judge.i1_all_there(judge.witness(shop.start(D3)), run.wanted(), run.estate)
        judge.i2_nothing_finished_again(proxy.seen)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_second_signal_ends_the_command_at_once_though_the_registry_says_nothing(
    shop: Shop, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    with Faulty(shop.start(STORE)) as proxy:
        run = run_for(shop, proxy, f"signal-{sent.name.lower()}", tmp_path)
        proxy.play(Rule("PUT|PATCH", SESSION, Stall(None, seconds=30), times=None))
        running = started(run, "--jobs", "2")
        until = time.monotonic() + PATIENCE
        while not [one for one in proxy.seen if one.hurt] and time.monotonic() < until:
            time.sleep(0.02)
        begun = time.monotonic()
        running.send_signal(sent)
        while running.poll() is None and time.monotonic() - begun < 14:
            time.sleep(1.0)  # pieces under way may end; who has no patience says so again (two that come at once are one)
            if running.poll() is None:
                running.send_signal(sent)
        found, _, told = ended(running)
        assert time.monotonic() - begun < 15
        assert found == code, told
        judge.i1_nothing_wrong(judge.witness(shop.start(STORE)), run.wanted(), run.estate)
        proxy.mend()
        assert ended(started(run))[0] == 0
        judge.i1_all_there(judge.witness(shop.start(STORE)), run.wanted(), run.estate)
        judge.i4_only_beside(tmp_path, "b.tar")
