"""mirror --split and --volume as a user types them, against upstreams that are real; then the volumes inside."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from airgap.bundle import arrange
from airgap.bundle.label import tail_size
from airgap.lock import Lock
from tests.e2e.conftest import Bare, Steps, bare, crossing, logs, refused, served, since, well  # noqa: F401 - fixtures
from tests.e2e.test_interrupted import begun, folder, start  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.fixtures import World

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]


def cut(lock: Path, count: int) -> tuple[int, int]:
    """Return a --split that makes ``count`` volumes of a lock's bundle, and how much of each is tail."""
    arrangement = arrange(Lock.from_bytes(lock.read_bytes()))
    behind = tail_size(arrangement)
    return -(-arrangement.tar_size // count) + behind, behind


@pytest.mark.slow
def test_a_split_mirror_holds_the_same_bytes_and_one_volume_is_made_again(
    world: World,
    crossing: Steps,  # noqa: F811
    folder: Path,  # noqa: F811
) -> None:
    size, behind = cut(crossing.lock, 5)
    mirror = ("mirror", "again.tar", "--lock", "airgap.lock", "--split", str(size))
    with start(world, folder, *mirror, "--jobs", "1") as running:
        begun(running, 8)
        running.send_signal(signal.SIGKILL)
    assert not list(folder.glob("again.tar.0*"))
    done = well(world.run("airgap", *mirror, "-o", "json", folder=folder))
    files = json.loads(done.stdout)["files"]
    assert files == [f"again.tar.{number:03d}" for number in range(1, 6)]
    assert {path.name for path in folder.iterdir()} == {"airgap.lock", *files}
    slices = hashlib.sha256(b"".join((folder / name).read_bytes()[:-behind] for name in files)).hexdigest()
    tar_size = arrange(Lock.from_bytes(crossing.lock.read_bytes())).tar_size
    assert slices == hashlib.sha256(crossing.bundle.read_bytes()[:tar_size]).hexdigest()
    assert "was whole already" in well(world.run("airgap", *mirror, folder=folder)).stdout

    before = (folder / files[4]).read_bytes()
    (folder / files[4]).write_bytes(before[:1000])
    told = world.run("airgap", "verify", "again.tar", folder=folder)
    refused(told, 4, "bring volume 5 of 5 again", "airgap mirror again.tar --volume 5 --lock airgap.lock")
    asked = logs(world)
    well(world.run("airgap", "mirror", "again.tar", "--volume", "5", "--lock", "airgap.lock", folder=folder))
    assert (folder / files[4]).read_bytes() == before
    assert sum(served(since(world, asked)).values()) < sum(served(crossing.mirror_log).values()) / 2
    well(world.run("airgap", "verify", "again.tar", folder=folder))


def test_wrong_uses_of_volume_and_split_are_told(world: World, crossing: Steps, folder: Path) -> None:  # noqa: F811
    def said(*arguments: str, code: int = 2) -> str:
        return refused(world.run("airgap", "mirror", "x.tar", *arguments, folder=folder), code)

    assert "--volume needs the lock" in said("--volume", "3")
    assert "its size is not known" in said("--volume", "3", "--lock", "airgap.lock")
    assert "leaves no room" in said("--lock", "airgap.lock", "--split", "1M")
    assert "no size" in world.run("airgap", "mirror", "x.tar", "--split", "4X", folder=folder).stderr
    done = world.run("airgap", "mirror", "x.tar", "--lock", "airgap.lock", "--split", "4G", "--dry-run", folder=folder)
    assert "do not fit on a FAT32 medium" in well(done).stderr
    assert {path.name for path in folder.iterdir()} == {"airgap.lock"}


@pytest.mark.slow
def test_inside_everything_is_done_out_of_volumes_without_joining(
    world: World,
    crossing: Steps,  # noqa: F811
    bare: Bare,  # noqa: F811
    tmp_path: Path,
) -> None:
    size, _ = cut(crossing.lock, 3)
    shutil.copy(crossing.lock, tmp_path)
    well(world.run("airgap", "mirror", "wandb.tar", "--lock", "airgap.lock", "--split", str(size), folder=tmp_path))
    shutil.copy(bare.bundle.parent / "user.yaml", tmp_path)
    inside = Bare(bare.half, tmp_path / "wandb.tar.002", bare.home)
    well(inside.signed_in("push", "wandb.tar", prefix="volumes"))
    well(inside.signed_in("render", "wandb.tar.003", "--values", "user.yaml", "--dir", "site", prefix="volumes"))
    well(inside.signed_in("audit", "wandb.tar.001", "--values", "user.yaml", prefix="volumes"))
    well(inside.signed_in("audit", "site", prefix="volumes"))
