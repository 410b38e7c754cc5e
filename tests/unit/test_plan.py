import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.lock import Lock, LockedReferrer
from airgap.oci import Digest
from airgap.plan import Inventory, Wanted, chart_tag, digest_tag, may_be_left_out, missing, plan, wanted
from airgap.ref import Location
from tests.unit.test_lock import chart, image, rich_lock, tree

INSIDE = Location.parse("reg.lan/team")


def lock_of(*images, charts=()):
    return Lock("x", (), images, charts)


def test_everything_has_its_place_charts_first_and_referrers_last():
    signed = image("quay.io/a/app:1", referrers=(LockedReferrer(Digest.of(b"s"), tree("signature"), "sha256-0.sig"),))
    want = wanted(lock_of(signed, charts=(chart(version="1.0.0+up"), chart("helm", "4", "tool"))), INSIDE)
    assert [(item.repository, item.tag, item.what, item.is_referrer) for item in want] == [
        ("team/charts/operator", "1.0.0_up", "chart operator 1.0.0+up", False),
        ("team/quay.io/a/app", "1", "quay.io/a/app:1", False),
        ("team/quay.io/a/app", "sha256-0.sig", "referrer of quay.io/a/app:1", True),
    ]


def test_what_is_known_by_digest_alone_gets_a_tag_that_keeps_it():  # R14
    digest = image("quay.io/a/app:1").digest
    want = wanted(lock_of(image(f"quay.io/a/app@{digest}")), INSIDE)
    assert want[0].tag == digest_tag(digest) == f"sha256-{digest.hex}"


def test_a_chart_version_is_a_tag_with_an_underscore():
    assert chart_tag("1.0.0+a.b") == "1.0.0_a.b"


def test_a_plan_for_an_empty_place_is_everything_in_order():
    lock = rich_lock()
    todo = plan(wanted(lock, INSIDE), Inventory())
    assert todo
    local = [copy.descriptor.media_type for copy in todo.manifests if copy.repository.endswith("local/built")]
    assert local == ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"]
    assert todo.repositories == ("team/charts/operator", "team/docker.io/local/built", "team/quay.io/a/app")
    assert todo.size == sum(copy.descriptor.size for copy in (*todo.blobs, *todo.manifests))


def test_a_blob_of_two_repositories_is_sent_once_and_mounted_after():
    one, two = image("quay.io/a/one:1"), image("quay.io/a/two:1", "two")
    todo = plan(wanted(lock_of(one, two), INSIDE), Inventory())
    base = [copy for copy in todo.blobs if copy.descriptor in one.tree.blobs and copy.descriptor in two.tree.blobs]
    assert [(copy.repository, copy.mount_from) for copy in base] == [
        ("team/quay.io/a/one", ()),
        ("team/quay.io/a/two", ("team/quay.io/a/one",)),
    ]


def test_a_blob_that_lies_elsewhere_in_the_registry_is_mounted():
    one = image("quay.io/a/one:1")
    held = Inventory.of([one.tree.blobs[0].digest], "other/place")
    todo = plan(wanted(lock_of(one), INSIDE), held)
    assert todo.blobs[0].mount_from == ("other/place",)


def test_a_tag_that_points_to_the_root_says_that_all_is_there():
    one = image("quay.io/a/one:1")
    there = Inventory(tags={("team/quay.io/a/one", "1"): one.digest})
    todo = plan(wanted(lock_of(one), INSIDE), there)
    assert not todo
    assert (todo.size, todo.repositories) == (0, ())


def test_a_tag_that_points_elsewhere_is_set_again_and_only_that():
    one = image("quay.io/a/one:1")
    digests = [item.digest for item in (*one.tree.blobs, *one.tree.manifests)]
    held = Inventory(Inventory.of(digests, "team/quay.io/a/one").blobs, {("team/quay.io/a/one", "1"): Digest.of(b"other")})
    todo = plan(wanted(lock_of(one), INSIDE), held)
    assert (todo.blobs, todo.manifests) == ((), ())
    assert [(tag.tag, tag.descriptor.digest) for tag in todo.tags] == [("1", one.digest)]
    assert todo
    assert todo.repositories == ("team/quay.io/a/one",)


def test_the_same_image_under_two_tags_is_sent_once():
    one, two = image("quay.io/a/one:1"), image("quay.io/a/one:2")
    todo = plan(wanted(lock_of(one, two), INSIDE), Inventory())
    assert len(todo.blobs) == len(one.tree.blobs)
    assert len(todo.manifests) == 1
    assert [tag.tag for tag in todo.tags] == ["1", "2"]


def test_a_tree_without_a_tag_is_pushed_by_digest():
    one = image("quay.io/a/one:1")
    todo = plan([Wanted("team/x", one.tree, "", "x")], Inventory())
    assert todo.manifests
    assert todo.tags == ()


LOCK = rich_lock()
PLACES = [
    (item.repository, descriptor.digest)
    for item in wanted(LOCK, INSIDE)
    for descriptor in (*item.tree.manifests, *item.tree.blobs)
]


@given(st.sets(st.sampled_from(PLACES)))
def test_whatever_is_there_plan_and_inventory_together_are_the_lock(held):
    todo = plan(wanted(LOCK, INSIDE), Inventory(frozenset(held)))
    sent = {(copy.repository, copy.descriptor.digest) for copy in (*todo.blobs, *todo.manifests)}
    assert not sent & held
    assert sent | held == set(PLACES)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_partial_bundle_misses_the_rest_in_the_locks_order(count):
    digests = list(LOCK.blobs())
    assert [item.digest for item in missing(LOCK, digests[:count])] == digests[count:]


def test_two_sources_in_one_place_are_refused_before_anything_is_sent():  # R13
    lock = lock_of(image("docker.io/x/app:1", "one"), image("quay.io/x/app:1", "two"))
    assert len(wanted(lock, INSIDE)) == 2
    with pytest.raises(ConfigurationError) as caught:
        wanted(lock, Location.parse("reg.lan/team", "path"))
    assert "docker.io/x/app:1 and quay.io/x/app:1 to team/x/app:1" in caught.value.message
    assert "--layout host" in caught.value.hint


def test_one_image_under_two_names_may_share_a_place_and_so_may_two_tags():
    same = lock_of(image("docker.io/x/app:1"), image("quay.io/x/app:1"), image("quay.io/x/app:2", "two"))
    assert {item.repository for item in wanted(same, Location.parse("reg.lan/team", "path"))} == {"team/x/app"}


def test_an_image_where_a_chart_lies_is_refused():
    lock = lock_of(image("quay.io/charts/operator:1.4.8"), charts=(chart(),))
    with pytest.raises(ConfigurationError, match=r"chart operator 1\.4\.8 and quay\.io/charts/operator:1\.4\.8"):
        wanted(lock, Location.parse("reg.lan", "path"))


def test_a_name_that_no_registry_takes_is_refused():
    lock = lock_of(image("quay.io/" + "a" * 200 + "/app:1"))
    with pytest.raises(ConfigurationError, match="longer name than the 255 characters"):
        wanted(lock, Location.parse("reg.lan/" + "b" * 60))


def test_a_flat_place_holds_charts_and_images_in_one_component_each():
    want = wanted(lock_of(image("quay.io/a/app:1"), charts=(chart(),)), Location.parse("reg.lan/team", "flat"))
    assert [item.repository for item in want] == ["team/charts--operator", "team/quay.io--a--app"]


def test_a_delta_may_leave_out_layers_and_configs_of_images_and_nothing_else():
    lock = rich_lock()
    may = may_be_left_out(lock)
    assert {str(digest) for digest in may} == {
        str(blob.digest) for image in lock.images for tree in image.trees for blob in tree.blobs
    }
    same = lock_of(image("quay.io/a/app:1"), charts=(chart(),))
    shared = same.artifacts[0].tree.blobs[0]
    taken = lock_of(image("quay.io/a/app:1"), image("quay.io/a/other:1", "chart operator"), charts=(chart(),))
    assert shared.digest not in may_be_left_out(taken)
