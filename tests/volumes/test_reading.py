"""A split bundle is read where it lies, and what is wrong with a volume is said of that volume."""

from __future__ import annotations

import os
import resource
import shutil

import pytest

from airgap.bundle import BundleReader, arrange
from airgap.bundle.medium import read
from airgap.bundle.volumes import find, open_medium, room_for_files
from airgap.errors import BundleError, DiskError
from airgap.oci import Descriptor, Digest
from airgap.verify import verify
from tests.bundle.estate import LAYER, bundle, small
from tests.volumes.conftest import SIZE, joined, newer, seal_as, split, tail, volume

SHARED = Descriptor.of(LAYER, b"a shared layer " * 40)


def test_any_volume_and_the_common_name_mean_the_same_bytes_as_the_one_file(base, whole):
    assert joined(base) == whole
    for number in (1, 7, 14):
        assert joined(volume(base, number)) == whole


def test_concatenated_slices_are_the_archive_of_the_single_file(base, whole):
    cut = tail()
    slices = b"".join(path.read_bytes()[:-cut] for path in sorted(base.parent.iterdir()))
    assert slices == whole[: arrange(small().lock).tar_size]


def test_a_reader_gives_every_blob_and_windows_that_cross_volumes(base):
    estate = small()
    with BundleReader.open(base) as reader:
        assert reader.lock.digest == estate.lock.digest
        assert reader.volumes
        assert len(reader.volumes.labels) == 14
        for digest, member in reader.arrangement.blobs.items():
            content = member.content or estate.contents[digest]
            assert member.descriptor
            assert reader.read(member.descriptor) == content
            with reader.window(member.descriptor, 1) as window:
                assert b"".join(iter(lambda: window.read(100), b"")) == content[1:]


def test_a_window_over_two_volumes_has_no_place_for_sendfile_and_one_in_a_single_volume_has(base, whole):
    medium = open_medium(base)
    capacity = SIZE - tail()
    across, inside = medium.window(capacity - 10, 20), medium.window(capacity + 5, 20)
    assert across.place() is None
    fd, position = inside.place() or (-1, 0)
    assert os.pread(fd, 20, position) == whole[capacity + 5 : capacity + 25] == inside.read()
    heard: list[int] = []
    told = medium.window(capacity - 10, 20, heard.append)
    assert told.read(7) + told.read() == whole[capacity - 10 : capacity + 10]
    assert heard == [7, 13]
    told.rewind()
    part = told.part(5, 100)
    assert len(part) == 15
    assert part.read() == whole[capacity - 5 : capacity + 10]
    medium.close()


@pytest.mark.parametrize("number", [1, 7, 14])
def test_a_missing_volume_is_named(base, number):
    volume(base, number).unlink()
    with pytest.raises(BundleError, match=f"volume {number} of 14 is missing, bring it") as caught:
        BundleReader.open(base)
    assert f"--volume {number} --lock" in caught.value.hint
    assert "--volumes DIR" in caught.value.hint
    with pytest.raises(BundleError, match=f"volume {number} of 14 is missing"):
        BundleReader.open(volume(base, number))  # the name of the missing one means the same set


def test_all_that_is_missing_is_named_at_once(base):
    for number in (2, 3, 4, 9):
        volume(base, number).unlink()
    with pytest.raises(BundleError, match="volumes 2-4 and 9 of 14 are missing, bring them"):
        BundleReader.open(base)


def test_volumes_on_several_media_are_read_together(base, whole, tmp_path):
    for number in range(1, 15):
        folder = tmp_path / f"stick{number % 3}"
        folder.mkdir(exist_ok=True)
        shutil.move(volume(base, number), folder)
    sticks = [tmp_path / f"stick{number}" for number in range(3)]
    assert joined(tmp_path / "stick1" / "wandb.tar.004", folders=sticks) == whole
    assert joined(base, folders=sticks) == whole
    assert verify(base, folders=sticks)
    with pytest.raises(BundleError, match="are missing"):
        BundleReader.open(tmp_path / "stick1" / "wandb.tar.004", folders=sticks[:2])


def test_swapped_names_do_no_harm_because_labels_count(base, whole):
    aside = base.with_name("aside")
    volume(base, 3).rename(aside)
    volume(base, 8).rename(volume(base, 3))
    aside.rename(volume(base, 8))
    assert joined(base) == whole
    assert verify(base)
    assert str(verify(volume(base, 3)).volume) == "volume 8 of 14"


def test_a_copy_under_the_wrong_name_is_told_from_the_right_one(base):
    shutil.copy(volume(base, 3), volume(base, 8))
    with pytest.raises(BundleError, match=r"volume 8 of 14 is missing: wandb.tar.008 is volume 3 of 14; bring it"):
        BundleReader.open(base)


def test_a_stale_volume_of_another_build_is_named_with_its_bundle(base, tmp_path):
    other = split(newer(), tmp_path / "other.tar")
    shutil.copy(volume(other, 7), volume(base, 7))
    with pytest.raises(BundleError) as caught:
        BundleReader.open(base)
    assert f"volume 7 of 14 is missing: wandb.tar.007 belongs to another bundle, {newer().lock.digest}" in caught.value.message
    assert str(small().lock.digest) in caught.value.message


def test_a_volume_of_the_same_bundle_split_otherwise_is_told(base, tmp_path):
    other = split(small(), tmp_path / "other.tar", SIZE + 512)
    shutil.copy(volume(other, 7), volume(base, 7))
    with pytest.raises(BundleError, match=r"volume 7 of 14 is missing: wandb.tar.007 is of the same bundle split otherwise"):
        BundleReader.open(base)


@pytest.mark.parametrize("left", [0, 10, SIZE - 1, SIZE - 1500])
def test_a_cut_volume_is_named(base, left):
    os.truncate(volume(base, 7), left)
    with pytest.raises(BundleError, match=r"volume 7 of 14 is damaged: wandb.tar.007 is cut short"):
        BundleReader.open(base)
    with pytest.raises(BundleError, match="volume 7 of 14 is damaged"):
        BundleReader.open(volume(base, 7))


def test_bytes_missing_in_the_middle_are_seen_by_the_size(base):
    data = volume(base, 7).read_bytes()
    volume(base, 7).write_bytes(data[:100] + data[101:])
    with pytest.raises(BundleError, match=r"volume 7 of 14 is damaged: wandb.tar.007 has 3999 bytes instead of 4000"):
        BundleReader.open(base)


def test_leftovers_of_a_longer_bundle_are_no_part_of_this_one(base, whole, tmp_path):
    other = split(newer(), tmp_path / "other.tar")
    for number in (15, 16, 17):
        shutil.copy(volume(other, number), volume(base, number))
    assert joined(base) == whole
    with pytest.raises(BundleError, match="volume 18 of 18 is missing") as caught:
        BundleReader.open(volume(base, 16))  # who names one of them means its bundle
    assert "volume 3 of 18 is missing: wandb.tar.003 belongs to another bundle" in caught.value.message
    assert caught.value.message.endswith("and 11 volumes more, which airgap verify wandb.tar lists")


def test_two_whole_sets_under_one_name_are_told_apart_by_a_volume_and_never_guessed(base, tmp_path, whole):
    other = tmp_path / "second"
    other.mkdir()
    split(newer(), other / "wandb.tar")
    mixed = tmp_path / "third"
    shutil.copytree(base.parent, mixed)
    for number in range(8, 15):
        shutil.copy(volume(other / "wandb.tar", number), volume(mixed / "wandb.tar", number))
    with pytest.raises(BundleError, match="as many volumes"):
        BundleReader.open(mixed / "wandb.tar")
    assert joined(volume(base, 1), folders=[other]) == whole


def test_when_no_end_can_be_read_nothing_is_guessed(base):
    for path in base.parent.iterdir():
        os.truncate(path, 100)
    with pytest.raises(BundleError, match="none of the 14 files"):
        BundleReader.open(base)


def test_a_name_for_which_nothing_lies_there_is_said_not_to_exist(tmp_path):
    assert find(tmp_path / "absent.tar") is None
    with pytest.raises(BundleError, match="does not exist"):
        BundleReader.open(tmp_path / "absent.tar")


def test_a_single_file_may_be_called_like_a_volume(tmp_path, whole):
    path = bundle(small(), tmp_path / "release.002")
    assert find(path) is None
    assert joined(path) == whole
    assert verify(path)


def test_a_volume_under_another_name_still_says_what_it_is(base, tmp_path):
    odd = tmp_path / "download"
    shutil.copy(volume(base, 5), odd)
    assert str(verify(odd).volume) == "volume 5 of 14"
    with pytest.raises(BundleError, match="volumes 1-4 and 6-14 of 14 are missing"):
        BundleReader.open(odd)


def test_labels_that_do_not_fit_the_lock_are_refused(base):
    """Somebody sealed other slices: every label is right by itself, and the lock inside says otherwise."""
    for path in base.parent.iterdir():
        seal_as(path, Digest.of(b"?"))
    with pytest.raises(BundleError, match="the lock in the volumes is"):
        BundleReader.open(base)


def test_a_volume_that_vanishes_while_it_is_read_is_named(base):
    medium = open_medium(base)
    fd, _ = medium.window((SIZE - tail()) * 2, 1).place() or (-1, 0)
    null = os.open(base.parent, os.O_RDONLY)  # reading a folder fails, as a medium that is gone does
    os.dup2(null, fd)
    os.close(null)
    with pytest.raises(DiskError, match=r"volume 3 of 14, .*wandb.tar.003, cannot be read at byte") as caught:
        read(medium, 0, medium.size)
    assert "that volume again" in caught.value.hint
    with pytest.raises(DiskError, match=r"volume 3 of 14, .*wandb.tar.003, cannot be read at byte"):
        medium.window((SIZE - tail()) * 2 + 5, 100).read()
    medium.close()


def test_many_volumes_ask_for_many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        room_for_files(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
        room_for_files(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 456
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
