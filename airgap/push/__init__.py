"""Push: a bundle into a private registry, straight from the tar, in parallel, and only what is not there yet.

Invariants: a dry run asks the same questions and makes the same plan, it only does not act on it. Nothing is sent before every
repository was found writable and no layer turned out to be foreign. A push that was broken off, or one that changes nothing,
sends nothing twice. Referrers go last and cannot fail an image. One shard of several (``airgap.shard``) sends its own blobs
and puts what is complete then.

::

    with BundleReader.open(path) as bundle:
        result = push(bundle, Registry(client, location.registry), location, jobs=6, progress=progress)
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airgap.bundle.crew import Crew
from airgap.bundle.foreign import refuse_foreign
from airgap.errors import UnauthorizedError
from airgap.plan import after, plan, wanted
from airgap.progress import Progress
from airgap.push.base import stand
from airgap.push.divided import Divided, Part
from airgap.push.referrers import ReferrerSender
from airgap.push.result import Landed, PushResult
from airgap.push.send import Sender
from airgap.push.survey import Survey, check_names, fresh, probe, survey
from airgap.ref import Reference
from airgap.registry.habits import OTHER, habit_of
from airgap.shard import WHOLE, portion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airgap.bundle import BundleReader
    from airgap.oci import Digest
    from airgap.plan import Inventory, Plan, Wanted
    from airgap.push.base import Grounds
    from airgap.ref import Location
    from airgap.registry import Registry
    from airgap.registry.habits import Habit
    from airgap.shard import Shard

__all__ = ["JOBS", "Landed", "PushResult", "push"]

JOBS = 6
"""Transfers at a time by default; the same as for ``fetch``."""

GRACE = 20.0
"""Seconds for the pieces under way to end when the push is stopped: registries keep a piece that ended (``registry.ways``)."""
STOPPING = f"stopping: the pieces under way are ended first, in {GRACE:.0f} seconds at most; Ctrl-C stops at once"


def push(
    bundle: BundleReader,
    registry: Registry,
    location: Location,
    *,
    jobs: int = JOBS,
    progress: Progress | None = None,
    dry_run: bool = False,
    probing: bool = True,
    include_foreign: bool = False,
    shard: Shard = WHOLE,
) -> PushResult:
    """Make ``location`` hold everything in ``bundle``, or do ``shard``'s part of that.

    ``probing``: open (and cancel) an upload in each repository that is new, so that all that refuse are known at once. That
    leaves an empty folder in some registries, so a dry run may want it and may not; a real one always does it.
    Raises ConfigurationError (foreign layers), NotFoundError or UnauthorizedError (repositories that take nothing, all at
    once), RegistryError (a tag that may not move), NetworkError, BundleError (the medium is damaged), IntegrityError (the
    registry has lost what a delta builds on).
    """
    told = progress = progress or Progress()
    crew = Crew(jobs, GRACE, lambda: told.warn(STOPPING))
    begun, retried = time.monotonic(), registry.client.tally.retried
    refuse_foreign(bundle.lock, include_foreign=include_foreign)
    want = wanted(bundle.lock, location)

    def look() -> tuple[Survey, Grounds]:
        found = survey(registry, want, crew, progress)
        return found, stand(bundle.lock, registry, want, location, found.inventory, crew=crew, progress=progress)

    found, grounds = look()
    first = portion(want, grounds.inventory, shard)
    habit, unasked = _prepared(registry, first.plan, found.inventory, location, crew, probing=probing or not dry_run)
    ahead = Part(first.awaiting, None, grounds.inventory)
    result = PushResult(
        bundle=bundle.digest,
        location=location,
        plan=first.plan,
        landed=_landed(want, found.inventory, location, ahead, dry_run=dry_run),
        skipped=_there(want, grounds.inventory),
        warnings=(*_hidden(found), *unasked),
        digests=_digests(want, ahead),
        dry_run=dry_run,
        shard=shard,
        awaiting=_names(first.awaiting),
    )
    if dry_run:
        return result
    sender = Sender(bundle, registry, crew, progress, elsewhere=grounds.places)
    last = ReferrerSender(bundle, registry, sender, crew)
    try:
        if shard.is_whole:
            part = _carry_out(sender, last, want, grounds.inventory, todo=first.plan, progress=progress)
        else:
            part = Divided(want, shard, sender, last, lambda: look()[1].inventory, progress).carry_out(first)
    except UnauthorizedError as error:
        error.hint = (sender.sent and habit.ended()) or error.hint  # the credentials were good when it began
        raise
    ended = _ended(result, want, found.inventory, part, sender)
    return replace(ended, retried=registry.client.tally.retried - retried, seconds=time.monotonic() - begun)


def _prepared(
    registry: Registry, todo: Plan, there: Inventory, location: Location, crew: Crew, *, probing: bool
) -> tuple[Habit, tuple[str, ...]]:
    """Find out what product is at hand and whether it takes the new repositories; return warnings of what was not tried."""
    if not todo:
        return OTHER, ()
    habit = habit_of(registry.client, registry.host)
    registry.expect(*habit.patch)
    new = fresh(todo, there)
    check_names(habit, new, location)
    if probing:
        probe(registry, todo, new, habit, crew)
        return habit, ()
    return habit, (_unasked(habit, new),) if new else ()


def _carry_out(
    sender: Sender, last: ReferrerSender, want: Sequence[Wanted], inventory: Inventory, *, todo: Plan, progress: Progress
) -> Part:
    """Send images and charts, then their referrers, some of which may be refused; ``todo`` is all that."""
    progress.begin("push", len(todo.blobs) + len(todo.manifests), todo.size)
    main = plan([item for item in want if not item.is_referrer], inventory)
    sender.send(main, dict(inventory.tags))
    last.send([item for item in want if item.is_referrer], after(inventory, main))
    progress.end()
    return Part((), None, inventory, tuple(sorted(last.warnings)))


def _unasked(habit: Habit, new: Sequence[str]) -> str:
    """Say what a dry run did not find out, and what the product at hand is known to want."""
    how = f"; with {habit.name} each must be made first: {habit.missing(new)}" if habit.create else ""
    return f"{len(new)} repositories are new there, and whether they can be written to was not tried (--probe does){how}"


def _ended(result: PushResult, want: Sequence[Wanted], there: Inventory, part: Part, sender: Sender) -> PushResult:
    """Return what was foreseen with what became of it."""
    return replace(
        result,
        landed=_landed(want, there, result.location, part, dry_run=False),
        digests=_digests(want, part),
        awaiting=_names(part.awaiting),
        sent=sender.sent,
        sent_size=sender.sent_size,
        kept_size=sender.kept_size,
        mounted=sender.mounted,
        warnings=(*result.warnings, *part.warnings),
    )


def _there(want: Sequence[Wanted], inventory: Inventory) -> int:
    """Count the blobs and manifests that need not be sent by anybody."""
    left = plan(want, inventory)
    every = {(item.repository, it.digest) for item in want for it in (*item.tree.manifests, *item.tree.blobs)}
    return len(every) - len(left.blobs) - len(left.manifests)


def _digests(want: Sequence[Wanted], part: Part) -> dict[str, tuple[Digest, ...]]:
    """Return every digest that a repository holds after a push, sorted."""
    found: dict[str, set[Digest]] = {}
    for item in want:
        all_of_it = {it.digest for it in (*item.tree.manifests, *item.tree.blobs)}
        if item in part.awaiting:
            all_of_it = {digest for digest in all_of_it if (item.repository, digest) in part.inventory.blobs}
        found.setdefault(item.repository, set()).update(all_of_it)
    return {repository: tuple(sorted(digests)) for repository, digests in sorted(found.items())}


def _landed(
    want: Sequence[Wanted], inventory: Inventory, location: Location, part: Part, *, dry_run: bool
) -> tuple[Landed, ...]:
    """Say of each tree what became of it, or, dry, would; ``inventory`` is what was there before."""
    landed = []
    for item in want:
        digest = item.tree.root.digest
        there = inventory.tags.get((item.repository, item.tag))
        if there == digest or (not item.tag and (item.repository, digest) in inventory.blobs):
            note = "already there"
        elif item in part.awaiting:
            note = "would wait for other shards" if dry_run else "waits for other shards"
        elif part.put is not None and (item.repository, digest) not in part.put:
            note = "put by another shard"
        else:
            note = f"moved from {there}" if there else "pushed"
            note = f"would be {note}" if dry_run else note
        reference = Reference(location.registry, item.repository, item.tag, None if item.tag else digest)
        landed.append(Landed(item.what, reference, digest, note))
    return tuple(landed)


def _names(awaiting: Sequence[Wanted]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.what for item in awaiting))


def _hidden(found: Survey) -> tuple[str, ...]:
    return tuple(
        f"{name}: a policy of the registry (a scanner?) forbids reading it, so nodes cannot pull it until that is allowed"
        for name in found.hidden
    )
