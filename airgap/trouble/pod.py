"""What is wrong with one pod, from its status and its events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.trouble.pulls import PULL_REASONS, explain_pull
from airgap.trouble.scheduling import unschedulable
from airgap.trouble.volumes import sandbox, unmounted
from airgap.trouble.words import (
    CONFIG,
    CRASH,
    NODE,
    PROBE,
    SCHEDULE,
    WAIT,
    Surroundings,
    Trouble,
    items,
    label,
    number,
    text,
    told,
)
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airgap.values import Json

READY, STARTING, FAILING, COMPLETED, ENDING = "ready", "starting", "failing", "completed", "ending"
"""States of a pod, in one word each."""

_KILLED, _SIGNAL = 137, 128
_EXITS = {
    126: "its program cannot be executed",
    127: "its program is not in the image",
    134: "it aborted (SIGABRT)",
    139: "it crashed on a bad memory access (SIGSEGV)",
    143: "it was told to stop (SIGTERM) and did",
}
"""Exit codes that say something (POSIX shell: 126, 127; 128 + signal)."""

_WAITED_FOR: tuple[tuple[str, str], ...] = (
    (r"init-db|migrate-db", "it waits for the database: is MySQL reachable, are host, user and password right"),
    (r".*migrate.*", "it migrates a database: is that one reachable, with enough rights"),
)
"""Init containers of operator-wandb and what they need (wandb-v1.md section 4)."""


@dataclass(frozen=True)
class _Container:
    """A container's status beside its pod."""

    pod: dict[str, Json]
    status: dict[str, Json]
    events: Sequence[dict[str, Json]]
    around: Surroundings
    is_init: bool

    @property
    def name(self) -> str:
        return text(self.status, "name")

    @property
    def image(self) -> str:
        """The image as the pod asks for it; the status may hold the runtime's own name of it."""
        for key in ("containers", "initContainers", "ephemeralContainers"):
            for container in items(self.pod, "spec", key):
                if container.get("name") == self.name:
                    return text(container, "image")
        return text(self.status, "image")

    @property
    def logs(self) -> str:
        pod = self.pod
        namespace, name = text(pod, "metadata", "namespace") or "default", text(pod, "metadata", "name")
        return f"kubectl -n {namespace} logs {name} -c {self.name}"

    @property
    def messages(self) -> str:
        """What events say of this container, newest last."""
        field = f"{{{self.name}}}"
        own = [
            it
            for it in self.events
            if field in text(it, "involvedObject", "fieldPath")
            or self.image in text(it, "message")
            or text(it, "reason") == "FailedToRetrieveImagePullSecret"
        ]
        return "\n".join(text(it, "message") for it in own if text(it, "type") != "Normal")

    def trouble(self, kind: str, sentence: str, fix: str = "", *, waiting: bool = False) -> Trouble:
        return Trouble(label(self.pod), self.name, kind, sentence, fix, self.image, waiting)


def explain_pod(
    pod: dict[str, Json], events: Iterable[dict[str, Json]] = (), around: Surroundings | None = None
) -> tuple[Trouble, ...]:
    """Return what keeps a pod from being ready; nothing for one that is ready, completed, or on its way out.

    ``events`` are those of the pod, oldest first (others are ignored).
    """
    if state(pod) in (READY, COMPLETED, ENDING):
        return ()
    own = [it for it in events if _is_of(it, pod)]
    found = [*_whole(pod, own)] or [*_containers(pod, own, around or Surroundings())] or [*_unreported(pod)]
    return tuple(found) or (Trouble(label(pod), "", WAIT, "it has just been made", waiting=True),)


def state(pod: Json) -> str:
    """Return a pod's state in one word."""
    if get(pod, ("metadata", "deletionTimestamp")):
        return ENDING
    phase = text(pod, "status", "phase")
    if phase == "Succeeded":
        return COMPLETED
    if any(text(it, "type") == "Ready" and text(it, "status") == "True" for it in items(pod, "status", "conditions")):
        return READY
    if phase == "Failed" or any(_fails(it) for it in _statuses(pod)):
        return FAILING
    return STARTING


def _statuses(pod: Json) -> Iterator[dict[str, Json]]:
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from items(pod, "status", key)


def _fails(status: dict[str, Json]) -> bool:
    reason = text(status, "state", "waiting", "reason")
    code = number(status, "state", "terminated", "exitCode")
    return bool(code) or (reason not in ("", "ContainerCreating", "PodInitializing"))


def _is_in(status: dict[str, Json], name: str) -> bool:
    return get(status, ("state", name)) is not None


def _has_begun(status: dict[str, Json]) -> bool:
    return _is_in(status, "running") or _is_in(status, "terminated")


def _is_of(event: dict[str, Json], pod: Json) -> bool:
    uid, wanted = text(event, "involvedObject", "uid"), text(pod, "metadata", "uid")
    named = text(event, "involvedObject", "name") == text(pod, "metadata", "name")
    return (uid == wanted if uid and wanted else named) and text(event, "involvedObject", "kind") in ("", "Pod")


def _whole(pod: dict[str, Json], events: Sequence[dict[str, Json]]) -> Iterator[Trouble]:
    """Yield what concerns the pod before any container: its node, its place, its volumes, its sandbox."""
    if text(pod, "status", "phase") == "Failed" and text(pod, "status", "reason"):
        yield _ended(pod)
        return
    if number(pod, "metadata", "generation") and not text(pod, "spec", "nodeName") and items(pod, "spec", "schedulingGates"):
        yield Trouble(label(pod), "", SCHEDULE, "it is held back by scheduling gates", waiting=True)
        return
    for condition in items(pod, "status", "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "status") == "False":
            yield unschedulable(pod, text(condition, "message"))
            return
    if not any(_has_begun(it) for it in _statuses(pod)):
        yield from _held_up(pod, events)


def _held_up(pod: dict[str, Json], events: Sequence[dict[str, Json]]) -> Iterator[Trouble]:
    """Yield what holds up a pod none of whose containers has started; of each kind the newest event counts."""
    for reasons, explain in ((("FailedMount", "FailedAttachVolume"), unmounted), (("FailedCreatePodSandBox",), sandbox)):
        for event in reversed(events):
            if text(event, "reason") in reasons:
                yield explain(pod, text(event, "message"))
                break


def _ended(pod: dict[str, Json]) -> Trouble:
    reason, message = text(pod, "status", "reason"), text(pod, "status", "message")
    if reason == "Evicted":
        return Trouble(label(pod), "", NODE, f"it was evicted from node {text(pod, 'spec', 'nodeName')}: {told(message)}")
    if reason == "DeadlineExceeded":
        return Trouble(label(pod), "", CRASH, "it took longer than its deadline (activeDeadlineSeconds)")
    return Trouble(label(pod), "", NODE, told(f"it failed: {reason} {message}"))


def _unreported(pod: dict[str, Json]) -> Iterator[Trouble]:
    """Yield why a pod is not ready whose containers all are: gates of others, or a node that went silent.

    The node controller takes Ready from the pods of a node that does not report; the containers' own status stays as it was
    (kubernetes pkg/controller/util/node, MarkPodsNotReady).
    """
    statuses = items(pod, "status", "containerStatuses")
    if not statuses or not all(it.get("ready") is True for it in statuses):
        return
    ready = next((it for it in items(pod, "status", "conditions") if text(it, "type") == "Ready"), {})
    if text(ready, "reason") == "ReadinessGatesNotReady":
        yield Trouble(
            label(pod), "", WAIT, f"its containers run; it waits for others: {told(text(ready, 'message'))}", waiting=True
        )
    elif ready:
        node = text(pod, "spec", "nodeName")
        yield Trouble(
            label(pod),
            "",
            NODE,
            f"its containers ran, but node {node} does not report any more",
            f"kubectl describe node {node}",
        )


def _containers(pod: dict[str, Json], events: Sequence[dict[str, Json]], around: Surroundings) -> Iterator[Trouble]:
    """Yield what is wrong with its containers; while an init container is, the ones after it only wait for it."""
    for key in ("initContainerStatuses", "containerStatuses"):
        is_init = key.startswith("init")
        found = [
            trouble
            for status in items(pod, "status", key)
            for trouble in _container(_Container(pod, status, events, around, is_init))
        ]
        yield from found
        if found and is_init:
            return


def _container(it: _Container) -> Iterator[Trouble]:
    reason, message = (text(it.status, "state", "waiting", key) for key in ("reason", "message"))
    if reason:
        yield _waiting(it, reason, message)
    elif _is_in(it.status, "terminated"):
        if number(it.status, "state", "terminated", "exitCode"):
            yield it.trouble(CRASH, f"it {_exit(it, 'state')}", f"read its log: {it.logs}")
    elif _is_in(it.status, "running") and not it.is_init and it.status.get("ready") is not True:
        yield _unready(it)
    elif _is_in(it.status, "running") and it.is_init and it.status.get("started") is not True:
        yield it.trouble(WAIT, f"init container is running{_needs(it)}", f"read its log: {it.logs}", waiting=True)


def _waiting(it: _Container, reason: str, message: str) -> Trouble:
    if reason in PULL_REASONS:
        return explain_pull(it.pod, it.name, it.image, f"{reason}: {message}\n{it.messages}", it.around)
    if reason in ("ContainerCreating", "PodInitializing"):
        return _creating(it)
    if reason == "CrashLoopBackOff":
        return _crash(it)
    if reason == "CreateContainerConfigError":
        return _configuration(it, message)
    return _not_created(it, reason, message)


def _creating(it: _Container) -> Trouble:
    pulling = [
        event for event in it.events if text(event, "reason") in ("Pulling", "Pulled") and it.image in text(event, "message")
    ]
    if pulling and text(pulling[-1], "reason") == "Pulling":
        return it.trouble(WAIT, f"image {it.image} is being pulled", waiting=True)
    return it.trouble(WAIT, "its container is being made", waiting=True)


def _configuration(it: _Container, message: str) -> Trouble:
    """Explain kubelet's CreateContainerConfigError (kubernetes pkg/kubelet/kubelet_pods.go)."""
    namespace = text(it.pod, "metadata", "namespace") or "default"
    missing = re.search(r'(secret|configmap)s? "([^"]+)" not found', message, re.IGNORECASE)
    key = re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) (\S+)", message)
    if key:
        return it.trouble(CONFIG, f"{key[2]} {key[3]} has no key {key[1]}", f"add the key: kubectl edit {key[2].lower()}")
    if missing:
        kind = {"secret": "Secret", "configmap": "ConfigMap"}[missing[1].lower()]
        fix = (
            f"make it: kubectl -n {namespace} create {missing[1].lower()} {missing[2]} ..., or correct the value that names it"
        )
        return it.trouble(CONFIG, f"{kind} {missing[2]} is not in namespace {namespace}", fix)
    if "runAsNonRoot" in message:
        return it.trouble(CONFIG, told(message), "set the component's podSecurityContext or securityContext")
    return it.trouble(CONFIG, told(message) or "its configuration cannot be read")


def _crash(it: _Container) -> Trouble:
    count = number(it.status, "restartCount")
    times = f", {count} time{'s' if count > 1 else ''} so far" if count else ""
    return it.trouble(
        CRASH, f"it {_exit(it, 'lastState')} and is started again{times}{_needs(it)}", f"read its log: {it.logs} --previous"
    )


def _exit(it: _Container, where: str) -> str:
    """Return how a container ended, as what follows 'it'."""
    code, reason = number(it.status, where, "terminated", "exitCode"), text(it.status, where, "terminated", "reason")
    message = text(it.status, where, "terminated", "message")
    if "exec format error" in message:
        return f"cannot run on this node: image {it.image} is for another platform"
    if reason == "OOMKilled":
        limit = _memory_limit(it)
        return f"needs more memory than its limit{f' of {limit}' if limit else ''} and was killed"
    if code == _KILLED:
        return "was killed (SIGKILL: by its liveness probe, the node, or for want of memory)"
    detail = f": {_EXITS[code]}" if code in _EXITS else f": signal {code - _SIGNAL}" if code > _SIGNAL else ""
    if reason in ("ContainerCannotRun", "StartError"):
        detail = f": {told(message)}" if message else detail
    return f"ended with code {code}{detail}"


def _memory_limit(it: _Container) -> str:
    for key in ("containers", "initContainers"):
        for container in items(it.pod, "spec", key):
            if container.get("name") == it.name:
                return text(container, "resources", "limits", "memory")
    return ""


def _needs(it: _Container) -> str:
    if it.is_init:
        for pattern, need in _WAITED_FOR:
            if re.fullmatch(pattern, it.name):
                return f": {need}?"
    return ""


def _not_created(it: _Container, reason: str, message: str) -> Trouble:
    text_ = f"{message}\n{it.messages}"
    if "exec format error" in text_:
        return it.trouble(
            CRASH, f"image {it.image} is for another platform than the node's", "mirror with --platform of the nodes"
        )
    missing = re.search(r'exec: "([^"]+)": (?:executable file not found|stat .*no such file)', text_)
    if missing:
        return it.trouble(CRASH, f"{missing[1]} is not in image {it.image}", "is it the image that the chart was made for?")
    return it.trouble(
        CRASH, f"it cannot be started ({reason}): {told(message)}" if message else f"it cannot be started ({reason})"
    )


def _unready(it: _Container) -> Trouble:
    """Explain a container that runs and is not ready: by its newest probe event, if there is one."""
    for event in reversed(it.events):
        found = re.match(
            r"(Readiness|Liveness|Startup) probe (?:failed|errored)(?: and resulted in [^:]*)?: (.*)",
            text(event, "message"),
            re.DOTALL,
        )
        if (
            text(event, "reason") == "Unhealthy"
            and found
            and f"{{{it.name}}}" in (text(event, "involvedObject", "fieldPath") or f"{{{it.name}}}")
        ):
            return it.trouble(
                PROBE, f"it runs, and its {found[1].lower()} probe fails: {told(found[2])}", f"read its log: {it.logs}"
            )
    return it.trouble(WAIT, "it runs and is not ready yet", f"read its log: {it.logs}", waiting=True)
