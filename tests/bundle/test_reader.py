"""Reading a bundle where it lies, and refusing what is not one."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import os
import tarfile
import threading

import pytest

from airgap.bundle import BundleReader, ustar
from airgap.errors import BundleError, DiskError, IntegrityError
from airgap.layout import LAYOUT, verified
from airgap.lock import LockedTree
from airgap.oci import OCI_MANIFEST, Descriptor, Digest, canonical_json
from tests.bundle.estate import LAYER, Estate, bundle, forced, small


@pytest.fixture
def path(tmp_path):
    return bundle(small(), tmp_path / "wandb.tar")


def test_everything_that_was_written_can_be_read_again(path):
    estate = small()
    with BundleReader.open(path) as reader:
        assert reader.lock == estate.lock.from_bytes(estate.lock.to_bytes())
        assert reader.digest == estate.lock.digest
        for digest, descriptor in estate.lock.blobs().items():
            assert reader.has(digest)
            assert reader.descriptor(digest) == reader.arrangement.blobs[digest].descriptor
            assert reader.read(descriptor) == estate.contents[digest]
            assert b"".join(verified(reader.chunks(descriptor), descriptor)) == estate.contents[digest]


def test_windows_and_ranges_start_anywhere(path):
    layer = Descriptor.of(LAYER, b"a shared layer " * 40)
    content = b"a shared layer " * 40
    heard: list[int] = []
    with BundleReader.open(path) as reader:
        window = reader.window(layer, 7, heard.append)
        assert len(window) == len(content) - 7
        assert window.read() == content[7:]
        assert sum(heard) == len(content) - 7
        assert len(reader.window(layer, len(content) + 5)) == 0
        assert b"".join(reader.chunks(layer, 10, 20)) == content[10:30]
        assert b"".join(reader.chunks(layer, len(content) - 3, 20)) == content[-3:]


def test_many_threads_read_through_one_descriptor(path):
    wrong: list[Digest] = []
    with BundleReader.open(path) as reader:
        blobs = list(reader.lock.blobs().values())

        def read_all() -> None:
            wrong.extend(it.digest for it in blobs * 20 if Digest.of(reader.window(it).read()) != it.digest)

        threads = [threading.Thread(target=read_all) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_what_the_lock_does_not_list_is_not_read(path):
    with BundleReader.open(path) as reader:
        with pytest.raises(BundleError, match="holds no blob"):
            reader.read(Descriptor.of(LAYER, b"never bundled"))
        layer = Descriptor.of(LAYER, b"layer of the app")
        with pytest.raises(BundleError, match="not the 99 asked for"):
            reader.read(dataclasses.replace(layer, size=99))


def test_a_bundle_renamed_while_it_is_read_stays_the_one_that_was_opened(path, tmp_path):
    with BundleReader.open(path) as reader:
        path.rename(tmp_path / "elsewhere.tar")
        path.write_bytes(b"something else")
        assert reader.read(Descriptor.of(LAYER, b"layer of the app")) == b"layer of the app"


@pytest.mark.parametrize("cut", [0, 1, 100, 511, 513, 600, 1100, 1600, 3000, 3600, 4000, 5000, -1, -100, -200, -1024, -1500])
def test_a_truncated_file_is_recognised_and_says_how_much_is_missing(path, cut):
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(BundleError, match=r"bytes are missing|is empty|begin like one") as caught:
        BundleReader.open(path)
    if cut < 0:
        assert f"{-cut} of {len(whole)} bytes are missing" in caught.value.message


def test_bytes_behind_the_bundle_are_refused(path):
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match="4 bytes follow"):
        BundleReader.open(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"x" * 2000, mtime=0), "gzip-compressed"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd-compressed"),
        (b"<html>" * 200, "does not begin like one"),
        (ustar.header("manifest.json", 2) + b"{}".ljust(512, b"\0"), "begins with 'manifest.json'"),
    ],
)
def test_what_is_no_bundle_at_all_is_named(tmp_path, content, told):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(BundleError, match=told):
        BundleReader.open(tmp_path / "x.tar")


def test_no_file_and_a_folder_are_plain_sentences(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        BundleReader.open(tmp_path / "absent.tar")
    with pytest.raises(DiskError, match="cannot be"):
        BundleReader.open(tmp_path)


def hostile(path, change):
    """Pack the bundle again, its (name, content) pairs passed through ``change``; a TarInfo is written as Python would."""
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        entries = [(member.name, data[member.offset_data : member.offset_data + member.size]) for member in archive]
    out = b""
    for member, data in change(entries):
        head = ustar.header(member, len(data)) if isinstance(member, str) else member.tobuf(tarfile.PAX_FORMAT)
        out += head + data + bytes(ustar.padding(len(data)))
    path.write_bytes(out + ustar.END)


def changed(entry, **fields):
    """The entry with other fields in its header."""
    info = tarfile.TarInfo(entry[0])
    info.size = len(entry[1])
    for name, value in fields.items():
        setattr(info, name, value)
    return info, entry[1]


def last(**fields):
    return lambda entries: [*entries[:-1], changed(entries[-1], **fields)]


def extra(name, **fields):
    return lambda entries: [*entries[:-1], changed((name, b""), **fields), entries[-1]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (last(name="../../etc/cron.d/x"), "climbs out"),
        (last(name="/etc/passwd"), "absolute name"),
        (last(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
        (last(type=tarfile.LNKTYPE, linkname="oci-layout"), "a hard link"),
        (last(type=tarfile.CHRTYPE), "a character device"),
        (last(type=tarfile.BLKTYPE), "a block device"),
        (last(type=tarfile.FIFOTYPE), "a FIFO"),
        (last(type=tarfile.GNUTYPE_SPARSE), "a sparse file"),
        (last(pax_headers={"size": "1"}), "a pax header"),
        (last(mode=0o755), "another field"),
        (last(uid=1000), "another field"),
        (extra("./blobs/sha256/" + "a" * 64), "another member, './blobs"),
        (extra("blobs", type=tarfile.DIRTYPE), "a directory"),
        (extra("readme.txt"), "another member, 'readme.txt'"),
        (lambda entries: [*entries, entries[-1]], "bytes follow"),
        (lambda entries: [*entries[:-2], entries[-1], entries[-2]], "another member"),
        (lambda entries: entries[:-1], "bytes are missing"),
        (lambda entries: [*entries[:-1], entries[-2]], "another member"),
    ],
)
def test_a_hostile_member_is_refused_and_never_unpacked(tmp_path, change, told):
    estate = small()
    estate.artifacts = [artifact for artifact in estate.artifacts if artifact.kind != "installer"]
    path = bundle(estate, tmp_path / "wandb.tar")
    size = path.stat().st_size
    hostile(path, change)
    data = path.read_bytes()
    if told not in {"bytes follow", "bytes are missing"}:
        path.write_bytes(data[:size].ljust(size, b"\0"))  # so that the size alone does not tell
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BundleError, match=told):
        BundleReader.open(path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda entries: [changed(entries[0], size=2**30), *entries[1:]], "oci-layout should be"),
        (lambda entries: [entries[0], changed(entries[1], name="../index.json"), *entries[2:]], "climbs out"),
        (lambda entries: [*entries[:2], ("blobs/sha256/" + "0" * 64, entries[2][1]), *entries[3:]], "lock is damaged"),
        (lambda entries: [*entries[:2], changed(entries[2], type=tarfile.SYMTYPE), *entries[3:]], "the lock should be"),
        (lambda entries: [*entries[:2], *entries[5:]], "is no lock"),
    ],
)
def test_a_hostile_head_is_refused_before_the_lock_is_believed(path, change, told):
    hostile(path, change)
    with pytest.raises(BundleError, match=told):
        BundleReader.open(path)


def raw_bundle(path, raw):
    """A tar whose third member is ``raw`` under its right name."""
    head = b""
    for name, data in (("oci-layout", LAYOUT), ("index.json", b"{}"), (f"blobs/sha256/{Digest.of(raw).hex}", raw)):
        head += ustar.header(name, len(data)) + data + bytes(ustar.padding(len(data)))
    path.write_bytes(head + ustar.END)


@pytest.mark.parametrize("raw", [b"not json", b"[" * 100_000, b"{}", b'{"kind": "BundleLock", "schemaVersion": 2}'])
def test_a_lock_that_is_none_is_refused(tmp_path, raw):
    raw_bundle(tmp_path / "x.tar", raw)
    with pytest.raises(BundleError, match="is no lock"):
        BundleReader.open(tmp_path / "x.tar")


def test_a_lock_that_says_more_than_is_understood_points_to_the_bundle_itself(tmp_path):
    raw_bundle(tmp_path / "x.tar", small().lock.to_bytes().replace(b'"features":[]', b'"features":[],"future":1'))
    with pytest.raises(BundleError, match="more than this version understands") as caught:
        BundleReader.open(tmp_path / "x.tar")
    assert caught.value.hint.startswith("let the bundle run itself")


def test_an_ambiguous_manifest_is_refused_when_it_is_read(tmp_path):
    estate = Estate()
    image = estate.image("a.io/b:1", b"layer")
    config, layer = image.tree.blobs
    raw = canonical_json({"schemaVersion": 2, "config": config.to_json(), "layers": [layer.to_json()], "manifests": []})
    root = estate.put(OCI_MANIFEST, raw)
    estate.images[0] = dataclasses.replace(image, tree=LockedTree(root, (root,), image.tree.blobs))
    path = forced(estate, tmp_path / "x.tar")
    with BundleReader.open(path) as reader:
        with pytest.raises(IntegrityError, match="both manifests and layers"):
            reader.manifest(root)
        assert "both manifests and layers" in str(reader.verify().faults[0])


def test_a_medium_that_fails_says_where(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    layer = Descriptor.of(LAYER, b"layer of the app")
    with BundleReader.open(path) as reader:
        offset = reader.arrangement.blobs[layer.digest].offset
        window = reader.window(layer)
        monkeypatch.setattr(os, "preadv", fail)
        monkeypatch.setattr(os, "pread", fail)
        for read in (lambda: reader.read(layer), window.read):
            with pytest.raises(DiskError, match=f"cannot be read at byte {offset}: Input/output error") as caught:
                read()
            assert "medium" in caught.value.hint
