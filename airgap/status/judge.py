"""From what was seen to a status: pure.

Invariants: whatever keeps the installation from being healthy is one Problem with a sentence; no problem, healthy. What may
pass by itself is a problem that is ``waiting``. Drift is told and is no problem: it may be wanted.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import ConfigurationError
from airgap.pulled import KNOWN, MIRRORED, OUTSIDE, PENDING, Known, Pulled, pulled, together
from airgap.receipt import RUNNING
from airgap.ref import Reference
from airgap.status.drift import Drift, chart_in_force, drifts, in_force, phase_of
from airgap.status.observe import restarts
from airgap.status.roles import Role, role_of
from airgap.trouble import Trouble, distinct, explain_events, explain_object, explain_pod, is_short, state
from airgap.trouble.words import items, label, text
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airgap.status.observe import HelmRecord, Observation
    from airgap.values import Json

COMPLETED = "Completed"
"""The phase of an operator that has applied everything (or does not say that it has not)."""
DEPLOYED = "deployed"
RELEASE_LABEL = "meta.helm.sh/release-name"
PAST = "past"
"""State of a pod that failed and whose work is done by now."""


@dataclass(frozen=True, order=True)
class Problem:
    """One reason why the installation is not healthy."""

    waiting: bool
    about: str
    sentence: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class PodRow:
    """A pod: ``ready`` is like ``1/2``, ``age`` its creation time as the API server gives it."""

    namespace: str
    name: str
    role: Role
    state: str
    ready: str
    restarts: int
    node: str
    created: str
    images: tuple[Pulled, ...]
    troubles: tuple[Trouble, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            **{key: value for key, value in vars(self).items() if key not in ("role", "images", "troubles")},
            "role": self.role.name,
            "does": self.role.words,
            "images": [image.to_json() for image in self.images],
            "troubles": [trouble.to_json() for trouble in self.troubles],
        }


@dataclass(frozen=True)
class Status:
    """The whole; truthy when healthy."""

    name: str
    namespace: str
    phase: str
    receipt: dict[str, Any]
    releases: tuple[HelmRecord, ...]
    app_version: str
    pods: tuple[PodRow, ...]
    foreign: tuple[Pulled, ...]
    problems: tuple[Problem, ...]
    drift: tuple[Drift, ...]
    warnings: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the stable form for ``--output json``."""
        return {
            "healthy": bool(self),
            "name": self.name,
            "namespace": self.namespace,
            "phase": self.phase,
            "appVersion": self.app_version,
            "receipt": self.receipt,
            "releases": [release.to_json() for release in self.releases],
            "pods": [pod.to_json() for pod in self.pods],
            "foreign": [image.to_json() for image in self.foreign],
            "problems": [problem.to_json() for problem in self.problems],
            "drift": [drift.to_json() for drift in self.drift],
            "warnings": list(self.warnings),
        }


def judge(seen: Observation) -> Status:
    """Return the status of an installation."""
    owners = _Owners(seen)
    installs = [it for it in (seen.receipt, seen.unfinished) if it]
    known = Known(installs[0].place, together(it.images for it in installs)) if installs else None
    rows = tuple(
        sorted((_row(pod, seen, owners, known) for pod in owners.pods()), key=lambda it: (it.role, it.namespace, it.name))
    )
    foreign = tuple(image for row in rows for image in row.images if image.verdict not in (KNOWN, MIRRORED, PENDING))
    drift = drifts(seen)
    return Status(
        name=seen.name,
        namespace=seen.namespace,
        phase=phase_of(seen.resource),
        receipt=_receipt(seen),
        releases=seen.releases,
        app_version=next((_version(pod, known) for pod in owners.pods() if role_of(pod, seen.name).name == "app"), ""),
        pods=rows,
        foreign=foreign,
        problems=tuple(sorted(set(_problems(seen, owners, rows, foreign)))),
        drift=drift,
        warnings=(*seen.unread, *_warnings(seen, known)),
    )


def _receipt(seen: Observation) -> dict[str, Any]:
    if seen.receipt is None:
        return {}
    facts = seen.receipt.to_json()
    wanted = ("number", "bundle", "lock", "location", "operatorVersion", "serverVersion", "state", "reason", "begun", "ended")
    return {key: facts[key] for key in wanted}


def _warnings(seen: Observation, known: Known | None) -> Iterator[str]:
    if seen.receipt is None and not any(it.startswith("receipts") for it in seen.unread):
        yield "no receipt of airgap is here: images and changes cannot be held against what was installed"
    elif known is not None and not known.images:
        yield "the receipt lists no images: what runs cannot be held against it"


class _Owners:
    """Which pods and workloads are of this installation, and which workload each pod is of."""

    def __init__(self, seen: Observation) -> None:
        self.seen = seen
        self.releases = {seen.name, seen.operator_release}
        self.by_uid = {text(it, "metadata", "uid"): it for it in seen.objects}

    def pods(self) -> Iterator[dict[str, Json]]:
        """Yield the pods of this installation."""
        return (it for it in self.seen.of("Pod") if self.is_ours(it))

    def workloads(self) -> Iterator[dict[str, Json]]:
        """Yield the workloads of this installation that a person knows: no ReplicaSets; of a CronJob's jobs the newest."""
        newest: dict[str, dict[str, Json]] = {}
        for item in self.seen.of("Deployment", "StatefulSet", "DaemonSet", "Job"):
            if not self.is_ours(item):
                continue
            owner = next(
                (text(it, "uid") for it in items(item, "metadata", "ownerReferences") if text(it, "kind") == "CronJob"), ""
            )
            key = owner or text(item, "metadata", "uid")
            there = newest.get(key)
            if there is None or text(there, "metadata", "creationTimestamp") < text(item, "metadata", "creationTimestamp"):
                newest[key] = item
        yield from newest.values()

    def root(self, item: dict[str, Json]) -> dict[str, Json]:
        """Return the workload that an object is of, or itself."""
        for owner in items(item, "metadata", "ownerReferences"):
            above = self.by_uid.get(text(owner, "uid"))
            if above is not None and above is not item and text(owner, "kind") not in ("WeightsAndBiases", "Node"):
                return self.root(above)
        return item

    def is_ours(self, item: dict[str, Json]) -> bool:
        """Whether an object is of one of the two releases: by Helm's annotation, the instance label, or its name."""
        for each in (self.root(item), item):
            released = text(each, "metadata", "annotations", RELEASE_LABEL)
            if released:
                return released in self.releases
        if text(item, "metadata", "labels", "app.kubernetes.io/instance") in self.releases:
            return True
        name = text(self.root(item), "metadata", "name")
        return any(name == release or name.startswith(f"{release}-") for release in self.releases)


def _row(pod: dict[str, Json], seen: Observation, owners: _Owners, known: Known | None) -> PodRow:
    root = owners.root(pod)
    is_past = text(pod, "status", "phase") == "Failed" and root is not pod and not _is_failing(root)
    statuses = items(pod, "status", "containerStatuses")
    count = len(items(pod, "spec", "containers"))
    return PodRow(
        namespace=text(pod, "metadata", "namespace"),
        name=text(pod, "metadata", "name"),
        role=role_of(pod, seen.name),
        state=PAST if is_past else state(pod),
        ready=f"{sum(it.get('ready') is True for it in statuses)}/{count}",
        restarts=restarts(pod),
        node=text(pod, "spec", "nodeName"),
        created=text(pod, "metadata", "creationTimestamp"),
        images=pulled(pod, known) if known and known.images else (),
        troubles=() if is_past else explain_pod(pod, seen.of("Event"), seen.around),
    )


def _is_failing(workload: dict[str, Json]) -> bool:
    return bool(is_short(workload) or explain_object(workload)) or (
        text(workload, "kind") == "Job" and not get(workload, ("status", "succeeded"))
    )


def _problems(seen: Observation, owners: _Owners, rows: Iterable[PodRow], foreign: Iterable[Pulled]) -> Iterator[Problem]:
    yield from _of_operator(seen)
    for image in foreign:
        word = "comes from elsewhere" if image.verdict == OUTSIDE else "is not what was installed"
        yield Problem(
            waiting=False,
            about=f"{image.object} {image.container}",
            sentence=f"image {image.image} {word}: {image.reason}",
            fix="airgap audit --live shows every one; install again to put it right",
        )
    troubles: dict[str, list[Trouble]] = defaultdict(list)
    for row in rows:
        troubles[row.name] += row.troubles
    workloads = list(owners.workloads())
    found = [*_elsewhere(seen, workloads), *(it for listed in troubles.values() for it in listed)]
    for trouble in distinct(found):
        yield Problem(trouble.waiting, f"{trouble.object} {trouble.container}".strip(), trouble.sentence, trouble.fix)
    if not found:
        for item in workloads:
            if is_short(item):
                yield Problem(waiting=True, about=label(item), sentence=f"{is_short(item)}", fix="")


def _of_operator(seen: Observation) -> Iterator[Problem]:
    """Yield what is wrong with the custom resource, the operator's work on it, and the releases."""
    for about, force in (
        ("custom resource", in_force(seen, airgapped=_is_airgapped(seen))),
        ("chart", chart_in_force(seen)),
    ):
        if force.problem:
            yield Problem(force.waiting, about, force.problem, force.fix)
    phase = phase_of(seen.resource)
    if seen.resource is not None and phase != COMPLETED:
        told = f"the operator's phase is {phase}" if phase else "no operator has looked at the custom resource yet"
        yield Problem(waiting=phase != "Invalid Config", about="custom resource", sentence=told, fix="read the operator's log")
    for release in seen.releases:
        if release.status != DEPLOYED:
            yield Problem(
                waiting=release.status.startswith("pending"),
                about=f"release {release.namespace}/{release.name}",
                sentence=f"revision {release.revision} of {release.chart or release.name} is {release.status}",
                fix="install again, or airgap rollback",
            )
    last = seen.unfinished or seen.receipt
    if last is not None and not last.is_done and last.state != RUNNING:
        yield Problem(
            waiting=False,
            about=f"receipt {last.number}",
            sentence=f"the last install did not finish: {last.reason or 'it was interrupted'}",
            fix="run the same command again" + (", or airgap rollback" if seen.unfinished else ""),
        )


def _is_airgapped(seen: Observation) -> bool:
    """Whether the operator asks no channel: its environment says so; unknown counts as air-gapped, as airgap installs it."""
    for pod in seen.of("Pod"):
        if role_of(pod).name == "operator":
            for container in items(pod, "spec", "containers"):
                for variable in items(container, "env"):
                    if variable.get("name") == "AIRGAPPED":
                        return text(variable, "value") != "false"
    return True


def _elsewhere(seen: Observation, workloads: Iterable[dict[str, Json]]) -> Iterator[Trouble]:
    """Yield what keeps workloads from having pods at all."""
    for item in workloads:
        told = explain_object(item)
        yield from told
        if not told and (is_short(item) or (text(item, "kind") == "Job" and not get(item, ("status", "succeeded")))):
            uid = text(item, "metadata", "uid")
            yield from explain_events([it for it in seen.of("Event") if text(it, "involvedObject", "uid") == uid])
    for claim in seen.of("PersistentVolumeClaim"):
        yield from explain_object(claim)


def _version(pod: dict[str, Json], known: Known | None) -> str:
    """Return the tag of a pod's first image: as it names it, or as the receipt calls the digest that it names."""
    try:
        reference = Reference.parse(text(pod, "spec", "containers", 0, "image"))
        if reference.tag or reference.digest is None:
            return reference.tag
        for name, digest in (known.images if known else {}).items():
            installed = Reference.parse(name)
            if digest == str(reference.digest) and installed.name == reference.name and installed.tag:
                return installed.tag
    except ConfigurationError:
        return ""
    return reference.digest.short
