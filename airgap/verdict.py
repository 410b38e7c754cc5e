"""Verdict: what an audit found, and the proof that only an audit can make.

Invariants: every finding has a verdict and a reason; an open one also says what to do. A verdict is closed only if nothing is
open, and what could not be read is open. ``Proved`` is made by ``airgap.audit`` alone, so whatever takes one applies
nothing unproved (style.md).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import NotClosedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.oci import Digest
    from airgap.ref import Location
    from airgap.values import Json
    from airgap.wandb import CustomResource

ALLOWED, INERT, OPEN = "allowed", "inert", "open"
"""Verdicts: points inside or where it may; is never followed by anything that the operator runs; points outside."""

CONTAINER, IMAGE, VALUE, URL, CHART, SETTING, UNREAD = "container", "image", "value", "url", "chart", "setting", "unread"
"""Kinds of findings: ``value`` is a reference that values spell out, ``unread`` what the audit could not look into."""

SCHEMA_VERSION = 1

_KEY = object()


@dataclass(frozen=True, order=True)
class Finding:
    """One reference, host, chart source or setting, judged.

    ``chart`` is name-version, or the document's name for values and custom resource; ``path`` the place in the object; ``text``
    what stands there; ``fix`` the next step of an open one.
    """

    verdict: str
    kind: str
    chart: str
    template: str
    object: str
    path: str
    text: str
    reason: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return all fields."""
        return dict(vars(self))

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.template or self.chart, self.object, self.path) if part)
        fix = f"; fix: {self.fix}" if self.fix else ""
        return f"{self.verdict}: {self.text} ({where}): {self.reason}{fix}"


@dataclass(frozen=True)
class Proved:
    """A configuration that an audit found closed; only ``audit`` makes it."""

    operator_values: Mapping[str, Json] = field(repr=False)
    resource: CustomResource = field(repr=False)
    location: Location
    lock: Digest
    _key: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._key is not _KEY:
            raise TypeError("a Proved is made by airgap.audit.audit alone")


@dataclass(frozen=True)
class Verdict:
    """The judged whole; truthy when closed. ``renders`` says how many objects each chart rendered."""

    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    objects: Mapping[str, int]
    proof: Proved | None = field(repr=False)

    def of(self, verdict: str) -> tuple[Finding, ...]:
        """Return the findings of one verdict."""
        return tuple(finding for finding in self.findings if finding.verdict == verdict)

    @property
    def open(self) -> tuple[Finding, ...]:
        """What keeps it from being closed."""
        return self.of(OPEN)

    def __bool__(self) -> bool:
        return not self.open

    @property
    def proved(self) -> Proved:
        """The proof; raises NotClosedError if there is none."""
        if self.proof is None:
            first = self.open[0]
            raise NotClosedError(
                f"not closed: {len(self.open)} open, the first is {first.text} at {first.object} {first.path}: {first.reason}",
                hint=first.fix or "see airgap audit",
            )
        return self.proof

    @property
    def figures(self) -> dict[str, int]:
        """Counts by verdict and kind, such as ``open url``, zero ones left out."""
        counted = Counter(f"{finding.verdict} {finding.kind}" for finding in self.findings)
        return dict(sorted(counted.items()))

    def summary(self) -> str:
        """One line for people."""
        images = [finding for finding in self.findings if finding.kind in (CONTAINER, IMAGE)]
        outside = sum(finding.verdict == OPEN for finding in images)
        urls = sum(finding.kind == URL for finding in self.open)
        rest = len(self.open) - outside - urls
        told = f"{len(images)} image references, {outside} of them open, {urls} open URLs" + (
            f", {rest} other open" if rest else ""
        )
        return f"{'closed' if self else 'NOT closed'}: {told}; {len(self.of(INERT))} inert, {len(self.of(ALLOWED))} allowed"

    def to_json(self) -> dict[str, object]:
        """Return the stable form for ``--output json``."""
        return {
            "schemaVersion": SCHEMA_VERSION,
            "closed": bool(self),
            "figures": self.figures,
            "objects": dict(self.objects),
            "findings": [finding.to_json() for finding in self.findings],
            "warnings": list(self.warnings),
        }


def prove(operator_values: Mapping[str, Json], resource: CustomResource, location: Location, lock: Digest) -> Proved:
    """Make a proof; for ``airgap.audit`` alone."""
    return Proved(operator_values, resource, location, lock, _KEY)
