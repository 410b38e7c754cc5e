"""Names: one registry under two, ours for pushing and the nodes' for pulling; which of them can be asked from here.

Invariants: the question is always about the place that nodes pull from; where their name cannot be reached from this host, the
same repository is asked for under ours, and that is told. A registry that answers, with whatever refusal, is reachable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airgap.errors import NetworkError, TLSError

if TYPE_CHECKING:
    from airgap.oci import Descriptor
    from airgap.ref import Location
    from airgap.registry import Registry


class Answers(Protocol):
    """What the audit needs of a registry."""

    def head_manifest(self, repository: str, locator: str) -> Descriptor | None:
        """Return what ``locator`` points to, or None; raises NetworkError and its branches."""


@dataclass(frozen=True)
class ByOurName:
    """The registry by our name for it, asked about repositories by the nodes' name."""

    registry: Registry
    pull: Location
    location: Location

    def head_manifest(self, repository: str, locator: str) -> Descriptor | None:
        """See Answers. What lies outside the nodes' prefix is not ours to look for."""
        before = self.pull.under("")
        if not repository.startswith(before):
            return None
        return self.registry.head_manifest(self.location.under(repository.removeprefix(before)), locator)


def answering(theirs: Registry, pull: Location, ours: Registry, location: Location) -> tuple[Answers, str]:
    """Return who answers for the nodes' name of the registry, and what to tell about it (empty: it answers itself)."""
    try:
        theirs.ping()
    except NetworkError as error:
        if type(error) not in {NetworkError, TLSError}:
            return theirs, ""
        told = (
            f"{pull} cannot be reached from here ({error.message}): digests are checked at {location}, where they were pushed"
        )
        return ByOurName(ours, pull, location), told
    return theirs, ""
