"""The custom resource and the chart's ConfigMap: what the operator acts on, so each is written in one go.

Invariants: the live spec becomes exactly the proved one, by one write that the operator sees; our field manager owns it then. A
chart reaches the operator's pod before the custom resource names it: a pod older than the ConfigMap's change is replaced first,
because a kubelet refreshes a mounted ConfigMap only after a minute or so, and the operator that misses its chart waits an hour.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError
from airgap.kube import FIELD_MANAGER, managed_at
from airgap.kube.objects import parse_time
from airgap.standing import RESOURCE_KIND, USER_INPUT, chart_key
from airgap.values import get

if TYPE_CHECKING:
    from airgap.intent import Intent, Part
    from airgap.kube import Kubectl

RESTARTED_FOR = "airgap/chart"
"""Annotation of the operator's pod template: the chart for which it was last replaced."""
WOKEN = "airgap/look-again"
"""Annotation of the user-input Secret: when the operator was last told to look again."""
SERVED_LIMIT, SERVED_STEP = 60.0, 0.5
"""Seconds until a CRD is served (one, on an idle API server), and between two looks."""


def settle(kubectl: Kubectl, intent: Intent) -> bool:
    """Make the live custom resource the intended one; whether anything changed."""
    document = intent.resource.to_document()
    name, namespace = intent.resource.name, intent.resource.namespace
    live = kubectl.get(RESOURCE_KIND, name, namespace)
    if live is not None:
        planned = kubectl.apply(document, force=True, dry_run=True)
        if planned.get("spec") != document["spec"]:
            change = [
                {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
                {"op": "replace" if "spec" in live else "add", "path": "/spec", "value": document["spec"]},
            ]
            kubectl.patch(RESOURCE_KIND, name, namespace, change, how="json")
    applied = kubectl.apply(document, force=True)
    return live is None or version_of(applied) != version_of(live)


def settle_charts(kubectl: Kubectl, document: dict[str, Any], live: dict[str, Any] | None) -> dict[str, Any]:
    """Make the chart's ConfigMap the intended one and return it: what somebody else put there goes, or both might not fit.

    ``live``: as it is now, None if there is none.
    """
    foreign = {name: set((live or {}).get(name) or {}) - set(document.get(name) or {}) for name in ("binaryData", "data")}
    if live is not None and any(foreign.values()):
        change: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/resourceVersion", "value": version_of(live)}]
        change += [{"op": "remove", "path": f"/{name}/{key}"} for name, keys in foreign.items() for key in sorted(keys)]
        change += [{"op": "add", "path": f"/binaryData/{key}", "value": it} for key, it in document["binaryData"].items()]
        if not live.get("binaryData"):
            change.insert(1, {"op": "add", "path": "/binaryData", "value": {}})
        kubectl.patch("ConfigMap", document["metadata"]["name"], document["metadata"]["namespace"], change, how="json")
    return kubectl.apply(document, force=True)


def version_of(document: dict[str, Any]) -> str:
    """Return the resourceVersion of an object as the API server gave it."""
    return str((document.get("metadata") or {}).get("resourceVersion") or "")


def served(kubectl: Kubectl, crd: dict[str, Any]) -> None:
    """Wait until the API server serves what a CRD defines: an object of it would be of no known kind before."""
    deadline = time.monotonic() + SERVED_LIMIT
    name = get(crd, ("metadata", "name"))
    while True:
        status: dict[str, Any] = (kubectl.live(crd) or {}).get("status") or {}
        told = {it["type"]: it for it in status.get("conditions") or ()}
        if told.get("Established", {}).get("status") == "True":
            return
        if time.monotonic() > deadline:
            why = str(told.get("NamesAccepted", {}).get("message") or "it says nothing of why")
            raise ClusterError(f"CRD {name} is applied and not served: {why}", hint=f"kubectl describe crd {name} says more")
        time.sleep(SERVED_STEP)


def wake(kubectl: Kubectl, intent: Intent, when: str) -> bool:
    """Have the operator look again at a spec that it knows; whether it could be told so.

    After a failed load or apply it looks again only after an hour, or when the spec changes, or a Secret that it keeps: an
    annotation on that of the user's input is such a change, and no other (wandb-v1.md section 11).
    """
    name, namespace = f"{intent.resource.name}-{USER_INPUT}", intent.resource.namespace
    if kubectl.get("Secret", name, namespace) is None:
        return False
    kubectl.patch("Secret", name, namespace, {"metadata": {"annotations": {WOKEN: when}}}, how="merge")
    return True


def misses_chart(kubectl: Kubectl, intent: Intent) -> bool:
    """Whether a running operator may not see the chart that the custom resource is about to name."""
    if intent.chart_configmap is None:
        return False
    live = kubectl.get(RESOURCE_KIND, intent.resource.name, intent.resource.namespace)
    key = chart_key(intent.resource.to_document())
    if live is not None and chart_key(live) == key:
        return False
    configmap = kubectl.live(intent.chart_configmap)
    changed = managed_at(configmap, FIELD_MANAGER) if configmap else None
    begun = [parse_time(it["metadata"].get("creationTimestamp")) for it in operator_pods(kubectl, intent.operator)]
    return changed is not None and any(time is not None and time < changed for time in begun)


def restart_operator(kubectl: Kubectl, intent: Intent) -> None:
    """Have the operator's pods replaced, so that they mount the ConfigMap anew."""
    template = {"metadata": {"annotations": {RESTARTED_FOR: chart_key(intent.resource.to_document())}}}
    for item in intent.operator.workloads():
        change = {"spec": {"template": template}}
        kubectl.patch(f"{item.kind}.v1.apps", item.name, item.namespace or intent.operator.namespace, change)


def operator_pods(kubectl: Kubectl, part: Part) -> list[dict[str, Any]]:
    """Return the live pods of a part's workloads, by their selectors; those on their way out left aside."""
    found: list[dict[str, Any]] = []
    for item in part.workloads():
        labels = get(item.object, ("spec", "selector", "matchLabels"))
        if isinstance(labels, dict):
            selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
            found += kubectl.listed("Pod", item.namespace or part.namespace, selector)
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
