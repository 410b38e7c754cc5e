"""Plan = Lock - Inventory: what is still to be moved. One pure function, for dry runs, for fetch and for push alike.

Invariants: no I/O. The plan lists each blob once per place; manifests come children before parents and tags last, so a
target never holds a manifest without what it names, nor a tag without its manifest (style.md, points 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.ref import REPOSITORY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.lock import Lock, LockedTree
    from airgap.oci import Descriptor, Digest
    from airgap.ref import Location

CHARTS = "charts"
"""The path under the prefix where charts are pushed: ``oci://REGISTRY/PREFIX/charts/NAME``."""


@dataclass(frozen=True)
class Inventory:
    """What a place already holds.

    ``blobs``: (repository, digest) pairs; a bundle or a partial bundle has the one repository ``""``. ``tags``:
    (repository, tag) to digest.
    """

    blobs: frozenset[tuple[str, Digest]] = frozenset()
    tags: Mapping[tuple[str, str], Digest] = field(default_factory=dict)

    @classmethod
    def of(cls, digests: Iterable[Digest], repository: str = "") -> Inventory:
        """Return an inventory of one repository."""
        return cls(frozenset((repository, digest) for digest in digests))


@dataclass(frozen=True)
class Copy:
    """One blob or manifest that must get into one repository.

    ``mount_from`` lists repositories of the same registry that hold the blob already, or will by an earlier copy.
    """

    repository: str
    descriptor: Descriptor
    mount_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tag:
    """A tag that must point to a digest; ``descriptor`` is the manifest or index."""

    repository: str
    tag: str
    descriptor: Descriptor


@dataclass(frozen=True)
class Wanted:
    """A tree in a repository of the target, with its tag (empty: by digest only). ``what`` names it for people.

    ``is_referrer``: a signature or the like, pushed last, whose refusal is a warning (cases.md P9).
    """

    repository: str
    tree: LockedTree
    tag: str
    what: str
    is_referrer: bool = False


@dataclass(frozen=True)
class Plan:
    """What is left to do, in order: ``blobs`` in any order, then ``manifests`` in this order, then ``tags``."""

    blobs: tuple[Copy, ...]
    manifests: tuple[Copy, ...]
    tags: tuple[Tag, ...]

    @property
    def size(self) -> int:
        """Bytes to move, mounts not counted out."""
        return sum(copy.descriptor.size for copy in (*self.blobs, *self.manifests))

    @property
    def repositories(self) -> tuple[str, ...]:
        """Every repository that something is written to, sorted."""
        copies = {copy.repository for copy in (*self.blobs, *self.manifests)}
        return tuple(sorted(copies | {tag.repository for tag in self.tags}))

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return bool(self.blobs or self.manifests or self.tags)


def wanted(lock: Lock, location: Location) -> tuple[Wanted, ...]:
    """Return every tree that ``push`` must make true at ``location``: charts, images, then referrers.

    Raises ConfigurationError where the layout leads two sources to one place, or to a longer name than registries take.
    """
    charts = [
        Wanted(location.repository(f"{CHARTS}/{it.name}"), it.tree, chart_tag(it.version), f"chart {it.name} {it.version}")
        for it in lock.artifacts
        if it.kind == "chart"
    ]
    images, referrers = [], []
    for image in lock.images:
        repository = location.relocate(image.reference).repository
        tag = image.reference.tag or digest_tag(image.digest)
        images.append(Wanted(repository, image.tree, tag, str(image.reference)))
        referrers += [
            Wanted(repository, item.tree, item.tag, f"referrer of {image.reference}", is_referrer=True)
            for item in image.referrers
        ]
    _refuse_collisions((*charts, *images), lock, location)
    return (*charts, *images, *referrers)


def _refuse_collisions(want: Iterable[Wanted], lock: Lock, location: Location) -> None:
    """Refuse two sources with different contents in one place (cases.md R13), before anything is sent."""
    names = {str(image.reference): image.reference.name for image in lock.images}
    places: dict[tuple[str, str], Wanted] = {}
    for item in want:
        if len(location.registry) + 1 + len(item.repository) > REPOSITORY_LIMIT:
            raise ConfigurationError(
                f"{item.what} would lie at {item.repository}, a longer name than the {REPOSITORY_LIMIT} characters that "
                f"registries take with {location.registry}/",
                hint="choose a shorter prefix, or --layout path",
            )
        other = places.setdefault((item.repository, item.tag), item)
        if item.tree.root.digest == other.tree.root.digest or names.get(item.what) == names.get(other.what, other.what):
            continue
        raise ConfigurationError(
            f"layout {location.layout} leads both {other.what} and {item.what} to {item.repository}:{item.tag}, "
            "and they are not the same",
            hint="use --layout host, where nothing collides",
        )


def chart_tag(version: str) -> str:
    """Return the OCI tag of a chart version: Helm writes ``+`` as ``_`` (HIP 6)."""
    return version.replace("+", "_")


def digest_tag(digest: Digest) -> str:
    """Return a tag for what is known by digest alone, so that no garbage collector takes it (cases.md R14)."""
    return f"{digest.algorithm}-{digest.hex}"


def plan(want: Iterable[Wanted], inventory: Inventory) -> Plan:
    """Return ``want - inventory``.

    A tree whose tag already points to its root is complete: a registry does not take a manifest whose blobs it lacks, so
    nothing under it is listed. A blob that several repositories need is copied to the first and mounted from there.
    """
    places: dict[Digest, list[str]] = {}
    for repository, digest in sorted(inventory.blobs):
        places.setdefault(digest, []).append(repository)
    blobs: dict[tuple[str, Digest], Copy] = {}
    manifests: dict[tuple[str, Digest], Copy] = {}
    tags: dict[tuple[str, str], Tag] = {}
    for item in want:
        if item.tag and inventory.tags.get((item.repository, item.tag)) == item.tree.root.digest:
            continue
        for descriptor in item.tree.blobs:
            key = (item.repository, descriptor.digest)
            if key in inventory.blobs or key in blobs:
                continue
            held = places.setdefault(descriptor.digest, [])
            blobs[key] = Copy(item.repository, descriptor, tuple(held))
            held.append(item.repository)
        for descriptor in item.tree.manifests:
            key = (item.repository, descriptor.digest)
            if key not in inventory.blobs and key not in manifests:
                manifests[key] = Copy(item.repository, descriptor)
        if item.tag:
            tags[item.repository, item.tag] = Tag(item.repository, item.tag, item.tree.root)
    return Plan(tuple(blobs.values()), tuple(manifests.values()), tuple(tags.values()))


def may_be_left_out(lock: Lock) -> dict[Digest, Descriptor]:
    """Return the blobs that a delta need not carry: layers and configs of images and of their referrers.

    Manifests and indexes are always carried (they are small, and say what the rest is), and so is all that is an artifact's:
    the bundle reads its charts, its spec and its helm itself.
    """
    own = {it.digest for artifact in lock.artifacts for it in (*artifact.tree.manifests, *artifact.tree.blobs)}
    trees = [tree for image in lock.images for tree in image.trees]
    own |= {it.digest for tree in trees for it in tree.manifests} | {it.index.digest for it in lock.images if it.index}
    return {blob.digest: blob for tree in trees for blob in tree.blobs if blob.digest not in own}


def after(inventory: Inventory, done: Plan) -> Inventory:
    """Return what the registry holds when ``done`` was carried out."""
    added = {(copy.repository, copy.descriptor.digest) for copy in (*done.blobs, *done.manifests)}
    tags = {(tag.repository, tag.tag): tag.descriptor.digest for tag in done.tags}
    return Inventory(inventory.blobs | added, {**inventory.tags, **tags})


def missing(lock: Lock, held: Iterable[Digest]) -> tuple[Descriptor, ...]:
    """Return the blobs of ``lock`` that a bundle (or the partial one) does not hold yet, in the lock's order."""
    have = frozenset(held)
    return tuple(descriptor for digest, descriptor in lock.blobs().items() if digest not in have)
