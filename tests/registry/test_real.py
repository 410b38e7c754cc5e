"""Every verb against every real registry: what is pushed comes back, byte for byte, and is missed when it is not there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airgap.errors import IntegrityError, NotFoundError, RegistryError, UnauthorizedError
from airgap.oci import OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Index, artifact_manifest, canonical_json
from tests.registry.conftest import USER, WORD, Blob
from tests.world.registries import find_binary, start_crane, start_distribution3, start_docker_registry
from tests.world.tokens import TokenServer

pytestmark = pytest.mark.registry


@pytest.fixture
def name(request, tmp_path) -> str:
    """A repository of this test alone."""
    return f"team/{tmp_path.name.lower().strip('_').replace('_', '-')[:60]}"


def test_an_image_goes_there_and_comes_back(running, open_registry, name, image):
    registry = open_registry(running, push=True)
    registry.ping()
    registry.probe_repository(name)
    assert registry.head_manifest(name, "1") is None
    assert not registry.has_blob(name, image.blob.descriptor.digest)
    assert registry.tags(name) == ()

    assert registry.upload(name, image.blob.descriptor, image.blob.open) == "sent"
    assert registry.upload(name, image.config.descriptor, image.config.open) == "sent"
    assert registry.has_blob(name, image.blob.descriptor.digest)
    digest = registry.put_manifest(name, "1", image.manifest.raw, image.manifest.media_type)
    registry.put_manifest(name, str(digest), image.manifest.raw, image.manifest.media_type)

    reader = open_registry(running)
    assert reader.head_manifest(name, "1") == image.manifest.descriptor
    assert reader.head_manifest(name, str(digest)) == image.manifest.descriptor
    assert reader.get_manifest(name, "1") == image.manifest
    assert reader.get_manifest(name, str(digest)).raw == image.manifest.raw
    assert reader.tags(name) == ("1",)
    assert b"".join(reader.stream_blob(name, image.blob.descriptor)) == image.blob.data
    assert reader.read_blob(name, image.config.descriptor) == image.config.data


def test_a_blob_is_read_from_the_middle(running, open_registry, name, blob):
    registry = open_registry(running)
    registry.upload(name, blob.descriptor, blob.open)
    for offset in (0, 1, 1_234_567, blob.descriptor.size - 1):
        with registry.open_blob(name, blob.descriptor, offset) as response:
            assert response.read(len(blob.data)) == blob.data[offset:]
    assert b"".join(registry.stream_blob(name, blob.descriptor, blob.descriptor.size)) == b""


def test_what_is_not_there_is_said_to_be_not_there(running, open_registry, name, blob):
    registry = open_registry(running)
    with pytest.raises(NotFoundError):
        registry.get_manifest(name, "absent")
    with pytest.raises(NotFoundError):
        registry.open_blob(name, blob.descriptor)
    assert registry.head_manifest(name, str(blob.descriptor.digest)) is None
    assert registry.referrers(name, blob.descriptor.digest) == ()


def test_an_empty_blob_and_a_blob_of_one_byte_are_sent(running, open_registry, name, tmp_path):
    registry = open_registry(running)
    for data in (b"", b"x"):
        blob = Blob.make(tmp_path, data, f"size{len(data)}")
        assert registry.upload(name, blob.descriptor, blob.open) == "sent"
        assert registry.has_blob(name, blob.descriptor.digest)


def test_a_blob_that_is_in_another_repository_is_mounted_or_sent(running, open_registry, name, blob):
    registry = open_registry(running, push=True)
    registry.upload(name, blob.descriptor, blob.open)
    how = registry.upload(f"{name}/other", blob.descriptor, blob.open, (name,))
    assert how in {"mounted", "sent"}
    if "registry-" in str(running.folder):  # crane knows no mount
        assert how == "mounted"
    assert registry.has_blob(f"{name}/other", blob.descriptor.digest)


def test_a_mount_from_where_the_blob_is_not_ends_with_sending_it(running, open_registry, name, blob):
    registry = open_registry(running, push=True)
    assert registry.upload(f"{name}/new", blob.descriptor, blob.open, ("no/such", "nor/this", "or/that")) == "sent"
    assert b"".join(registry.stream_blob(f"{name}/new", blob.descriptor)) == blob.data


def test_wrong_bytes_are_refused_by_the_registry_and_are_not_there(running, open_registry, name, blob):
    registry = open_registry(running)
    lie = Descriptor(blob.descriptor.media_type, Digest.of(b"something else"), blob.descriptor.size)
    with pytest.raises((RegistryError, IntegrityError)):
        registry.upload(name, lie, blob.open)
    assert not registry.has_blob(name, lie.digest)


@pytest.mark.parametrize("start", [start_docker_registry, start_distribution3])
def test_a_manifest_whose_blobs_are_missing_is_refused_with_their_name(start, tmp_path, open_registry, manifest):
    with start(tmp_path) as running:
        registry = open_registry(running, push=True)
        with pytest.raises((RegistryError, NotFoundError), match="BLOB_UNKNOWN"):
            registry.put_manifest("a/b", "1", manifest.raw, manifest.media_type)
        assert registry.head_manifest("a/b", "1") is None


def test_an_index_keeps_its_bytes(running, open_registry, name, image):
    registry = open_registry(running, push=True)
    image.push(registry, name, str(image.manifest.descriptor.digest))
    raw = json.dumps(
        {"manifests": [image.manifest.descriptor.to_json()], "mediaType": OCI_INDEX, "schemaVersion": 2}, indent=3
    ).encode()
    registry.put_manifest(name, "multi", raw, OCI_INDEX)
    found = registry.get_manifest(name, "multi")
    assert isinstance(found, Index)
    assert found.raw == raw
    assert registry.head_manifest(name, "multi").is_index


def test_what_refers_to_an_image_is_found_by_api_or_by_tag(running, open_registry, name, image):
    registry = open_registry(running, push=True)
    image.push(registry, name)
    data = json.loads(artifact_manifest(image.config.descriptor, (image.blob.descriptor,), None, "application/x.signature").raw)
    raw = canonical_json({**data, "subject": image.manifest.descriptor.to_json()})
    referrer = Descriptor.of(OCI_MANIFEST, raw, artifact_type="application/x.signature")
    registry.put_manifest(name, str(referrer.digest), raw, OCI_MANIFEST)
    found = registry.referrers(name, image.manifest.descriptor.digest)
    if not found:  # no API: who pushes keeps the index of the fallback tag
        index = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [referrer.to_json()]})
        registry.put_manifest(name, f"sha256-{image.manifest.descriptor.digest.hex}", index, OCI_INDEX)
        found = registry.referrers(name, image.manifest.descriptor.digest)
    assert [(one.digest, one.artifact_type) for one in found] == [(referrer.digest, "application/x.signature")]


def test_many_threads_push_and_read_at_once(running, open_registry, name, tmp_path):
    registry = open_registry(running, push=True)
    blobs = [Blob.make(tmp_path, os.urandom(200_000), f"b{number}") for number in range(12)]

    def there_and_back(blob: Blob) -> bool:
        registry.upload(name, blob.descriptor, blob.open)
        return b"".join(registry.stream_blob(name, blob.descriptor)) == blob.data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(there_and_back, blobs))


@pytest.mark.parametrize("start", [start_docker_registry, start_distribution3])
def test_wrong_credentials_are_refused_and_never_shown(start, tmp_path, authority, open_registry):
    with (
        TokenServer.start(authority, {USER: WORD}) as tokens,
        start(tmp_path, token=tokens) as by_token,
        start(tmp_path, htpasswd={USER: WORD}) as by_basic,
    ):
        for running, words in ((by_token, "token server"), (by_basic, "401 Unauthorized")):
            registry = open_registry(running, word="wrong-word")
            with pytest.raises(UnauthorizedError, match=words) as caught:
                registry.probe_repository("a/b")
            assert "wrong-word" not in caught.value.message + caught.value.hint


def test_an_upload_goes_on_when_its_token_ends_between_its_steps(authority, tmp_path, open_registry, blob):
    with (
        TokenServer.start(authority, {USER: WORD}, lifetime=3, announce_lifetime=False) as tokens,
        start_docker_registry(tmp_path, token=tokens) as running,
    ):
        registry = open_registry(running, push=True)
        registry.probe_repository("a/b")
        before = len(tokens.seen)

        def slow(offset: int):
            time.sleep(4.5)  # the registry takes no token by then, and we do not know
            return blob.open(offset)

        assert registry.upload("a/b", blob.descriptor, slow) == "sent"
        assert len(tokens.seen) > before
        assert registry.has_blob("a/b", blob.descriptor.digest)


def test_a_registry_that_is_restarted_is_waited_for(tmp_path, open_registry, blob):
    with start_docker_registry(tmp_path) as running:
        registry = open_registry(running)
        registry.upload("a/b", blob.descriptor, blob.open)
        stream = registry.stream_blob("a/b", blob.descriptor)
        first = next(stream)
        running.restart()
        assert first + b"".join(stream) == blob.data


@pytest.mark.parametrize("start", [start_docker_registry, start_distribution3, start_crane])
def test_what_we_push_is_read_by_crane_and_what_crane_pushes_by_us(start, tmp_path, open_registry, image):
    crane = find_binary("crane")
    with start(tmp_path) as running:
        registry = open_registry(running, push=True)
        image.push(registry, "a/b")
        told = subprocess.run([crane, "digest", f"{running.host}/a/b:1"], check=True, capture_output=True, text=True).stdout
        assert told.strip() == str(image.manifest.descriptor.digest)
        copy = [crane, "copy", f"{running.host}/a/b:1", f"{running.host}/c/d:2"]
        subprocess.run(copy, check=True, capture_output=True)
        assert registry.get_manifest("c/d", "2") == image.manifest
