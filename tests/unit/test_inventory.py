import json

import pytest

from airgap.errors import ConfigurationError
from airgap.inventory import Base, Holding, RegistryInventory, delta, incomplete, last_known, left_out, read_base
from airgap.lock import INVENTORY, LOCK
from airgap.oci import Digest
from airgap.ref import Location
from tests.unit.test_lock import chart, image, rich_lock
from tests.unit.test_plan import lock_of

INSIDE = Location.parse("reg.lan/team")
APP = image("quay.io/a/app:1")
CONFIG, BASE, LAYER = (blob.digest for blob in APP.tree.blobs)


def holding(*blobs):
    return Holding({"1": APP.digest}, frozenset({APP.digest}), frozenset(blobs))


def inventory(location=INSIDE, **repositories):
    return RegistryInventory(location, {name.replace("__", "/"): held for name, held in repositories.items()})


def test_an_inventory_reads_back_and_has_one_form_of_bytes():
    found = inventory(quay__app=holding(LAYER, BASE), empty=Holding())
    again = RegistryInventory.from_bytes(found.to_bytes())
    assert again.to_bytes() == found.to_bytes()
    assert again == RegistryInventory(INSIDE, {"quay/app": holding(BASE, LAYER)})
    assert again.digests == {APP.digest, BASE, LAYER}
    pretty = json.dumps(json.loads(found.to_bytes()), indent=4).encode()
    assert read_base(pretty, "x").digest == Digest.of(found.to_bytes())


@pytest.mark.parametrize(
    "data",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"kind":"Inventory","schemaVersion":2}',
        b'{"kind":"Inventory","schemaVersion":1}',
        b'{"kind":"Inventory","schemaVersion":1,"registry":"reg.lan","layout":"deep","repositories":{}}',
        b'{"kind":"Inventory","schemaVersion":1,"registry":"r","layout":"host","repositories":{"a":{"tags":{"1":"x"}}}}',
    ],
)
def test_what_is_no_base_is_refused_by_name(data):
    with pytest.raises(ConfigurationError, match=r"carried\.json"):
        read_base(data, "carried.json")
    with pytest.raises(ConfigurationError):
        RegistryInventory.from_bytes(data)


def test_what_the_registry_holds_is_left_out_with_the_best_place_for_it():
    lock = lock_of(APP, charts=(chart(),))
    found = inventory(a__first=holding(LAYER, BASE), quay_io=holding(LAYER))
    assert delta(lock, Base.of_inventory(found)).left_out == {LAYER: "a/first", BASE: "a/first"}
    own = RegistryInventory(INSIDE, {"a/first": holding(LAYER), "quay.io/a/app": holding(LAYER)})
    changed = delta(lock, Base.of_inventory(own))
    assert changed.left_out == {LAYER: "quay.io/a/app"}
    assert changed.base
    assert (changed.base.kind, changed.base.name) == (INVENTORY, "reg.lan/team")
    assert [blob.digest for blob in left_out(changed)] == [LAYER]
    assert last_known(changed, Location.parse("other.lan/x")) == {LAYER: "x/quay.io/a/app"}


def test_in_another_layout_the_place_is_named_as_it_was_found():
    flat = Location.parse("reg.lan/team", "flat")
    held = RegistryInventory(flat, {"elsewhere": holding(LAYER), "quay.io--a--app": holding(LAYER)})
    changed = delta(lock_of(APP), Base.of_inventory(held))
    assert last_known(changed, flat) == {LAYER: "team/quay.io--a--app"}


def test_an_older_lock_is_a_base_whose_places_are_images():
    other = image("ghcr.io/b/other:1", "other")
    changed = delta(lock_of(APP, other), read_base(lock_of(APP, image("ghcr.io/b/third:1", "third")).to_bytes(), "old"))
    assert changed.left_out == {CONFIG: "quay.io/a/app", BASE: "quay.io/a/app", LAYER: "quay.io/a/app"}
    assert changed.base
    assert changed.base.kind == LOCK
    assert set(last_known(changed, Location.parse("reg.lan", "flat")).values()) == {"quay.io--a--app"}
    assert incomplete(changed) == ("quay.io/a/app:1", "ghcr.io/b/other:1")


def test_two_tags_of_one_repository_are_one_place():
    lock = lock_of(APP, image("quay.io/a/app:2"))
    assert Base.of_lock(lock).places[LAYER] == ("quay.io/a/app",)


def test_without_anything_in_common_the_bundle_is_whole():
    lock = rich_lock()
    assert delta(lock, Base.of_inventory(inventory())) == lock
    assert not left_out(lock)
    assert incomplete(lock) == ()
    assert last_known(lock, INSIDE) == {}
