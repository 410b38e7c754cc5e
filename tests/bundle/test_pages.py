"""Pages: what goes past the cache, and that no byte depends on it."""

from __future__ import annotations

import errno
import itertools
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.bundle import BundleWriter
from airgap.bundle.pages import LEAST, PAGE, ROOM, DirectFile, Pages, whole_pages
from airgap.bundle.writer import journal_path
from airgap.verify import verify
from tests.bundle.estate import Estate, small

BIG = random.Random(7).randbytes(3 * ROOM + 12_345)  # noqa: S311 - only to be unlike a hole


def large(*contents: bytes) -> Estate:
    estate = small()
    estate.image("quay.io/a/large:1", *contents)
    return estate


def write(estate: Estate, path):
    with BundleWriter(path, estate.lock) as writer:
        estate.write(writer)
        writer.finish()
    return path


@given(offset=st.integers(0, 10 * PAGE), size=st.integers(0, 10 * PAGE))
def test_whole_pages_are_all_that_lie_inside(offset, size):
    first, end = whole_pages(offset, size)
    if end > first:
        assert (offset + first) % PAGE == (offset + end) % PAGE == 0
        assert 0 <= first < PAGE
        assert size - PAGE < end <= size
    else:
        assert size < 2 * PAGE


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 2 * ROOM), min_size=1, max_size=5), st.integers(0, 3 * PAGE))
def test_pages_pass_on_every_byte_in_order_and_full_rooms_end_with_a_page(sizes, offset):
    seen: list[tuple[int, bytes]] = []
    pages = Pages(lambda data, at: seen.append((at, bytes(data))))
    pages.begin(offset)
    for size in sizes:
        pages.put(BIG[:size])
    pages.flush()
    assert b"".join(data for _, data in seen) == b"".join(BIG[:size] for size in sizes)
    assert pages.offset == offset + sum(sizes)
    for (at, data), (after, _) in itertools.pairwise(seen):
        assert at + len(data) == after
        assert after % PAGE == 0


def test_what_was_put_into_the_room_is_not_copied_and_what_lies_elsewhere_in_it_is():
    seen = []
    pages = Pages(lambda data, at: seen.append((at, bytes(data))))
    pages.begin(5)
    lent = pages.room
    lent[:3] = b"abc"
    pages.put(lent[:3])
    pages.put(b"de")
    lent[5:7] = b"fg"  # the very place, but lent before "de" was put
    pages.put(lent[5:7])
    pages.flush()
    assert seen == [(5, b"abcdefg")]


def test_a_large_blob_goes_directly_where_the_disk_takes_that_and_the_bytes_are_the_same(tmp_path, monkeypatch):
    estate = large(BIG, BIG[5:], BIG[: LEAST + 5])
    direct: list[int] = []
    pwrite = os.pwrite

    def watched(fd, data, offset):
        count = pwrite(fd, data, offset)
        if Path(f"/proc/self/fd/{fd}").readlink().suffix == ".partial" and _is_direct(fd):
            direct.append(count)
        return count

    monkeypatch.setattr(os, "pwrite", watched)
    path = write(estate, tmp_path / "direct.tar")
    assert verify(path)
    assert all(count % PAGE == 0 for count in direct)
    monkeypatch.setattr("airgap.bundle.pages.os.O_DIRECT", 0o200000000)  # asks for a path only: no file can be written so
    assert write(estate, tmp_path / "cached.tar").read_bytes() == path.read_bytes()


def _is_direct(fd: int) -> bool:
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags:"))
    return bool(int(flags.split()[1], 8) & os.O_DIRECT)


@pytest.mark.parametrize("count", [0, 512, PAGE])
def test_a_direct_write_that_takes_less_is_gone_on_with(tmp_path, monkeypatch, count):
    pwrite = os.pwrite

    def short(fd, data, offset):
        return pwrite(fd, data[:count], offset) if _is_direct(fd) else pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", short)
    assert verify(write(large(BIG), tmp_path / "b.tar"))


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_file_system_that_refuses_a_direct_write_gets_all_of_it_through_the_cache(tmp_path, monkeypatch, taken):
    calls: list[int] = []
    pwrite = os.pwrite

    def refusing(fd, data, offset):
        if _is_direct(fd):
            calls.append(offset)
            if len(calls) > taken:
                raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", refusing)
    assert verify(write(large(BIG), tmp_path / "b.tar"))
    assert len(calls) <= taken + 1


def test_what_the_journal_says_of_a_blob_under_way_is_in_the_file(tmp_path):
    estate, path = large(BIG), tmp_path / "b.tar"
    descriptor = max(estate.lock.blobs().values(), key=lambda it: it.size)
    with BundleWriter(path, estate.lock) as writer:
        sink = writer.sink(descriptor)
        sink.__enter__()
        for start in range(0, 2 * ROOM + 5000, 1000):
            sink.write(BIG[start : start + 1000])
        claimed = [line.split() for line in journal_path(path).read_text(errors="replace").splitlines()]
        noted = max(int(it[1]) for it in claimed if len(it) == 2 and it[0] == str(descriptor.digest))
        member = writer.arrangement.blobs[descriptor.digest]
        with (tmp_path / "b.tar.partial").open("rb") as file:
            file.seek(member.offset)
            assert file.read(noted) == BIG[:noted]
        assert noted > ROOM
        sink.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with BundleWriter(path, estate.lock) as writer:
        assert writer.begun[descriptor.digest] == 2 * ROOM + 5000 - (2 * ROOM + 5000) % 1000 + 1000, "all that came is kept"
        with writer.sink(descriptor) as sink:
            sink.write(BIG[sink.position :])
        estate.write(writer)
        writer.finish()
    assert verify(path)


def test_no_file_is_no_direct_file(tmp_path):
    direct = DirectFile(tmp_path / "none")
    assert not direct
    direct.close()
