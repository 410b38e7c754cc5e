"""What a push did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.shard import WHOLE, Shard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.oci import Digest
    from airgap.plan import Plan
    from airgap.ref import Location, Reference

RECEIPT_KIND = "PushReceipt"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Landed:
    """One image, chart or referrer that is in the registry now: what it is, where it lies, and what happened to it.

    ``note``: pushed | already there | moved from <digest> | waits for other shards | put by another shard; dry: would ...
    """

    what: str
    reference: Reference
    digest: Digest
    note: str


@dataclass(frozen=True)
class PushResult:
    """Counts are of blobs and manifests per repository; sizes in bytes. ``plan`` is what was (or, dry, would be) done.

    ``kept_size``: bytes of uploads that an earlier run had begun and the registry kept; ``retried``: requests and uploads that
    were repeated; ``digests``: all that is in each repository now; ``awaiting``: what lacks blobs of other shards.
    """

    bundle: Digest
    location: Location
    plan: Plan = field(repr=False)
    landed: tuple[Landed, ...] = field(repr=False)
    sent: int = 0
    sent_size: int = 0
    kept_size: int = 0
    mounted: int = 0
    skipped: int = 0
    retried: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    digests: Mapping[str, tuple[Digest, ...]] = field(default_factory=dict, repr=False)
    dry_run: bool = False
    shard: Shard = WHOLE
    awaiting: tuple[str, ...] = field(default=(), repr=False)

    def counts(self) -> dict[str, int | float]:
        """Return what was done, in numbers."""
        return {
            "sent": self.sent,
            "sentBytes": self.sent_size,
            "keptBytes": self.kept_size,
            "mounted": self.mounted,
            "skipped": self.skipped,
            "retried": self.retried,
            "seconds": round(self.seconds, 3),
        }

    @property
    def tags(self) -> tuple[Reference, ...]:
        """Every name that the registry answers to now."""
        return tuple(item.reference for item in self.landed if item.reference.tag)

    def receipt(self) -> dict[str, Any]:
        """Return the receipt: every digest that is now in the registry, with its name there."""
        return {
            "kind": RECEIPT_KIND,
            "schemaVersion": SCHEMA_VERSION,
            "bundle": str(self.bundle),
            "registry": str(self.location),
            "layout": self.location.layout,
            "items": [
                {"what": item.what, "reference": str(item.reference), "digest": str(item.digest), "note": item.note}
                for item in self.landed
            ],
            "repositories": {name: [str(digest) for digest in digests] for name, digests in self.digests.items()},
            "counts": self.counts(),
            "warnings": list(self.warnings),
            "shard": self._share(),
        }

    def _share(self) -> dict[str, Any] | None:
        """Say which share this was, and whether the registry held everything when it ended; None: it was no share."""
        if self.shard.is_whole:
            return None
        told = {"number": self.shard.number, "count": self.shard.count, "complete": not self.awaiting}
        return {**told, "awaiting": list(self.awaiting)}
