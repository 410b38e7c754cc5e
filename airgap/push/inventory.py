"""Take the inventory of a registry: what lies under a location, by repository, asked for and not assumed.

Invariants: nothing is written. A blob counts as held only when the registry says so by itself (HEAD), whatever manifests claim.
Where a lock is given, its repositories are looked at; else those that the catalog names under the prefix.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airgap.bundle.crew import Crew
from airgap.errors import ConfigurationError, IntegrityError, NotFoundError, RegistryError
from airgap.inventory import Holding, RegistryInventory
from airgap.oci import Index
from airgap.plan import wanted
from airgap.progress import Progress
from airgap.registry.catalog import catalog

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airgap.lock import Lock
    from airgap.oci import Descriptor, Digest, Manifest
    from airgap.ref import Location
    from airgap.registry import Registry

JOBS = 6
"""Questions at a time; the same as for transfers."""


def take(
    registry: Registry, location: Location, *, locks: Sequence[Lock] = (), jobs: int = JOBS, progress: Progress | None = None
) -> RegistryInventory:
    """Return what ``location`` holds.

    Raises ConfigurationError where the registry lists no repositories and no lock says which there are; NetworkError.
    """
    progress, crew = progress or Progress(), Crew(jobs)
    shelves = {name: _Shelf(registry, name, progress) for name in _names(registry, location, locks)}
    for lock in locks:
        for item in wanted(lock, location):
            shelves[item.repository].expect(item.tag, item.tree.manifests, (blob.digest for blob in item.tree.blobs))
    progress.begin("look into repositories", len(shelves))
    crew.run(shelves.values(), _Shelf.look)
    progress.end()
    pairs = [(shelf, digest) for shelf in shelves.values() for digest in sorted(shelf.claimed)]
    progress.begin("look at what is there", len(pairs))
    crew.run(pairs, lambda pair: pair[0].ask(pair[1]))
    progress.end()
    held = {name.removeprefix(location.under("")): shelf.holding for name, shelf in sorted(shelves.items())}
    return RegistryInventory(location, {name: holding for name, holding in held.items() if holding})


def _names(registry: Registry, location: Location, locks: Sequence[Lock]) -> tuple[str, ...]:
    if locks:
        return tuple(sorted({item.repository for lock in locks for item in wanted(lock, location)}))
    listed = catalog(registry.client, registry.host)
    if listed is None:
        raise ConfigurationError(
            f"{registry.host} does not list its repositories",
            hint="say which there are: airgap inventory BUNDLE --registry ..., with the bundle (or lock) that was pushed there",
        )
    return tuple(name for name in listed if name.startswith(location.under("")))


class _Shelf:
    """One repository while it is looked at."""

    def __init__(self, registry: Registry, name: str, progress: Progress) -> None:
        self._registry, self._name, self._progress = registry, name, progress
        self._noting = threading.Lock()
        self._roots: set[str] = set()
        self._tags: dict[str, Digest] = {}
        self._manifests: set[Digest] = set()
        self._blobs: set[Digest] = set()
        self.claimed: set[Digest] = set()

    @property
    def holding(self) -> Holding:
        return Holding(self._tags, frozenset(self._manifests), frozenset(self._blobs))

    def expect(self, tag: str, manifests: Iterable[Descriptor], blobs: Iterable[Digest]) -> None:
        """Look for these too, whether a tag leads there or not."""
        self._roots.update(filter(None, (tag, *(str(it.digest) for it in manifests))))
        self.claimed.update(blobs)

    def look(self) -> None:
        """Follow every tag down to the blobs that its manifests name."""
        try:
            self._roots.update(self._registry.tags(self._name))
        except RegistryError as error:
            self._progress.warn(f"{self._name}: its tags cannot be listed ({error.message})")
        for locator in sorted(self._roots):
            self._follow(locator)
        self._progress.done(self._name, f"{len(self._tags)} tags")

    def ask(self, digest: Digest) -> None:
        """Find out whether a blob is there."""
        if self._registry.has_blob(self._name, digest):
            with self._noting:
                self._blobs.add(digest)

    def _follow(self, locator: str) -> None:
        """Look at a tag or manifest and at all below it, however deep that is, each once (faults F47)."""
        waiting = [locator]
        while waiting:
            at = waiting.pop()
            document = self._get(at)
            if document is None:
                continue
            digest = document.descriptor.digest
            if ":" not in at:
                self._tags[at] = digest
            if digest in self._manifests:
                continue
            self._manifests.add(digest)
            if isinstance(document, Index):
                waiting += [str(child.digest) for child in document.manifests if child.digest not in self._manifests]
            else:
                self.claimed.update(blob.digest for blob in document.blobs)

    def _get(self, locator: str) -> Manifest | Index | None:
        try:
            return self._registry.get_manifest(self._name, locator)
        except NotFoundError:
            return None
        except (RegistryError, IntegrityError) as error:
            self._progress.warn(f"{self._name} {locator} counts as not there: {error.message}")
            return None
