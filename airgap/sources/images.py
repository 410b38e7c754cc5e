"""ImageSources: the images of registries and of the local Docker engine, and our own artifacts, as fetch copies them.

Invariants: one Registry per host, so one token per repository; every name goes through Places; thread-safe. Bytes are passed
on as they come, the bundle's sink checks them. What resolving read of an image is not asked for again when it is copied:
Docker Hub counts each GET of a manifest as a pull.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from airgap.errors import NotFoundError
from airgap.lock import DOCKER_ENGINE, LockedArtifact, LockedImage
from airgap.registry import Registry
from airgap.sources import engine
from airgap.sources.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from airgap.oci import Descriptor, Digest, Index, Manifest
    from airgap.ref import Reference
    from airgap.sources.artifacts import Artifact
    from airgap.sources.engine import SavedImage
    from airgap.transport import Client, Room

CHUNK = 1024 * 1024
"""Bytes read at a time from a file."""


class ImageSources:
    """Where images and artifacts come from; ``scratch`` is a folder for what the Docker engine saves.

    ``local``: the images of a lock that come from the Docker engine; those that ``saved`` was asked for are known already.
    """

    def __init__(
        self,
        client: Client,
        places: Places | None = None,
        *,
        scratch: Path | None = None,
        artifacts: Iterable[Artifact] = (),
        local: Iterable[Reference] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._places = places or Places()
        self._scratch = scratch
        self._environ = os.environ if environ is None else environ
        self._registries: dict[str, Registry] = {}
        self._local = set(local)
        self._saved: dict[Reference, SavedImage] = {}
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._contents: dict[Digest, bytes | Path] = {}
        self._read: dict[tuple[str, str, Digest], Manifest | Index] = {}
        self.add(artifacts)

    def add(self, artifacts: Iterable[Artifact]) -> None:
        """Take artifacts whose blobs will be asked for."""
        for artifact in artifacts:
            self._contents.update(artifact.blobs)

    def locate(self, reference: Reference) -> tuple[Registry, str]:
        """Return the registry and repository where an image is really asked for."""
        host, repository = self._places.image(reference)
        with self._lock:
            if host not in self._registries:
                self._registries[host] = Registry(self._client, host)
            return self._registries[host], repository

    def saved(self, reference: Reference) -> SavedImage:
        """Return an image of the local Docker engine, saved once per run; raises ToolError, NotFoundError."""
        with self._saving:
            self._local.add(reference)
            if reference not in self._saved:
                if self._scratch is None:
                    raise NotFoundError(f"{reference} is to come from the Docker engine, and there is no room to save it in")
                self._saved[reference] = engine.save(reference, self._scratch, self._environ)
            return self._saved[reference]

    def read(self, reference: Reference, digest: Digest) -> Manifest | Index:
        """Return a manifest of an image's repository, fetched once; raises NotFoundError, IntegrityError."""
        registry, repository = self.locate(reference)
        key = (registry.host, repository, digest)
        with self._lock:
            known = self._read.get(key)
        if known is None:
            known = registry.get_manifest(repository, str(digest))
            with self._lock:
                self._read[key] = known
        return known

    def manifest(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """Return the bytes of a manifest or index by its digest (fetch.Source): once those that were read, then anew."""
        saved = self.saved(reference) if reference in self._local else None
        if saved and saved.manifest.descriptor.digest == descriptor.digest:
            return saved.manifest.raw
        registry, repository = self.locate(reference)
        with self._lock:
            known = self._read.pop((registry.host, repository, descriptor.digest), None)
        if known:
            return known.raw
        return registry.get_manifest_bytes(repository, str(descriptor.digest))[0]

    def blob(
        self, owner: LockedImage | LockedArtifact, descriptor: Descriptor, offset: int = 0, room: Room | None = None
    ) -> Iterator[bytes | memoryview]:
        """Yield a blob from ``offset`` (fetch.Source)."""
        if isinstance(owner, LockedArtifact):
            return self._content(owner, descriptor, offset)
        if owner.source == DOCKER_ENGINE:
            return self._engine_blob(owner, descriptor, offset)
        registry, repository = self.locate(owner.reference)
        return registry.stream_blob(repository, descriptor, offset, room)

    def _engine_blob(self, owner: LockedImage, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        saved = self.saved(owner.reference)
        piece = saved.pieces.get(descriptor.digest)
        if piece is None:
            raise NotFoundError(
                f"the Docker engine's {owner.reference} is another image than when the lock was written",
                hint="write a new lock with airgap plan",
            )
        return piece.read(offset)

    def _content(self, owner: LockedArtifact, descriptor: Descriptor, offset: int) -> Iterator[bytes]:
        content = self._contents.get(descriptor.digest)
        if content is None:
            raise NotFoundError(
                f"{owner.kind} {owner.name} {owner.version} is not what it was when the lock was written",
                hint="write a new lock with airgap plan",
            )
        if isinstance(content, bytes):
            yield content[offset:]
            return
        with content.open("rb") as file:
            file.seek(offset)
            while data := file.read(CHUNK):
                yield data
