"""Room is looked for before the first byte."""

from __future__ import annotations

import errno
import os

import pytest

from airgap.bundle import room
from airgap.errors import DiskError

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:17 / /media/stick rw,nosuid shared:9 master:1 - vfat /dev/sdb1 rw,utf8
31 22 0:44 / /tmp rw - tmpfs tmpfs rw
"""


def test_the_type_of_a_file_system_is_found_by_its_device():
    lines = MOUNTINFO.splitlines()
    assert room.file_system(os.makedev(8, 17), lines) == "vfat"
    assert room.file_system(os.makedev(8, 1), lines) == "ext4"
    assert room.file_system(os.makedev(9, 9), lines) == ""


def test_a_bundle_of_four_gibibytes_is_refused_on_fat(tmp_path, monkeypatch):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 22 {os.major(device)}:{os.minor(device)} / / rw - vfat /dev/sdb1 rw\n")
    monkeypatch.setattr(room, "MOUNTS", mounts)
    with pytest.raises(DiskError, match="FAT file system") as caught:
        room.check_room(tmp_path / "b.tar", room.FAT_LIMIT + 1)
    assert "exFAT" in caught.value.hint
    room.check_room(tmp_path / "b.tar", 1000)


def test_a_system_that_tells_nothing_about_its_mounts_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOUNTS", tmp_path / "absent")
    room.check_room(tmp_path / "b.tar", room.FAT_LIMIT + 1, room.FAT_LIMIT)


def test_what_is_on_disk_already_need_not_fit_again(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(DiskError, match="do not fit"):
        room.check_room(tmp_path / "b.tar", free * 2)
    room.check_room(tmp_path / "b.tar", free * 2, int(free * 1.5))


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(DiskError, match="No such file"):
        room.check_room(tmp_path / "absent" / "b.tar", 1)


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "no larger file"), (errno.EIO, "Input/output")],
)
def test_what_the_system_says_while_writing_becomes_a_sentence(tmp_path, number, told):
    error = room.disk_error(OSError(number, os.strerror(number)), tmp_path / "b.tar", 77)
    assert told in error.message
    assert "77 bytes are missing" in error.message
