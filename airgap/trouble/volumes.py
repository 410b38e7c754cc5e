"""Why a pod's volumes are not mounted or its sandbox is not made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airgap.trouble.words import MOUNT, NODE, Trouble, label, text, told

if TYPE_CHECKING:
    from airgap.values import Json


def unmounted(pod: dict[str, Json], message: str) -> Trouble:
    """Return why a volume is not mounted; ``message`` is that of a FailedMount or FailedAttachVolume event."""
    namespace = text(pod, "metadata", "namespace") or "default"
    volume = re.search(r'volume "([^"]+)"', message)
    name = f"volume {volume[1]}" if volume else "a volume"
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', message)
    if missing:
        kind = {"secret": "Secret", "configmap": "ConfigMap"}[missing[1]]
        return Trouble(
            label(pod),
            "",
            MOUNT,
            f"{name} is {kind} {missing[2]}, which is not in namespace {namespace}",
            f"make it: kubectl -n {namespace} create {missing[1]} {missing[2]} ..., or correct the value that names it",
        )
    key = re.search(r"references non-existent (?:secret|config) key: (\S+)", message)
    if key:
        return Trouble(label(pod), "", MOUNT, f"{name} lacks the key {key[1]}", "add the key to the Secret or ConfigMap")
    if "Multi-Attach error" in message:
        return Trouble(
            label(pod), "", MOUNT, f"{name} is still attached to another node", "wait for the old pod to go", waiting=True
        )
    return Trouble(
        label(pod), "", MOUNT, f"{name} is not mounted: {told(message)}", "kubectl describe the pod's node and claim"
    )


def sandbox(pod: dict[str, Json], message: str) -> Trouble:
    """Return why kubelet does not get the pod's sandbox made: mostly the node's own pause image, or its network."""
    image = re.search(r'failed to (?:get|pull) (?:sandbox )?image "([^"]+)"', message)
    if image:
        why = message.rpartition("failed to resolve reference")[2] or message
        return Trouble(
            label(pod),
            "",
            NODE,
            f"the node's own pause image {image[1]} is not pulled: {told(why)}",
            "set sandbox_image of containerd (pause_image of CRI-O) to one in the private registry, on every node",
            image[1],
        )
    if re.search(r"network|cni|plugin type", message, re.IGNORECASE):
        return Trouble(
            label(pod), "", NODE, f"the node's network is not ready for it: {told(message)}", "is the CNI plugin up?"
        )
    return Trouble(label(pod), "", NODE, f"its sandbox is not made: {told(message)}", "read the node's kubelet log")
