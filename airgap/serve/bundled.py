"""A bundle as a registry's contents: read-only, straight from the tar.

Invariants: repositories are called as ``push`` would call them (one function says so: ``plan.wanted``), so a name that works
here works in the registry that the bundle is pushed to. One thing more is here than is pushed: the index of which only one
platform is carried, by digest, because a node mirror is asked for the digest that a chart has pinned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.plan import wanted
from airgap.ref import Location
from airgap.serve.contents import Repository

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from airgap.bundle import BundleReader
    from airgap.lock import Lock
    from airgap.oci import Descriptor, Digest
    from airgap.transport.body import Window


ROOT = Location("x")
"""A place without a prefix; the host is of no account, since only repositories are read."""


class Bundled:
    """Contents out of a bundle; nothing changes, so nothing is locked."""

    def __init__(self, bundle: BundleReader, place: Location = ROOT) -> None:
        self._bundle = bundle
        self._repositories = repositories(bundle.lock, place)
        for table in self._repositories.values():
            for descriptor in list(table.manifests.values()):
                table.add(descriptor, bundle.manifest(descriptor))

    def repositories(self) -> Collection[str]:
        """Return the names of all repositories."""
        return self._repositories.keys()

    def find(self, repository: str, locator: str | Digest) -> Descriptor | None:
        """Return the manifest or index under a tag or digest."""
        table = self._repositories.get(repository)
        return table.find(locator) if table else None

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes, verified; raises IntegrityError."""
        return self._bundle.read(descriptor)

    def blob(self, repository: str, digest: Digest) -> Window | None:
        """Return where a blob's bytes lie."""
        table = self._repositories.get(repository)
        held = self._bundle.descriptor(digest) if table and digest in table.blobs else None
        return self._bundle.window(held) if held else None

    def tags(self, repository: str) -> Collection[str]:
        """Return the tags, in any order."""
        table = self._repositories.get(repository)
        return table.tags.keys() if table else ()

    def referrers(self, repository: str, digest: Digest) -> Sequence[Descriptor]:
        """Return what speaks about ``digest``."""
        table = self._repositories.get(repository)
        return table.referrers(digest) if table else ()

    def has(self, digest: Digest) -> bool:
        """Whether the bundle holds this."""
        return self._bundle.has(digest)


def repositories(lock: Lock, location: Location = ROOT) -> dict[str, Repository]:
    """Return every repository that pushing ``lock`` to ``location`` would make, without who refers to whom."""
    tables: dict[str, Repository] = {}
    for item in wanted(lock, location):
        table = tables.setdefault(item.repository, Repository())
        for descriptor in item.tree.manifests:
            table.add(descriptor, tags=(item.tag,) if item.tag and descriptor.digest == item.tree.root.digest else ())
        table.blobs.update(blob.digest for blob in item.tree.blobs)
    for image in lock.images:
        if image.index:
            tables[location.relocate(image.reference).repository].add(image.index)
    return tables
