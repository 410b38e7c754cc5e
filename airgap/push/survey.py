"""Survey: what the target registry holds already, and which repositories it would not take anything in.

Invariants: nothing is written (a probe opens an upload session and cancels it). One HEAD per tag; only where the tag does not
point to the right digest yet, one HEAD per manifest and blob of that image and repository. Decisions are left to ``plan``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, NotFoundError, RegistryError, UnauthorizedError
from airgap.plan import Inventory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airgap.bundle.crew import Crew
    from airgap.oci import Descriptor, Digest
    from airgap.plan import Plan, Wanted
    from airgap.progress import Progress
    from airgap.ref import Location
    from airgap.registry import Registry
    from airgap.registry.habits import Habit

POLICY = 412
"""Harbor answers so to HEAD and GET of what its scanner dislikes: it is there, but unreadable (cases.md P2)."""


@dataclass(frozen=True)
class Survey:
    """What was found, and the tags whose image the registry hides by policy."""

    inventory: Inventory
    hidden: tuple[str, ...]


def survey(registry: Registry, want: Sequence[Wanted], crew: Crew, progress: Progress) -> Survey:
    """Ask the registry what it holds of ``want``."""
    look = _Look(registry)
    tags = {(item.repository, item.tag): None for item in want if item.tag}
    progress.begin("look at the tags", len(tags))
    crew.run(tags, lambda key: look.tag(*key))
    progress.end()
    pairs: dict[tuple[str, Digest], Descriptor] = {}
    for item in want:
        if not item.tag or look.tags.get((item.repository, item.tag)) != item.tree.root.digest:
            pairs |= {(item.repository, it.digest): it for it in (*item.tree.manifests, *item.tree.blobs)}
    progress.begin("look at what is there", len(pairs))
    crew.run(pairs.items(), lambda pair: look.content(pair[0][0], pair[1]))
    progress.end()
    return Survey(Inventory(frozenset(look.found), look.tags), tuple(sorted(look.hidden)))


class _Look:
    """Collects answers from several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._noting = threading.Lock()
        self.tags: dict[tuple[str, str], Digest] = {}
        self.found: set[tuple[str, Digest]] = set()
        self.hidden: set[str] = set()

    def tag(self, repository: str, tag: str) -> None:
        there = self._head(repository, tag)
        if there:
            with self._noting:
                self.tags[repository, tag] = there.digest

    def content(self, repository: str, descriptor: Descriptor) -> None:
        if descriptor.is_manifest or descriptor.is_index:
            there = self._head(repository, str(descriptor.digest)) is not None
        else:
            there = self._registry.has_blob(repository, descriptor.digest)
        if there:
            with self._noting:
                self.found.add((repository, descriptor.digest))

    def _head(self, repository: str, locator: str) -> Descriptor | None:
        try:
            return self._registry.head_manifest(repository, locator)
        except RegistryError as error:
            if error.status != POLICY:
                raise
            with self._noting:
                self.hidden.add(f"{repository}:{locator}")
            return None


def fresh(plan: Plan, inventory: Inventory) -> tuple[str, ...]:
    """Return the repositories of ``plan`` in which nothing was found. Pure."""
    known = {repository for repository, _ in inventory.blobs} | {repository for repository, _ in inventory.tags}
    return tuple(repository for repository in plan.repositories if repository not in known)


def check_names(habit: Habit, repositories: Sequence[str], location: Location) -> None:
    """Raise ConfigurationError for names that the product at hand is known not to take. Pure."""
    message, hint = habit.trouble(repositories, location)
    if message:
        raise ConfigurationError(message, hint=hint)


def probe(registry: Registry, plan: Plan, repositories: Sequence[str], habit: Habit, crew: Crew) -> None:
    """Open and cancel an upload in each of ``repositories``; raise once for all that refuse (cases.md P8)."""
    refused: dict[str, NotFoundError | UnauthorizedError] = {}

    def ask(repository: str) -> None:
        try:
            registry.probe_repository(repository)
        except (NotFoundError, UnauthorizedError) as error:
            refused[repository] = error

    crew.run(repositories, ask)
    if not refused:
        return
    first = refused[min(refused)]
    missing = habit.missing(refused)
    raise type(first)(
        f"{len(refused)} of {len(plan.repositories)} repositories cannot be written to, and nothing was sent: "
        f"{', '.join(sorted(refused))} ({first.message})",
        hint=missing if isinstance(first, NotFoundError) else f"{first.hint}; or {missing}" if habit.create else first.hint,
    )
