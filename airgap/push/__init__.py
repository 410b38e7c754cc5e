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
from airgap.plan import Inventory, Plan, plan, wanted
from airgap.progress import Progress
from airgap.push.base import stand
from airgap.push.referrers import ReferrerSender
from airgap.push.result import Landed, PushResult
from airgap.push.send import Sender
from airgap.push.survey import Survey, probe, survey
from airgap.ref import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airgap.bundle import BundleReader
    from airgap.oci import Digest
    from airgap.plan import Wanted
    from airgap.ref import Location
    from airgap.registry import Registry

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
    include_foreign: bool = False,
) -> PushResult:
    """Make ``location`` hold everything in ``bundle``.

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
    probe(registry, todo, found.inventory, crew, location)
    landed = _landed(want, found.inventory, location, dry_run=dry_run)
    total = len({(item.repository, it.digest) for item in want for it in (*item.tree.manifests, *item.tree.blobs)})
    result = PushResult(
        bundle=bundle.digest,
        location=location,
        plan=todo,
        landed=landed,
        skipped=total - len(todo.blobs) - len(todo.manifests),
        warnings=_hidden(found),
        digests=_digests(want),
        dry_run=dry_run,
    )
    if dry_run:
        return result
    sender = Sender(bundle, registry, crew, progress, elsewhere=grounds.places)
    progress.begin("push", len(todo.blobs) + len(todo.manifests), todo.size)
    warnings = _carry_out(sender, ReferrerSender(bundle, registry, sender, crew), want, grounds.inventory)
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


def _carry_out(sender: Sender, last: ReferrerSender, want: Sequence[Wanted], inventory: Inventory) -> list[str]:
    """Send images and charts, then their referrers; return what was refused of the latter."""
    main = plan([item for item in want if not item.is_referrer], inventory)
    sender.send(main, dict(inventory.tags))
    last.send([item for item in want if item.is_referrer], _after(inventory, main))
    return sorted(last.warnings)


def _after(inventory: Inventory, done: Plan) -> Inventory:
    """Return what the registry holds when ``done`` was carried out."""
    added = {(copy.repository, copy.descriptor.digest) for copy in (*done.blobs, *done.manifests)}
    tags = {(tag.repository, tag.tag): tag.descriptor.digest for tag in done.tags}
    return Inventory(inventory.blobs | added, {**inventory.tags, **tags})


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
