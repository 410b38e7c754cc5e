"""Shard: one of several pushers of one bundle, and what of the work is its share. Pure; the registry is the state (ADR 17).

Invariants: every blob belongs to exactly one shard, by the lock and the count alone, whatever the registry holds and whoever
else is at work; so do all its copies, which are mounted from the first. A manifest is put when all that it names is there, by
whoever sees that. A shard of 1 is the whole: ``portion`` is then ``plan``.

>>> Shard.parse("2/4", {})
Shard(number=2, count=4)
>>> Shard.parse("auto/4", {"JOB_COMPLETION_INDEX": "3"})
Shard(number=4, count=4)
"""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.plan import Plan, plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.oci import Digest
    from airgap.plan import Inventory, Wanted

INDEX = "JOB_COMPLETION_INDEX"
"""What an Indexed Job tells each of its pods: its index, from 0 (Kubernetes, "Job", completion mode)."""
AUTO = "auto"
EFFORT = 256 * 1024
"""Bytes that a blob counts for besides its own: the questions and answers of an upload."""
_SHAPE = re.compile(rf"({AUTO}|\d{{1,4}})/(\d{{1,4}})")
_HOW = "write NUMBER/COUNT with numbers from 1, such as 2/4, or auto/4 in a Kubernetes Job with completionMode Indexed"


@dataclass(frozen=True)
class Shard:
    """The share ``number`` (from 1) of ``count``."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str, environ: Mapping[str, str]) -> Shard:
        """Parse ``2/4``, or ``auto/4`` where INDEX says which of the four; raises ConfigurationError."""
        shape = _SHAPE.fullmatch(text.strip())
        if not shape:
            raise ConfigurationError(f"--shard {text!r} names no share", hint=_HOW)
        count = int(shape[2])
        if shape[1] != AUTO:
            number, told = int(shape[1]), f"--shard {text}"
        else:
            index = environ.get(INDEX, "").strip()
            if not re.fullmatch(r"[0-9]{1,9}", index):
                told = f"is {index!r}" if index else "is not set"
                raise ConfigurationError(f"--shard {text} goes by {INDEX}, which {told}", hint=_HOW)
            number, told = int(index) + 1, f"--shard {text} with {INDEX} {index}"
        if not 1 <= number <= count:
            raise ConfigurationError(f"{told} asks for share {number} of {count}, and there is none", hint=_HOW)
        return cls(number, count)

    @property
    def is_whole(self) -> bool:
        """Whether nobody else is at work."""
        return self.count == 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard()


@dataclass(frozen=True)
class Portion:
    """What a shard can do now.

    ``plan``: its own blobs, and the manifests and tags that need nothing of others any more. ``ready``: the trees that these
    belong to. ``awaiting``: the trees that lack blobs of other shards' shares.
    """

    plan: Plan
    ready: tuple[Wanted, ...] = field(repr=False)
    awaiting: tuple[Wanted, ...] = field(default=(), repr=False)


def portion(want: Sequence[Wanted], inventory: Inventory, shard: Shard) -> Portion:
    """Return the share of ``want - inventory`` that ``shard`` has to do.

    Referrers wait until nothing else in their repository waits: they share one list, which is written as a whole.
    """
    todo = plan(want, inventory)
    if shard.is_whole:
        return Portion(todo, tuple(want))
    owners = shares(want, shard.count)
    mine = tuple(copy for copy in todo.blobs if owners[copy.descriptor.digest] == shard.number)
    others = {(copy.repository, copy.descriptor.digest) for copy in todo.blobs} - {
        (it.repository, it.descriptor.digest) for it in mine
    }
    left = [item for item in want if not item.tag or inventory.tags.get((item.repository, item.tag)) != item.tree.root.digest]
    lacking = {id(item) for item in left if any((item.repository, blob.digest) in others for blob in item.tree.blobs)}
    behind = {item.repository for item in left if id(item) in lacking}
    awaiting = tuple(it for it in left if id(it) in lacking or (it.is_referrer and it.repository in behind))
    waits = {id(item) for item in awaiting}
    ready = tuple(item for item in left if id(item) not in waits)
    rest = plan(ready, inventory)
    return Portion(Plan(mine, rest.manifests, rest.tags), ready, awaiting)


def shares(want: Iterable[Wanted], count: int) -> dict[Digest, int]:
    """Return the number of the shard that each blob belongs to: the largest first, each to who has least so far."""
    sizes = {blob.digest: blob.size for item in want for blob in item.tree.blobs}
    loads = [(0, number) for number in range(1, count + 1)]
    owners = {}
    for digest in sorted(sizes, key=lambda it: (-sizes[it], it)):
        load, number = loads[0]
        owners[digest] = number
        heapq.heapreplace(loads, (load + sizes[digest] + EFFORT, number))
    return owners
