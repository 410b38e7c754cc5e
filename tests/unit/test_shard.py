"""Which share a shard is, and what belongs to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.plan import Inventory, after, plan, wanted
from airgap.ref import Location
from airgap.shard import INDEX, WHOLE, Shard, portion, shares
from tests.bundle.estate import small

WANT = wanted(small().lock, Location.parse("reg.lan/team"))
PAIRS = sorted({(item.repository, it.digest) for item in WANT for it in (*item.tree.blobs, *item.tree.manifests)})


@pytest.mark.parametrize(
    ("text", "environ", "shard"),
    [
        ("1/1", {}, WHOLE),
        ("2/4", {INDEX: "0"}, Shard(2, 4)),
        (" 4/4 ", {}, Shard(4, 4)),
        ("auto/4", {INDEX: "0"}, Shard(1, 4)),
        ("auto/4", {INDEX: "3"}, Shard(4, 4)),
    ],
)
def test_a_share_is_a_number_from_1_or_the_index_of_a_pod(text, environ, shard):
    assert Shard.parse(text, environ) == shard


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("x/y", {}, "'x/y' names no share"),
        ("2", {}, "'2' names no share"),
        ("-1/3", {}, "'-1/3' names no share"),
        ("", {}, "'' names no share"),
        ("0/3", {}, "--shard 0/3 asks for share 0 of 3, and there is none"),
        ("4/3", {}, "--shard 4/3 asks for share 4 of 3, and there is none"),
        ("1/0", {}, "asks for share 1 of 0"),
        ("auto/3", {}, "JOB_COMPLETION_INDEX, which is not set"),
        ("auto/3", {INDEX: "x"}, "JOB_COMPLETION_INDEX, which is 'x'"),
        ("auto/3", {INDEX: "3"}, "--shard auto/3 with JOB_COMPLETION_INDEX 3 asks for share 4 of 3"),
    ],
)
def test_what_is_no_share_is_refused(text, environ, said):
    with pytest.raises(ConfigurationError, match=r".") as caught:
        Shard.parse(text, environ)
    assert said in caught.value.message
    assert "NUMBER/COUNT" in caught.value.hint


def test_a_share_is_written_as_it_is_read():
    assert str(Shard(2, 4)) == "2/4"


inventories = st.lists(st.sampled_from(PAIRS), unique=True).map(lambda pairs: Inventory(frozenset(pairs)))


@given(inventories)
def test_the_whole_is_the_plan(inventory):
    assert portion(WANT, inventory, WHOLE).plan == plan(WANT, inventory)


@given(inventories, st.integers(2, 9))
def test_the_shares_are_the_whole_and_nothing_twice(inventory, count):
    blobs = [copy for number in range(1, count + 1) for copy in portion(WANT, inventory, Shard(number, count)).plan.blobs]
    assert sorted(blobs, key=repr) == sorted(plan(WANT, inventory).blobs, key=repr)


@given(inventories, st.data(), st.integers(2, 5))
def test_in_whatever_order_shards_work_the_last_one_finishes(inventory, data, count):
    for number in data.draw(st.permutations(range(1, count + 1))):
        part = portion(WANT, inventory, Shard(number, count))
        held = after(inventory, part.plan).blobs
        needed = {(it.repository, blob.digest) for it in part.ready for blob in it.tree.blobs}
        assert needed <= held, "no manifest before what it names"
        inventory = after(inventory, part.plan)
    assert not part.awaiting
    assert not plan(WANT, inventory)


def test_referrers_wait_for_all_that_is_in_their_repository():
    root = next(item for item in WANT if not item.is_referrer and item.repository.endswith("team/app"))
    referrers = [item for item in WANT if item.is_referrer]
    lacking = root.tree.blobs[-1].digest
    owner = shares(WANT, 2)[lacking]
    there = Inventory(frozenset((repository, digest) for repository, digest in PAIRS if digest != lacking))
    other = portion(WANT, there, Shard(3 - owner, 2))
    assert {id(item) for item in other.awaiting} == {id(item) for item in (root, *referrers)}
    assert not portion(WANT, there, Shard(owner, 2)).awaiting


def test_the_shares_weigh_about_the_same():
    sizes = {blob.digest: blob.size for item in WANT for blob in item.tree.blobs}
    owners = shares(WANT, 3)
    counts = [sum(owner == number for owner in owners.values()) for number in (1, 2, 3)]
    assert set(owners) == set(sizes)
    assert max(counts) - min(counts) <= 1, "all of these are small"
