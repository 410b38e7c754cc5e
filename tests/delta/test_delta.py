"""delta: an inventory is taken inside, a bundle without what is there is made outside, and push finds everything."""

from __future__ import annotations

import dataclasses

import pytest
import requests

from airgap.bundle import BundleReader, BundleWriter, arrange
from airgap.errors import BundleError, ConfigurationError, IntegrityError
from airgap.inventory import Base, RegistryInventory, delta, incomplete, left_out, read_base
from airgap.lock import INVENTORY, LOCK, LockedBase
from airgap.oci import Digest
from airgap.plan import missing
from airgap.push import push
from airgap.push.inventory import take
from airgap.ref import Location
from airgap.verify import verify
from tests.bundle.estate import Estate, bundle, small
from tests.fetch.conftest import connect
from tests.push.conftest import KINDS, asked
from tests.push.test_push import held, send

SHARED = b"a shared layer " * 40
OLD_BIG, NEW_BIG = b"a large layer of before " * 4000, b"a large layer of after " * 4000


def older() -> Estate:
    estate = small()
    estate.image("quay.io/team/big:1", OLD_BIG, b"stays the same " * 50)
    return estate


def newer() -> Estate:
    """A release later: one image as it was, one with a new layer, one that moved to another repository."""
    estate = small()
    estate.image("quay.io/team/big:2", NEW_BIG, b"stays the same " * 50)
    estate.image("quay.io/other/mover:1", OLD_BIG, SHARED)
    return estate


def write(estate: Estate, base: Base, path):
    """Write the delta bundle of ``estate``, from the very blobs that the writer asks for; return them."""
    lock = delta(estate.lock, base)
    with BundleWriter(path, lock) as writer:
        asked_for = missing(lock, writer.held)
        for descriptor in asked_for:
            with writer.sink(descriptor) as sink:
                sink.write(estate.contents[descriptor.digest])
        writer.finish()
    return {descriptor.digest for descriptor in asked_for}


@pytest.fixture(params=KINDS)
def filled(request, tmp_path):
    """Each registry in turn, with the older bundle in it."""
    with KINDS[request.param](tmp_path) as running:
        send(bundle(older(), tmp_path / "old.tar"), running.host)
        yield running


def inventory(host, prefix="mirror", locks=()):
    return take(connect(host), Location.parse(f"{host}/{prefix}"), locks=locks)


@pytest.mark.registry
def test_an_inventory_by_catalog_is_the_same_as_by_the_lock_that_was_pushed(filled):
    by_catalog = inventory(filled.host)
    by_lock = inventory(filled.host, locks=[older().lock])
    assert by_catalog.repositories.keys() == by_lock.repositories.keys()
    assert by_catalog.repositories["quay.io/team/big"] == by_lock.repositories["quay.io/team/big"]
    expected = {blob.digest for blob in older().images[-1].tree.blobs}
    assert by_lock.repositories["quay.io/team/big"].blobs == expected
    assert by_lock.repositories["charts/operator"].tags
    assert RegistryInventory.from_bytes(by_lock.to_bytes()) == by_lock


@pytest.mark.registry
def test_a_delta_carries_the_missing_blobs_alone_and_the_push_completes_the_images(filled, tmp_path):
    base = Base.of_inventory(inventory(filled.host))
    carried = write(newer(), base, tmp_path / "delta.tar")
    there = {blob.digest for image in older().images for tree in image.trees for blob in tree.blobs}
    assert Digest.of(NEW_BIG) in carried
    assert not carried & {Digest.of(OLD_BIG), Digest.of(SHARED)}
    whole = arrange(newer().lock)
    with BundleReader.open(tmp_path / "delta.tar") as reader:
        assert reader.size < whole.size - len(OLD_BIG)
        absent = {blob.digest for blob in left_out(reader.lock)}
        assert absent == there & set(newer().lock.needed()) - {it.digest for it in reader.lock.blobs().values()}
        assert reader.lock.base == LockedBase(INVENTORY, f"{filled.host}/mirror", base.digest, reader.lock.left_out)
    assert verify(tmp_path / "delta.tar")
    send(tmp_path / "delta.tar", filled.host)
    assert held(filled.host, newer())


@pytest.mark.registry
def test_a_delta_on_an_older_lock_goes_the_same_way(filled, tmp_path):
    carried = write(newer(), read_base(older().lock.to_bytes(), "old.lock"), tmp_path / "delta.tar")
    assert not carried & {Digest.of(OLD_BIG), Digest.of(SHARED)}
    with BundleReader.open(tmp_path / "delta.tar") as reader:
        assert reader.lock.base
        assert reader.lock.base.kind == LOCK
        assert reader.lock.left_out[Digest.of(OLD_BIG)] == "quay.io/team/big"
    send(tmp_path / "delta.tar", filled.host)
    assert held(filled.host, newer())


@pytest.mark.registry
def test_a_base_that_has_lost_a_blob_is_refused_before_the_first_byte(target, tmp_path):
    send(bundle(older(), tmp_path / "old.tar"), target.host)
    write(newer(), Base.of_inventory(inventory(target.host)), tmp_path / "delta.tar")
    lost = Digest.of(SHARED)
    for repository in ("quay.io/team/app", "docker.io/library/busybox"):
        gone = requests.delete(f"{target.url}/v2/mirror/{repository}/blobs/{lost}", timeout=30)
        assert gone.status_code == 202
    target.restart()  # distribution keeps what it knows of blobs in memory
    before = len(asked(target))
    with pytest.raises(IntegrityError) as caught:
        send(tmp_path / "delta.tar", target.host)
    assert caught.value.exit_code == 4
    assert str(lost) in caught.value.message
    assert "quay.io/team/app:1.0" in caught.value.message
    assert "nothing was sent" in caught.value.message
    assert "airgap inventory" in caught.value.hint
    assert {method for method, _, _ in asked(target)[before:]} == {"HEAD"}
    with pytest.raises(IntegrityError):
        send(tmp_path / "delta.tar", target.host, dry_run=True)


@pytest.mark.registry
def test_an_image_that_lost_a_blob_in_its_own_repository_is_made_whole_from_another(target, tmp_path):
    send(bundle(older(), tmp_path / "old.tar"), target.host)
    write(newer(), Base.of_inventory(inventory(target.host)), tmp_path / "delta.tar")
    lost = Digest.of(SHARED)
    assert requests.delete(f"{target.url}/v2/mirror/docker.io/library/busybox/blobs/{lost}", timeout=30).ok
    target.restart()
    send(tmp_path / "delta.tar", target.host)
    assert held(target.host, newer())


@pytest.mark.registry
def test_where_nothing_is_mounted_a_left_out_blob_is_copied_through_this_host(proxy, tmp_path):
    send(bundle(older(), tmp_path / "old.tar"), proxy.host)
    write(newer(), Base.of_inventory(inventory(proxy.host)), tmp_path / "delta.tar")

    def no_mount(method, path):
        return (405, {}, b"{}") if method == "POST" and "mount=" in path else None

    proxy.before = no_mount
    proxy.seen.clear()
    send(tmp_path / "delta.tar", proxy.host)
    read = [path for method, path in proxy.seen if method == "GET" and "/blobs/" in path]
    assert f"/v2/mirror/quay.io/team/big/blobs/{Digest.of(OLD_BIG)}" in read
    assert held(proxy.host, newer())


@pytest.mark.registry
def test_another_prefix_than_the_inventory_s_is_refused_unless_the_blobs_lie_there_too(target, tmp_path):
    send(bundle(older(), tmp_path / "old.tar"), target.host)
    write(newer(), Base.of_inventory(inventory(target.host)), tmp_path / "delta.tar")
    with pytest.raises(IntegrityError, match=r"are not at .*/elsewhere"):
        send(tmp_path / "delta.tar", target.host, prefix="elsewhere")


@pytest.mark.registry
def test_a_registry_that_lists_nothing_needs_a_lock(proxy):
    proxy.before = lambda _, path: (404, {}, b"") if "_catalog" in path else None
    with pytest.raises(ConfigurationError, match="does not list its repositories"):
        inventory(proxy.host)
    assert not inventory(proxy.host, locks=[older().lock]).repositories


@pytest.mark.registry
def test_an_inventory_of_an_interrupted_push_knows_the_blobs_without_a_manifest(target, tmp_path):
    path = bundle(older(), tmp_path / "old.tar")
    with BundleReader.open(path) as reader:
        push(reader, connect(target.host), Location.parse(f"{target.host}/mirror"))
    requests.delete(
        f"{target.url}/v2/mirror/quay.io/team/big/manifests/{older().images[-1].digest}", timeout=30
    ).raise_for_status()
    found = inventory(target.host, locks=[older().lock]).repositories["quay.io/team/big"]
    assert not found.manifests
    assert Digest.of(OLD_BIG) in found.blobs


def test_a_base_that_has_nothing_of_it_makes_a_whole_bundle():
    nothing = Base.of_inventory(RegistryInventory(Location.parse("reg.lan")))
    assert delta(newer().lock, nothing).to_bytes() == newer().lock.to_bytes()


def test_a_delta_on_a_delta_builds_on_what_the_first_left_out_too():
    first = delta(newer().lock, Base.of_lock(older().lock))
    second = delta(newer().lock, Base.of_lock(first))
    assert second.left_out.keys() == {
        blob.digest for image in newer().images for tree in image.trees for blob in tree.blobs
    } - {blob.digest for it in newer().artifacts for blob in it.tree.blobs}
    again = delta(first, Base.of_lock(older().lock))
    assert again.to_bytes() == first.to_bytes()


def test_what_a_delta_cannot_give_by_itself_is_no_entry_for_other_tools(tmp_path):
    lock = delta(newer().lock, Base.of_lock(older().lock))
    assert "quay.io/team/big:2" in incomplete(lock)
    index = next(member for member in arrange(lock).members if member.name == "index.json")
    assert index.content is not None
    assert b"quay.io/team/big:2" not in index.content
    assert b"charts/operator" in index.content


@pytest.mark.parametrize("what", ["manifest", "chart", "stranger"])
def test_a_lock_that_leaves_out_what_must_be_carried_is_refused(what):
    lock = small().lock
    digest = {
        "manifest": lock.images[0].digest,
        "chart": lock.artifacts[0].content.digest,
        "stranger": Digest.of(b"nobody knows this"),
    }[what]
    forged = dataclasses.replace(lock, base=LockedBase(LOCK, "x", Digest.of(b""), {digest: "quay.io/a/b"}))
    with pytest.raises(BundleError, match="must be carried"):
        arrange(forged)
