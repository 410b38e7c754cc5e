"""Drift: what is not as the last install left it, and what the operator does not act on. Pure.

The operator's phase says nothing here: it stays ``Completed`` when a spec cannot be merged or panics (wandb-v1.md section 11).
So the spec that it applied last (``<name>-spec-active``) is held against the one that it should have made of the custom
resource, the System Console's input and the channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.kube import FIELD_MANAGER, managers_of
from airgap.standing import ABSENT, chart_key, differences
from airgap.trouble.words import text
from airgap.values import format_path, get, leaves
from airgap.wandb import effective, parse_chart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.status.observe import Observation
    from airgap.values import Json, ValuePath

CHANGED, ADDED, REMOVED = "changed", "added", "removed"
SHOWN = 3
"""Paths that a sentence names."""
CONSOLE, RESOURCE = "System Console", "custom resource"

SERVANTS = frozenset({FIELD_MANAGER, "manager", "wandb-controller-manager", "kube-controller-manager"})
"""Field managers that are no hands: ours and the operator's."""


@dataclass(frozen=True, order=True)
class Drift:
    """One value that is not as it was applied. ``where``: custom resource or System Console; ``note`` what it means.

    Values are never told: they may be secrets.
    """

    where: str
    path: str
    how: str
    who: str = ""
    note: str = ""

    def to_json(self) -> dict[str, str]:
        """Return all fields."""
        return dict(vars(self))

    def __str__(self) -> str:
        who = f" by {self.who}" if self.who else ""
        return f"{self.where}: {self.path} {self.how}{who}" + (f" ({self.note})" if self.note else "")


def drifts(seen: Observation) -> tuple[Drift, ...]:
    """Return every value that was changed since the install: by hand in the custom resource, or in the System Console."""
    found = []
    if seen.meant and seen.meant.resource and seen.resource:
        managers = managers_of(seen.resource)
        applied, live = get(dict(seen.meant.resource), ("spec",)), seen.resource.get("spec")
        found += [
            Drift(RESOURCE, f"spec.{format_path(path)}", how, hands(managers, ("spec", *path)), _note(live, path))
            for path, how in compare(applied, live)
        ]
    if seen.user:
        values = get(seen.resource, ("spec", "values")) if seen.resource else {}
        for path, _ in leaves(seen.user.values):
            note = "without effect: the custom resource sets it too" if get(values, path) is not None and path else ""
            found.append(Drift(CONSOLE, format_path(path), ADDED, "an administrator", note))
        if seen.user.chart:
            found.append(Drift(CONSOLE, "chart", ADDED, "an administrator"))
    return tuple(sorted(found))


def _note(live: Json, path: ValuePath) -> str:
    is_null = get(live, path, ABSENT) is None
    return "null: the operator stops for good as soon as another layer sets this too" if is_null else ""


def hands(managers: Mapping[str, Json], path: ValuePath) -> str:
    """Return the field managers, other than ours and the operator's, that own a path or something under it.

    ``managers``: name to fields in the API server's form (FieldsV1): keys ``f:NAME``, lists as a whole.
    """
    steps = tuple(f"f:{step}" for step in path)
    return ", ".join(
        sorted(name for name, fields in managers.items() if name not in SERVANTS and get(fields, steps) is not None)
    )


def compare(was: Json, now: Json) -> Iterator[tuple[ValuePath, str]]:
    """Yield (path, how) of what differs; lists as a whole."""
    for path, before, after in differences(was, now):
        yield path, ADDED if before is ABSENT else REMOVED if after is ABSENT else CHANGED


@dataclass(frozen=True)
class Force:
    """Whether the operator works with what it was given: ``problem`` is empty when it does; ``waiting``: it may yet."""

    problem: str = ""
    fix: str = ""
    waiting: bool = False


def in_force(seen: Observation, *, airgapped: bool) -> Force:
    """Return whether the spec that the operator applied last is what the layers make now."""
    if seen.resource is None:
        return Force(f"there is no custom resource {seen.namespace}/{seen.name}", "run airgap install")
    values = get(seen.resource, ("spec", "values"))
    channel = seen.cached.values if seen.cached and not airgapped else {}
    try:
        chart = parse_chart(get(seen.resource, ("spec", "chart")), "spec.chart")
        merged = effective(
            values if isinstance(values, dict) else {}, seen.user.values if seen.user else {}, channel, seen.operator_namespace
        )
    except ConfigurationError as error:
        return Force(
            f"the operator cannot merge its layers, says nothing of it, and stays with the old spec: {error.message}",
            error.hint or "correct the custom resource or the System Console's settings",
        )
    if merged.panics:
        return Force(
            f"the operator panics at every reconcile, says nothing of it, and stays with the old spec: {merged.panics[0]}",
            "remove that null; until then the custom resource cannot even be deleted",
        )
    if seen.is_blind:
        return Force()
    if seen.active is None:
        return Force("the operator has applied nothing yet", "read the operator's log", waiting=True)
    try:
        there = parse_chart(seen.active.chart, "spec-active")
        applied = effective(seen.active.values, {}, {}, seen.operator_namespace).values  # nulls left out, as in what is wanted
    except ConfigurationError:
        there, applied = None, seen.active.values
    same_chart = there == chart if chart is not None else bool(seen.active.chart)
    return _compared(applied, merged.values, same_chart=same_chart)


def chart_in_force(seen: Observation) -> Force:
    """Return whether the chart that the operator applied is the one under its path: what is put there later it does not see."""
    receipt = seen.meant
    if receipt is None or seen.chart is None or chart_key(receipt.resource) != chart_key(seen.resource):
        return Force()
    place = f"{chart_key(seen.resource)} in ConfigMap {receipt.operator_namespace}/{receipt.charts_name}"
    if not seen.chart:
        return Force(f"there is no {place} any more: the operator's next change would fail", "airgap install puts it back")
    if receipt.chart_digest in ("", seen.chart):
        return Force()
    return Force(
        f"the chart {place} was replaced: the operator does not see it, and would take it, unaudited, at its next change",
        "mirror that chart and install the bundle: it gets a path of its own; --overwrite-edits puts the installed one back",
    )


def _compared(applied: Json, wanted: Json, *, same_chart: bool) -> Force:
    paths = [format_path(path) for path, _ in compare(applied, wanted)]
    if same_chart and not paths:
        return Force()
    told = [*([] if same_chart else ["the chart"]), *paths]
    differing = ", ".join(told[:SHOWN]) + (f" and {len(told) - SHOWN} more" if len(told) > SHOWN else "")
    sentence = f"the operator has not applied what the custom resource says: {differing} not in force"
    return Force(sentence, "read the operator's log", waiting=True)


def phase_of(resource: Json) -> str:
    """Return the operator's phase, or nothing."""
    return text(resource, "status", "phase")
