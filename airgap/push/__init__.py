"""Push: a bundle into a private registry, straight from the tar, in parallel, and only what is not there yet.

Invariants: a dry run asks the same questions and makes the same plan, it only does not act on it. Nothing is sent before every
repository was found writable and no layer turned out to be foreign. A push that was broken off, or one that changes nothing,
sends nothing twice. Referrers go last and cannot fail an image.

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
from airgap.push.referrers import ReferrerSender
from airgap.push.result import Landed, PushResult
from airgap.push.send import Sender
from airgap.push.survey import Survey, check_names, fresh, probe, survey
from airgap.ref import Reference
from airgap.registry.habits import OTHER, habit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airgap.bundle import BundleReader
    from airgap.oci import Digest
    from airgap.plan import Inventory, Plan, Wanted
    from airgap.ref import Location
    from airgap.registry import Registry
    from airgap.registry.habits import Habit

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
) -> PushResult:
    """Make ``location`` hold everything in ``bundle``.

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
    found = survey(registry, want, crew, progress)
    grounds = stand(bundle.lock, registry, want, location, found.inventory, crew=crew, progress=progress)
    todo = plan(want, grounds.inventory)
    habit, unasked = _prepared(registry, todo, found.inventory, location, crew, probing=probing or not dry_run)
    landed, digests = _landed(want, found.inventory, location, dry_run=dry_run), _digests(want)
    result = PushResult(
        bundle=bundle.digest,
        location=location,
        plan=todo,
        landed=landed,
        skipped=sum(map(len, digests.values())) - len(todo.blobs) - len(todo.manifests),
        warnings=(*_hidden(found), *unasked),
        digests=digests,
        dry_run=dry_run,
    )
    if dry_run:
        return result
    sender = Sender(bundle, registry, crew, progress, elsewhere=grounds.places)
    progress.begin("push", len(todo.blobs) + len(todo.manifests), todo.size)
    try:
        warnings = _carry_out(sender, ReferrerSender(bundle, registry, sender, crew), want, grounds.inventory)
    except UnauthorizedError as error:
        error.hint = (sender.sent and habit.ended()) or error.hint  # the credentials were good when it began
        raise
    progress.end()
    return replace(
        result,
        sent=sender.sent,
        sent_size=sender.sent_size,
        kept_size=sender.kept_size,
        mounted=sender.mounted,
        retried=registry.client.tally.retried - retried,
        seconds=time.monotonic() - begun,
        warnings=(*result.warnings, *warnings),
    )


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


def _carry_out(sender: Sender, last: ReferrerSender, want: Sequence[Wanted], inventory: Inventory) -> list[str]:
    """Send images and charts, then their referrers; return what was refused of the latter."""
    main = plan([item for item in want if not item.is_referrer], inventory)
    sender.send(main, dict(inventory.tags))
    last.send([item for item in want if item.is_referrer], after(inventory, main))
    return sorted(last.warnings)


def _unasked(habit: Habit, new: Sequence[str]) -> str:
    """Say what a dry run did not find out, and what the product at hand is known to want."""
    how = f"; with {habit.name} each must be made first: {habit.missing(new)}" if habit.create else ""
    return f"{len(new)} repositories are new there, and whether they can be written to was not tried (--probe does){how}"


def _digests(want: Sequence[Wanted]) -> dict[str, tuple[Digest, ...]]:
    """Return every digest that a repository holds after a push, sorted."""
    found: dict[str, set[Digest]] = {}
    for item in want:
        found.setdefault(item.repository, set()).update(it.digest for it in (*item.tree.manifests, *item.tree.blobs))
    return {repository: tuple(sorted(digests)) for repository, digests in sorted(found.items())}


def _landed(want: Sequence[Wanted], inventory: Inventory, location: Location, *, dry_run: bool) -> tuple[Landed, ...]:
    landed = []
    for item in want:
        digest = item.tree.root.digest
        there = inventory.tags.get((item.repository, item.tag))
        held = there == digest or (not item.tag and (item.repository, digest) in inventory.blobs)
        moved = f"moved from {there}" if there and not dry_run else f"would be moved from {there}" if there else ""
        note = "already there" if held else moved or ("would be pushed" if dry_run else "pushed")
        reference = Reference(location.registry, item.repository, item.tag, None if item.tag else digest)
        landed.append(Landed(item.what, reference, digest, note))
    return tuple(landed)


def _hidden(found: Survey) -> tuple[str, ...]:
    return tuple(
        f"{name}: a policy of the registry (a scanner?) forbids reading it, so nodes cannot pull it until that is allowed"
        for name in found.hidden
    )
