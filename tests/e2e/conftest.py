"""The story so far, for tests that begin in the middle of it: a lock and a bundle, a filled registry, a rendered site.

Each is made once per worker, by the command line, and is only read by tests: who changes something takes a copy, or a prefix
of his own in the private registry. Outside, airgap is the checkout's; inside, it is the bundle itself in an empty environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundle.test_installer import pythons
from tests.world.fixtures import DEMO, Inside, World
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Mapping

PYTHONS = pythons()
OLDEST = min(PYTHONS, key=lambda version: int(version.partition(".")[2]))
PREFIX = "wandb"
"""Where the story's own bundle is pushed to; tests that push something else take another."""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Steps:
    """What the connected side did: its commands' results, and what upstream was asked meanwhile."""

    lock: Path
    bundle: Path
    planned: Done
    mirrored: Done
    plan_log: Mapping[str, str]
    mirror_log: Mapping[str, str]
    tokens: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class Bare:
    """A host inside with python3, the bundle and nothing else: no package, no helm, no setting."""

    half: Inside
    bundle: Path
    home: Path
    python: str = PYTHONS[OLDEST]

    def run(self, *arguments: str | Path, text: str = "", env: Mapping[str, str] | None = None) -> Done:
        """Run the bundle with these arguments, in the folder where it lies."""
        settings = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", **(env or {})}
        environ = [f"{name}={value}" for name, value in settings.items()]
        command = ["env", "-i", *environ, self.python, "-I", "-S", self.bundle, *arguments]
        return self.half.run(*command, folder=self.bundle.parent, text=text)

    def at(self, prefix: str = PREFIX) -> tuple[str, ...]:
        """Return the options that name the private registry."""
        return ("--registry", f"{self.half.registry}/{prefix}", "--ca-file", str(self.half.ca_file))

    def signed_in(self, *arguments: str | Path, prefix: str = PREFIX) -> Done:
        """Run the bundle against the registry, the password on standard input."""
        user = ("--username", self.half.username, "--password-stdin")
        return self.run(*arguments, *self.at(prefix), *user, text=self.half.password + "\n")


def well(done: Done) -> Done:
    """Return ``done`` if it ended well."""
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def refused(done: Done, code: int, *words: str) -> str:
    """Return the one sentence with which a command refused: the right exit code, these words in it, no traceback."""
    assert done.returncode == code, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.stderr
    told = done.stderr[done.stderr.index("Error: ") :]
    assert [word for word in words if word not in told] == [], told
    return told


def served(log: Mapping[str, str], kind: str = "blobs") -> Counter[str]:
    """Return how often each blob (or manifest) was handed out whole by a registry, from the access logs by host."""
    lines = [f"{host} {line}" for host, text in log.items() for line in text.splitlines()]
    asked = [line for line in lines if f"/{kind}/" in line and '"GET /v2/' in line and '" 200 ' in line]
    return Counter(line.partition(" ")[0] + line.partition('"GET ')[2].partition(" ")[0] for line in asked)


def logs(world: World) -> dict[str, int]:
    """Return how long each registry's log is by now."""
    return {host: len(world.registry_log(host)) for host in {picture.host for picture in world.pictures}}


def since(world: World, start: Mapping[str, int]) -> dict[str, str]:
    """Return what each registry has logged since ``start``."""
    return {host: world.registry_log(host)[size:] for host, size in start.items()}


def values(folder: Path) -> Path:
    """Put the values of a site into ``folder``."""
    return Path(shutil.copy(DEMO / "values.yaml", folder / "user.yaml"))


@pytest.fixture(scope="session")
def crossing(world: World, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """The connected side, once: the default manifest, unedited; plan, then mirror of exactly that."""
    find_binary("helm")
    folder = tmp_path_factory.mktemp("crossing")
    tokens, start = len(world.tokens), logs(world)
    planned = well(world.run("airgap", "plan", folder=folder))
    asked, plan_log = world.tokens[tokens:], since(world, start)
    start = logs(world)
    mirrored = well(world.run("airgap", "mirror", "wandb.tar", "--lock", "airgap.lock", folder=folder))
    return Steps(folder / "airgap.lock", folder / "wandb.tar", planned, mirrored, plan_log, since(world, start), asked)


@pytest.fixture(scope="session")
def bare(crossing: Steps, inside: Inside, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The disconnected side before anything is done."""
    folder = tmp_path_factory.mktemp("medium")
    os.link(crossing.bundle, folder / "wandb.tar")
    values(folder)
    return Bare(inside, folder / "wandb.tar", tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def pushed(bare: Bare) -> Done:
    """The push into the private registry."""
    return well(bare.signed_in("push", "wandb.tar"))


@pytest.fixture(scope="session")
def site(bare: Bare, pushed: Done) -> Path:
    """The rendered folder; the values are the demo's."""
    well(bare.signed_in("render", "wandb.tar", "--values", "user.yaml", "--dir", "site"))
    return bare.bundle.parent / "site"
