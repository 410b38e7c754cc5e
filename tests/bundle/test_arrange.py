"""Where each byte of a bundle lies."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile

import pytest

from airgap.bundle import arrange, ustar
from airgap.errors import BundleError
from airgap.layout import blob_path
from airgap.lock import Lock, LockedTree
from airgap.oci import Descriptor, Digest
from tests.bundle.estate import AMD64, ARM64, LAYER, Estate, small


def test_the_order_is_layout_index_lock_metadata_contents_layers():
    estate = small()
    arrangement = arrange(estate.lock)
    kinds = [member.descriptor.media_type if member.descriptor else member.name for member in arrangement.members]
    assert kinds[:3] == ["oci-layout", "index.json", "application/vnd.airgap.lock.v1+json"]
    first_layer = kinds.index(LAYER)
    chart = kinds.index("application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    last_json = max(number for number, kind in enumerate(kinds) if kind.endswith("json"))
    assert last_json < chart < first_layer
    assert kinds.index("application/vnd.airgap.tool.v1") < first_layer


def test_every_blob_of_the_lock_has_exactly_one_place():
    estate = small()
    arrangement = arrange(estate.lock)
    names = [member.name for member in arrangement.members]
    assert len(names) == len(set(names))
    assert set(names) >= {blob_path(digest) for digest in estate.lock.blobs()}
    for before, after in zip(arrangement.members, arrangement.members[1:], strict=False):
        assert before.end == after.start


def test_the_order_in_which_a_lock_was_put_together_does_not_matter():
    estate = small()
    expected = arrange(estate.lock)
    estate.images.reverse()
    estate.artifacts.reverse()
    assert arrange(estate.lock).raw == expected.raw
    assert [m.header for m in arrange(estate.lock).members] == [m.header for m in expected.members]


def test_index_json_names_images_artifacts_and_the_lock():
    estate = small()
    estate.image("nginx@" + str(Digest.of(b"nobody")), b"by digest")
    index = json.loads(arrange(estate.lock).members[1].content or b"")
    names = [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index["manifests"]]
    assert names[0] == "airgap.lock"
    assert {"docker.io/library/busybox:1.36", "charts/operator:1.4.8+up1", "tools/helm:1.0"} <= set(names)
    assert any(name and name.endswith(".sig") for name in names)
    assert None in names, "a referrer without a tag is listed without a name"


def test_one_platform_of_an_index_leaves_the_index_out_of_index_json():
    estate = Estate()
    made = estate.picture("amd64", b"layer")
    estate.multi("a.io/b:1", {AMD64: made, ARM64: estate.picture("arm64", b"other")})
    whole = estate.images.pop()
    estate.image("a.io/b:1", b"layer")
    estate.images[0] = dataclasses.replace(estate.images[0], index=whole.tree.root)
    arrangement = arrange(estate.lock)
    assert whole.digest in arrangement.blobs
    assert str(whole.digest) not in str(arrangement.members[1].content)


def test_a_digest_with_two_sizes_is_refused():
    estate = small()
    tree = estate.images[0].tree
    wrong = dataclasses.replace(tree.blobs[-1], size=tree.blobs[-1].size + 1)
    estate.images[1] = dataclasses.replace(
        estate.images[1], tree=LockedTree(tree.root, tree.manifests, (*tree.blobs[:-1], wrong))
    )
    with pytest.raises(BundleError, match="two sizes"):
        arrange(estate.lock)


@pytest.mark.parametrize("size", [2**63, 10**30])
def test_a_size_that_no_file_has_is_refused(size):
    estate = Estate()
    image = estate.image("a.io/b:1", b"layer")
    monster = Descriptor(LAYER, Digest.of(b"monster"), size)
    estate.images[0] = dataclasses.replace(image, tree=dataclasses.replace(image.tree, blobs=(monster,)))
    with pytest.raises(BundleError, match="which no file has"):
        arrange(estate.lock)


def test_an_artifact_without_its_content_or_of_an_unknown_kind_is_refused():
    estate = small()
    chart = estate.artifacts[0]
    estate.artifacts[0] = dataclasses.replace(chart, content=Descriptor.of(LAYER, b"elsewhere"))
    with pytest.raises(BundleError, match="does not list its content"):
        arrange(estate.lock)
    estate.artifacts[0] = dataclasses.replace(chart, kind="virus")
    with pytest.raises(BundleError, match="unknown kind"):
        arrange(estate.lock)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 8**11 - 1, 8**11, 2**40, 2**62])
def test_python_reads_our_headers_of_any_size(size):
    header = ustar.header("blobs/sha256/" + "a" * 64, size)
    read = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    assert (read.name, read.size, read.mode, read.mtime, read.isreg()) == ("blobs/sha256/" + "a" * 64, size, 0o644, 0, True)
    seen = ustar.see(header)
    assert seen == ustar.Seen("blobs/sha256/" + "a" * 64, size, "")


def test_a_name_beyond_a_hundred_bytes_is_read_by_python():
    name = blob_path(Digest("sha512", "b" * 128))
    data = ustar.header(name, 3) + b"abc" + bytes(509) + ustar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [(member.name, member.size) for member in archive] == [(name, 3)]
        content = archive.extractfile(name)
        assert content is not None
        assert content.read() == b"abc"


def test_a_bundle_of_nothing_is_an_arrangement_too():
    arrangement = arrange(Lock("empty", (AMD64,), (), ()))
    assert arrangement.trailer is None
    assert arrangement.size == arrangement.tar_size


def test_what_no_header_can_say_is_refused_and_what_is_none_is_told():
    with pytest.raises(ValueError, match="no size of a file"):
        ustar.header("x", -1)
    assert ustar.difference(bytes(512), "x", 1) == "there is nothing: the archive ends here"
    assert "no tar header" in ustar.difference(b"x" * 512, "x", 1)
    assert ustar.see(ustar.header("x", 1)[:500]) is None
