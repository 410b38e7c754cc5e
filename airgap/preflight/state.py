"""Checks of what stands in the cluster already: other owners, other installs, hand edits, newer versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.kube import is_leaving
from airgap.lease import other_holder
from airgap.preflight.report import FINE, STOP, WARN, Finding
from airgap.releases import PENDING
from airgap.standing import OTHER_VERSION, TAKE_OVER, USER_INPUT, Standing, console, leaving_crd, vanishing
from airgap.values import get, leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.intent import Intent
    from airgap.kube import Kubectl
    from airgap.values import Json


def crds(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield CRDs that are another's, or in whose stored versions objects would be lost (cases.md C3)."""
    for crd in intent.operator.crds:
        name = str(get(crd, ("metadata", "name")))
        live = kubectl.live(crd)
        if live is None:
            yield Finding("crds", FINE, f"CRD {name} will be made")
            continue
        if is_leaving(live):
            yield Finding("crds", STOP, f"CRD {name} is being deleted", leaving_crd(kubectl, live))
            continue
        found = [*_vanishing(crd, live, name), *_owner(live, name, intent)]
        yield from found or [Finding("crds", FINE, f"CRD {name} is there and may be brought up to date")]


def _vanishing(crd: Mapping[str, Json], live: Mapping[str, Json], name: str) -> Iterator[Finding]:
    for version in vanishing(crd, live):
        yield Finding(
            "crds",
            STOP,
            f"CRD {name} has objects stored as {version}, a version that the bundle's CRD has not",
            "it belongs to another generation of the operator: migrate its objects, or use the bundle of that generation",
        )
    if get(dict(live), ("spec", "conversion", "strategy")) == "Webhook":
        remedy = "remove that operator first; its webhook would be asked for every object"
        yield Finding("crds", STOP, f"CRD {name} converts by the webhook of another operator", remedy)


def _owner(live: Mapping[str, Json], name: str, intent: Intent) -> Iterator[Finding]:
    labels = get(dict(live), ("metadata", "labels"))
    olm = [key for key in labels if str(key).startswith("operators.coreos.com/")] if isinstance(labels, dict) else []
    release = get(dict(live), ("metadata", "annotations", "meta.helm.sh/release-name"))
    if olm:
        yield Finding(
            "crds", STOP, f"CRD {name} is managed by OLM ({olm[0]})", "remove that subscription, or install through it"
        )
    elif release and release != intent.operator.release:
        remedy = f"an upgrade or removal of {release} changes or deletes it: let one of the two have it"
        yield Finding("crds", WARN, f"CRD {name} belongs to helm release {release}", remedy)


def other_install(kubectl: Kubectl, intent: Intent) -> Finding:
    """Return whether another install runs."""
    holder = other_holder(kubectl, intent.operator.namespace)
    if holder is None:
        return Finding("lease", FINE, "no other install is running")
    remedy = f"wait for it to end; if it was killed, its lease runs out after {holder.duration} s"
    return Finding("lease", STOP, f"another install is running: {holder}", remedy)


def system_console(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield what in the System Console's settings would keep the operator from taking the custom resource."""
    found = console(kubectl, intent.resource)
    name = f"Secret {intent.resource.namespace}/{intent.resource.name}-{USER_INPUT}"
    clashes = found.clashes(intent.resource, intent.operator.namespace)
    for sentence in clashes:
        remedy = "correct it in the System Console, or in --values; the operator says nothing of it and stays with the old spec"
        yield Finding("console", STOP, f"the System Console's settings ({name}): {sentence}", remedy)
    if not clashes:
        told = f"{sum(1 for _ in leaves(dict(found.values)))} settings of the System Console are part of what is judged"
        yield Finding("console", FINE, told if found.values else "the System Console has set nothing")


def upgrade(standing: Standing, intent: Intent, *, allow_older: bool, overwrite_edits: bool) -> Iterator[Finding]:
    """Yield what the install would do to what is there: versions, hand edits, a release in the middle of something."""
    if standing.is_new:
        yield Finding("upgrade", FINE, f"nothing is installed yet: {intent.operator.label} and {intent.server.label} will be")
        return
    changes = (
        f"operator {standing.change(intent.operator, standing.operator)}",
        f"server {standing.change(intent.server, standing.server)}",
    )
    yield Finding("upgrade", FINE, ", ".join(changes))
    for sentence in standing.older(intent):
        yield Finding("upgrade", WARN if allow_older else STOP, sentence, "take the newer bundle, or give --allow-older")
    if unseen := standing.unseen(intent):
        yield Finding("upgrade", STOP, unseen, OTHER_VERSION)
    for edit in standing.edits(intent):
        told = f"changed by hand since the last install: {edit}"
        yield Finding("edits", WARN if overwrite_edits else STOP, told, TAKE_OVER)
    for release in (standing.operator, standing.server):
        if release is not None and release.status in PENDING:
            remedy = "a helm was killed in it, or still runs; install puts the operator's record away"
            yield Finding("upgrade", WARN, f"helm release {release.namespace}/{release.name} is {release.status}", remedy)
