"""verify: one volume with nothing but its bytes, or the whole set; each fault names the volume to bring."""

from __future__ import annotations

import errno
import os
import shutil

import pytest

from airgap.errors import BundleError, DiskError
from airgap.oci import Digest
from airgap.progress import Progress
from airgap.verify import verify
from tests.bundle.estate import small
from tests.volumes.conftest import SIZE, label_of, newer, seal_as, split, tail, volume


def damage(path, position, data=b"\xff"):
    with path.open("r+b") as file:
        file.seek(position)
        old = file.read(len(data))
        file.seek(position)
        file.write(bytes(one ^ other for one, other in zip(old, data, strict=True)))


def test_one_volume_is_checked_alone_with_nothing_else_there(base, tmp_path):
    shutil.copy(volume(base, 7), tmp_path / "wandb.tar.007")
    found = verify(tmp_path / "wandb.tar.007")
    assert found
    assert found.volume
    assert (found.volume.number, found.count, found.bring) == (7, 14, ())
    assert found.size == SIZE


@pytest.mark.slow
def test_every_flipped_bit_of_a_volume_is_found_without_the_others(base, tmp_path):
    alone = tmp_path / "wandb.tar.007"
    data = volume(base, 7).read_bytes()
    shutil.copy(volume(base, 8), tmp_path / "wandb.tar.008")  # so that one without a label is still known as a volume
    for position in range(SIZE):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        alone.write_bytes(flipped)
        found = verify(alone)
        assert not found, f"byte {position}"
        assert found.bring == (7,)
        assert "volume 7 of 14 is damaged" in found.faults[0].message


def test_a_cut_volume_alone_is_told_by_its_name(base, tmp_path):
    shutil.copy(volume(base, 8), tmp_path / "wandb.tar.008")
    (tmp_path / "wandb.tar.007").write_bytes(volume(base, 7).read_bytes()[: SIZE // 2])
    found = verify(tmp_path / "wandb.tar.007")
    assert [fault.message for fault in found.faults] == [
        "volume 7 of 14 is damaged: the file is cut short, or its end is damaged; bring it again"
    ]
    (tmp_path / "wandb.tar.008").unlink()
    with pytest.raises(BundleError, match="no bundle"):
        verify(tmp_path / "wandb.tar.007")  # with nothing around it, it is nothing that can be told


@pytest.mark.parametrize("number", [1, 7, 14])
@pytest.mark.parametrize("place", ["the slice", "the installer"])
def test_a_damaged_volume_is_the_only_one_to_bring(base, number, place):
    damage(volume(base, number), 100 if place == "the slice" else volume(base, number).stat().st_size - tail() + 40)
    found = verify(base)
    assert found.bring == (number,)
    told = [fault for fault in found.faults if fault.member == str(volume(base, number))]
    assert f"volume {number} of 14 is damaged" in told[0].message
    assert "bring it again" in told[0].message


def test_all_faults_of_a_set_are_told_at_once(base):
    volume(base, 2).unlink()
    os.truncate(volume(base, 4), 500)
    damage(volume(base, 9), 17)
    found = verify(base)
    assert found.bring == (2, 4, 9)
    assert len(found.faults) == 3
    assert not verify(volume(base, 9))
    assert verify(volume(base, 10)), "a whole volume is whole whatever the others are"


def test_two_damaged_volumes_are_told_from_the_sound_one_between_them(base):
    damage(volume(base, 5), 2000)
    damage(volume(base, 7), 2000)
    assert verify(base).bring == (5, 7)


def test_damage_to_the_lock_itself_is_told_of_its_volume(base):
    for number in (1, 2, 3):
        damage(volume(base, number), 1500)
    found = verify(base)
    assert found.bring == (1, 2, 3)


def test_a_stale_volume_is_told_by_verify_too(base, tmp_path):
    other = split(newer(), tmp_path / "other.tar")
    shutil.copy(volume(other, 7), volume(base, 7))
    found = verify(base)
    assert found.bring == (7,)
    assert "belongs to another bundle" in found.faults[0].message
    assert verify(volume(base, 7)), "by itself it is a sound volume"
    assert label_of(volume(base, 7)).identity.bundle == newer().lock.digest


def unreadable(path):
    """Make a file look like one on a failing medium: as it is, but reading it fails."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def test_a_medium_that_fails_is_told_with_its_volume(base, monkeypatch):
    """Volume 7 has a sector that cannot be read: the others are checked all the same."""
    real, bad = os.preadv, volume(base, 7).stat().st_ino

    def failing(fd, buffers, offset):
        if os.fstat(fd).st_ino == bad and offset > 100:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, [buffers[0][:100]], offset)

    monkeypatch.setattr(os, "preadv", failing)
    damage(volume(base, 12), 2000)
    found = verify(base)
    assert found.bring == (7, 12)
    assert "volume 7 of 14 is damaged: it cannot be read (Input/output error)" in found.faults[0].message


def test_a_file_whose_end_cannot_be_read_is_a_sentence(base):
    unreadable(volume(base, 7))
    with pytest.raises(DiskError, match=r"wandb.tar.007 cannot be read: Invalid argument"):
        verify(base)


def test_volumes_that_contradict_the_lock_inside_are_no_damage_and_no_bundle(base):
    for path in base.parent.iterdir():
        seal_as(path, Digest.of(b"another lock"))
        assert verify(path), "each by itself is sound"
    with pytest.raises(BundleError, match="the lock in the volumes is"):
        verify(base)


def test_the_first_volume_may_lie_on_another_medium(base, tmp_path):
    shutil.move(volume(base, 1), tmp_path / "wandb.tar.001")
    assert verify(base, folders=[tmp_path])
    assert verify(base).bring == (1,)


class Read(Progress):
    bytes = 0

    def advance(self, size: int) -> None:
        self.bytes += size


def test_a_sound_set_is_read_once(base):
    read = Read()
    assert verify(base, progress=read)
    whole = sum(path.stat().st_size for path in base.parent.iterdir())
    assert read.bytes < whole


def test_blobs_and_bytes_are_counted(base):
    found = verify(base)
    assert (found.blobs, found.count) == (len(small().lock.blobs()) + 2, 14)
