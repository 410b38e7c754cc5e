"""Volumes are written straight, appear together, and can be made again one by one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from airgap.bundle import BundleReader, BundleWriter, arrange, interrupted, room
from airgap.bundle.label import tail_size
from airgap.bundle.split import split_beside
from airgap.errors import BundleError, ConfigurationError, DiskError, NotFoundError
from airgap.fetch import mirror
from airgap.plan import missing
from airgap.progress import Progress
from airgap.verify import verify
from tests.bundle.estate import Estate, bundle, small
from tests.volumes.conftest import SIZE, joined, newer, split, tail, volume, volumes

ROOT = Path(__file__).resolve().parents[2]


def half(estate, path, count, size=SIZE, **more):
    """Write the first ``count`` missing blobs and stop as a broken-off run would."""
    with BundleWriter(path, estate.lock, split=size, **more) as writer:
        for descriptor in missing(estate.lock, writer.held)[:count]:
            with writer.sink(descriptor) as sink:
                sink.write(estate.contents[descriptor.digest])


def test_the_same_lock_gives_the_same_volumes_for_any_number_of_jobs_resumed_or_not(base, tmp_path):
    expected = volumes(base.parent)
    assert list(expected) == [f"wandb.tar.{number:03d}" for number in range(1, 15)]
    assert {len(data) for data in list(expected.values())[:-1]} == {SIZE}
    assert 0 < len(list(expected.values())[-1]) <= SIZE
    for name in ("jobs", "resumed"):
        (tmp_path / name).mkdir()
    split(small(), tmp_path / "jobs" / "wandb.tar", jobs=8)
    half(small(), tmp_path / "resumed" / "wandb.tar", 3)
    half(small(), tmp_path / "resumed" / "wandb.tar", 4)
    split(small(), tmp_path / "resumed" / "wandb.tar", jobs=1)
    assert volumes(tmp_path / "jobs") == volumes(tmp_path / "resumed") == expected


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_an_archive_that_fills_its_volumes_exactly_has_no_empty_one(tmp_path, whole, count):
    arrangement = arrange(small().lock)
    assert arrangement.tar_size % count == 0
    base = split(small(), tmp_path / "b.tar", arrangement.tar_size // count + tail())
    found = volumes(tmp_path)
    assert len(found) == count
    assert len({len(data) for data in found.values()}) == 1
    assert joined(base) == whole
    assert verify(base)


def test_a_bundle_of_one_volume_is_still_one(tmp_path, whole):
    base = split(small(), tmp_path / "b.tar", 10**6)
    assert list(volumes(tmp_path)) == ["b.tar.001"]
    assert joined(base) == whole
    assert verify(tmp_path / "b.tar.001")


def test_a_bundle_without_an_installer_is_split_too(tmp_path):
    estate = small()
    estate.artifacts = [artifact for artifact in estate.artifacts if artifact.kind != "installer"]
    base = split(estate, tmp_path / "b.tar")
    assert verify(base)
    assert verify(volume(base, 3))
    assert joined(base) == bundle(estate, tmp_path / "one").read_bytes()


def test_the_volumes_appear_only_when_all_are_whole(tmp_path):
    path = tmp_path / "b.tar"
    half(small(), path, 3)
    names = list(volumes(tmp_path))
    assert names == [*(f"b.tar.partial.{number:03d}" for number in range(1, 15)), "b.tar.partial.journal"]
    begun = interrupted(path)
    assert begun
    assert begun.digest == small().lock.digest
    with pytest.raises(BundleError, match="does not exist"):
        BundleReader.open(path)
    split(small(), path)
    assert interrupted(path) is None
    assert all(name[-3:].isdecimal() and "partial" not in name for name in volumes(tmp_path))


def test_nothing_finished_is_fetched_again(tmp_path):
    estate = small()
    half(estate, tmp_path / "b.tar", 5)
    before = len(estate.served)
    result = mirror(estate.lock, estate, tmp_path / "b.tar", split=SIZE)
    assert result.held == 5
    assert len(estate.served) - before == result.fetched == len(estate.lock.blobs()) - 5 - 1
    assert result.size == sum(len(data) for data in volumes(tmp_path).values())
    assert [path.name for path in result.files] == list(volumes(tmp_path))


def test_a_damaged_half_written_volume_costs_its_blobs_and_nothing_else(tmp_path, base):
    estate = small()
    half(estate, tmp_path / "wandb.tar", 99)
    path = tmp_path / "wandb.tar.partial.006"
    path.write_bytes(bytes(len(path.read_bytes())))
    split(estate, tmp_path / "wandb.tar")
    assert volumes(tmp_path) == volumes(base.parent)


def test_a_second_run_finds_all_volumes_and_fetches_nothing(base):
    estate, before = small(), volumes(base.parent)
    result = mirror(estate.lock, estate, base, split=SIZE)
    assert result.already
    assert estate.served == []
    assert volumes(base.parent) == before


def test_another_split_of_what_was_begun_is_refused_and_nothing_is_lost(tmp_path):
    path = tmp_path / "b.tar"
    half(small(), path, 5)
    before = volumes(tmp_path)
    for size in (SIZE + 512, SIZE - 512, None):
        with pytest.raises(ConfigurationError, match="another --split"):
            BundleWriter(path, small().lock, split=size)
    with pytest.raises(ConfigurationError, match="beginning of another bundle"):
        BundleWriter(path, newer().lock, split=SIZE)
    assert volumes(tmp_path) == before
    with BundleWriter(tmp_path / "c.tar", small().lock):
        pass
    with pytest.raises(ConfigurationError, match="another --split"):
        BundleWriter(tmp_path / "c.tar", small().lock, split=SIZE)


def test_a_newer_bundle_replaces_the_volumes_of_the_old_one_when_it_is_whole(base):
    old = volumes(base.parent)
    half(newer(), base, 4)
    assert {name: data for name, data in volumes(base.parent).items() if "partial" not in name} == old
    split(newer(), base)
    assert verify(base)
    assert joined(base)[: 10**4] != b"".join(old.values())[: 10**4]


def test_no_volume_of_a_longer_old_bundle_stays_behind(tmp_path, base):
    path = split(newer(), tmp_path / "b.tar")
    assert len(volumes(tmp_path)) == 18
    (tmp_path / "b.tar.019").write_text("a user's own file")
    split(small(), path)
    assert sorted(volumes(tmp_path)) == [*(f"b.tar.{number:03d}" for number in range(1, 15)), "b.tar.019"]
    assert [data for name, data in volumes(tmp_path).items() if name != "b.tar.019"] == list(volumes(base.parent).values())


def test_what_is_no_volume_is_never_overwritten(tmp_path):
    (tmp_path / "b.tar.003").write_text("a user's own notes")
    with pytest.raises(DiskError, match="is no volume: it is left alone"):
        split(small(), tmp_path / "b.tar")
    assert volumes(tmp_path) == {"b.tar.003": b"a user's own notes"}


def test_one_name_never_means_two_bundles(tmp_path):
    bundle(small(), tmp_path / "b.tar")
    with pytest.raises(DiskError, match="would mean two bundles"):
        split(small(), tmp_path / "b.tar")
    assert list(volumes(tmp_path)) == ["b.tar"]


def test_two_runs_on_the_same_volumes_are_refused(tmp_path):
    with BundleWriter(tmp_path / "b.tar", small().lock, split=SIZE), pytest.raises(DiskError, match="another run"):
        BundleWriter(tmp_path / "b.tar", small().lock, split=SIZE)


def test_a_size_that_is_too_small_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigurationError, match="leaves no room"):
        split(small(), tmp_path / "b.tar", 1000)
    assert volumes(tmp_path) == {}


def test_volumes_that_are_too_large_for_fat_are_refused_there(tmp_path, monkeypatch):
    device = tmp_path.stat().st_dev
    (tmp_path / "mounts").write_text(f"30 22 {os.major(device)}:{os.minor(device)} / / rw - vfat /dev/sdb1 rw\n")
    monkeypatch.setattr(room, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(room, "FAT_LIMIT", SIZE - 1)
    with pytest.raises(DiskError, match=r"b.tar.001 would have 4000 bytes, and its FAT") as caught:
        split(small(), tmp_path / "b.tar")
    assert "--split 4000M" in caught.value.hint
    split(small(), tmp_path / "b.tar", SIZE - 1)


def test_room_is_looked_for_all_volumes_together(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    third = free // 3 + 10**9
    room.check_rooms({tmp_path / "1": (third, 0), tmp_path / "2": (third, 0)})
    with pytest.raises(DiskError, match="do not fit"):
        room.check_rooms({tmp_path / str(number): (third, 0) for number in range(4)})


# -- one volume again --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 15))
def test_one_volume_made_again_has_the_same_bytes_and_asks_only_for_what_lies_in_it(base, tmp_path, number):
    estate, folder = small(), tmp_path / "again"
    folder.mkdir()
    result = mirror(estate.lock, estate, folder / "wandb.tar", split=SIZE, volume=number)
    assert volumes(folder) == {f"wandb.tar.{number:03d}": volume(base, number).read_bytes()}
    arrangement = arrange(estate.lock)
    start = (number - 1) * (SIZE - tail())
    lying = {
        member.digest
        for member in arrangement.members
        if member.digest and member.content is None and member.offset < start + SIZE - tail() and member.end > start
    }
    assert arrangement.trailer
    assert set(estate.served) <= lying | {arrangement.trailer.digest}
    assert result.fetched == len(estate.served)
    assert (result.size, result.files) == (volume(base, number).stat().st_size, (folder / f"wandb.tar.{number:03d}",))


@pytest.mark.parametrize(
    "spoil", [lambda path: path.unlink(), lambda path: os.truncate(path, 77), lambda path: path.write_bytes(b"?" * SIZE)]
)
def test_a_missing_or_damaged_volume_is_made_good_where_it_lies(base, spoil):
    before = volumes(base.parent)
    spoil(volume(base, 6))
    mirror(small().lock, small(), base, split=SIZE, volume=6)
    assert volumes(base.parent) == before
    result = mirror(small().lock, small(), base, split=SIZE, volume=6)
    assert result.already


def test_an_interrupted_volume_is_finished_by_the_same_command(base, tmp_path):
    estate, folder = small(), tmp_path / "again"
    folder.mkdir()
    for _ in range(3):
        half(estate, folder / "wandb.tar", 1, volume=5)
        assert set(volumes(folder)) == {"wandb.tar.005.partial", "wandb.tar.005.partial.journal"}
    mirror(estate.lock, estate, folder / "wandb.tar", split=SIZE, volume=5)
    assert volumes(folder) == {"wandb.tar.005": volume(base, 5).read_bytes()}


def test_a_volume_is_not_made_among_those_of_another_bundle_or_split(base):
    for lock, size in ((newer().lock, SIZE), (small().lock, SIZE + 512)):
        with pytest.raises(ConfigurationError, match="belongs to bundle"):
            mirror(lock, newer(), base, split=size, volume=3)
    with pytest.raises(ConfigurationError, match="has the volumes 1 to 14"):
        mirror(small().lock, small(), base, split=SIZE, volume=15)


def test_what_a_volume_needs_and_is_gone_is_named(tmp_path):
    estate = small()
    arrangement = arrange(estate.lock)
    layer = next(it for it in estate.lock.images[0].tree.blobs if "layer" in it.media_type)
    number = arrangement.blobs[layer.digest].offset // (SIZE - tail()) + 1
    del estate.contents[layer.digest]
    with pytest.raises(NotFoundError, match=str(layer.digest)):
        mirror(estate.lock, estate, tmp_path / "b.tar", split=SIZE, volume=number)
    mirror(estate.lock, estate, tmp_path / "b.tar", split=SIZE, volume=1)


def test_a_layer_over_many_volumes_is_cut_and_made_again(tmp_path):
    estate = Estate()
    estate.image("a.io/large:1", b"".join(hashlib.sha256(bytes([number])).digest() for number in range(250)) * 10)
    estate.installer()
    base = split(estate, tmp_path / "b.tar", 10_000)
    assert verify(base)
    before = volumes(tmp_path)
    for number in range(1, len(before) + 1):
        volume(base, number).unlink()
        mirror(estate.lock, estate, base, split=10_000, volume=number)
    assert volumes(tmp_path) == before


def test_the_size_of_volumes_is_found_by_those_that_lie_there(base, tmp_path):
    assert split_beside(base, small().lock) == SIZE
    assert split_beside(base, newer().lock) is None
    assert split_beside(tmp_path / "absent", small().lock) is None


# -- whatever happens on the way ---------------------------------------------------------------------------------------------

PRELUDE = """
import os, signal, sys
from pathlib import Path
from airgap.bundle import BundleWriter
from tests.bundle.estate import small
estate, path = small(), Path(sys.argv[1])
owner, name = sys.argv[2].split(".")
owner = {"os": os, "Path": Path}[owner]
real, left = getattr(owner, name), int(sys.argv[4])
def fatal(*args, **more):
    global left
    left -= 1
    if not left and sys.argv[3] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    answer = real(*args, **more)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
setattr(owner, name, fatal)
volume = int(sys.argv[5]) or None
with BundleWriter(path, estate.lock, split=4000, volume=volume) as writer:
    estate.write(writer)
"""


def child(*arguments):
    command = [sys.executable, "-c", textwrap.dedent(PRELUDE), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


STEPS = {"os.fsync": 5, "os.pwrite": 23, "Path.replace": 3, "Path.unlink": 1, "os.ftruncate": 9}
"""Where it is killed, and at each how manieth time: at every one it would take minutes."""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STEPS)
def test_killed_at_any_stage_the_next_run_finishes(base, tmp_path, stage, when):
    expected = volumes(base.parent)
    for number in range(1, 500, STEPS[stage]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        result = child(folder / "wandb.tar", stage, when, number, 0)
        final = {name: data for name, data in volumes(folder).items() if "partial" not in name}
        assert final == {name: expected[name] for name in final}, "under a final name lies nothing but the right bytes"
        split(small(), folder / "wandb.tar")
        assert volumes(folder) == expected
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STEPS)
def test_killed_while_one_volume_is_made_the_next_run_finishes(base, tmp_path, stage, when):
    expected = volume(base, 5).read_bytes()
    for number in range(1, 500, STEPS[stage]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        result = child(folder / "wandb.tar", stage, when, number, 5)
        mirror(small().lock, small(), folder / "wandb.tar", split=SIZE, volume=5)
        assert volumes(folder) == {"wandb.tar.005": expected}
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr


def test_a_half_named_set_is_no_bundle_and_is_taken_back(base, tmp_path):
    """Killed between two names: an older bundle's volumes may lie beside the new ones, and nobody takes them for one."""
    expected = volumes(base.parent)
    folder = tmp_path / "b"
    folder.mkdir()
    split(newer(), folder / "wandb.tar")
    half(small(), folder / "wandb.tar", 99)
    child(folder / "wandb.tar", "Path.replace", "after", 8, 0)
    named = {name for name, data in volumes(folder).items() if data == expected.get(name)}
    assert 0 < len(named) < 14
    with pytest.raises(BundleError):
        BundleReader.open(folder / "wandb.tar")
    split(small(), folder / "wandb.tar")
    assert volumes(folder) == expected


class Stop(Progress):
    """Ends a run as Ctrl-C does, at the first volume that is sealed."""

    def done(self, item: str, note: str = "") -> None:  # noqa: ARG002 - as the base
        if note == "sealed":
            raise KeyboardInterrupt


def test_ctrl_c_while_volumes_are_sealed_leaves_what_the_next_run_finishes(base, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        split(small(), tmp_path / "wandb.tar", progress=Stop())
    assert all("partial" in name for name in volumes(tmp_path))
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy", "medium"))
    estate = small()
    split(estate, tmp_path / "wandb.tar")
    assert estate.served == [], "everything was there, only the ends were not"
    assert volumes(tmp_path) == volumes(base.parent)


def test_the_journal_of_a_split_bundle_is_that_of_a_single_one(tmp_path):
    half(small(), tmp_path / "s.tar", 3)
    with BundleWriter(tmp_path / "o.tar", small().lock) as writer:
        for descriptor in missing(small().lock, writer.held)[:3]:
            with writer.sink(descriptor) as sink:
                sink.write(small().contents[descriptor.digest])
    one, other = ((tmp_path / f"{name}.tar.partial.journal").read_bytes().split(b"\n") for name in "so")
    assert one[:2] == other[:2]
    assert json.loads(one[1])["kind"] == "BundleLock"
    assert tail_size(arrange(small().lock)) == tail()
