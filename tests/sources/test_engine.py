"""Images that only the local Docker engine has: saved, described as OCI, honest about where they come from."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from airgap.errors import IntegrityError, NotFoundError, ToolError
from airgap.lock import DOCKER_ENGINE, Requirement
from airgap.oci import Digest, Platform, parse_manifest
from airgap.ref import Reference
from airgap.resolve import resolve
from airgap.sources import ImageSources
from airgap.sources.engine import describe, engine_name, save
from airgap.transport import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.engine import Engine

LAYER = b"a layer that is not compressed" * 10


def archive(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def config(*layers: bytes) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    return json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()


def listing(*layers: str) -> bytes:
    return json.dumps([{"Config": "c.json", "RepoTags": ["site/x:1"], "Layers": list(layers)}]).encode()


def test_a_saved_image_becomes_an_oci_manifest_over_the_bytes_in_the_archive(tmp_path: Path):
    members = {"manifest.json": listing("a/layer.tar"), "c.json": config(LAYER), "a/layer.tar": LAYER}
    saved = describe(archive(tmp_path / "x.tar", members), "site/x:1")
    manifest = parse_manifest(saved.manifest.raw)
    assert manifest == saved.manifest
    assert saved.platform == Platform("linux", "amd64")
    assert [layer.media_type for layer in saved.manifest.layers] == ["application/vnd.oci.image.layer.v1.tar"]
    piece = saved.pieces[Digest.of(LAYER)]
    assert b"".join(piece.read()) == LAYER
    assert b"".join(piece.read(7)) == LAYER[7:]
    assert describe(tmp_path / "x.tar", "site/x:1").manifest.raw == saved.manifest.raw


def test_a_layer_shared_by_a_link_is_found(tmp_path: Path):
    members = {"manifest.json": listing("a/layer.tar", "b/layer.tar"), "c.json": config(LAYER, LAYER), "a/layer.tar": LAYER}
    saved = describe(archive(tmp_path / "x.tar", members, {"b/layer.tar": "../a/layer.tar"}), "site/x:1")
    assert len(saved.manifest.layers) == 2
    assert len(saved.manifest.blobs) == 2


def test_compressed_layers_of_newer_engines_are_called_so(tmp_path: Path):
    gz = b"\x1f\x8b\x08 not really"
    members = {"manifest.json": listing("blobs/sha256/x"), "c.json": config(LAYER), "blobs/sha256/x": gz}
    saved = describe(archive(tmp_path / "x.tar", members), "site/x:1")
    assert saved.manifest.layers[0].media_type.endswith("+gzip")


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({}, "has no manifest.json"),
        ({"manifest.json": b"[]"}, "cannot be understood"),
        ({"manifest.json": listing("l"), "c.json": config(LAYER)}, "has no l"),
        ({"manifest.json": listing("l"), "c.json": config(LAYER), "l": b"other"}, "instead of"),
        ({"manifest.json": listing("l"), "c.json": config(), "l": b"other"}, "1 layers, its config names 0"),
    ],
)
def test_an_archive_that_does_not_fit_together_is_refused(tmp_path: Path, members: dict[str, bytes], told: str):
    with pytest.raises(IntegrityError, match=told):
        describe(archive(tmp_path / "x.tar", members), "site/x:1")


def test_a_config_without_a_platform_has_none(tmp_path: Path):
    members = {"manifest.json": listing(), "c.json": b'{"rootfs": {"diff_ids": []}}'}
    assert describe(archive(tmp_path / "x.tar", members), "x").platform is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py drops the socket it cannot connect
def test_no_engine_is_told_with_the_next_step(tmp_path: Path):
    with pytest.raises(ToolError, match="does not answer") as caught:
        save(Reference.parse("site/x:1"), tmp_path, {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert "DOCKER_HOST" in caught.value.hint
    del caught
    gc.collect()


def test_without_a_scratch_folder_nothing_is_saved():
    with pytest.raises(NotFoundError, match="no room"):
        ImageSources(Client()).saved(Reference.parse("site/x:1"))


@pytest.mark.docker
def test_an_image_of_a_real_engine_is_locked_and_read(docker_engine: Engine, tmp_path: Path):
    rootfs = archive(tmp_path / "rootfs.tar", {"hello": b"hello"})
    docker_engine.docker("import", str(rootfs), "site/made-here:1")
    reference = Reference.parse("site/made-here:1")
    environ = {"DOCKER_HOST": docker_engine.host}
    sources = ImageSources(Client(), scratch=tmp_path, environ=environ)
    image = resolve([Requirement(reference, local=True)], sources, (Platform("linux", "arm64"),)).images[0]
    assert image.source == DOCKER_ENGINE
    assert image.notes[0] == "from the local Docker engine: the digest is not upstream's"
    assert "not for linux/arm64" in image.notes[1]
    again = ImageSources(Client(), scratch=tmp_path, environ=environ, local=[reference])
    raw = again.manifest(reference, image.tree.root)
    assert Digest.of(raw) == image.digest
    for blob in image.tree.blobs:
        data = b"".join(again.blob(image, blob))
        assert Digest.of(data) == blob.digest
        assert b"".join(again.blob(image, blob, 5)) == data[5:]
    docker_engine.docker("import", "-c", 'CMD ["/other"]', str(rootfs), "site/made-here:1")
    changed = ImageSources(Client(), scratch=tmp_path, environ=environ, local=[reference])
    with pytest.raises(NotFoundError, match="is another image than when the lock was written"):
        list(changed.blob(image, image.tree.blobs[0]))
    with pytest.raises(NotFoundError, match="site/none:1"):
        save(Reference.parse("site/none:1"), tmp_path, environ)


def test_a_reference_by_digest_is_asked_for_by_digest():
    digest = f"sha256:{'0' * 64}"
    names: dict[str, Any] = {
        "busybox": "busybox:latest",
        "site/x:1": "site/x:1",
        f"reg.lan:5000/x:1@{digest}": f"reg.lan:5000/x@{digest}",
    }
    assert {text: engine_name(Reference.parse(text)) for text in names} == names
