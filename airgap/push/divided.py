"""One shard's part of a push that several make together, each without knowing of the others (ADR 17).

Invariants: first its own blobs, then a look at what is there now, then every manifest and tag that lacks nothing, whoever
sent its blobs. Since each looks after its last blob, the last of them sees all blobs and finishes; nobody waits for anybody.
What two see at once is put twice, with the same bytes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import RegistryError
from airgap.plan import Plan, after, plan
from airgap.shard import portion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airgap.oci import Digest
    from airgap.plan import Inventory, Wanted
    from airgap.progress import Progress
    from airgap.push.referrers import ReferrerSender
    from airgap.push.send import Sender
    from airgap.shard import Portion, Shard

LOOKS = (0.0, 3.0)
"""Seconds before each look while something is missing: replicas may show late what two shards sent at the same time (F13)."""


@dataclass(frozen=True)
class Part:
    """How far a push came.

    ``awaiting``: trees that lack blobs of other shards; ``put``: the manifests (repository, digest) that were put here, None:
    all that were put at all; ``inventory``: what was seen.
    """

    awaiting: tuple[Wanted, ...]
    put: frozenset[tuple[str, Digest]] | None
    inventory: Inventory
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Divided:
    """A push of one shard; ``look`` asks the registry anew."""

    want: Sequence[Wanted]
    shard: Shard
    sender: Sender
    last: ReferrerSender
    look: Callable[[], Inventory]
    progress: Progress

    def carry_out(self, first: Portion) -> Part:
        """Send the shard's blobs and whatever can be finished then; ``first`` is its portion before anything was sent."""
        warnings = self._blobs(first.plan)
        put: set[tuple[str, Digest]] = set()
        for pause in LOOKS:
            time.sleep(pause)
            inventory = self.look()
            now = portion(self.want, inventory, self.shard)
            done = self._finish(now, inventory)
            put.update((copy.repository, copy.descriptor.digest) for copy in done.manifests)
            put.update((tag.repository, tag.descriptor.digest) for tag in done.tags)
            inventory = after(inventory, done)
            if not now.awaiting:
                break
        return Part(now.awaiting, frozenset(put), inventory, tuple(sorted({*warnings, *self.last.warnings})))

    def _blobs(self, todo: Plan) -> list[str]:
        """Send the blobs of the share; return what was refused of those that only referrers need."""
        needed = {(it.repository, blob.digest) for it in self.want if not it.is_referrer for blob in it.tree.blobs}
        main = tuple(copy for copy in todo.blobs if (copy.repository, copy.descriptor.digest) in needed)
        self.progress.begin(
            f"push the blobs of share {self.shard}", len(todo.blobs), sum(it.descriptor.size for it in todo.blobs)
        )
        self.sender.send(Plan(main, (), ()), {})
        refused = []
        for copy in todo.blobs:
            if (copy.repository, copy.descriptor.digest) not in needed:
                try:
                    self.sender.send_alone(Plan((copy,), (), ()), {})
                except RegistryError as error:
                    refused.append(f"{copy.repository}: {copy.descriptor.digest} of a referrer was refused ({error.message})")
        self.progress.end()
        return refused

    def _finish(self, now: Portion, inventory: Inventory) -> Plan:
        """Put what lacks nothing; return what that was."""
        main = plan([item for item in now.ready if not item.is_referrer], inventory)
        rest = [item for item in now.ready if item.is_referrer]
        self.progress.begin(
            "push what is complete", len(now.plan.manifests), sum(it.descriptor.size for it in now.plan.manifests)
        )
        self.sender.send(main, dict(inventory.tags))
        self.last.send(rest, after(inventory, main))
        self.progress.end()
        return Plan(main.blobs, now.plan.manifests, now.plan.tags)
