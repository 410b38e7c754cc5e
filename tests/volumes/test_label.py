"""What a volume says of itself, and where a bundle is cut."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.bundle.arrange import arrange
from airgap.bundle.label import (
    EOCD,
    LABEL_END,
    LABEL_SIZE,
    MOST,
    NO_ZIP,
    Identity,
    Label,
    divide,
    label_in,
    tail,
    tail_size,
    zip_for,
)
from airgap.bundle.volumes import ranges
from airgap.cli.sizes import parse_size
from airgap.errors import ConfigurationError
from airgap.oci import Digest
from tests.bundle.estate import Estate, small

LABEL = Label(Identity(Digest.of(b"lock"), 10_001, 1000), 7, Digest.of(b"slice"), Digest.of(NO_ZIP), len(NO_ZIP))


def test_a_label_is_read_back_as_it_was_written():
    assert len(LABEL.to_bytes()) == LABEL_SIZE
    assert Label.parse(LABEL.to_bytes()) == LABEL
    assert str(LABEL) == "volume 7 of 11"
    end = tail(NO_ZIP, LABEL)
    assert len(end) == LABEL_END == len(NO_ZIP) + LABEL_SIZE
    assert label_in(end) == LABEL


def test_the_largest_label_fits():
    huge = Identity(Digest.of(b""), 2**63 - 1, 2**54)
    assert len(Label(huge, huge.count, Digest.of(b""), Digest.of(b""), 2**40).to_bytes()) == LABEL_SIZE


def test_no_bit_of_the_end_can_be_flipped_unseen():
    end = tail(NO_ZIP, LABEL)
    for position in [*range(4), *range(EOCD.size - 2, LABEL_END)]:
        for bit in range(8):
            flipped = bytearray(end)
            flipped[position] ^= 1 << bit
            assert label_in(bytes(flipped)) is None, f"byte {position} bit {bit}"


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0},
        {"number": 12},
        {"installer_size": 21},
        {"identity": Identity(Digest.of(b"lock"), 0, 1000)},
        {"identity": Identity(Digest.of(b"lock"), 10_000_000, 1)},
    ],
)
def test_a_label_that_cannot_be_is_none(change):
    assert Label.parse(dataclasses.replace(LABEL, **change).to_bytes()) is None


@pytest.mark.parametrize("raw", [b"", b"{}", b"[" * LABEL_SIZE, b'{"airgapVolume":' + b"[" * (LABEL_SIZE - 16)])
def test_what_is_no_label_is_none(raw):
    assert Label.parse(raw) is None
    assert Label.parse(b'{"airgapVolume":1}'.ljust(LABEL_SIZE)) is None
    assert label_in(raw) is None


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_slices_cover_the_archive_once(whole, capacity):
    identity = Identity(Digest.of(b""), whole, capacity)
    if identity.count > 5000:
        return
    slices = identity.slices
    assert slices[0].offset == 0
    assert slices[-1].end == whole
    assert all(one.end == other.offset for one, other in pairwise(slices))
    assert {piece.size for piece in slices[:-1]} <= {capacity}
    assert 0 < slices[-1].size <= capacity


def test_an_archive_of_exactly_n_volumes_has_n():
    assert Identity(Digest.of(b""), 5000, 1000).count == 5
    assert Identity(Digest.of(b""), 5001, 1000).count == 6


def test_the_size_of_a_volume_counts_its_tail():
    arrangement = arrange(small().lock)
    identity = divide(arrangement, 4000)
    assert identity.capacity + tail_size(arrangement) == 4000
    assert identity.bundle == small().lock.digest


def test_a_size_that_leaves_no_room_beside_the_tail_is_refused_with_one_that_does():
    arrangement = arrange(small().lock)
    with pytest.raises(ConfigurationError, match="carries airgap itself") as caught:
        divide(arrangement, tail_size(arrangement))
    least = int(caught.value.hint.split()[3])
    assert divide(arrangement, least).count <= MOST
    with pytest.raises(ConfigurationError, match="volumes, and 999 is the most"):
        divide(arrangement, tail_size(arrangement) + 1)


def test_a_bundle_without_an_installer_is_cut_too():
    estate = Estate()
    estate.image("a.io/x:1", b"x" * 5000)
    assert tail_size(arrange(estate.lock)) == len(NO_ZIP) + LABEL_SIZE
    assert zip_for(b"") == NO_ZIP


def test_an_installer_that_is_no_zip_takes_no_label():
    with pytest.raises(ConfigurationError, match="no zip"):
        zip_for(b"#!/bin/sh")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4G", 4 * 1024**3),
        ("4GiB", 4 * 1024**3),
        ("4gb", 4 * 1000**3),
        ("4000M", 4000 * 1024**2),
        ("650MB", 650 * 1000**2),
        ("1.5K", 1536),
        ("512", 512),
        ("512B", 512),
        ("1 T", 1024**4),
    ],
)
def test_sizes_are_those_of_coreutils(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "4X", "1e9", "4 G B", "0x10", "1.5.5G", "4iB1"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)


def test_numbers_are_told_as_people_do():
    assert ranges([7]) == "7"
    assert ranges([1, 2, 3]) == "1-3"
    assert ranges([1, 3, 4, 9]) == "1, 3-4 and 9"
