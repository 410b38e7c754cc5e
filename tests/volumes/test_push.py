"""push: straight from the volumes into real registries."""

from __future__ import annotations

import random

import pytest

from airgap.bundle import BundleReader
from airgap.errors import BundleError
from airgap.push import push
from airgap.ref import Location
from tests.bundle.estate import Estate, small
from tests.fetch.conftest import connect
from tests.push.conftest import KINDS, anyone, asked, target  # noqa: F401 - fixtures
from tests.push.test_push import held, send
from tests.volumes.conftest import split, volume

pytestmark = pytest.mark.registry


def large() -> Estate:
    """Layers that lie in many volumes each."""
    estate = small()
    noise = random.Random(7)  # noqa: S311 - content, not a secret
    for number in range(3):
        estate.image(f"a.io/large/{number}:1", noise.randbytes(3_000_000), noise.randbytes(700_001))
    return estate


def test_everything_arrives_byte_for_byte_out_of_volumes_in_any_registry(tmp_path, anyone):  # noqa: F811
    estate = large()
    base = split(estate, tmp_path / "wandb.tar", 500_000)
    result = send(volume(base, 5), anyone.host)
    assert held(anyone.host, estate)
    assert not result.warnings
    again = send(base, anyone.host)
    assert (again.sent, again.mounted) == (0, 0)


def test_nothing_is_asked_of_the_registry_when_a_volume_is_missing(tmp_path, target):  # noqa: F811
    base = split(small(), tmp_path / "wandb.tar")
    volume(base, 9).unlink()
    with pytest.raises(BundleError, match="volume 9 of 14 is missing, bring it"):
        send(base, target.host)
    assert asked(target) == []


def test_damage_to_a_volume_is_found_before_the_registry_keeps_anything_wrong(tmp_path, target):  # noqa: F811
    estate = large()
    base = split(estate, tmp_path / "wandb.tar", 500_000)
    with volume(base, 8).open("r+b") as file:
        file.seek(250_000)
        file.write(b"damage")
    with BundleReader.open(base) as reader, pytest.raises(BundleError):
        push(reader, connect(target.host), Location.parse(f"{target.host}/mirror"))
