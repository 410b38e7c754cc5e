"""A source registry that is real, filled with an estate, and whose access log says what was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from airgap.lock import LockedArtifact
from airgap.registry import Registry
from airgap.transport import Client, CredentialStore, HostSettings
from tests.world.registries import start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.lock import LockedImage
    from airgap.oci import Descriptor
    from airgap.ref import Reference
    from airgap.transport import Room
    from tests.bundle.estate import Estate
    from tests.world.registries import RunningRegistry

GET_BLOB = re.compile(r'"GET /v2/[^ ]+/blobs/(sha256:[0-9a-f]{64}) HTTP/[0-9.]+" (2\d\d)')


def connect(host: str) -> Registry:
    return Registry(Client(hosts={host: HostSettings(plain_http=True)}, credentials=CredentialStore(), environ={}), host)


def fill(estate: Estate, registry: Registry) -> None:
    """Put the images of ``estate`` where their references say (the host replaced by the registry's)."""
    for image in estate.images:
        for tree in image.trees:
            for blob in tree.blobs:
                upload(estate, registry, image.reference.repository, blob)
            for manifest in tree.manifests:
                raw = estate.contents[manifest.digest]
                registry.put_manifest(image.reference.repository, str(manifest.digest), raw, manifest.media_type)


def upload(estate: Estate, registry: Registry, repository: str, blob: Descriptor) -> None:
    import io  # noqa: PLC0415

    from airgap.transport import Window  # noqa: PLC0415

    data = estate.contents[blob.digest]
    registry.upload(repository, blob, lambda offset: Window(io.BytesIO(data), offset, len(data) - offset))


@dataclass
class RegistrySource:
    """Images out of one registry, artifacts out of an estate."""

    estate: Estate
    registry: Registry

    def manifest(self, reference: Reference, descriptor: Descriptor) -> bytes:
        return self.registry.get_manifest_bytes(reference.repository, str(descriptor.digest))[0]

    def blob(
        self, owner: LockedImage | LockedArtifact, descriptor: Descriptor, offset: int = 0, room: Room | None = None
    ) -> Iterator[bytes | memoryview]:
        if isinstance(owner, LockedArtifact):
            return self.estate.blob(owner, descriptor, offset)
        return self.registry.stream_blob(owner.reference.repository, descriptor, offset, room)


@pytest.fixture
def upstream(tmp_path):
    """A distribution 2.8 with its access log on."""
    with start_docker_registry(tmp_path, config={"log": {"level": "info", "accesslog": {"disabled": False}}}) as running:
        yield running


def fetched(running: RunningRegistry) -> list[str]:
    """Every blob that was served, in order, by the registry's own log."""
    return [found[1] for found in GET_BLOB.finditer(running.log)]
