"""Checks of the private registry: reached by us, and an image pulled back through the name that nodes use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import AirgapError, NetworkError, NotFoundError, UnauthorizedError
from airgap.preflight.report import FINE, STOP, WARN, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.lock import Lock
    from airgap.ref import Location
    from airgap.registry import Registry


@dataclass(frozen=True)
class Ends:
    """The registry as we push to it (``registry``, ``location``) and as nodes pull (``pull``, ``pull_location``).

    ``anonymous`` is the nodes' name without any credentials.
    """

    registry: Registry
    location: Location
    pull: Registry
    pull_location: Location
    anonymous: Registry

    @property
    def has_other_name(self) -> bool:
        """Whether nodes use another name than we do."""
        return self.pull_location != self.location

    @property
    def has_other_prefix(self) -> bool:
        """Whether the paths differ too, so that only the nodes' name can be asked for the nodes' paths."""
        return self.pull_location.prefix != self.location.prefix


def registry(ends: Ends, lock: Lock, *, has_pull_secret: bool) -> Iterator[Finding]:
    """Yield what of the registry works; nothing is left in it."""
    image = next(iter(sorted(lock.images, key=lambda it: it.tree.size)), None)
    if image is None:
        return
    here, there = (location.relocate(image.reference) for location in (ends.location, ends.pull_location))
    try:
        held = ends.registry.head_manifest(here.repository, str(image.digest))
        if held is None:
            ends.registry.probe_repository(here.repository)
            yield Finding("registry", FINE, f"{ends.location} is reached and takes uploads; nothing is pushed yet")
        else:
            yield Finding("registry", FINE, f"{ends.location} is reached and holds {here.name}")
    except AirgapError as error:
        yield Finding(
            "registry", STOP, f"{ends.location}: {error.message}", error.hint or "check --registry, and that it is up"
        )
        return
    try:
        if held is None:
            ends.pull.ping()
            yield Finding("pull", FINE, f"{ends.pull_location} answers; an image is pulled back after the push")
            return
        ends.pull.get_manifest(there.repository, str(image.digest))
        yield Finding(
            "pull", FINE, f"{there.name} was pulled back by digest" + (" under the nodes' name" * ends.has_other_name)
        )
    except NotFoundError:
        remedy = "does --pull-registry lead to the same storage as --registry, under this prefix?"
        yield Finding("pull", STOP, f"{there.name} is not found under the name that nodes use", remedy)
        return
    except NetworkError as error:
        level = WARN if ends.has_other_name else STOP
        remedy = f"nodes must reach {ends.pull_location.registry}; that this host does not may be right"
        yield Finding("pull", level, f"{ends.pull_location}: {error.message}", remedy)
        return
    yield from _anonymous(ends, there.repository, str(image.digest), has_pull_secret=has_pull_secret)


def _anonymous(ends: Ends, repository: str, digest: str, *, has_pull_secret: bool) -> Iterator[Finding]:
    """Yield a warning when the registry wants credentials and pods bring none."""
    if has_pull_secret:
        return
    try:
        ends.anonymous.head_manifest(repository, digest)
    except UnauthorizedError:
        remedy = "give --username with --password-stdin, or --pull-secret, unless the nodes themselves have credentials"
        yield Finding("pull", WARN, f"{ends.pull_location} wants credentials, and no pull secret is named", remedy)
    except AirgapError:
        return
