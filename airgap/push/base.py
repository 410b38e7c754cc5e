"""Base: what a delta leaves out must lie in the registry, and is looked for before the first byte is sent.

Invariants: every left-out blob is asked for, in each repository that needs it and then where it was last known; what a tag that
points to the right manifest would vouch for is not taken for granted here, because the bundle has no second copy. A blob that
lies in another repository only is mounted from there, or, where the registry mounts nothing, copied through this host.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import IntegrityError
from airgap.inventory import last_known
from airgap.plan import Inventory
from airgap.transport import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airgap.bundle.crew import Crew
    from airgap.lock import Lock
    from airgap.oci import Descriptor, Digest
    from airgap.plan import Wanted
    from airgap.progress import Progress
    from airgap.ref import Location
    from airgap.registry import Registry
    from airgap.transport import Response


@dataclass(frozen=True)
class Grounds:
    """What a push stands on: what the registry holds, and for each left-out blob a repository that has it."""

    inventory: Inventory
    places: Mapping[Digest, str] = field(default_factory=dict)


def stand(
    lock: Lock,
    registry: Registry,
    want: Sequence[Wanted],
    location: Location,
    found: Inventory,
    *,
    crew: Crew,
    progress: Progress,
) -> Grounds:
    """Return ``found`` with what a delta's base adds to it; raises IntegrityError when the base has lost a blob.

    Tags under which a blob is missing are forgotten, so that the plan makes them whole again.
    """
    if not lock.left_out:
        return Grounds(found)
    complete = [item for item in want if item.tag and found.tags.get((item.repository, item.tag)) == item.tree.root.digest]
    unasked = {(item.repository, blob.digest) for item in complete for blob in item.tree.blobs if blob.digest in lock.left_out}
    there = found.blobs | _ask(registry, unasked - found.blobs, crew, progress)
    known = {digest for _, digest in there}
    elsewhere = {(place, digest) for digest, place in last_known(lock, location).items() if digest not in known}
    there |= _ask(registry, elsewhere, crew, progress)
    places = {digest: repository for repository, digest in sorted(there, reverse=True) if digest in lock.left_out}
    if lost := [digest for digest in lock.left_out if digest not in places]:
        raise _lost(lock, lost, location)
    broken = {
        (it.repository, it.tag) for it in complete for blob in it.tree.blobs if (it.repository, blob.digest) in unasked - there
    }
    tags = {key: digest for key, digest in found.tags.items() if key not in broken}
    return Grounds(Inventory(frozenset(there), tags), places)


def _ask(registry: Registry, pairs: set[tuple[str, Digest]], crew: Crew, progress: Progress) -> frozenset[tuple[str, Digest]]:
    """Return those of ``pairs`` (repository, digest) that the registry holds."""
    found: set[tuple[str, Digest]] = set()
    noting = threading.Lock()

    def one(pair: tuple[str, Digest]) -> None:
        if registry.has_blob(*pair):
            with noting:
                found.add(pair)

    progress.begin("look at what the bundle builds on", len(pairs))
    crew.run(sorted(pairs), one)
    progress.end()
    return frozenset(found)


def _lost(lock: Lock, lost: Sequence[Digest], location: Location) -> IntegrityError:
    """List what has to be brought, by image."""
    gone, sizes, told = set(lost), {digest: blob.size for digest, blob in lock.needed().items()}, []
    for image in lock.images:
        own = {blob.digest for tree in image.trees for blob in tree.blobs} & gone
        if own:
            told.append(f"{image.reference}: {', '.join(str(it) for it in sorted(own))} ({sum(sizes[it] for it in own)} bytes)")
    base = lock.base
    assert base is not None  # noqa: S101  # only a delta leaves anything out
    return IntegrityError(
        f"{len(lost)} of the {len(lock.left_out)} blobs that this bundle builds on ({base.kind} {base.name}, {base.digest}) "
        f"are not at {location}, and nothing was sent; to be brought: {'; '.join(told)}",
        hint=f"airgap inventory --registry {location} --output-file inventory.json here, then outside "
        "airgap mirror --base inventory.json; or bring a bundle that was made without --base",
    )


class Relay(Window):
    """A blob of the registry as a request body, for a registry that does not mount it into another of its repositories."""

    def __init__(self, registry: Registry, repository: str, descriptor: Descriptor, offset: int) -> None:
        super().__init__("", 0, descriptor.size - offset)
        self._registry, self._repository, self._blob, self._start = registry, repository, descriptor, offset
        self._response: Response | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; raises the registry's own errors."""
        left = len(self) - self._position
        wanted = left if size < 0 else min(size, left)
        if self._response is None and wanted:
            self._response = self._registry.open_blob(self._repository, self._blob, self._start + self._position)
            self._pieces = self._response.stream()
        while len(self._rest) < wanted and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:wanted], self._rest[wanted:]
        if wanted and not data:
            raise IntegrityError(f"{self._registry.host} ends {self._blob.digest} {left} bytes too early")
        self._position += len(data)
        return data

    def rewind(self) -> None:
        """Go back to the first byte: ask for it anew."""
        super().rewind()
        self.close()

    def place(self) -> None:
        """Return None: it lies in no file."""

    def close(self) -> None:
        """Let the registry go."""
        if self._response is not None:
            self._response.close()
        self._response, self._rest = None, b""
