"""Whatever ends a run before its time: what is left is nothing, or what the same command finishes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import PYTHONS, Bare, Done, Steps, logs, refused, served, since, well

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.world.fixtures import World

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]

PATIENCE = 60.0
"""Seconds that a test waits for something that takes one."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def start(world: World, folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start airgap in the connected half; its process is the one that is given (nsenter becomes it). It ends with the block."""
    command = world.namespace.command((sys.executable, "-m", "airgap", *arguments), folder)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=world.environ, stdout=pipe, stderr=pipe, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def begun(running: subprocess.Popen[str], lines: int) -> None:
    """Wait until so many lines of progress were seen."""
    assert running.stderr
    for _ in range(lines):
        assert running.stderr.readline(), "it ended before it was to be interrupted"


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def folder(crossing: Steps, tmp_path: Path) -> Path:
    """A folder with the lock."""
    shutil.copy(crossing.lock, tmp_path)
    return tmp_path


MIRROR = ("mirror", "again.tar", "--lock", "airgap.lock")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_after_kill_9_the_same_command_finishes_and_fetches_no_finished_blob_again(
    world: World, crossing: Steps, folder: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - moments, not secrets
    before = logs(world)
    for _ in range(2):
        with start(world, folder, *MIRROR, "--jobs", "1") as running:
            begun(running, chance.randrange(2, 24))
            time.sleep(chance.random() / 50)
            running.kill()
        assert running.returncode == -signal.SIGKILL
        assert "again.tar" not in left(folder), "no bundle has its name before it is whole"
    well(world.run("airgap", *MIRROR, folder=folder))
    assert digest(folder / "again.tar") == digest(crossing.bundle)
    assert left(folder) == {"airgap.lock", "again.tar"}
    again = {path: times for path, times in served(since(world, before)).items() if times > 1}
    # What was under way when it was killed may be asked for again: with one job that is one blob a kill.
    assert sum(times - 1 for times in again.values()) <= 2, again


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_mirror_with_its_code_and_the_same_command_finishes(
    world: World, crossing: Steps, folder: Path, sent: signal.Signals, code: int
) -> None:
    with start(world, folder, *MIRROR, "--jobs", "1") as running:
        begun(running, 5)
        running.send_signal(sent)
        _, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == code, told
    assert "Traceback" not in told
    assert "again.tar" not in left(folder)
    assert "again.tar.partial.journal" in left(folder)
    well(world.run("airgap", *MIRROR, folder=folder))
    assert digest(folder / "again.tar") == digest(crossing.bundle)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_plan_and_leaves_no_helm_and_no_lock(
    world: World, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    with start(world, tmp_path, "plan") as running:
        begun(running, 1)
        time.sleep(0.2)
        running.send_signal(sent)
        _, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == code, told
    assert "Traceback" not in told
    assert left(tmp_path) == set()


def test_a_bundle_that_was_begun_with_another_lock_is_not_mixed_up(world: World, crossing: Steps, folder: Path) -> None:
    with start(world, folder, *MIRROR, "--jobs", "1") as running:
        begun(running, 5)
    text = (folder / "airgap.lock").read_text()
    assert '"name":"wandb"' in text
    (folder / "other.lock").write_text(text.replace('"name":"wandb"', '"name":"other"'))
    done = world.run("airgap", "mirror", "again.tar", "--lock", "other.lock", folder=folder)
    if done.returncode:
        refused(done, 2, "again.tar")
    else:
        assert well(world.run("airgap", "inspect", "again.tar", folder=folder)).stdout.startswith("bundle     other")


def test_two_runs_on_the_same_bundle_are_not_both_let_in(world: World, crossing: Steps, folder: Path) -> None:
    with start(world, folder, *MIRROR, "--jobs", "1") as first:
        begun(first, 3)
        first.send_signal(signal.SIGSTOP)
        second = world.run("airgap", *MIRROR, folder=folder)
        first.send_signal(signal.SIGCONT)
        refused(second, 1, "another run is writing the same bundle, again.tar", str(first.pid), "Hint: wait for it")
        _, said = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, said
    assert digest(folder / "again.tar") == digest(crossing.bundle)


def test_a_second_run_on_a_whole_bundle_fetches_nothing(world: World, crossing: Steps, folder: Path) -> None:
    os.link(crossing.bundle, folder / "again.tar")
    before = logs(world)
    assert "was whole already" in well(world.run("airgap", *MIRROR, folder=folder)).stdout
    assert served(since(world, before)) == {}


@pytest.mark.slow
def test_the_same_lock_gives_the_same_bytes_with_any_number_of_jobs_and_twice(
    world: World, crossing: Steps, folder: Path
) -> None:
    for jobs in ("1", "7"):
        well(world.run("airgap", "mirror", f"{jobs}.tar", "--lock", "airgap.lock", "--jobs", jobs, folder=folder))
        assert digest(folder / f"{jobs}.tar") == digest(crossing.bundle)
    well(world.run("airgap", "plan", "--lock", "second.lock", folder=folder))
    assert (folder / "second.lock").read_bytes() == crossing.lock.read_bytes()


VALIDATOR = '''"""Stands in for jsonschema, whose compiled parts are of one Python: and the manifest was checked before."""


class Draft202012Validator:
    def __init__(self, schema):
        pass

    def iter_errors(self, data):
        return ()
'''


@pytest.mark.slow
@pytest.mark.parametrize("version", [it for it in PYTHONS if it != f"3.{sys.version_info[1]}"])
def test_the_same_lock_gives_the_same_bytes_on_another_python(
    world: World, crossing: Steps, folder: Path, version: str
) -> None:
    import airgap  # noqa: PLC0415 - where it lies is all that is asked

    stand_in = folder / "path"
    stand_in.mkdir()
    (stand_in / "jsonschema.py").write_text(VALIDATOR)
    packages = [stand_in, *dict.fromkeys([str(pathed) for pathed in (airgap.__path__[0] + "/..", *sys.path) if pathed])]
    paths = os.pathsep.join(str(it) for it in packages if "lib-dynload" not in str(it) and not str(it).endswith(STDLIB))
    command = (PYTHONS[version], "-m", "airgap", *MIRROR)
    well(world.run(*command, folder=folder, env={"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}))
    assert digest(folder / "again.tar") == digest(crossing.bundle)


STDLIB = (f"python3.{sys.version_info[1]}", f"python3{sys.version_info[1]}.zip")
"""Ends of the paths of this Python's own library, which another one must not see."""


# -- inside ------------------------------------------------------------------------------------------------------------------


def test_whoever_reads_only_the_beginning_of_what_is_printed_sees_no_error(bare: Bare) -> None:
    for verb in ("inspect", "verify"):
        line = f'"{bare.python}" -I -S wandb.tar {verb} wandb.tar | head -n 1; echo "code ${{PIPESTATUS[0]}}"'
        done = bare.half.run("bash", "-c", line, folder=bare.bundle.parent)
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr
        assert done.stdout.splitlines()[-1] in {"code 0", "code 141"}


def interrupted_push(bare: Bare, prefix: str, sent: signal.Signals) -> tuple[int, str]:
    environ = {"HOME": str(bare.home), "PATH": "/usr/bin:/bin", "REGISTRY_AUTH_FILE": str(bare.half.auth_file)}
    command = [bare.python, "-I", "-S", str(bare.bundle), "push", str(bare.bundle), *bare.at(prefix), "--jobs", "1"]
    entered = bare.half.namespace.command(command, bare.bundle.parent)
    with subprocess.Popen(entered, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        begun(running, 8)
        running.send_signal(sent)
        _, told = running.communicate(timeout=PATIENCE)
    return running.returncode, told


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_push_has_left_no_tag_and_the_next_one_sends_what_is_missing(
    bare: Bare, sent: signal.Signals, code: int
) -> None:
    prefix = f"half-{sent.name.lower()}"
    found, told = interrupted_push(bare, prefix, sent)
    assert found == code, told
    assert "Traceback" not in told
    repositories = bare.half.storage / "docker/registry/v2/repositories" / prefix
    assert list(repositories.rglob("_manifests/tags/*")) == [], "tags come last"
    done: Done = well(bare.signed_in("push", "wandb.tar", prefix=prefix))
    assert "already there 0" not in done.stdout
    assert len(list(repositories.rglob("_manifests/tags/*"))) > 10
