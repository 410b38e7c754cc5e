"""Why a pod finds no node: the scheduler's counts in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airgap.trouble.words import SCHEDULE, Trouble, items, label, text, told

if TYPE_CHECKING:
    from airgap.values import Json

_REASONS: tuple[tuple[str, str, str], ...] = (
    (r"Insufficient ([\w./-]*\w)", "{0} node{s} too little {1} left", "add nodes, or lower the component's resources.requests"),
    (
        r"node\(s\) had untolerated taint \{?([^}:]*)[^}]*\}?",
        "{0} node{s} the taint {1}",
        "set tolerations, or take the taint off",
    ),
    (
        r"node\(s\) didn't match Pod's node affinity/selector()",
        "{0} node{s} not the labels of its nodeSelector or affinity",
        "label a node, or change nodeSelector",
    ),
    (r"node\(s\) were unschedulable()", "{0} node{s} been cordoned", "kubectl uncordon NODE"),
    (
        r"node\(s\) had volume node affinity conflict()",
        "{0} node{s} no way to its volume",
        "put the volume where the nodes are",
    ),
    (r"node\(s\) didn't have free ports[^,]*()", "{0} node{s} its host port taken", ""),
    (r"Too many pods()", "{0} node{s} as many pods as it can", "add nodes"),
)
"""The scheduler's words, ours and the next step (kubernetes pkg/scheduler/framework/plugins); {0} is the number of nodes."""


def unschedulable(pod: dict[str, Json], message: str) -> Trouble:
    """Return why the scheduler places a pod nowhere; ``message`` is its own, of the pod's condition PodScheduled."""
    if "unbound immediate PersistentVolumeClaims" in message:
        return Trouble(
            label(pod),
            "",
            SCHEDULE,
            f"it waits for its volume: {_claims(pod)} not bound",
            "is there a storage class, or a volume that fits? kubectl get pvc,storageclass",
            waiting=True,
        )
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing:
        return Trouble(
            label(pod),
            "",
            SCHEDULE,
            f"its volume claim {missing[1]} does not exist",
            "make it, or correct the value that names it",
        )
    if "no nodes available" in message or re.match(r"0/0 nodes", message):
        return Trouble(label(pod), "", SCHEDULE, "the cluster has no node that could run it", "kubectl get nodes")
    reasons, fixes = [], []
    for pattern, words, fix in _REASONS:
        for count, what in re.findall(rf"(\d+) {pattern}", message.partition("preemption:")[0]):
            reasons.append(words.format(count, what.strip(), s=" has" if count == "1" else "s have"))
            fixes += [fix] if fix and fix not in fixes else []
    sentence = (
        f"no node can take it: {', '.join(reasons)}"
        if reasons
        else f"it is not scheduled: {told(message) or 'no reason given'}"
    )
    return Trouble(label(pod), "", SCHEDULE, sentence, "; ".join(fixes))


def _claims(pod: Json) -> str:
    names = [text(volume, "persistentVolumeClaim", "claimName") for volume in items(pod, "spec", "volumes")]
    found = ", ".join(name for name in names if name)
    return f"claim {found} is" if found else "a claim is"
