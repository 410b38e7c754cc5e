"""A registry's contents on disk: an OCI image layout that grows, which skopeo, crane and oras read as it lies.

::

    DIR/oci-layout, DIR/index.json      the layout; index.json is the one truth about tags and manifests
    DIR/blobs/<algorithm>/<hex>         bytes, each once, under no name but their own digest
    DIR/.airgap/repositories/NAME/_blobs/<algorithm>/<hex>   empty files: this repository holds that blob
    DIR/.airgap/uploads/                sessions (see sessions)

In index.json a tag is ``org.opencontainers.image.ref.name: NAME:TAG`` and a manifest without a tag carries
``vnd.airgap.repository: NAME``. Entries of other tools are left alone.

Invariants: a file has its final name only when it is whole, verified and on disk (temporary name, fsync, rename, fsync of the
folder); index.json is replaced, never edited; a push that got its 201 survives a crash. One process at a time (a lock on the
folder). All tables are guarded by one lock; bytes are moved outside of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
from typing import TYPE_CHECKING, Any

from airgap.errors import ConfigurationError, DiskError, IntegrityError
from airgap.layout import INDEX_FILE, LAYOUT, LAYOUT_FILE, REF_NAME, blob_path, check
from airgap.oci import OCI_INDEX, Descriptor, Digest, Index, Manifest, canonical_json, parse_manifest
from airgap.serve.contents import Repository
from airgap.serve.sessions import Sessions
from airgap.transport.body import Window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from airgap.serve.sessions import Session

REPOSITORY = "vnd.airgap.repository"
_PRIVATE = ".airgap"
_BLOBS = "_blobs"


class Store:
    """Contents that can be written; thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open or make a store; raises DiskError (cannot be written, in use), ConfigurationError (something else is there)."""
        self._folder = folder
        self._lock = threading.RLock()
        self._repositories: dict[str, Repository] = {}
        self._strangers: list[dict[str, Any]] = []
        try:
            self._prepare()
            self.sessions = Sessions(folder / _PRIVATE / "uploads")
        except OSError as error:
            raise DiskError(
                f"the store {folder} cannot be written ({error.strerror})", hint="give --store another folder"
            ) from error
        self._load()

    def close(self) -> None:
        """Let another process have the folder."""
        self._held.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def repositories(self) -> Collection[str]:
        """Return the names of all repositories."""
        with self._lock:
            return {name for name, repository in self._repositories.items() if repository}

    def find(self, repository: str, locator: str | Digest) -> Descriptor | None:
        """Return the manifest or index under a tag or digest."""
        with self._lock:
            table = self._repositories.get(repository)
            return table.find(locator) if table else None

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes, verified; raises IntegrityError."""
        raw = self.path(descriptor.digest).read_bytes()
        return check(raw, descriptor, f"manifest {descriptor.digest} in the store {self._folder}")

    def blob(self, repository: str, digest: Digest) -> Window | None:
        """Return where a blob's bytes lie."""
        with self._lock:
            table = self._repositories.get(repository)
            if table is None or digest not in table.blobs:
                return None
        path = self.path(digest)
        return Window(path, 0, path.stat().st_size) if path.exists() else None

    def tags(self, repository: str) -> Collection[str]:
        """Return the tags, in any order."""
        with self._lock:
            table = self._repositories.get(repository)
            return tuple(table.tags) if table else ()

    def referrers(self, repository: str, digest: Digest) -> Sequence[Descriptor]:
        """Return what speaks about ``digest``."""
        with self._lock:
            table = self._repositories.get(repository)
            return table.referrers(digest) if table else ()

    def path(self, digest: Digest) -> Path:
        """Return where a digest's bytes lie, or would."""
        return self._folder / blob_path(digest)

    # -- writing ------------------------------------------------------------------------------------------------------

    def commit(self, session: Session, digest: Digest) -> None:
        """Give a session's bytes, which match ``digest``, their name in the session's repository."""
        with self._lock:
            self._settle(session.data, digest)
            self._link(session.repository, digest)
        session.discard()

    def mount(self, repository: str, digest: Digest, source: str = "") -> bool:
        """Hold a blob of ``source`` (empty: of any repository) in ``repository`` too; False if it is not there."""
        with self._lock:
            tables = self._repositories.values() if not source else filter(None, [self._repositories.get(source)])
            if not any(digest in table.blobs for table in tables) or not self.path(digest).exists():
                return False
            self._link(repository, digest)
            return True

    def put(self, repository: str, descriptor: Descriptor, document: Manifest | Index, tags: Iterable[str]) -> None:
        """Keep a manifest and point tags to it; all of it or, when the disk fails, nothing (DiskError)."""
        with self._lock:
            temporary = self._folder / _PRIVATE / f"{uuid.uuid4().hex}.tmp"
            try:
                temporary.write_bytes(document.raw)
                self._settle(temporary, descriptor.digest)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise DiskError(f"the store cannot be written: {error.strerror}") from error
            table = self._table(repository).copy()
            table.add(descriptor, document, tags)
            self._replace(repository, table)

    def remove_manifest(self, repository: str, locator: str | Digest) -> bool:
        """Forget a tag, or a manifest with all its tags; False if it is not there."""
        with self._lock:
            table = self._table(repository).copy()
            if not table.find(locator):
                return False
            if isinstance(locator, Digest):
                table.remove(locator)
            else:
                table.tags.pop(locator)
            self._replace(repository, table)
            if isinstance(locator, Digest):
                self._collect(locator)
            return True

    def remove_blob(self, repository: str, digest: Digest) -> bool:
        """Forget a blob in one repository, and its bytes when no other holds it; False if it is not there."""
        with self._lock:
            table = self._table(repository)
            if digest not in table.blobs:
                return False
            table.blobs.discard(digest)
            self._link_path(repository, digest).unlink(missing_ok=True)
            self._collect(digest)
            return True

    # -- below: under the lock ------------------------------------------------------------------------------------------

    def _table(self, repository: str) -> Repository:
        return self._repositories.setdefault(repository, Repository())

    def _replace(self, repository: str, table: Repository) -> None:
        """Put a changed table in place once index.json says the same."""
        try:
            self._write_index({**self._repositories, repository: table})
        except OSError as error:
            raise DiskError(f"index.json of the store cannot be written: {error.strerror}") from error
        self._repositories[repository] = table

    def _settle(self, temporary: Path, digest: Digest) -> None:
        """Move verified bytes to their final name, for good."""
        final = self.path(digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        _sync(temporary)
        temporary.replace(final)
        _sync(final.parent)

    def _link_path(self, repository: str, digest: Digest) -> Path:
        return self._folder / _PRIVATE / "repositories" / repository / _BLOBS / digest.algorithm / digest.hex

    def _link(self, repository: str, digest: Digest) -> None:
        link = self._link_path(repository, digest)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.touch()
        _sync(link.parent)
        self._table(repository).blobs.add(digest)

    def _collect(self, digest: Digest) -> None:
        """Remove bytes that no repository (and no entry of another tool's) holds."""
        if self._strangers:
            return
        if not any(digest in table.blobs or digest in table.manifests for table in self._repositories.values()):
            self.path(digest).unlink(missing_ok=True)

    def _write_index(self, repositories: dict[str, Repository]) -> None:
        entries = [entry.to_json() for name in sorted(repositories) for entry in _entries(name, repositories[name])]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*self._strangers, *entries]}
        temporary = self._folder / f".index.{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_bytes(canonical_json(document))
            _sync(temporary)
            temporary.replace(self._folder / INDEX_FILE)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(self._folder)

    # -- opening --------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        private = self._folder / _PRIVATE
        if self._folder.exists() and not (self._folder / LAYOUT_FILE).exists() and any(self._folder.iterdir()):
            raise ConfigurationError(
                f"{self._folder} is neither empty nor an OCI layout", hint="give --store an empty folder, or one it made before"
            )
        private.mkdir(parents=True, exist_ok=True)
        self._held = (private / "lock").open("wb")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._held.close()
            raise DiskError(f"the store {self._folder} is in use by another process") from error
        for left in (*private.glob("*.tmp"), *self._folder.glob(".index.*.tmp")):
            left.unlink()
        if not (self._folder / INDEX_FILE).exists():
            self._write_index({})
        (self._folder / LAYOUT_FILE).write_bytes(LAYOUT)

    def _load(self) -> None:
        try:
            document = json.loads((self._folder / INDEX_FILE).read_bytes())
            for item in document["manifests"]:
                self._load_entry(item)
        except (ValueError, KeyError, TypeError, IntegrityError, OSError) as error:
            self._held.close()
            raise IntegrityError(f"the store {self._folder} cannot be read: {error}") from error
        root = self._folder / _PRIVATE / "repositories"
        for link in root.glob(f"**/{_BLOBS}/*/*"):
            name = link.parent.parent.parent.relative_to(root).as_posix()
            self._table(name).blobs.add(Digest(link.parent.name, link.name))

    def _load_entry(self, item: dict[str, Any]) -> None:
        descriptor = Descriptor.from_json(item)
        name, _, tag = descriptor.annotations.get(REF_NAME, "").rpartition(":")
        name = name or descriptor.annotations.get(REPOSITORY, "")
        if not name:
            self._strangers.append(item)
            return
        plain = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
        document = parse_manifest(self.path(plain.digest).read_bytes(), plain.media_type)
        table = self._table(name)
        table.add(plain, document, (tag,) if tag else ())
        blobs = document.blobs if isinstance(document, Manifest) else ()
        table.blobs.update(blob.digest for blob in blobs if self.path(blob.digest).exists())


def _entries(name: str, table: Repository) -> Iterator[Descriptor]:
    """Return what index.json says about a repository: its tags, then the manifests that have none."""
    for tag, descriptor in sorted(table.tags.items()):
        yield Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, annotations={REF_NAME: f"{name}:{tag}"})
    tagged = {descriptor.digest for descriptor in table.tags.values()}
    for digest, descriptor in sorted(table.manifests.items()):
        if digest not in tagged:
            yield Descriptor(descriptor.media_type, digest, descriptor.size, annotations={REPOSITORY: name})


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
