r"""RegistryInventory: what the receiving registry holds, as a small file that is carried back; and the delta that it allows.

::

    {"kind": "Inventory", "schemaVersion": 1, "registry": "reg.lan/wandb", "layout": "host", "repositories":
        {"quay.io/a/app": {"tags": {"1.0": "sha256:..."}, "manifests": ["sha256:..."], "blobs": ["sha256:..."]}}}

Invariants: pure. Repositories are named without the prefix. The same holdings have the same bytes (canonical JSON, no dates),
so the file can be signed and compared; what a delta builds on is named by the digest of those bytes, however the file was
laid out. An inventory is a claim of that moment: ``push`` asks the registry again before the first byte.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.errors import AirgapError, ConfigurationError
from airgap.lock import INVENTORY, LOCK, Lock, LockedBase
from airgap.lock import KIND as LOCK_KIND
from airgap.oci import Digest, canonical_json
from airgap.plan import may_be_left_out, wanted
from airgap.ref import Location, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.oci import Descriptor

KIND = "Inventory"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Holding:
    """What one repository holds: tags with what they point to, manifests and indexes, configs and layers."""

    tags: Mapping[str, Digest] = field(default_factory=dict, hash=False)
    manifests: frozenset[Digest] = frozenset()
    blobs: frozenset[Digest] = frozenset()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.tags or self.manifests or self.blobs)


@dataclass(frozen=True)
class RegistryInventory:
    """What ``location`` holds, by repository under its prefix."""

    location: Location
    repositories: Mapping[str, Holding] = field(default_factory=dict, hash=False)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "the inventory") -> RegistryInventory:
        """Read an inventory back; raises ConfigurationError that names ``where``."""
        try:
            document = json.loads(data)
            if document.get("kind") == KIND and document.get("schemaVersion") == SCHEMA_VERSION:
                return cls._read(document)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, AirgapError) as error:
            raise ConfigurationError(
                f"{where}: not a readable inventory ({type(error).__name__}: {error})", hint="take a new one: airgap inventory"
            ) from error
        found = f"{document.get('kind')!r} {document.get('schemaVersion')!r}"
        raise ConfigurationError(f"{where}: not an {KIND} of schema version {SCHEMA_VERSION} but {found}")

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> RegistryInventory:
        repositories = {str(name): _holding(data) for name, data in document["repositories"].items()}
        return cls(Location.parse(document["registry"], document["layout"]), repositories)

    def to_json(self) -> dict[str, Any]:
        """Return the document; repositories that hold nothing are left out."""
        return {
            "kind": KIND,
            "schemaVersion": SCHEMA_VERSION,
            "registry": str(self.location),
            "layout": self.location.layout,
            "repositories": {name: _holding_json(it) for name, it in self.repositories.items() if it},
        }

    def to_bytes(self) -> bytes:
        """Return the inventory as canonical JSON."""
        return canonical_json(self.to_json())

    @property
    def digests(self) -> frozenset[Digest]:
        """Every digest that lies anywhere, each once."""
        return frozenset(digest for it in self.repositories.values() for digest in (*it.manifests, *it.blobs))


@dataclass(frozen=True)
class Base:
    """What a delta may build on: for each blob the places where it was last known (see LockedBase), best first."""

    kind: str
    name: str
    digest: Digest
    layout: str
    places: Mapping[Digest, tuple[str, ...]] = field(hash=False, repr=False)

    @classmethod
    def of_inventory(cls, inventory: RegistryInventory) -> Base:
        """Build on what a registry held when it was asked."""
        places = _places((name, it.blobs) for name, it in sorted(inventory.repositories.items()))
        digest = Digest.of(inventory.to_bytes())
        return cls(INVENTORY, str(inventory.location), digest, inventory.location.layout, places)

    @classmethod
    def of_lock(cls, lock: Lock) -> Base:
        """Build on an earlier bundle that was pushed: what it carried, and what it left out itself."""
        places = _places(
            (image.reference.name, (it.digest for tree in image.trees for it in tree.blobs)) for image in lock.images
        )
        return cls(LOCK, lock.name, lock.digest, "", places)


def read_base(data: bytes, where: str) -> Base:
    """Read an inventory or a lock, whichever ``data`` is; raises ConfigurationError."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{where} is neither an inventory nor a lock nor a bundle", hint="airgap inventory --registry ... writes one"
        ) from error
    if isinstance(document, dict) and document.get("kind") == LOCK_KIND:
        return Base.of_lock(Lock.from_bytes(data, where))
    return Base.of_inventory(RegistryInventory.from_bytes(data, where))


def delta(lock: Lock, base: Base) -> Lock:
    """Return the lock that leaves out what ``base`` has, down to the layer; one that leaves out nothing names no base.

    Whatever ``lock`` built on before is forgotten.
    """
    names = _names(lock, base)
    left_out = {
        digest: next((name for name in names[digest] if name in places), places[0])
        for digest in may_be_left_out(lock)
        if (places := base.places.get(digest))
    }
    return replace(lock, base=LockedBase(base.kind, base.name, base.digest, left_out) if left_out else None)


def left_out(lock: Lock) -> tuple[Descriptor, ...]:
    """Return what a delta leaves out, largest first."""
    found = [blob for digest, blob in lock.needed().items() if digest in lock.left_out]
    return tuple(sorted(found, key=lambda blob: (-blob.size, blob.digest)))


def last_known(lock: Lock, location: Location) -> dict[Digest, str]:
    """Return the repository at ``location`` where each left-out blob of ``lock`` was last known to lie."""
    if lock.base and lock.base.kind == LOCK:
        return {digest: location.relocate(Reference.parse(name)).repository for digest, name in lock.left_out.items()}
    return {digest: location.under(name) for digest, name in lock.left_out.items()}


def incomplete(lock: Lock) -> tuple[str, ...]:
    """Return the images that a delta cannot give by itself, because blobs of theirs are left out."""
    gone = lock.left_out
    return tuple(str(image.reference) for image in lock.images if any(blob.digest in gone for blob in image.tree.blobs))


def _names(lock: Lock, base: Base) -> dict[Digest, list[str]]:
    """Return where ``lock`` itself wants each blob, in the words of ``base``: a blob that is there needs no mount."""
    names: dict[Digest, list[str]] = {digest: [] for digest in may_be_left_out(lock)}
    if base.kind == LOCK:
        for image in lock.images:
            for tree in image.trees:
                for blob in tree.blobs:
                    names.get(blob.digest, []).append(image.reference.name)
        return names
    for item in wanted(lock, Location("x", "", base.layout)):
        for blob in item.tree.blobs:
            names.get(blob.digest, []).append(item.repository)
    return names


def _places(held: Iterable[tuple[str, Iterable[Digest]]]) -> dict[Digest, tuple[str, ...]]:
    places: dict[Digest, tuple[str, ...]] = {}
    for name, digests in held:
        for digest in digests:
            if name not in places.get(digest, ()):
                places[digest] = (*places.get(digest, ()), name)
    return places


def _holding(data: Mapping[str, Any]) -> Holding:
    return Holding(
        tags={str(tag): Digest.parse(digest) for tag, digest in data["tags"].items()},
        manifests=frozenset(Digest.parse(digest) for digest in data["manifests"]),
        blobs=frozenset(Digest.parse(digest) for digest in data["blobs"]),
    )


def _holding_json(holding: Holding) -> dict[str, Any]:
    return {
        "tags": {tag: str(digest) for tag, digest in holding.tags.items()},
        "manifests": [str(digest) for digest in sorted(holding.manifests)],
        "blobs": [str(digest) for digest in sorted(holding.blobs)],
    }
