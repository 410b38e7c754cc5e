"""Waiting until what was applied runs, told component by component as it changes.

Invariants: nothing is changed; a cluster that does not answer for a while is waited for, up to PATIENCE. The server counts as
up when the operator has taken the very spec that was applied (its ``-spec-active`` Secret: the phase alone stays ``Completed``
from the install before, wandb-v1.md section 11), says ``Completed``, and every workload is rolled out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap import trouble
from airgap.apply.resource import operator_pods
from airgap.errors import AirgapError, ClusterError
from airgap.kube import UnreachableError
from airgap.pulled import named
from airgap.standing import RESOURCE_KIND, USER_INPUT, decoded
from airgap.trouble import Surroundings, Trouble
from airgap.values import get
from airgap.wandb import effective, parse_chart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airgap.intent import Intent, Part
    from airgap.kube import Kubectl
    from airgap.progress import Progress
    from airgap.receipt import Receipt

STEP = 1.0
"""Seconds between two looks; a look is one run of kubectl."""
PATIENCE = 60.0
"""Seconds for which a cluster that was there may be away while it is waited for."""
STUCK = 20.0
"""Seconds in ``Invalid Config`` after which the operator is told to look again: by itself it does so only after an hour."""
WAKES = 3
"""Times that it is told so before waiting is given up. A hook has 30 s, its image's pull included: the next try finds it."""
SILENT = 120.0
"""Seconds in ``Loading`` after which it is told so as well: an API server that was away may have cost it its last word."""
COMPLETED, INVALID, LOADING = "Completed", "Invalid Config", "Loading"
SEEN = "Deployment.v1.apps,StatefulSet.v1.apps,DaemonSet.v1.apps,Job.v1.batch,Pod,Event"


@dataclass(frozen=True)
class Component:
    """A workload: how many of its pods are up, and what keeps the others."""

    name: str
    kind: str
    ready: int
    wanted: int
    is_up: bool
    troubles: tuple[Trouble, ...] = ()

    def __str__(self) -> str:
        told = f"; {self.troubles[0]}" if self.troubles else "" if self.is_up else "; not made yet" if not self.kind else ""
        return f"{self.name} {self.ready}/{self.wanted} up{told}"


@dataclass(frozen=True)
class View:
    """One look at what is waited for. ``phase`` is the operator's; ``taken``: it works with the spec that was applied."""

    components: tuple[Component, ...]
    phase: str = ""
    taken: bool = True
    elsewhere: tuple[Trouble, ...] = ()

    @property
    def is_up(self) -> bool:
        """Whether everything runs."""
        return self.taken and self.phase in ("", COMPLETED) and all(it.is_up for it in self.components)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What keeps it from running, what will not pass by itself first."""
        found = [it for component in self.components for it in component.troubles] + [*self.elsewhere]
        return tuple(sorted(found, key=lambda it: it.waiting))


@dataclass
class Watch:
    """What is needed to look; ``held`` asks the registry for an image's digest (None: nobody asks), ``check`` the lease.

    ``on_wait`` is told when waiting for the server begins, ``on_receipt`` each state of the receipt that was written; ``wake``
    has the operator look again, given the phase that it is in, and says whether it could.
    """

    kubectl: Kubectl
    intent: Intent
    progress: Progress
    held: Callable[[str], str] | None = None
    check: Callable[[], None] = lambda: None
    on_wait: Callable[[], None] = lambda: None
    wake: Callable[[str], bool] = lambda _: False
    on_receipt: Callable[[Receipt], None] = lambda _: None
    _told: dict[str, str] = field(default_factory=dict, repr=False)
    _asked: dict[str, str] = field(default_factory=dict, repr=False)

    def operator(self) -> View:
        """Look at the operator."""
        found, elsewhere = self._components(self.intent.operator)
        return View(found, elsewhere=elsewhere)

    def server(self) -> View:
        """Look at the server: the custom resource's phase, the spec in force, and every workload."""
        components, elsewhere = self._components(self.intent.server)
        resource = self.intent.resource
        live = self.kubectl.get(RESOURCE_KIND, resource.name, resource.namespace) or {}
        phase = str(get(live, ("status", "phase")) or "none yet")
        return View(components, phase, phase == COMPLETED and self._taken(), elsewhere)

    def tell(self, view: View) -> None:
        """Tell what has changed since the last look."""
        lines = {it.name: str(it) for it in view.components}
        if view.phase:
            lines["phase"] = f"operator: {view.phase}" + (
                "" if view.taken or view.phase != COMPLETED else " of the spec before"
            )
        lines |= {str(it): str(it) for it in view.elsewhere}
        for name, line in lines.items():
            if self._told.get(name) != line:
                self.progress.say(line)
        self._told.update(lines)

    def _components(self, part: Part) -> tuple[tuple[Component, ...], tuple[Trouble, ...]]:
        objects = self.kubectl.listed(SEEN, part.namespace)
        around = self._surroundings(part, objects)
        return components(part, objects, around), trouble.explain_events(_recent(objects, part))

    def _surroundings(self, part: Part, objects: Sequence[dict[str, Any]]) -> Surroundings:
        """Ask for what explains a failing pull, only if there is one."""
        failing = [it for it in objects if it.get("kind") == "Pod" and trouble.state(it) == trouble.FAILING]
        registry = self.intent.location.registry
        if not failing:
            return Surroundings(registry)
        try:
            accounts = {
                str(it["metadata"]["name"]): tuple(str(entry.get("name")) for entry in it.get("imagePullSecrets") or ())
                for it in self.kubectl.listed("ServiceAccount", part.namespace)
            }
            secrets = {
                str(it["metadata"]["name"]): hosts
                for it in self.kubectl.listed("Secret", part.namespace)
                if (hosts := trouble.hosts_of(it)) is not None
            }
        except UnreachableError:
            raise
        except ClusterError:
            return Surroundings(registry)
        return Surroundings(registry, self._held(failing), secrets, accounts)

    def _held(self, pods: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
        if self.held is None:
            return None
        for image in named(pods) - self._asked.keys():
            try:
                self._asked[image] = self.held(image)
            except AirgapError as error:
                self.progress.debug(f"{image}: {error.message}")
        return dict(self._asked)

    def _taken(self) -> bool:
        """Whether the operator's record of what it applied last is what we applied; without a record only the phase tells."""
        resource = self.intent.resource
        active = self._spec("spec-active")
        if active is None:
            return True
        user = self._spec(USER_INPUT) or {}
        try:
            namespace = self.intent.operator.namespace
            wanted = effective(resource.values, user.get("values") or {}, {}, namespace)
            applied = effective(active.get("values") or {}, {}, {}, namespace)  # nulls left out, as in what is wanted
            chart = parse_chart(active.get("chart"), "spec-active")
        except AirgapError:
            return False
        return not wanted.panics and chart == resource.chart and applied.values == wanted.values

    def _spec(self, part: str) -> dict[str, Any] | None:
        """Return one of the operator's Secrets, its JSON texts decoded."""
        resource = self.intent.resource
        secret = self.kubectl.get("Secret", f"{resource.name}-{part}", resource.namespace)
        if secret is None:
            return None
        return {key: decoded(secret, key) for key in secret.get("data") or {}}


def wait(watch: Watch, look: Callable[[], View], what: str, limit: float) -> View:
    """Look until everything is up and return the last view; raises ClusterError after ``limit`` seconds, with the reason."""
    deadline, away = time.monotonic() + limit, None
    given_up = _GivenUp(watch)
    view: View | None = None
    while True:
        watch.check()
        now = time.monotonic()
        try:
            view = look()
            away = None
            watch.tell(view)
        except UnreachableError:
            away = away or now
            if now - away > PATIENCE or now > deadline:
                raise
        else:
            if view.is_up:
                return view
        is_stuck = view is not None and away is None and given_up.for_good(view, now)
        if view is not None and away is None and (is_stuck or now > deadline):
            raise _not_up(watch, view, what, f"the operator says {INVALID}" if is_stuck else f"after {limit:.0f} s")
        time.sleep(STEP)


@dataclass
class _GivenUp:
    """Since when the operator is in a phase in which nothing more may come, and how often it was told to look again."""

    watch: Watch
    phase: str = ""
    since: float = 0.0
    woken: int = 0

    def for_good(self, view: View, now: float) -> bool:
        """Whether telling it to look again did not help; tells it when it is time."""
        if view.phase != self.phase or view.phase not in (INVALID, LOADING):
            self.phase, self.since = view.phase, now
        if view.phase not in (INVALID, LOADING) or now - self.since <= (STUCK if view.phase == INVALID else SILENT):
            return False
        if self.woken == WAKES or not self.watch.wake(view.phase):
            return view.phase == INVALID
        self.woken += 1
        self.since = now
        self.watch.progress.say(f"the operator, {view.phase} for a while, is told to look again ({self.woken} of {WAKES})")
        return False


def _not_up(watch: Watch, view: View, what: str, when: str) -> ClusterError:
    """Return the error that says what is missing, with the first reason, and what to do about it."""
    missing = [str(it) for it in view.components if not it.is_up]
    first = next((it.fix for it in view.troubles if it.fix), "")
    told = "; ".join(missing[:3]) + (f"; and {len(missing) - 3} more" if len(missing) > 3 else "")  # noqa: PLR2004
    if not missing:
        told = f"the operator's phase is {view.phase}" + ("" if view.phase != COMPLETED else ", of the spec before")
        said = _operator_says(watch)
        told += f"; its log says: {said}" if said else ""
    return ClusterError(
        f"{what} is not up {when}: {told}",
        hint=f"{first + '; ' if first else ''}what ran before is left running, and the same command goes on from here",
    )


def _operator_says(watch: Watch) -> str:
    """Return the operator's last complaint: a spec that it cannot use shows nowhere else (wandb-v1.md section 11)."""
    try:
        for pod in operator_pods(watch.kubectl, watch.intent.operator):
            lines = watch.kubectl.logs(pod["metadata"]["name"], pod["metadata"]["namespace"], lines=50).splitlines()
            complaints = [line for line in lines if "error" in line.lower() or "panic" in line.lower()]
            if complaints:
                return complaints[-1][-300:]
    except AirgapError as error:
        watch.progress.debug(error.message)
    return ""


# -- pure ----------------------------------------------------------------------------------------------------------------


def components(part: Part, objects: Sequence[dict[str, Any]], around: Surroundings) -> tuple[Component, ...]:
    """Return what is up of a part: its workloads as rendered, and hook Jobs that are in trouble now."""
    events = [it for it in objects if it.get("kind") == "Event"]
    pods = [it for it in objects if it.get("kind") == "Pod"]
    live = {(str(it.get("kind")), str(get(it, ("metadata", "name")))): it for it in objects}
    found = []
    for item in part.workloads():
        own = [pod for pod in pods if _belongs(pod, item.kind, item.name)]
        troubles = tuple(it for pod in own for it in trouble.explain_pod(pod, events, around))
        found.append(_component(item.name, live.get((item.kind, item.name)), trouble.distinct(troubles)))
    for item in part.installed:
        job = live.get(("Job", item.name))
        if item.kind == "Job" and item.hooks and job is not None and not get(job, ("status", "succeeded")):
            own = [pod for pod in pods if _belongs(pod, "Job", item.name)]
            troubles = trouble.distinct(it for pod in own for it in trouble.explain_pod(pod, events, around))
            found.append(Component(f"hook {item.name}", "Job", 0, 1, is_up=False, troubles=troubles))
    return tuple(found)


def _component(name: str, live: Mapping[str, Any] | None, troubles: tuple[Trouble, ...]) -> Component:
    if live is None:
        return Component(name, "", 0, 1, is_up=False, troubles=troubles)
    spec, status = live.get("spec") or {}, live.get("status") or {}
    kind = str(live.get("kind"))
    current = int(status.get("observedGeneration") or 0) >= int(get(dict(live), ("metadata", "generation")) or 0)  # type: ignore[arg-type]
    if kind == "DaemonSet":
        wanted, ready = int(status.get("desiredNumberScheduled") or 0), int(status.get("numberReady") or 0)
        updated, outdated = int(status.get("updatedNumberScheduled") or 0), 0
    else:
        wanted, updated = int(spec.get("replicas", 1)), int(status.get("updatedReplicas") or 0)
        outdated = max(
            0, int(status.get("replicas") or 0) - updated
        )  # pods of before, which keep running until they are replaced
        ready = max(0, int(status.get("readyReplicas") or 0) - outdated)
    is_up = current and updated >= wanted and ready >= wanted and not outdated
    return Component(name, kind, ready, wanted, is_up, () if is_up else troubles)


def _belongs(pod: Mapping[str, Any], kind: str, name: str) -> bool:
    """Whether a pod is of a workload, by its owner: a ReplicaSet is called after its Deployment and a hash."""
    for owner in get(dict(pod), ("metadata", "ownerReferences")) or ():  # type: ignore[union-attr]
        if not isinstance(owner, dict):
            continue
        of, called = str(owner.get("kind")), str(owner.get("name"))
        if (of, called) == (kind, name) or (of == "ReplicaSet" and kind == "Deployment" and called.rpartition("-")[0] == name):
            return True
    return False


def _recent(objects: Sequence[dict[str, Any]], part: Part) -> list[dict[str, Any]]:
    """Return the Warning events of what this part makes and that is not there: old ones tell of what is over."""
    names = {it.name for it in part.installed}
    made = {str(get(it, ("metadata", "name"))) for it in objects if it.get("kind") == "Pod"}
    short = {
        str(get(it, ("metadata", "name")))
        for it in objects
        if it.get("kind") not in ("Pod", "Event") and not _pods_made(it, made) and str(get(it, ("metadata", "name"))) in names
    }
    return [
        it
        for it in objects
        if it.get("kind") == "Event" and any(str(get(it, ("involvedObject", "name"))).startswith(name) for name in short)
    ]


def _pods_made(item: Mapping[str, Any], pods: set[str]) -> bool:
    name = str(get(dict(item), ("metadata", "name")))
    return any(pod.startswith(f"{name}-") for pod in pods)
