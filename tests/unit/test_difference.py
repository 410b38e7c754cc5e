import json
from dataclasses import replace

from airgap.difference import Change, Side, compare
from airgap.lock import Lock
from airgap.oci import Digest
from tests.unit.test_lock import AMD64, chart, image


def side(*images, charts=(), spec=None, crds=None):
    return Side(Lock("wandb", (), images, charts, channel={"spec": json.dumps(spec)} if spec else {}), crds)


def test_two_equal_bundles_do_not_differ():
    found = compare(side(image("a.io/x:1")), side(image("a.io/x:1")))
    assert not found
    assert found.carry == 0
    assert found.to_json()["differs"] is False
    assert found.to_json()["crds"] is None


def test_images_are_added_removed_moved_and_retagged():
    one, two, three = image("a.io/x:1"), image("a.io/y:1", "y"), image("a.io/z:1", "z")
    moved, newer = image("a.io/y:1", "other"), image("a.io/z:2", "newer")
    found = compare(side(one, two, three), side(moved, newer, image("b.io/n@" + str(two.digest), "y")))
    assert found.images == (
        Change("a.io/x:1", str(one.digest), None),
        Change("a.io/y:1", str(two.digest), str(moved.digest)),
        Change("a.io/z", f"1@{three.digest}", f"2@{newer.digest}"),
        Change(f"b.io/n@{two.digest}", None, str(two.digest)),
    )
    assert [change.how for change in found.images] == ["removed", "changed", "changed", "added"]
    shared = {blob.digest for it in (one, two, three) for tree in it.trees for blob in (*tree.manifests, *tree.blobs)}
    new = {blob.digest: blob.size for it in (moved, newer) for blob in (*it.tree.manifests, *it.tree.blobs)}
    assert found.carry == sum(size for digest, size in new.items() if digest not in shared)


def test_two_tags_of_a_repository_are_not_paired_by_guess():
    found = compare(side(image("a.io/x:1"), image("a.io/x:2", "two")), side(image("a.io/x:3", "tri")))
    assert [(it.name, it.how) for it in found.images] == [
        ("a.io/x:1", "removed"),
        ("a.io/x:2", "removed"),
        ("a.io/x:3", "added"),
    ]
    pinned = image("a.io/x@" + str(image("a.io/x:1").digest))
    assert compare(side(image("a.io/x:1")), side(pinned)).images[0].new == str(pinned.digest)


def test_charts_and_other_artifacts_are_told_by_version_and_content():
    tools = [replace(chart("helm", version, "tool"), platform=AMD64) for version in ("4.0", "4.1")]
    found = compare(side(charts=(chart(version="1"), tools[0])), side(charts=(chart(version="2"), tools[1])))
    content = chart().content.digest
    assert found.charts == (Change("operator", f"1 {content}", f"2 {content}"),)
    assert [it.name for it in found.others] == ["tool helm linux/amd64"]


def test_values_of_the_channel_are_compared_by_path_and_kind():
    old = {"values": {"global": {"host": "a", "on": True, "gone": None}, "list": [1, 2]}}
    new = {"values": {"global": {"host": "b", "on": 1}, "list": [1]}}
    found = compare(side(spec=old), side(spec=new))
    assert [(it.name, it.old, it.new) for it in found.values] == [
        ("values.global.gone", "null", None),
        ("values.global.host", "a", "b"),
        ("values.global.on", True, 1),
        ("values.list[1]", 2, None),
    ]
    broken = Side(Lock("wandb", (), (), (), channel={"spec": "{"}))
    assert compare(broken, broken).values == ()


def test_crds_are_compared_where_both_are_known():
    crd = {"spec": {"versions": [{"name": "v1"}, {"name": "v2"}]}}
    found = compare(side(crds={"op: a": crd, "op: b": {}}), side(crds={"op: a": {**crd, "x": 1}, "op: c": {"spec": 3}}))
    assert found.crds
    assert [(it.name, it.how) for it in found.crds] == [("op: a", "changed"), ("op: b", "removed"), ("op: c", "added")]
    assert str(found.crds[0].new).startswith("v1,v2 sha256:")
    assert str(found.crds[2].new) == f"sha256:{Digest.of(json.dumps({'spec': 3}, separators=(',', ':')).encode()).hex}"
    assert compare(side(crds={}), side()).crds is None
    assert found.to_json()["crds"]
