"""Checks of the cluster: version, API groups, namespaces, nodes, rights."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError
from airgap.intent import placed
from airgap.kube import ConflictError, ForbiddenError, describe
from airgap.preflight.report import FINE, STOP, WARN, Finding
from airgap.preflight.rights import questions
from airgap.sources.semver import Version
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from airgap.intent import Intent
    from airgap.kube import Kubectl, Question
    from airgap.oci import Platform

OLDEST = "1.28.0"
"""The oldest Kubernetes that W&B documents for this operator; its newer pages ask for 1.32 and 1.34."""
ASKED_AT_ONCE = 24
"""Rights that one run of kubectl asks for: it asks one after the other."""
RUNS = 4
"""Runs of kubectl at a time."""


def version(kubectl: Kubectl) -> Finding:
    """Reach the cluster and judge its version; raises ClusterError when it cannot be reached."""
    found = kubectl.version()
    known, oldest = Version.parse(found), Version.parse(OLDEST)
    if known and oldest and known < oldest:
        return Finding("cluster", WARN, f"Kubernetes {found} is older than {OLDEST}, which W&B asks for", "upgrade the cluster")
    return Finding("cluster", FINE, f"Kubernetes {found} answers")


def api_groups(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield the API versions that both charts use and the cluster does not serve."""
    served = kubectl.api_versions()
    brought = {
        f"{get(crd, ('spec', 'group'))}/{it.get('name')}"
        for part in (intent.operator, intent.server)
        for document in part.documents
        if document.kind == "CustomResourceDefinition"
        for crd in (document.object,)
        for it in get(crd, ("spec", "versions")) or ()  # type: ignore[union-attr]
        if isinstance(it, dict)
    }
    missing: dict[str, set[str]] = defaultdict(set)
    for part in (intent.operator, intent.server):
        for item in part.installed:
            name = str(item.object.get("apiVersion"))
            if name not in served and name not in brought:
                missing[name].add(item.label)
    for name, labels in sorted(missing.items()):
        some = ", ".join(sorted(labels)[:3])
        yield Finding(
            "api",
            STOP,
            f"the cluster does not serve {name}, which {some} needs",
            "install what serves it, or switch the feature off",
        )
    if not missing:
        yield Finding("api", FINE, "every API version that the charts use is served")


def namespaces(kubectl: Kubectl, intent: Intent) -> tuple[list[Finding], list[str], list[str]]:
    """Return findings, the namespaces that are to be made, and those that are being deleted and take nothing now."""
    found, absent, leaving = [], [], []
    for name in intent.namespaces:
        live = kubectl.get("Namespace", name)
        if live is None:
            absent.append(name)
            found.append(Finding("namespaces", FINE, f"namespace {name} will be made"))
        elif get(live, ("status", "phase")) == "Terminating":
            leaving.append(name)
            remedy = f"wait until it has gone; if it does not: kubectl get namespace {name} -o yaml shows what holds it"
            found.append(Finding("namespaces", STOP, f"namespace {name} is being deleted{_held_by(live)}", remedy))
        else:
            found.append(Finding("namespaces", FINE, f"namespace {name} is there"))
            found += _pod_security(live, name)
    return found, absent, leaving


def _held_by(live: dict[str, Any]) -> str:
    """Return what the cluster says a namespace waits for (conditions of NamespaceStatus), or nothing."""
    told = {it.get("type"): it.get("message") for it in get(live, ("status", "conditions")) or () if it.get("status") == "True"}  # type: ignore[union-attr]
    said = told.get("NamespaceFinalizersRemaining") or told.get("NamespaceContentRemaining")
    return f" ({said})" if said else ""


def _pod_security(live: dict[str, object], name: str) -> Iterator[Finding]:
    level = get(live, ("metadata", "labels", "pod-security.kubernetes.io/enforce"))  # type: ignore[arg-type]
    if level == "restricted":
        remedy = "see that every component has a security context that it allows (runAsNonRoot, no capabilities, seccomp)"
        yield Finding("namespaces", WARN, f"namespace {name} enforces the restricted Pod Security level", remedy)


def nodes(kubectl: Kubectl, platforms: Collection[Platform]) -> Iterator[Finding]:
    """Yield whether there is a node for which the bundle has images."""
    try:
        labels = [it["metadata"].get("labels") or {} for it in kubectl.listed("Node")]
    except ForbiddenError:
        yield Finding("nodes", WARN, "this user may not list nodes, so their architecture is not known")
        return
    there = {(str(it.get("kubernetes.io/os") or "linux"), str(it.get("kubernetes.io/arch") or "")) for it in labels}
    carried = {(platform.os, platform.architecture) for platform in platforms}
    if not there:
        yield Finding("nodes", STOP, "the cluster has no node", "add one")
    elif not any(os == own and arch in ("", other) for os, arch in there for own, other in carried):
        told, held = (", ".join(sorted("/".join(it) for it in group)) for group in (there, carried))
        yield Finding("nodes", STOP, f"the nodes are {told}, the bundle is for {held}", f"mirror again with --platform {told}")
    else:
        yield Finding("nodes", FINE, f"{len(labels)} node{'' if len(labels) == 1 else 's'}, with images for them in the bundle")


def rights(kubectl: Kubectl, intent: Intent, absent: Sequence[str]) -> Iterator[Finding]:
    """Yield what this user may not do and install must, one finding per resource and namespace."""
    asked = questions(intent, kubectl.resources(), absent)
    pieces = [asked[start : start + ASKED_AT_ONCE] for start in range(0, len(asked), ASKED_AT_ONCE)]
    with ThreadPoolExecutor(RUNS) as pool:
        answers = [allowed for piece in pool.map(kubectl.can_i, pieces) for allowed in piece]
    missing: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for question, allowed in zip(asked, answers, strict=True):
        if not allowed:
            name = f"{question.resource}.{question.group}" if question.group else question.resource
            missing[name, question.namespace].append(question)
    for (name, namespace), lacking in sorted(missing.items()):
        verbs = ",".join(dict.fromkeys(it.verb for it in lacking))
        where = f" in namespace {namespace}" if namespace else ""
        kind, flag = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
        remedy = f"ask for it: kubectl create {kind} airgap --verb={verbs} --resource={name}{flag}, bound to this user"
        yield Finding("rights", STOP, f"this user may not {verbs} {name}{where}", remedy)
    if not missing:
        yield Finding("rights", FINE, f"this user may do all that install does ({len(asked)} rights)")


def grants(kubectl: Kubectl, intent: Intent, absent: Sequence[str]) -> Iterator[Finding]:
    """Yield which roles of the operator's chart this user may not make: nobody may grant more than he has (a dry run).

    Bindings are left out: the server looks up the role that they name, which is not there yet, and asks for the same rights.
    """
    for item in intent.operator.installed:
        namespace = item.namespace or (intent.operator.namespace if item.kind == "Role" else "")
        if item.kind not in ("ClusterRole", "Role") or namespace in absent:
            continue
        document = placed(item.object, namespace) if namespace else item.object
        try:
            kubectl.apply(document, force=True, dry_run=True)
        except ConflictError:
            continue
        except ClusterError as error:
            remedy = "let a cluster administrator run the install, or give this user escalate and bind on roles"
            yield Finding("rights", STOP, f"{describe(document)} cannot be made: {error.message}", remedy)
