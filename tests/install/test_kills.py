"""``kill -9`` at random moments of an install and of an upgrade: the same command finishes it, and nothing tells of it."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airgap.standing import differences
from tests.install.killing import kill, moments, outcome, timed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Bundles, Site
    from tests.install.killing import Kill

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]

KILLS = int(os.environ.get("AIRGAP_TEST_KILLS", "4"))
"""Kills in all, half of them in a first install, half in an upgrade; 20 by hand."""
SEED = int(os.environ.get("AIRGAP_TEST_SEED") or random.SystemRandom().randrange(10**6))
LIMIT = 240 + 150 * KILLS
"""Seconds for a test of so many rounds on a busy machine."""


def anew(site: Site, number: int) -> None:
    """Let the site be an empty cluster and an empty place in the registry."""
    site.remove()
    site.namespace, site.prefix = f"killed-site-{number}-{SEED}", f"place-{number}-{SEED}"


def finish(site: Site, bundle: Path, planned: Kill) -> Kill:
    """Kill an install, then finish it by the same command."""
    happened = kill(site, bundle, planned)
    began = time.monotonic()
    done = site.run("install", bundle, "--timeout", "120s", "-o", "json")
    happened = replace(happened, again=time.monotonic() - began)
    assert done.returncode == 0, f"seed {SEED}: {happened}\n{done.stderr[-4000:]}"
    assert happened.code in (-signal.SIGKILL, 0), f"seed {SEED}: {happened}\n{happened.said}"
    return happened


def left_behind(site: Site) -> list[str]:
    """What a killed command could leave on the host: journals of pushes, and scratch files."""
    cache = site.folder.parent / "cache"
    return sorted(str(it.relative_to(cache)) for it in cache.rglob("*") if it.is_file() and "journal" in it.name)


def rounds(site: Site, before: Path | None, bundle: Path) -> list[str]:
    """Kill half of KILLS times; ``before`` is what is installed first."""
    anew(site, 0)
    if before:
        site.install(before)
    whole = timed(site, bundle)
    wanted = outcome(site)
    told = []
    for number, planned in enumerate(moments(random.Random(SEED), max(1, KILLS // 2), whole), 1):  # noqa: S311 - moments
        anew(site, number)
        if before:
            site.install(before)
        happened = finish(site, bundle, planned)
        told.append(str(happened))
        print(f"undisturbed {whole:.1f} s; {happened}")
        assert [*differences(wanted, outcome(site))] == [], f"seed {SEED}: {happened}"
        assert left_behind(site) == []
    return told


@pytest.mark.timeout(LIMIT)
def test_a_first_install_that_is_killed_is_finished_by_the_same_command(site: Site, bundles: Bundles) -> None:
    told = rounds(site, None, bundles.new)
    assert any("killed" in it for it in told), told


@pytest.mark.timeout(LIMIT)
def test_an_upgrade_that_is_killed_is_finished_by_the_same_command(site: Site, bundles: Bundles) -> None:
    told = rounds(site, bundles.old, bundles.new)
    assert any("killed" in it for it in told), told
