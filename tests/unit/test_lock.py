import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.lock import (
    DOCKER_ENGINE,
    INVENTORY,
    Lock,
    LockedArtifact,
    LockedBase,
    LockedImage,
    LockedReferrer,
    LockedTree,
    Origin,
)
from airgap.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Platform
from airgap.ref import Reference

AMD64 = Platform("linux", "amd64")


def blob(name, kind=OCI_CONFIG, **more):
    return Descriptor.of(kind, name.encode(), **more)


def tree(name, *layers):
    manifest = blob(f"{name} manifest", OCI_MANIFEST)
    return LockedTree(manifest, (manifest,), (blob(f"{name} config"), *(blob(layer, "application/layer") for layer in layers)))


def image(reference, name="app", **more):
    return LockedImage(Reference.parse(reference), tree(name, "base", f"{name} layer"), **more)


def chart(name="operator", version="1.4.8", kind="chart", **more):
    return LockedArtifact(kind, name, version, "https://charts.example", tree(f"chart {name}"), blob(f"{name}.tgz"), **more)


def rich_lock():
    index = blob("index", OCI_INDEX, platform=AMD64)
    sparse = LockedTree(index, (blob("child", OCI_MANIFEST), index), (blob("c"),), absent=(Digest.of(b"arm64"),))
    app = image(
        "quay.io/a/app:1",
        origins=(Origin("template", chart="x-1", path="spec"), Origin("manifest"), Origin("manifest")),
        features=("weave", "api"),
        referrers=(
            LockedReferrer(Digest.of(b"s"), tree("signature"), "sha256-0.sig"),
            LockedReferrer(Digest.of(b"t"), tree("sbom")),
        ),
        index=index,
        notes=("the tag moved",),
    )
    local = LockedImage(Reference.parse("local/built:1"), sparse, source=DOCKER_ENGINE)
    return Lock(
        "wandb",
        (AMD64,),
        (app, local),
        (chart(), chart("helm", "4.3.1", "tool", platform=AMD64, annotations={"a": "b"})),
        channel={"url": "https://deploy.example"},
        features=("weave", "api"),
        generator="airgap 0",
    )


def test_a_lock_reads_back_as_it_was_written():
    lock = rich_lock()
    again = Lock.from_bytes(lock.to_bytes(), "airgap.lock")
    assert again.to_bytes() == lock.to_bytes()
    assert again.digest == lock.digest == Digest.of(lock.to_bytes())
    assert {image.reference: image.referrers for image in again.images} == {
        image.reference: image.referrers for image in lock.images
    }
    assert again.image(Reference.parse("local/built:1")) == lock.images[1]
    assert again.artifacts == lock.artifacts


@given(st.permutations(range(3)), st.permutations(range(2)))
def test_the_same_things_in_another_order_are_the_same_lock(images, artifacts):
    some = [image(f"quay.io/a/{name}:1", name) for name in "xyz"]
    charts = [chart(), chart("operator-wandb", "0.43.8")]
    lock = Lock("wandb", (AMD64,), tuple(some[i] for i in images), tuple(charts[i] for i in artifacts))
    assert lock.to_bytes() == Lock("wandb", (AMD64,), tuple(some), tuple(charts)).to_bytes()


def test_a_tool_for_two_platforms_has_one_order_too():
    tools = [chart("helm", "4", "tool", platform=Platform("linux", name)) for name in ("amd64", "arm64")]
    assert Lock("x", (), (), tuple(tools)).to_bytes() == Lock("x", (), (), tuple(reversed(tools))).to_bytes()


def test_origins_are_kept_once_and_in_order():
    written = json.loads(rich_lock().to_bytes())
    app = next(item for item in written["images"] if item["reference"] == "quay.io/a/app:1")
    assert app["origins"] == [{"kind": "manifest"}, {"kind": "template", "chart": "x-1", "path": "spec"}]
    assert app["features"] == ["api", "weave"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'"lock"',
        b'{"kind": "BundleLock", "schemaVersion": 999}',
        b'{"kind": "BundleLock", "schemaVersion": 1}',
        rich_lock().to_bytes().replace(b"sha256:", b"sha257:", 1),
        rich_lock().to_bytes().replace(b'"manifests":[', b'"manifests":3,"x":[', 1),
        rich_lock().to_bytes().replace(b'"reference":"', b'"reference":"!', 1),
        rich_lock().to_bytes().replace(b'"kind":"manifest"', b'"colour":"manifest"', 1),
        rich_lock().to_bytes().replace(b'"manifests":[{', b'"manifests":[],"x":[{', 1),
        b"[" * 100_000,
    ],
    ids=range(13),
)
def test_what_is_no_lock_is_refused_in_one_sentence(raw):
    with pytest.raises(ConfigurationError, match=r"airgap\.lock"):
        Lock.from_bytes(raw, "airgap.lock")


def test_an_origin_is_told_outermost_first():
    origin = Origin(
        "template", "operator-wandb-1", "weave", "templates/app.yaml", "Deployment/app", "spec.image", "app.image.tag"
    )
    assert str(origin) == (
        "template: operator-wandb-1 > profile weave > templates/app.yaml > Deployment/app > spec.image (value app.image.tag)"
    )
    assert str(Origin("manifest")) == "manifest: "


def test_a_tree_counts_a_blob_once():
    manifest = blob("m", OCI_MANIFEST)
    assert LockedTree(manifest, (manifest,), (blob("four"), blob("four"))).size == 1 + 4


def test_trees_come_artifacts_first_and_referrers_after_their_image():
    lock = rich_lock()
    roots = [item.root.digest for item in lock.trees()]
    app, local = lock.images
    charts = [item.tree.root.digest for item in lock.artifacts]
    assert roots == [*charts, app.digest, *(it.tree.root.digest for it in app.referrers), local.digest]


def test_blobs_are_everything_once():
    lock = rich_lock()
    blobs = lock.blobs()
    assert lock.images[0].index.digest in blobs
    shared = Lock("x", (), (image("a/b:1"), image("a/c:1", "other")), ())
    assert len(shared.blobs()) == 7  # two manifests, two configs, one base layer for both, two layers
    assert all(descriptor.digest == digest for digest, descriptor in blobs.items())


def test_artifacts_are_found_by_kind_and_name():
    lock = rich_lock()
    assert lock.find("tool", "helm").version == "4.3.1"
    assert lock.find("chart", "helm") is None


class TestWhichImageServesAReference:
    lock = rich_lock()
    app = lock.images[0]

    @pytest.mark.parametrize("digest", [app.digest, app.index.digest])
    def test_by_a_digest_that_it_holds_whatever_the_tag(self, digest):
        wanted = replace(self.app.reference, tag="9", digest=digest)
        assert self.lock.image(wanted) is self.app

    def test_by_its_tag(self):
        assert self.lock.image(Reference.parse("quay.io/a/app:1")) is self.app

    @pytest.mark.parametrize(
        "text", ["quay.io/a/app:2", f"quay.io/a/app:1@{Digest.of(b'other')}", "quay.io/a/ap:1", "ghcr.io/a/app:1"]
    )
    def test_nothing_serves_what_is_not_held(self, text):
        assert self.lock.image(Reference.parse(text)) is None

    def test_a_child_of_an_index_is_held_too(self):
        local = self.lock.images[1]
        child = local.tree.manifests[0].digest
        assert self.lock.image(Reference.parse(f"local/built@{child}")) is local


def test_a_lock_without_a_base_says_nothing_of_it():
    assert b'"base"' not in rich_lock().to_bytes()
    assert rich_lock().left_out == {}
    assert rich_lock().blobs() == rich_lock().needed()


def test_a_delta_says_what_it_builds_on_and_what_it_leaves_out():
    lock = rich_lock()
    layer = lock.images[0].tree.blobs[1].digest
    delta = replace(lock, base=LockedBase(INVENTORY, "reg.lan/team", Digest.of(b"inventory"), {layer: "quay.io/a/app"}))
    again = Lock.from_bytes(delta.to_bytes())
    assert again.base == delta.base
    assert again.to_bytes() == delta.to_bytes() != lock.to_bytes()
    assert dict(again.left_out) == {layer: "quay.io/a/app"}
    assert again.needed().keys() - again.blobs().keys() == {layer}


@pytest.mark.parametrize(
    "base", [{"kind": "rumour", "name": "x", "digest": "sha256:" + "0" * 64, "blobs": {}}, {"kind": "lock"}, [1]]
)
def test_a_base_that_is_none_is_refused(base):
    document = json.loads(rich_lock().to_bytes()) | {"base": base}
    with pytest.raises(ConfigurationError, match="not a readable lock"):
        Lock.from_bytes(json.dumps(document).encode())
