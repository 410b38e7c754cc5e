"""push: straight from the tar into real registries, and only what is not there."""

from __future__ import annotations

import dataclasses
import json
import threading

import pytest

from airgap.bundle import BundleReader, arrange
from airgap.errors import BundleError, ConfigurationError, NetworkError, NotFoundError, RegistryError
from airgap.oci import Descriptor
from airgap.plan import wanted
from airgap.progress import Progress
from airgap.push import push
from airgap.ref import Location
from tests.bundle.estate import LAYER, Estate, bundle, small
from tests.fetch.conftest import connect
from tests.push.conftest import asked

pytestmark = pytest.mark.registry


def send(path, host, prefix="mirror", **more):
    """Push the bundle at ``path``; the registry has to be asked anew each time, as by another process."""
    with BundleReader.open(path) as reader:
        return push(reader, connect(host), Location.parse(f"{host}/{prefix}"), **more)


def held(host, estate, prefix="mirror"):
    """Check that the registry holds all of ``estate``, bytes compared."""
    registry = connect(host)
    for item in wanted(estate.lock, Location.parse(f"{host}/{prefix}")):
        if item.tag:
            assert registry.get_manifest(item.repository, item.tag).descriptor.digest == item.tree.root.digest
        for descriptor in item.tree.manifests:
            assert registry.get_manifest(item.repository, str(descriptor.digest)).raw == estate.contents[descriptor.digest]
        for blob in item.tree.blobs:
            assert registry.read_blob(item.repository, blob) == estate.contents[blob.digest]
    return True


def test_everything_arrives_byte_for_byte_in_any_registry(path, anyone):
    result = send(path, anyone.host)
    assert held(anyone.host, small())
    assert not result.warnings
    assert {str(tag).partition("/")[2] for tag in result.tags} >= {
        "mirror/quay.io/team/app:1.0",
        "mirror/docker.io/library/busybox:1.36",
        "mirror/ghcr.io/org/multi:2",
        "mirror/charts/operator:1.4.8_up1",
    }


def test_referrers_can_be_listed_in_any_registry(path, anyone):
    image = small().images[0]
    send(path, anyone.host)
    found = connect(anyone.host).referrers("mirror/quay.io/team/app", image.digest)
    assert [descriptor.digest for descriptor in found] == [image.referrers[0].tree.root.digest]
    assert found[0].artifact_type == "application/vnd.example.signature"
    result = send(path, anyone.host)
    assert len(connect(anyone.host).referrers("mirror/quay.io/team/app", image.digest)) == 1
    assert result.sent == 0


def test_a_second_push_sends_nothing_and_asks_once_per_tag(path, target):
    send(path, target.host)
    before = len(asked(target))
    result = send(path, target.host)
    second = asked(target)[before:]
    assert (result.sent, result.mounted, result.sent_size) == (0, 0, 0)
    assert {method for method, _, _ in second} <= {"HEAD", "GET"}
    heads = [path for method, path, _ in second if method == "HEAD"]
    assert len(heads) == len(set(heads)), "one HEAD each"
    assert sum(not path.startswith("/v2/mirror/quay.io") for path in heads) == 3, "one HEAD for a whole image"
    assert {item.note for item in result.landed} == {"already there"}


def test_a_blob_that_two_repositories_need_is_sent_once_and_mounted(path, target):
    shared = Descriptor.of(LAYER, b"a shared layer " * 40)
    estate = Estate()
    for number in range(3):
        estate.image(f"a.io/image{number}:1", b"a shared layer " * 40, b"own %d" % number)
    result = send(bundle(estate, path.with_name("shared.tar")), target.host)
    assert held(target.host, estate)
    assert (result.mounted, result.sent) == (2, 3 * 3 + 1)
    assert result.sent_size == result.plan.size - 2 * shared.size
    assert len([line for line in target.log.splitlines() if f"mount={shared.digest}".replace(":", "%3A") in line]) >= 2


def test_children_go_before_parents_and_tags_last(path, target):
    send(path, target.host)
    puts = [path for method, path, status in asked(target) if method == "PUT" and "/manifests/" in path and status == 201]
    multi = [path.rpartition("/")[2] for path in puts if "ghcr.io/org/multi" in path]
    index = small().images[2].tree
    assert set(multi[:2]) == {str(child.digest) for child in index.manifests[:2]}
    assert multi[2:] == ["2"]
    signatures = [number for number, path in enumerate(puts) if "sha256-" in path]
    images = [number for number, path in enumerate(puts) if path.endswith(("/1.0", "/1.36", "/2"))]
    assert max(images) < min(signatures), "referrers last"


def test_a_dry_run_makes_the_same_plan_and_changes_nothing(path, target):
    dry = send(path, target.host, dry_run=True)
    assert dry.dry_run
    assert (dry.sent, dry.sent_size) == (0, 0)
    assert {item.note for item in dry.landed} == {"would be pushed"}
    assert connect(target.host).tags("mirror/quay.io/team/app") == ()
    assert not [1 for method, _, _ in asked(target) if method == "PUT"]
    wet = send(path, target.host)
    assert wet.plan == dry.plan


def test_what_is_missing_in_an_image_is_all_that_is_sent(path, target):
    estate = small()
    send(path, target.host)
    estate.image("a.io/new:1", b"a shared layer " * 40, b"a new layer")
    newer = bundle(estate, path.with_name("newer.tar"))
    result = send(newer, target.host)
    assert held(target.host, estate)
    new = estate.images[-1]
    assert {blob.descriptor.digest for blob in result.plan.blobs} == {blob.digest for blob in new.tree.blobs}
    assert [item.note for item in result.landed if item.what == "a.io/new:1"] == ["pushed"]


def test_a_push_that_was_broken_off_goes_on_where_it_was(path, target):
    class Breaking(Progress):
        count = 0

        def done(self, item: str, note: str = "") -> None:
            del item
            if note in {"sent", "mounted"}:
                self.count += 1
            if self.count == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send(path, target.host, progress=Breaking(), jobs=1)
    sent = {path for method, path, status in asked(target) if method == "PUT" and status == 201}
    before = len(asked(target))
    result = send(path, target.host)
    assert held(target.host, small())
    assert result.skipped >= 4
    again = {path for method, path, status in asked(target)[before:] if method == "PUT" and status == 201}
    assert not sent & again


def test_a_tag_that_moved_is_overwritten_and_said_so(path, target):
    send(path, target.host)
    estate = Estate()
    moved = estate.image("quay.io/team/app:1.0", b"another app")
    result = send(bundle(estate, path.with_name("moved.tar")), target.host)
    assert [item.note for item in result.landed] == [f"moved from {small().images[0].digest}"]
    assert connect(target.host).get_manifest("mirror/quay.io/team/app", "1.0").descriptor.digest == moved.digest


def test_the_receipt_names_every_digest(path, target):
    receipt = send(path, target.host).receipt()
    assert json.loads(json.dumps(receipt)) == receipt
    assert receipt["kind"] == "PushReceipt"
    digests = {item["digest"] for item in receipt["items"]}
    assert {str(image.digest) for image in small().images} <= digests
    assert receipt["bundle"] == str(small().lock.digest)


def test_an_image_pinned_by_digest_gets_a_tag_that_keeps_it(tmp_path, target):
    estate = Estate()
    made = estate.picture("pinned", b"layer")
    image = estate.image(f"a.io/pinned@{made.descriptor.digest}", b"layer")
    result = send(bundle(estate, tmp_path / "b.tar"), target.host)
    tag = f"sha256-{image.digest.hex}"
    assert connect(target.host).tags("mirror/a.io/pinned") == (tag,)
    assert [str(name) for name in result.tags] == [f"{target.host}/mirror/a.io/pinned:{tag}"]


def test_foreign_layers_are_refused_before_anything_is_asked(tmp_path, target):
    estate = Estate()
    estate.image("a.io/win:1", b"x", layer_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    path = bundle(estate, tmp_path / "b.tar")
    with pytest.raises(ConfigurationError, match=r"a\.io/win:1"):
        send(path, target.host)
    assert asked(target) == []
    send(path, target.host, include_foreign=True)
    assert held(target.host, estate)


def test_a_damaged_layer_is_blamed_on_the_bundle_and_never_tagged(path, target):
    layer = Descriptor.of(LAYER, b"layer of the app")
    with path.open("r+b") as file:
        file.seek(arrange(small().lock).blobs[layer.digest].offset)
        file.write(b"?")
    with pytest.raises(BundleError, match="is damaged") as caught:
        send(path, target.host)
    assert caught.value.exit_code == 4
    assert connect(target.host).tags("mirror/quay.io/team/app") == ()


def test_a_damaged_manifest_is_found_before_it_is_sent(path, target):
    root = small().images[1].tree.root
    with path.open("r+b") as file:
        file.seek(arrange(small().lock).blobs[root.digest].offset + 5)
        file.write(b"?")
    with pytest.raises(BundleError, match=str(root.digest)):
        send(path, target.host)
    assert connect(target.host).tags("mirror/docker.io/library/busybox") == ()


def test_a_registry_that_is_down_is_a_network_error(path, target):
    target.stop()
    with pytest.raises(NetworkError) as caught:
        send(path, target.host)
    assert caught.value.exit_code == 3


# habits of other registries, played by a proxy in front of the real one


def refused(status, code):
    return status, {"Content-Type": "application/json"}, json.dumps({"errors": [{"code": code, "message": "no"}]}).encode()


@pytest.mark.parametrize(("status", "code"), [(404, "NAME_UNKNOWN"), (403, "DENIED"), (401, "UNAUTHORIZED")])
def test_missing_repositories_are_all_listed_before_a_byte_is_sent(path, proxy, status, code):
    proxy.before = lambda method, path: (
        refused(status, code) if method == "POST" and "/uploads/" in path and "busybox" not in path else None
    )
    with pytest.raises(NetworkError, match="nothing was sent") as caught:
        send(path, proxy.host)
    assert "3 of 4 repositories" in caught.value.message
    for name in ("mirror/charts/operator", "mirror/ghcr.io/org/multi", "mirror/quay.io/team/app"):
        assert name in caught.value.message
    assert not [1 for method, _ in proxy.seen if method in {"PUT", "PATCH"}]
    if status == 404:
        assert isinstance(caught.value, NotFoundError)
        assert "mirror" in caught.value.hint


def test_a_dry_run_lists_missing_repositories_too(path, proxy):
    proxy.before = lambda method, _: refused(404, "NAME_UNKNOWN") if method == "POST" else None
    with pytest.raises(NotFoundError, match="4 of 4 repositories"):
        send(path, proxy.host, dry_run=True, probing=True)


def test_a_dry_run_that_does_not_probe_only_asks(path, proxy):
    proxy.before = lambda method, path: (
        (401, {"Www-Authenticate": f'Bearer realm="http://{proxy.host}/service/token",service="harbor-registry"'}, b"{}")
        if (method, path) == ("GET", "/v2/")
        else None
    )
    dry = send(path, proxy.host, dry_run=True, probing=False)
    assert {method for method, _ in proxy.seen} == {"GET", "HEAD"}
    assert "4 repositories are new there" in dry.warnings[-1]
    assert "--probe" in dry.warnings[-1]
    assert "with Harbor each must be made first: create the project mirror" in dry.warnings[-1]


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_an_immutable_tag_with_the_same_digest_is_no_put_and_with_another_is_named(path, proxy, status):
    send(path, proxy.host)
    proxy.before = lambda method, path: (
        refused(status, "TAG_INVALID") if method == "PUT" and "/manifests/" in path and "sha256:" not in path else None
    )
    assert send(path, proxy.host).sent == 0
    estate = Estate()
    first = estate.image("quay.io/team/app:1.0", b"another app")
    second = estate.image("busybox:1.36", b"another busybox")
    with pytest.raises(RegistryError) as caught:
        send(bundle(estate, path.with_name("moved.tar")), proxy.host)
    assert caught.value.exit_code == 3
    for text in ("quay.io/team/app:1.0", "busybox:1.36", str(first.digest), str(second.digest), str(small().images[0].digest)):
        assert text in caught.value.message
    assert "DELETE" not in {method for method, _ in proxy.seen if "/manifests/" in _}


def test_an_image_that_a_policy_hides_is_pushed_and_warned_about(path, proxy):
    proxy.before = lambda method, path: (
        refused(412, "PROJECTPOLICYVIOLATION") if method in {"HEAD", "GET"} and "busybox/manifests" in path else None
    )
    result = send(path, proxy.host)
    assert any("busybox:1.36" in warning and "policy" in warning for warning in result.warnings)
    proxy.before = lambda *_: None
    assert held(proxy.host, small())


@pytest.mark.parametrize(("status", "code"), [(405, "UNSUPPORTED"), (415, "UNSUPPORTED"), (400, "MANIFEST_INVALID")])
def test_refused_referrers_are_warnings_and_the_images_count(path, proxy, status, code):
    signed = small().images[0].referrers[0].tree.root.digest
    proxy.before = lambda method, path: refused(status, code) if method == "PUT" and str(signed) in path else None
    result = send(path, proxy.host)
    assert len(result.warnings) == 1
    assert "referrer of quay.io/team/app:1.0" in result.warnings[0]
    assert connect(proxy.host).head_manifest("mirror/quay.io/team/app", "1.0") is not None


def test_the_fallback_index_keeps_what_stood_in_it(path, target):
    """distribution 2.8 knows no referrers: the tag sha256-<hex> is the client's to keep."""
    estate = small()
    image = estate.images[0]
    send(path, target.host)
    estate.contents.clear()
    estate = Estate()
    again = estate.image("quay.io/team/app:1.0", b"a shared layer " * 40, b"layer of the app")
    assert again.digest == image.digest
    estate.sign(again)
    other = estate.sign(estate.images[0])
    changed = dataclasses.replace(
        estate.images[0],
        referrers=(dataclasses.replace(other, tree=resigned(estate, other, b"another signature")),),
    )
    estate.images[0] = changed
    send(bundle(estate, path.with_name("signed.tar")), target.host)
    found = connect(target.host).referrers("mirror/quay.io/team/app", image.digest)
    assert {descriptor.digest for descriptor in found} == {
        image.referrers[0].tree.root.digest,
        changed.referrers[0].tree.root.digest,
    }


def resigned(estate, referrer, content):
    """The referrer's tree with another signature in it."""
    document = json.loads(estate.contents[referrer.tree.root.digest])
    signature = estate.put("application/vnd.example.signature", content)
    document["layers"] = [signature.to_json()]
    manifest = estate.put(referrer.tree.root.media_type, json.dumps(document).encode())
    return dataclasses.replace(referrer.tree, root=manifest, manifests=(manifest,), blobs=(referrer.tree.blobs[0], signature))


def test_a_registry_that_loses_sight_of_a_blob_gets_it_again(path, proxy):
    layer = Descriptor.of(LAYER, b"layer of the app")
    lost = threading.Event()

    def lose(method, path):
        if method == "PUT" and path.endswith("/mirror/quay.io/team/app/manifests/1.0") and not lost.is_set():
            return refused(404, "MANIFEST_BLOB_UNKNOWN")
        if (
            method == "HEAD"
            and str(layer.digest) in path
            and proxy.seen.count(("PUT", "/v2/mirror/quay.io/team/app/manifests/1.0"))
        ):
            lost.set()
        return None

    proxy.before = lose
    send(path, proxy.host)
    assert lost.is_set()
    assert held(proxy.host, small())


def test_progress_counts_the_bytes_of_the_plan(path, target):
    class Counted(Progress):
        def __init__(self):
            self.bytes, self.lock, self.phases = 0, threading.Lock(), []

        def begin(self, what: str, items: int, size: int = 0) -> None:
            del items, size
            self.phases.append(what)

        def advance(self, size: int) -> None:
            with self.lock:
                self.bytes += size

    progress = Counted()
    result = send(path, target.host, progress=progress)
    assert progress.phases == ["look at the tags", "look at what is there", "push"]
    mounted = Descriptor.of(LAYER, b"a shared layer " * 40).size
    assert progress.bytes == result.sent_size + mounted
