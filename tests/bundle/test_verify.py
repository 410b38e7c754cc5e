"""verify: every byte, all faults at once."""

from __future__ import annotations

import dataclasses

import pytest

from airgap.bundle import BundleReader, BundleWriter, arrange
from airgap.errors import BundleError
from airgap.lock import LockedTree
from airgap.oci import OCI_MANIFEST, Descriptor, artifact_manifest
from airgap.progress import Progress
from airgap.verify import verify
from tests.bundle.estate import LAYER, Estate, bundle, forced, small, tiny_zip


def test_a_whole_bundle_verifies_and_says_what_was_read(tmp_path):
    class Counted(Progress):
        read = 0

        def advance(self, size: int) -> None:
            self.read += size

    progress = Counted()
    path = bundle(small(), tmp_path / "b.tar")
    found = verify(path, progress=progress)
    assert found
    assert found.size == path.stat().st_size
    members = arrange(small().lock).members
    assert progress.read == sum(member.size for member in members) + len(tiny_zip())


def judged(path):
    """Whether a damaged file is noticed: by faults, or by being refused outright."""
    try:
        return [str(fault) for fault in verify(path, jobs=1).faults]
    except BundleError as error:
        return [error.message]


def test_every_flipped_bit_is_found(tmp_path):
    estate = Estate()
    estate.image("a.io/b:1", b"one layer")
    estate.installer()
    path = bundle(estate, tmp_path / "b.tar")
    data = bytearray(path.read_bytes())
    missed = []
    with path.open("r+b", buffering=0) as file:
        for position, byte in enumerate(data):
            file.seek(position)
            file.write(bytes([byte ^ (1 << position % 8)]))
            if not judged(path):
                missed.append(position)
            file.seek(position)
            file.write(bytes([byte]))
    assert missed == []
    assert verify(path)


def test_all_faults_are_told_at_once_in_the_order_of_the_file(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    members = arrange(small().lock).members
    hurt = {7: "header", 9: "content", 12: "content", len(members) - 1: "padding"}
    with path.open("r+b") as file:
        for number, where in hurt.items():
            member = members[number]
            file.seek({"header": member.start + 100, "content": member.offset, "padding": member.offset + member.size}[where])
            file.write(b"\xff")
    found = verify(path)
    assert not found
    assert [fault.member for fault in found.faults] == [members[number].name for number in hurt]
    assert "header" in found.faults[0].message
    assert "digest" in found.faults[1].message
    assert "padding" in found.faults[-1].message


def test_a_cut_file_is_one_fault_for_the_cut_and_one_for_the_member_in_it(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    members = arrange(small().lock).members
    with path.open("r+b") as file:
        file.truncate(members[-3].offset + 4)
    found = verify(path)
    assert [fault.member for fault in found.faults] == [members[-3].name, ""]
    assert "bytes are missing" in found.faults[1].message


def test_a_changed_installer_is_found(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    with path.open("r+b") as file:
        file.seek(arrange(small().lock).tar_size + 3)
        file.write(b"!")
    assert [str(fault)[:35] for fault in verify(path).faults] == ["the installer behind the archive ha"]


def broken_trees():
    """Estates whose lock and manifests disagree, with the words for it."""
    estate = Estate()
    image = estate.image("a.io/b:1", b"layer")
    estate.images[0] = dataclasses.replace(image, tree=dataclasses.replace(image.tree, blobs=image.tree.blobs[:1]))
    yield estate, "which the lock does not list"

    estate = Estate()
    image = estate.image("a.io/b:1", b"layer")
    config, layer = image.tree.blobs
    lying = artifact_manifest(config, (dataclasses.replace(layer, size=layer.size + 1),))
    root = estate.put(OCI_MANIFEST, lying.raw)
    estate.images[0] = dataclasses.replace(image, tree=LockedTree(root, (root,), image.tree.blobs))
    yield estate, "bytes, the lock"

    estate = Estate()
    image = estate.image("a.io/b:1", b"layer")
    renamed = dataclasses.replace(image.tree.root, media_type="application/vnd.docker.distribution.manifest.v2+json")
    estate.images[0] = dataclasses.replace(image, tree=LockedTree(renamed, (renamed,), image.tree.blobs))
    yield estate, "calls itself"


@pytest.mark.parametrize(("estate", "told"), [*broken_trees()])
def test_a_lock_that_does_not_fit_its_manifests_is_found_by_verify_and_refused_by_the_writer(tmp_path, estate, told):
    found = verify(forced(estate, tmp_path / "forced.tar"))
    assert [told in fault.message for fault in found.faults] == [True]
    with BundleWriter(tmp_path / "b.tar", estate.lock) as writer, pytest.raises(BundleError, match=told):
        estate.write(writer)
    assert not (tmp_path / "b.tar").exists()


def test_verify_needs_a_lock_to_check_against(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(BundleError):
        verify(tmp_path / "x.tar")


def test_a_damaged_bundle_is_opened_by_verify_alone(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    with path.open("r+b") as file:
        file.seek(arrange(small().lock).members[8].start)
        file.write(b"X")
    with pytest.raises(BundleError, match="no tar header"):
        BundleReader.open(path)
    with BundleReader.open(path, strict=False) as reader:
        assert reader.read(Descriptor.of(LAYER, b"layer of the app")) == b"layer of the app"


def test_a_header_that_is_cut_is_a_fault_of_its_member(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    member = arrange(small().lock).members[-1]
    with path.open("r+b") as file:
        file.truncate(member.start + 100)
    assert str(verify(path).faults[0]).endswith("its header is cut short")
