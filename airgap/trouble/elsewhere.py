"""What keeps pods from being made at all: quota, policy, accounts, webhooks, volumes, jobs that gave up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airgap.trouble.words import JOB, MOUNT, POLICY, QUOTA, Trouble, distinct, items, label, number, text, told
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airgap.values import Json

_FAILED = frozenset({"FailedCreate", "ReplicaFailure", "ProvisioningFailed", "BackoffLimitExceeded", "DeadlineExceeded"})
"""Reasons of Warning events of controllers that mean: there is no pod to look at."""


def explain_events(events: Iterable[dict[str, Json]]) -> tuple[Trouble, ...]:
    """Return what controllers could not make, from Warning events of objects that are no pods; each fault once.

    The events must be recent: the API server keeps them for an hour, and what they tell of may be over.
    """
    found = [
        refused(
            f"{text(it, 'involvedObject', 'kind')}/{text(it, 'involvedObject', 'name')}",
            text(it, "reason"),
            text(it, "message"),
        )
        for it in events
        if text(it, "type") == "Warning" and text(it, "reason") in _FAILED and text(it, "involvedObject", "kind") != "Pod"
    ]
    return distinct(found)


def explain_object(item: dict[str, Json]) -> tuple[Trouble, ...]:
    """Return what a workload or a volume claim says of itself in its status: this outlives the events."""
    kind = text(item, "kind")
    if kind == "PersistentVolumeClaim" and text(item, "status", "phase") == "Lost":
        return (Trouble(label(item), "", MOUNT, "its volume is lost", "restore it from a backup"),)
    for condition in items(item, "status", "conditions"):
        kind_of, holds = text(condition, "type"), text(condition, "status") == "True"
        if holds and ((kind, kind_of) == ("Job", "Failed") or kind_of == "ReplicaFailure"):
            return (refused(label(item), text(condition, "reason"), text(condition, "message")),)
    return ()


def is_short(item: dict[str, Json]) -> str:
    """Return how far a workload is from what it asks for, as ``1 of 2 ready``; nothing when it is there."""
    kind = text(item, "kind")
    if kind == "DaemonSet":
        wanted, ready = number(item, "status", "desiredNumberScheduled"), number(item, "status", "numberReady")
    elif kind in ("Deployment", "StatefulSet", "ReplicaSet"):
        replicas = get(item, ("spec", "replicas"), 1)
        wanted, ready = replicas if isinstance(replicas, int) else 1, number(item, "status", "readyReplicas")
    else:
        return ""
    return f"{ready} of {wanted} ready" if ready < wanted else ""


def refused(where: str, reason: str, message: str) -> Trouble:
    """Return why a controller got no pod (or volume, or end) for ``where``."""
    for pattern, answer in _ANSWERS:
        found = re.search(pattern, message, re.DOTALL)
        if found:
            return answer(where, found)
    if reason == "BackoffLimitExceeded":
        return Trouble(
            where, "", JOB, "the job failed as often as it may and gave up", "read the log of its last pod, then delete the job"
        )
    if reason == "DeadlineExceeded":
        return Trouble(where, "", JOB, "the job took longer than its deadline and was ended", "read the log of its last pod")
    return Trouble(where, "", POLICY, f"nothing is made for it: {told(message) or reason}")


def _quota(where: str, found: re.Match[str]) -> Trouble:
    name, asked, used, limit = found.groups()
    return Trouble(
        where,
        "",
        QUOTA,
        f"quota {name} does not allow its pods: they ask for {asked}, {used} of {limit} is used",
        f"raise the quota: kubectl edit resourcequota {name}, or lower the component's resources",
    )


def _quota_silent(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where,
        "",
        QUOTA,
        f"quota {found[1]} demands that its pods say {told(found[2])}",
        "set the component's resources, or a LimitRange with defaults",
    )


def _limit_range(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where,
        "",
        QUOTA,
        f"a LimitRange does not allow its pods: {told(found[0])}",
        "kubectl get limitrange; or change the component's resources",
    )


def _pod_security(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where,
        "",
        POLICY,
        f"Pod Security level {found[1].partition(':')[0]} does not allow its pods: {told(found[2])}",
        "label the namespace with a lower level, or set the component's podSecurityContext and securityContext",
    )


def _constraint(where: str, found: re.Match[str]) -> Trouble:
    del found
    return Trouble(
        where,
        "",
        POLICY,
        "no SecurityContextConstraint allows its pods",
        "oc adm policy add-scc-to-user SCC -z SERVICEACCOUNT (user 999, group 0)",
    )


def _account(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where,
        "",
        POLICY,
        f"its service account {found[1]} does not exist",
        "was it deleted by hand? install again",
        waiting=True,
    )


def _denied(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where, "", POLICY, f"the admission webhook {found[1]} denies its pods: {told(found[2])}", "ask who runs that policy"
    )


def _webhook(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where,
        "",
        POLICY,
        f"the admission webhook {found[1]} does not answer: {told(found[2])}",
        "repair the webhook: until then no pod is made",
        waiting=True,
    )


def _class(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where, "", POLICY, f"the PriorityClass {found[1]} does not exist", "make it, or correct the value that names it"
    )


def _storage(where: str, found: re.Match[str]) -> Trouble:
    return Trouble(
        where,
        "",
        MOUNT,
        f"the storage class {found[1]} does not exist",
        "kubectl get storageclass; set the value that names it",
    )


_ANSWERS: tuple[tuple[str, Callable[[str, re.Match[str]], Trouble]], ...] = (
    (r"exceeded quota: ([^,]+), requested: (.*?), used: (.*?), limited: (.*)$", _quota),
    (r"failed quota: ([^:]+): must specify (.*)$", _quota_silent),
    (r"(?:maximum|minimum) \S+ usage per \S+ is [^.]*", _limit_range),
    (r'violates PodSecurity "([^"]+)": (.*)$', _pod_security),
    (r"unable to validate against any security context constraint", _constraint),
    (r'serviceaccount "([^"]+)" not found', _account),
    (r'admission webhook "([^"]+)" denied the request: (.*)$', _denied),
    (r'failed calling webhook "([^"]+)": (.*)$', _webhook),
    (r"no PriorityClass with name (\S+) was found", _class),
    (r'storageclass\.storage\.k8s\.io "([^"]+)" not found', _storage),
)
"""What admission and controllers say (kubernetes plugin/pkg/admission, pkg/controller; OpenShift's SCC admission)."""
