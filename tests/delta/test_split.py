"""A delta in volumes: what is carried is cut as any bundle is, and pushes, checks and is made again like one."""

from __future__ import annotations

import dataclasses

import pytest

from airgap.bundle import BundleReader
from airgap.errors import BundleError
from airgap.fetch import mirror
from airgap.inventory import Base, delta
from airgap.oci import Digest
from airgap.verify import verify
from tests.delta.test_delta import NEW_BIG, OLD_BIG, filled, inventory, newer
from tests.push.test_push import held, send
from tests.volumes.conftest import volume

__all__ = ["filled"]

SPLIT = 30_000
"""Bytes of a volume: the one new layer reaches into several."""


@pytest.fixture
def base(filled, tmp_path):
    """The delta on what the registry holds, in volumes; its lock."""
    lock = delta(newer().lock, Base.of_inventory(inventory(filled.host)))
    mirror(lock, newer(), tmp_path / "delta.tar", split=SPLIT)
    return tmp_path / "delta.tar"


@pytest.mark.registry
def test_a_split_delta_is_pushed_from_its_volumes_and_completes_the_images(filled, base):
    files = sorted(base.parent.glob("delta.tar.*"))
    assert len(files) > 3
    assert not base.exists()
    with BundleReader.open(base) as reader:
        assert reader.lock.base
        assert Digest.of(OLD_BIG) in reader.lock.left_out
        assert Digest.of(NEW_BIG) in reader.arrangement.blobs
    result = send(volume(base, 2), filled.host)  # any of them names the set
    assert 0 < result.sent_size < len(NEW_BIG) + 20_000, "the old layer is not sent"
    assert held(filled.host, newer())
    assert send(base, filled.host).sent == 0


@pytest.mark.registry
def test_each_volume_of_a_delta_is_checked_alone_and_made_again_byte_for_byte(filled, base, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    lock = delta(newer().lock, Base.of_inventory(inventory(filled.host)))
    second = volume(base, 2)
    (alone / second.name).write_bytes(second.read_bytes())
    checked = verify(alone / second.name)
    assert checked
    assert checked.volume
    assert checked.volume.number == 2
    whole = second.read_bytes()
    second.write_bytes(whole[:-3000] + b"x" + whole[-2999:])
    assert verify(base).bring == (2,)
    estate = newer()
    made = mirror(lock, estate, base, split=SPLIT, volume=2)
    assert made.files == (second,)
    assert second.read_bytes() == whole
    assert Digest.of(OLD_BIG) not in estate.served, "what the base has is not asked for"
    assert verify(base)


@pytest.mark.registry
def test_a_split_delta_without_a_volume_is_refused_before_anything_is_sent(filled, base):
    volume(base, 3).unlink()
    with pytest.raises(BundleError, match="volume 3 of"):
        send(base, filled.host)


def test_the_same_delta_is_the_same_bytes_split_or_not(tmp_path):
    from tests.delta.test_delta import older  # noqa: PLC0415
    from tests.volumes.conftest import joined  # noqa: PLC0415

    lock = delta(newer().lock, Base.of_lock(older().lock))
    mirror(lock, newer(), tmp_path / "one.tar")
    mirror(lock, newer(), tmp_path / "split.tar", split=SPLIT, jobs=3)
    assert joined(tmp_path / "split.tar") == (tmp_path / "one.tar").read_bytes()
    other = dataclasses.replace(lock, base=None)
    assert delta(other, Base.of_lock(older().lock)).digest == lock.digest
