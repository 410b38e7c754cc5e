"""What becomes of nodes and pods on a cluster without kubelets: stages for kwok, written by us.

A pod is scheduled, ready at once, completed if a Job owns it, and gone when deleted. A pod in a *plight* fares otherwise: by
the annotation ``airgap.test/plight`` of its template, or by a rule on its images (``Cluster.plight``), since a chart's pods
take no annotations from us. The words of each plight are those of kubelet and containerd.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Stage = dict[str, Any]

ANNOTATION = "airgap.test/plight"
SLOW_MILLISECONDS = 3000
"""How long a slow pull takes."""

_RESOLVE = 'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
PULLS = {
    "image-not-found": _RESOLVE + "{image}: not found",
    "image-unauthorized": _RESOLVE + "pull access denied, repository does not exist or may require authorization: "
    "authorization failed: no basic auth credentials",
    "image-untrusted": _RESOLVE + 'failed to do request: Head "https://{image}": tls: failed to verify certificate: '
    "x509: certificate signed by unknown authority",
    "image-unreachable": _RESOLVE + 'failed to do request: Head "https://{image}": dial tcp: lookup: no such host',
}
"""Pulls that fail: the pod hangs in ImagePullBackOff with this message."""
PLIGHTS = (*PULLS, "slow-pull", "crash-loop", "never-ready", "job-failed")

_NODE = """
conditions:
{{ range NodeConditions }}
- {type: {{ .type }}, status: {{ .status | Quote }}, reason: {{ .reason }},
   message: {{ .message | Quote }},
   lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP }}}
- {type: Hostname, address: {{ NodeName }}}
allocatable: {cpu: "64", memory: 256Gi, pods: "500", ephemeral-storage: 1Ti}
capacity: {cpu: "64", memory: 256Gi, pods: "500", ephemeral-storage: 1Ti}
nodeInfo: {architecture: amd64, operatingSystem: linux, kubeletVersion: kwok, kubeProxyVersion: kwok,
  containerRuntimeVersion: kwok, kernelVersion: kwok, osImage: kwok, bootID: "", machineID: "", systemUUID: ""}
phase: Running
"""
_HEARTBEAT = """
conditions:
{{ range NodeConditions }}
- {type: {{ .type }}, status: {{ .status | Quote }}, reason: {{ .reason }},
   message: {{ .message | Quote }},
   lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}
{{ end }}
"""
_POD = """
{{ $now := Now | Quote }}
phase: %(phase)s
startTime: {{ $now }}
conditions:
- {type: PodScheduled, status: "True", lastTransitionTime: {{ $now }}}
- {type: Initialized, status: "True", lastTransitionTime: {{ $now }}}
- {type: ContainersReady, status: "%(ready)s", lastTransitionTime: {{ $now }}}
- {type: Ready, status: "%(ready)s", lastTransitionTime: {{ $now }}}
{{ with NodeIPsWith .spec.nodeName }}hostIP: {{ index . 0 }}{{ end }}
{{ if not .status.podIP }}{{ with PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ index . 0 }}
podIPs: [{ip: {{ index . 0 }}}]
{{ end }}{{ end }}
{{ with .spec.initContainers }}
initContainerStatuses:
{{ range . }}
- name: {{ .name }}
  image: {{ .image | Quote }}
  imageID: %(image_id)s
  ready: true
  restartCount: 0
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now }}, finishedAt: {{ $now }}}}
{{ end }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name }}
  image: {{ .image | Quote }}
  imageID: %(image_id)s
  ready: %(container_ready)s
  started: %(container_ready)s
  restartCount: %(restarts)s
  state: %(state)s
  lastState: %(last)s
{{ end }}
"""
_RUNNING = "{running: {startedAt: {{ $now }}}}"


def _waiting(reason: str, message: str) -> str:
    """Return a container's state; ``{image}`` in the message becomes the container's image."""
    return f"{{waiting: {{reason: {reason}, message: {json.dumps(message).replace('{image}', '{{ .image }}')}}}}}"


def _terminated(code: int, reason: str) -> str:
    return f"{{terminated: {{exitCode: {code}, reason: {reason}, startedAt: {{{{ $now }}}}, finishedAt: {{{{ $now }}}}}}}}"


def _is(key: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [*values]}


def _there(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "Exists"}


def _absent(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "DoesNotExist"}


def _event(reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    return {"event": {"type": kind, "reason": reason, "message": message}}


def _stage(name: str, kind: str, where: list[dict[str, Any]], **more: Any) -> Stage:
    spec = {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": where}, **more}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


_ALIVE = _absent(".metadata.deletionTimestamp")
_PENDING = _is(".status.phase", "Pending")
_UNTOUCHED = _absent(".status.containerStatuses")
_NODE_READY = '.status.conditions.[] | select(.type == "Ready") | .status'


class Stages:
    """The stages for a set of plights (by a regular expression on an image) and of digests (imageID by image)."""

    def __init__(self, plights: Mapping[str, str], digests: Mapping[str, str]) -> None:
        self.plight = f'.metadata.annotations["{ANNOTATION}"]'
        for pattern, name in plights.items():
            images = f"[.spec.containers[], (.spec.initContainers // [])[] | .image | test({json.dumps(pattern)})] | any"
            self.plight += f" // (if ({images}) then {json.dumps(name)} else null end)"
        known = "".join(f"{{{{ if eq .image {json.dumps(image)} }}}}{it}{{{{ else }}}}" for image, it in digests.items())
        self.image_id = f'"{known}{{{{ .image }}}}{"{{ end }}" * len(digests)}"'

    def __str__(self) -> str:
        """Return kwok's configuration."""
        return "\n---\n".join(map(json.dumps, (*self.nodes(), *self.sound(), *self.pulling(), *self.failing())))

    def status(self, phase: str, state: str, *, ready: bool = False, restarts: int = 0, last: str = "{}") -> dict[str, str]:
        """Return the status of a pod all of whose containers are in one state."""
        words = {"phase": phase, "state": state, "ready": ready, "restarts": restarts, "last": last, "image_id": self.image_id}
        return {"statusTemplate": _POD % {**words, "container_ready": str(ready).lower()}}

    def pod(self, name: str, where: list[dict[str, Any]], *, plight: str = "", **more: Any) -> Stage:
        """Return a stage of living pods in that plight; in none, if none is named."""
        in_it = _is(self.plight, plight) if plight else _absent(self.plight)
        return _stage(f"pod-{name}", "Pod", [_ALIVE, *where, in_it], **more)

    def nodes(self) -> list[Stage]:
        """A node is ready and stays so."""
        new = {"key": _NODE_READY, "operator": "NotIn", "values": ["True"]}
        beat = {"durationMilliseconds": 20000, "jitterDurationMilliseconds": 25000}
        return [
            _stage("node-initialize", "Node", [new], next={"statusTemplate": _NODE}),
            _stage("node-heartbeat", "Node", [_is(_NODE_READY, "True")], delay=beat, next={"statusTemplate": _HEARTBEAT}),
        ]

    def sound(self) -> list[Stage]:
        """What becomes of a pod that is in no plight."""
        of_job = [_is(".status.phase", "Running"), _is(".metadata.ownerReferences.[].kind", "Job")]
        return [
            self.pod("ready", [_PENDING], next=self.status("Running", _RUNNING, ready=True)),
            self.pod("complete", of_job, next=self.status("Succeeded", _terminated(0, "Completed"))),
            _stage("pod-delete", "Pod", [_there(".metadata.deletionTimestamp")], next={"delete": True}),
        ]

    def pulling(self) -> list[Stage]:
        """Pulls that fail, and one that takes its time."""
        made = []
        for name, message in PULLS.items():
            state = _waiting("ImagePullBackOff", 'Back-off pulling image "{image}": ErrImagePull: ' + message)
            then = {**self.status("Pending", state), **_event("Failed", "Error: ImagePullBackOff")}
            made.append(self.pod(name, [_PENDING, _UNTOUCHED], plight=name, next=then))
        creating = self.status("Pending", "{waiting: {reason: ContainerCreating}}")
        begun = {**creating, **_event("Pulling", "Pulling image", "Normal")}
        pulled = self.status("Running", _RUNNING, ready=True)
        wait = {"durationMilliseconds": SLOW_MILLISECONDS}
        touched = _there(".status.containerStatuses")
        made.append(self.pod("pulling", [_PENDING, _UNTOUCHED], plight="slow-pull", next=begun))
        made.append(self.pod("pulled", [_PENDING, touched], plight="slow-pull", delay=wait, next=pulled))
        return made

    def failing(self) -> list[Stage]:
        """Containers that end, or never answer."""
        waiting, error = _waiting("CrashLoopBackOff", "back-off 40s restarting failed container"), _terminated(1, "Error")
        crash = self.status("Running", waiting, restarts=3, last=error)
        unhealthy = _event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
        ends = {
            "crash-loop": {**crash, **_event("BackOff", "Back-off restarting failed container")},
            "never-ready": {**self.status("Running", _RUNNING), **unhealthy},
            "job-failed": {**self.status("Failed", error), **_event("Failed", "Error")},
        }
        return [self.pod(name, [_PENDING, _UNTOUCHED], plight=name, next=then) for name, then in ends.items()]
