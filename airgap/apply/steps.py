"""The steps of an install in their order, as data. Pure.

Order and care: namespaces; CRDs before the chart; Secrets and their link to the service accounts before any pod; what the
values files bring (CA ConfigMaps); node mirrors when asked for; the chart's ConfigMap before the custom resource, or the
operator waits an hour; the operator; the custom resource last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.intent import placed
from airgap.receipts import LABELS
from airgap.wandb import LocalChart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.intent import Intent

OPERATOR, SERVER = "operator", "server"

Object = dict[str, Any]

CONFIGMAP_LIMIT = 1024 * 1024
"""Bytes of a ConfigMap's keys and decoded data together (Kubernetes, "ConfigMaps")."""
ENCODED = 4 / 3
"""Characters of base64 for each byte."""


@dataclass(frozen=True)
class Step:
    """Objects that are applied together. ``parts``: the halves of the install that need them; ``force``: others' fields too."""

    name: str
    objects: tuple[Object, ...] = field(repr=False)
    parts: frozenset[str]
    force: bool = False


BOTH = frozenset({OPERATOR, SERVER})


def steps(intent: Intent) -> tuple[Step, ...]:
    """Return the steps that apply plain objects and come before the operator; empty ones left out."""
    others = tuple(placed(it, intent.resource.namespace) for it in intent.others)
    spaces = tuple(it for it in others if it.get("kind") == "Namespace")
    rest = tuple(it for it in others if it.get("kind") != "Namespace")
    found = [
        Step("namespaces", spaces, BOTH),
        Step("CRDs", intent.operator.crds, frozenset({OPERATOR}), force=True),
        Step("secrets", tuple(placed(it, intent.resource.namespace) for it in intent.secrets), BOTH),
        Step("pull secret links", tuple(link.to_document() for link in intent.links()), BOTH),
        Step("other objects", rest, BOTH),
        Step("node mirrors", intent.mirrors, BOTH),
    ]
    return tuple(step for step in found if step.objects)


def namespace(name: str) -> Object:
    """Return a Namespace, marked as ours: a run that is killed right after making it has no receipt that says so."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(LABELS)}}


def chart_configmap(wanted: Object, live: Mapping[str, Any] | None, used: str) -> tuple[Object, tuple[str, ...]]:
    """Return the chart's ConfigMap with the key that is in use (``used``) kept beside the new one, and the keys that go.

    Without the kept key the operator could not install its present chart again until it has taken the new one. Where both do
    not fit, the new one alone stays.
    """
    new = dict(wanted.get("binaryData") or {})
    there = dict((live or {}).get("binaryData") or {})
    kept = {key: text for key, text in there.items() if key == used and key not in new}
    size = sum(len(key) + len(str(text)) / ENCODED for key, text in {**kept, **new}.items())
    if size > CONFIGMAP_LIMIT:
        kept = {}
    gone = tuple(sorted(key for key in there if key not in new and key not in kept))
    return {**wanted, "binaryData": {**kept, **new}}, gone


def delivered_by_configmap(intent: Intent) -> bool:
    """Whether the operator finds its chart in a ConfigMap of ours."""
    return intent.chart_configmap is not None and isinstance(intent.resource.chart, LocalChart)
