"""Fixtures of the registry tests: real registries of each kind, blobs in a file, clients that do not wait long."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from airgap.oci import OCI_CONFIG, Descriptor, Manifest, artifact_manifest
from airgap.registry import Registry
from airgap.transport import Client, Credential, CredentialStore, HostSettings, RetryPolicy, Window
from tests.world.authority import Authority
from tests.world.registries import RunningRegistry, start_crane, start_distribution3, start_docker_registry
from tests.world.tokens import TokenServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

USER, WORD = "ann", "pass-word"
QUICK = RetryPolicy(attempts=4, base=0.01, cap=0.05, retry_after_cap=3.0)
START = 777
"""Where the blob lies in its file."""


@dataclass(frozen=True)
class Blob:
    """A blob that lies somewhere inside a file."""

    path: Path
    data: bytes
    descriptor: Descriptor
    start: int = START

    def open(self, offset: int) -> Window:
        return Window(self.path, self.start + offset, self.descriptor.size - offset)

    @classmethod
    def make(cls, folder: Path, data: bytes, name: str = "blob") -> Blob:
        path = folder / name
        path.write_bytes(b"#" * START + data + b"#" * 55)
        return cls(path, data, Descriptor.of("application/vnd.oci.image.layer.v1.tar+gzip", data))


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    return Blob.make(tmp_path, os.urandom(3_000_000))


@pytest.fixture
def config(tmp_path: Path) -> Blob:
    data = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'
    made = Blob.make(tmp_path, data, "config")
    return Blob(made.path, data, Descriptor.of(OCI_CONFIG, data))


@pytest.fixture
def manifest(blob: Blob, config: Blob) -> Manifest:
    return artifact_manifest(config.descriptor, (blob.descriptor,))


@dataclass(frozen=True)
class Image:
    """A layer, a config and the manifest that names them."""

    blob: Blob
    config: Blob
    manifest: Manifest

    def push(self, registry: Registry, repository: str, tag: str = "1") -> None:
        for blob in (self.blob, self.config):
            registry.upload(repository, blob.descriptor, blob.open)
        registry.put_manifest(repository, tag, self.manifest.raw, self.manifest.media_type)


@pytest.fixture
def image(blob: Blob, config: Blob, manifest: Manifest) -> Image:
    return Image(blob, config, manifest)


@pytest.fixture
def open_registry() -> Iterator[Callable[..., Registry]]:
    """Make Registry objects for running ones (or host names of plain HTTP); their clients are closed at the end."""
    clients: list[Client] = []

    def make(running: RunningRegistry | str, *, word: str = WORD, **more: object) -> Registry:
        host = running if isinstance(running, str) else running.host
        ca_file = None if isinstance(running, str) else running.ca_file
        settings = HostSettings(plain_http=ca_file is None, ca_file=ca_file)
        credentials = CredentialStore().with_explicit(host, Credential(USER, word))
        clients.append(Client(hosts={host: settings}, credentials=credentials, retry=QUICK))
        return Registry(clients[-1], host, **more)  # type: ignore[arg-type]

    yield make
    for client in clients:
        client.close()


KINDS = ("crane", "2.8", "2.8-tls", "2.8-basic", "2.8-token", "2.8-token-tls", "3", "3-tls", "3-basic", "3-token")


@pytest.fixture(scope="session", params=KINDS)
def running(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningRegistry]:
    """Each real registry with each way of authentication; tests use repositories of their own."""
    folder = tmp_path_factory.mktemp("running")
    version, _, way = request.param.partition("-")
    if version == "crane":
        with start_crane(folder) as registry:
            yield registry
        return
    start = start_docker_registry if version == "2.8" else start_distribution3
    tls = authority if "tls" in way else None
    if way.startswith("token"):
        with (
            TokenServer.start(authority, {USER: WORD}, tls=bool(tls)) as tokens,
            start(folder, tls=tls, token=tokens) as registry,
        ):
            yield registry
        return
    with start(folder, tls=tls, htpasswd={USER: WORD} if way == "basic" else None) as registry:
        yield registry
