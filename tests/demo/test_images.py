from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile

import pytest

from airgap.demo.images import OCI_LAYER, layer_tar, recipes, stored_gzip, uploads
from airgap.oci import Digest, Index, Manifest, parse_manifest

UPLOADS = {f"{upload.registry}/{upload.repository}": upload for upload in uploads()}

EVERYTHING = "008bfe2e281e2aa91f0113ed312e007015d69cc3ff345d51d18cff74cb818ea0"
"""sha256 over every blob and manifest in order: the same on each Python and zlib, or a lock made elsewhere would differ."""


def test_the_same_bytes_come_out_on_every_python() -> None:
    whole = hashlib.sha256()
    for upload in uploads():
        for data in (*upload.blobs, *(put.raw for put in upload.manifests)):
            whole.update(data)
    assert whole.hexdigest() == EVERYTHING


@pytest.mark.parametrize("size", [0, 1, 0xFFFF, 0x10000, 200_001])
def test_a_stored_stream_is_read_by_any_gzip(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    assert gzip.decompress(stored_gzip(data)) == data


def test_a_layer_holds_one_file_and_no_clock() -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_tar("etc/x", "words"))) as tar:
        (member,) = tar.getmembers()
        assert (member.name, member.mtime, member.uid, member.mode) == ("etc/x", 0, 0, 0o644)


@pytest.mark.parametrize("name", UPLOADS)
def test_everything_that_a_manifest_names_is_pushed_before_it(name: str) -> None:
    upload = UPLOADS[name]
    held = {Digest.of(data) for data in upload.blobs}
    for put in upload.manifests:
        parsed = parse_manifest(put.raw, put.media_type)
        named = parsed.manifests if isinstance(parsed, Index) else parsed.blobs
        assert {descriptor.digest for descriptor in named} <= held
        held.add(Digest.of(put.raw))


@pytest.mark.parametrize("name", UPLOADS)
def test_the_configs_diff_ids_are_those_of_the_layers(name: str) -> None:
    blobs = {Digest.of(data): data for data in UPLOADS[name].blobs}
    for put in UPLOADS[name].manifests:
        parsed = parse_manifest(put.raw, put.media_type)
        if isinstance(parsed, Manifest) and parsed.layers[0].media_type == OCI_LAYER:
            config = json.loads(blobs[parsed.config.digest])
            tars = [gzip.decompress(blobs[layer.digest]) for layer in parsed.layers]
            assert config["rootfs"]["diff_ids"] == [str(Digest.of(tar)) for tar in tars]


def test_the_forms_that_registries_hold_are_all_there() -> None:
    def root(name: str) -> Manifest | Index:
        recipe = next(recipe for recipe in recipes() if recipe.reference.name == name)
        return next(parse_manifest(put.raw) for put in UPLOADS[name].manifests if put.locator == recipe.tags[0])

    controller, prometheus = root("docker.io/wandb/controller"), root("quay.io/prometheus/prometheus")
    assert isinstance(controller, Index)
    assert [child.is_attestation for child in controller.manifests] == [False, False, True, True]
    assert prometheus.media_type.endswith("docker.distribution.manifest.list.v2+json")
    assert root("docker.io/otel/opentelemetry-collector-contrib").media_type.endswith("manifest.v2+json")

    local = root("docker.io/wandb/local").descriptor.digest
    assert f"sha256-{local.hex}.sig" in {put.locator for put in UPLOADS["docker.io/wandb/local"].manifests}

    megabinary = root("docker.io/wandb/megabinary").descriptor
    subjects = [parse_manifest(put.raw).subject for put in UPLOADS["docker.io/wandb/megabinary"].manifests]
    assert [subject.digest for subject in subjects if subject] == [megabinary.digest]


def test_images_of_one_family_share_a_layer() -> None:
    shared = set(UPLOADS["docker.io/wandb/local"].blobs) & set(UPLOADS["docker.io/wandb/console"].blobs)
    assert len(shared) == 1
