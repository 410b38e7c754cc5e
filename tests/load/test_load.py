"""Images of a bundle get into a real Docker engine, straight from the tar."""

from __future__ import annotations

import gc
import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError, ToolError
from airgap.load import load
from airgap.lock import LockedImage, LockedTree
from airgap.oci import OCI_CONFIG, OCI_INDEX, Descriptor, Digest, Platform, artifact_manifest, canonical_json
from airgap.ref import Reference
from tests.bundle.estate import Estate, bundle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.engine import Engine

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(text: str) -> tuple[bytes, str]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue(), mtime=0), str(Digest.of(out.getvalue()))


def picture(estate: Estate, text: str, architecture: str = "amd64") -> Descriptor:
    data, diff_id = layer(text)
    config = {"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "config": {}}
    manifest = artifact_manifest(estate.put(OCI_CONFIG, canonical_json(config)), (estate.put(LAYER, data),))
    return estate.put(manifest.media_type, manifest.raw, platform=Platform("linux", architecture))


def tree(estate: Estate, *roots: Descriptor) -> LockedTree:
    blobs = []
    for root in roots:
        data = json.loads(estate.contents[root.digest])
        blobs += [Descriptor.from_json(item) for item in (data["config"], *data["layers"])]
    if len(roots) == 1:
        return LockedTree(roots[0], roots, tuple(blobs))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [root.to_json() for root in roots]}
    top = estate.put(OCI_INDEX, canonical_json(index))
    return LockedTree(top, (*roots, top), tuple(blobs))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    estate = Estate()
    single = tree(estate, picture(estate, "one"))
    both = tree(estate, picture(estate, "for amd64"), picture(estate, "for arm64", "arm64"))
    estate.images += [
        LockedImage(Reference.parse("wandb/local:1"), single),
        LockedImage(Reference.parse("quay.io/prometheus/prometheus:v2"), both),
    ]
    return bundle(estate, tmp_path / "b.tar")


@pytest.mark.docker
def test_images_are_loaded_under_their_names_and_only_once(path: Path, docker_engine: Engine) -> None:
    environ = {"DOCKER_HOST": docker_engine.host}
    with BundleReader.open(path) as reader:
        first = load(reader, environ=environ)
        again = load(reader, environ=environ)
    assert [item.note for item in first] == ["loaded", "loaded"]
    assert [item.note for item in again] == ["already there", "already there"]
    assert sorted(item.name for item in first) == ["quay.io/prometheus/prometheus:v2", "wandb/local:1"]
    shown = docker_engine.docker(
        "image", "inspect", "--format", "{{.Architecture}} {{.Id}}", "quay.io/prometheus/prometheus:v2"
    )
    assert shown == f"amd64 {next(item.image_id for item in first if item.name.startswith('quay.io'))}"


@pytest.mark.docker
def test_one_image_can_be_asked_for(path: Path, docker_engine: Engine) -> None:
    with BundleReader.open(path) as reader:
        loaded = load(reader, only=[Reference.parse("wandb/local:1")], environ={"DOCKER_HOST": docker_engine.host})
    assert [item.name for item in loaded] == ["wandb/local:1"]


def test_an_image_that_is_not_in_the_bundle_is_named(path: Path, tmp_path: Path) -> None:
    with BundleReader.open(path) as reader, pytest.raises(ConfigurationError, match=r"does not hold docker\.io/x/none:1"):
        load(reader, only=[Reference.parse("x/none:1")], environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py drops the socket it cannot connect
def test_without_an_engine_the_next_step_is_said(path: Path, tmp_path: Path) -> None:
    with BundleReader.open(path) as reader, pytest.raises(ToolError, match="does not answer") as caught:
        load(reader, environ={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert "DOCKER_HOST" in caught.value.hint
    del caught
    gc.collect()
