"""What every test shares: the programs on PATH, the world's fixtures, and an honest list of what did not run."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.terminal import TerminalReporter

pytest_plugins = ("tests.world.fixtures", "tests.world.engine", "tests.cluster.fixtures")

ALLOWED_SKIPS = {
    r"\.\./shared is not beside this checkout": "data of other projects that is not copied into this one",
    r"AIRGAP_REAL_CHARTS is not set": "the real W&B charts are tried by hand; nothing of them is in this checkout",
    r"no loop device can be mounted here": "a disk that fails needs one, and containers often have none",
}
"""Reasons (regular expressions, matched at the start) that are no failure with --strict-skips, and why."""

settings.register_profile(
    "airgap", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=os.environ.get("CI") == "true"
)
settings.load_profile("airgap")
"""How long an example takes says how busy the machine is; CI tries the same examples each time."""

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""A shell's background job and nohup ignore these, and so would every command that a test starts, and then interrupts."""

SKIPS = pytest.StashKey[Counter[str]]()

TOOLS = Path(
    os.environ.get("AIRGAP_TOOLS") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airgap/tools"
)
os.environ["PATH"] = os.pathsep.join((os.environ["PATH"], str(TOOLS), "/usr/sbin", "/sbin"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strict-skips", action="store_true", help="fail when a test is skipped for a reason that is not allowed")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPS] = Counter()


class Listener:
    """Collects skips; under xdist the reports of all workers arrive at the controller."""

    def __init__(self, skips: Counter[str]) -> None:
        self.skips = skips

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            self.skips[report.longrepr[2].removeprefix("Skipped: ")] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Listener(session.config.stash[SKIPS]))


def refused(skips: Counter[str]) -> Iterator[str]:
    """Yield the reasons for which nothing should have been skipped."""
    return (reason for reason in skips if not any(re.match(allowed, reason) for allowed in ALLOWED_SKIPS))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    skips = session.config.stash[SKIPS]
    if session.config.getoption("--strict-skips") and any(refused(skips)) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    skips = config.stash[SKIPS]
    if not skips:
        return
    terminalreporter.section("what did not run, and why")
    strict = config.getoption("--strict-skips")
    for reason, count in sorted(skips.items()):
        mark = "  <- not allowed: this machine could have run it" if strict and reason in set(refused(skips)) else ""
        terminalreporter.write_line(f"{count:4} test(s): {reason}{mark}")
