"""A delta that several shards push: what it leaves out is found by each, and mounted or copied by whose share it is."""

from __future__ import annotations

import pytest

from airgap.bundle import BundleReader
from airgap.inventory import read_base
from airgap.push.inventory import take
from airgap.ref import Location
from airgap.shard import Shard
from tests.delta.test_delta import filled, newer, write  # noqa: F401 - a fixture
from tests.fetch.conftest import connect
from tests.push.test_push import held, send

pytestmark = pytest.mark.registry


def test_shards_of_a_delta_complete_the_images_together(filled, tmp_path):  # noqa: F811
    noted = tmp_path / "inventory.json"
    noted.write_bytes(take(connect(filled.host), Location.parse(f"{filled.host}/mirror")).to_bytes())
    path = tmp_path / "delta.tar"
    write(newer(), read_base(noted.read_bytes(), noted.name), path)
    with BundleReader.open(path) as reader:
        assert reader.lock.left_out
    for number in (2, 3, 1):
        result = send(path, filled.host, shard=Shard(number, 3))
    assert not result.awaiting
    assert held(filled.host, newer())
    assert not send(path, filled.host).plan
