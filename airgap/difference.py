"""Difference: what changed between two bundles: images, charts, values, CRDs and the bytes that have to travel.

Invariants: pure; images are the same when their digests are, whatever their tags say. From locks alone CRDs are not known
(``crds`` is None then): they lie in the charts.

>>> from airgap.lock import Lock
>>> bool(compare(Side(Lock("wandb", (), (), ())), Side(Lock("wandb", (), (), ()))))
False
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.oci import Digest, canonical_json
from airgap.values import Json, format_path, leaves

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.lock import Lock, LockedImage

CRD = "CustomResourceDefinition"


@dataclass(frozen=True)
class Side:
    """One of the two: its lock and, if its charts are at hand, their CRDs by ``chart: name``."""

    lock: Lock
    crds: Mapping[str, Json] | None = field(default=None, hash=False)


@dataclass(frozen=True, order=True)
class Change:
    """Something called ``name`` that was ``old`` and is ``new``; None: it was, or is, not there."""

    name: str
    old: Json
    new: Json

    @property
    def how(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"

    def to_json(self) -> dict[str, Json]:
        """Return the change as it is printed."""
        return {"name": self.name, "how": self.how, "old": self.old, "new": self.new}


@dataclass(frozen=True)
class Difference:
    """What changed, each kind sorted by name. Falsy when nothing did.

    ``images`` compare digests, ``charts`` (and the bundle's other artifacts) versions with the content's digest, ``values`` the
    release channel's by path, ``crds`` the digests of the whole object. ``carry``: bytes of what only the new one consists of.
    """

    images: tuple[Change, ...]
    charts: tuple[Change, ...]
    others: tuple[Change, ...]
    values: tuple[Change, ...]
    crds: tuple[Change, ...] | None
    carry: int

    def __bool__(self) -> bool:
        return bool(self.images or self.charts or self.others or self.values or self.crds)

    def to_json(self) -> dict[str, Any]:
        """Return the difference as it is printed; ``crds`` is null when it is not known."""
        kinds = {
            "images": self.images,
            "charts": self.charts,
            "artifacts": self.others,
            "values": self.values,
        }
        listed = {kind: [it.to_json() for it in found] for kind, found in kinds.items()}
        crds = None if self.crds is None else [it.to_json() for it in self.crds]
        return {**listed, "crds": crds, "carryBytes": self.carry, "differs": bool(self)}


def compare(old: Side, new: Side) -> Difference:
    """Return what is different in ``new``."""
    held = old.lock.needed()
    return Difference(
        images=_images(old.lock, new.lock),
        charts=_changes(_artifacts(old.lock, charts=True), _artifacts(new.lock, charts=True)),
        others=_changes(_artifacts(old.lock, charts=False), _artifacts(new.lock, charts=False)),
        values=_changes(_values(old.lock), _values(new.lock)),
        crds=None if old.crds is None or new.crds is None else _changes(_digests(old.crds), _digests(new.crds)),
        carry=sum(blob.size for digest, blob in new.lock.needed().items() if digest not in held),
    )


def _images(old: Lock, new: Lock) -> tuple[Change, ...]:
    """Pair images by name: the same reference with another digest, or, one to one, another tag of the same repository."""
    before, after = ({str(it.reference): it for it in lock.images} for lock in (old, new))
    gone, come = ([it for name, it in some.items() if name not in other] for some, other in ((before, after), (after, before)))
    changes = [
        Change(name, str(before[name].digest), str(after[name].digest))
        for name in before.keys() & after.keys()
        if before[name].digest != after[name].digest
    ]
    for image in gone:
        heirs = [it for it in come if it.reference.name == image.reference.name]
        if len(heirs) == 1 and sum(it.reference.name == image.reference.name for it in gone) == 1:
            changes.append(Change(image.reference.name, _told(image), _told(heirs[0])))
            come.remove(heirs[0])
        else:
            changes.append(Change(str(image.reference), str(image.digest), None))
    changes += [Change(str(image.reference), None, str(image.digest)) for image in come]
    return tuple(sorted(changes, key=lambda change: change.name))


def _told(image: LockedImage) -> str:
    return f"{image.reference.tag}@{image.digest}" if image.reference.tag else str(image.digest)


def _artifacts(lock: Lock, *, charts: bool) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for artifact in lock.artifacts:
        if (artifact.kind == "chart") == charts:
            name = " ".join(filter(None, ("" if charts else artifact.kind, artifact.name, str(artifact.platform or ""))))
            found[name] = f"{artifact.version} {artifact.content.digest}".lstrip()
    return found


def _values(lock: Lock) -> dict[str, Json]:
    """Return the leaves of the channel's spec by path."""
    try:
        spec = json.loads(lock.channel.get("spec") or "{}")
    except ValueError:
        return {}
    return {format_path(path): value for path, value in leaves(spec)}


def _digests(crds: Mapping[str, Json]) -> dict[str, Json]:
    return {name: f"{_versions(crd)} {Digest.of(canonical_json(crd))}".lstrip() for name, crd in crds.items()}


def _versions(crd: Json) -> str:
    spec = crd.get("spec") if isinstance(crd, dict) else None
    versions = spec.get("versions") if isinstance(spec, dict) else None
    return ",".join(str(it.get("name")) for it in versions if isinstance(it, dict)) if isinstance(versions, list) else ""


def _changes(old: Mapping[str, Json], new: Mapping[str, Json]) -> tuple[Change, ...]:
    """Compare two tables; a value that is null counts as the word for it, so that None always means absent."""
    before, after = ({key: "null" if value is None else value for key, value in table.items()} for table in (old, new))
    names = sorted(before.keys() | after.keys())
    differs = (name for name in names if canonical_json(before.get(name)) != canonical_json(after.get(name)))  # 1 is not true
    return tuple(Change(name, before.get(name), after.get(name)) for name in differs)
