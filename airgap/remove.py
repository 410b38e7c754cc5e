"""Remove: take an installation away again, what it depends on last, and say what stays.

::

    plan = look(kubectl, receipts)                        # what goes, what stays and why
    removal = remove(releases, receipts, plan, RemoveOptions(), progress)

Invariants: only what the receipts list goes, and what helm and the operator made for it. The custom resource goes first, while
operator and chart are there: its finalizer is the operator's, and without it nothing of W&B is uninstalled. Data stays (claims,
Secrets that the charts mark as to be kept, CRDs, namespaces) unless ``purge``. Receipts go last, so that a removal that was
broken off can be repeated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError
from airgap.kube import UnreachableError, kind_word
from airgap.receipts import NAME
from airgap.standing import RESOURCE_KIND
from airgap.values import format_path, get, leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.kube import Kubectl
    from airgap.progress import Progress
    from airgap.receipt import ObjectKey, Receipt
    from airgap.receipts import Receipts
    from airgap.releases import HelmReleases

Object = dict[str, Any]

KEEP = "helm.sh/resource-policy"
"""Annotation by which a chart tells helm to leave an object when the release goes (helm pkg/kube ResourcePolicyAnno)."""
MANAGED_BY_HELM = "app.kubernetes.io/managed-by=Helm"
LEASE, LEASE_KIND = "airgap-install", "Lease.v1.coordination.k8s.io"

DELETED, RELEASED, KEPT, ABSENT = "deleted", "our fields taken out", "kept", "not there"
STEP = 1.0
"""Seconds between two looks at a custom resource that is going."""
PATIENCE = 60.0
"""Seconds for which a cluster may be away while its custom resource is waited for."""

_DATA_KINDS = frozenset({"PersistentVolumeClaim", "CustomResourceDefinition", "Namespace", "PersistentVolume"})
"""Kinds that hold data, or whose deletion takes everybody's with it."""


@dataclass(frozen=True)
class RemoveOptions:
    """``purge``: data, CRDs and namespaces too. ``without_operator``: do its work here; ``timeout`` in seconds."""

    purge: bool = False
    without_operator: bool = False
    timeout: float = 300.0


@dataclass(frozen=True)
class Plan:
    """What is there to be removed; ``data`` are objects that hold data or that charts mark as to be kept, with the reason."""

    receipts: tuple[Receipt, ...] = field(repr=False)
    resource: Mapping[str, Any] | None = field(repr=False, hash=False)
    objects: tuple[ObjectKey, ...]
    data: tuple[tuple[ObjectKey, str], ...]
    operator_ready: bool

    @property
    def newest(self) -> Receipt:
        """The receipt that was begun last."""
        return self.receipts[-1]

    def steps(self, options: RemoveOptions) -> tuple[tuple[str, str], ...]:
        """Return (object, what would happen) in the order of a removal."""
        it = self.newest
        found = [(f"WeightsAndBiases {it.resource_namespace}/{it.resource_name}", DELETED)] if self.resource else []
        found.append((f"helm release {it.operator_namespace}/{it.operator_release}", DELETED))
        found += [(_told(key), RELEASED if _is_shared(key) else DELETED) for key in self.objects]
        found += [(_told(key), DELETED if options.purge else f"{KEPT}: {why}") for key, why in self.data]
        return tuple(found)


@dataclass(frozen=True)
class Removal:
    """What happened, object by object in order; ``kept`` is what stays, with the reason."""

    done: tuple[tuple[str, str], ...]
    kept: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the stable form for ``--output json``."""
        return {
            "objects": [{"object": name, "what": what} for name, what in self.done],
            "kept": [{"object": name, "why": why} for name, why in self.kept],
        }


def look(kubectl: Kubectl, receipts: Receipts) -> Plan | None:
    """Return what there is to remove, or None where no receipt tells of anything; raises ClusterError."""
    found = tuple(receipt for number in receipts.numbers() if (receipt := receipts.get(number)) is not None)
    if not found:
        return None
    newest = found[-1]
    keys = dict.fromkeys(key for receipt in reversed(found) for key in receipt.objects if key[1] != "WeightsAndBiases")
    objects = tuple(key for key in keys if key[1] not in _DATA_KINDS)
    data = [(key, _why(key)) for key in keys if key[1] in _DATA_KINDS]
    data += _held(kubectl, newest)
    resource = kubectl.get(RESOURCE_KIND, newest.resource_name, newest.resource_namespace)
    return Plan(found, resource, objects, tuple(dict(data).items()), _operator_ready(kubectl, newest))


def remove(releases: HelmReleases, receipts: Receipts, plan: Plan, options: RemoveOptions, progress: Progress) -> Removal:
    """Remove what ``plan`` lists; raises ClusterError, and the same call goes on from there."""
    kubectl = releases.kubectl
    run = _Run(kubectl, plan, options, progress)
    run.resource(releases)
    run.operator(releases)
    run.objects()
    run.data()
    _forget(kubectl, receipts)
    progress.end()
    return Removal(tuple(run.done), tuple(run.kept))


@dataclass
class _Run:
    kubectl: Kubectl
    plan: Plan
    options: RemoveOptions
    progress: Progress
    done: list[tuple[str, str]] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)

    def note(self, name: str, what: str) -> None:
        self.done.append((name, what))
        self.progress.done(name, what)

    def resource(self, releases: HelmReleases) -> None:
        """Delete the custom resource and wait until the operator has let it go."""
        it = self.plan.newest
        label = f"WeightsAndBiases {it.resource_namespace}/{it.resource_name}"
        self.progress.begin("uninstall", len(self.plan.objects) + 2)
        if self.plan.resource is None:
            self.note(label, ABSENT)
            return
        if not self.options.without_operator:
            _refuse_stuck(self.plan)
        self.kubectl.delete(RESOURCE_KIND, it.resource_name, it.resource_namespace)
        if self.options.without_operator:
            releases.uninstall(it.resource_name, it.resource_namespace)
            self._unbound()
        self._gone(label)
        self.note(label, DELETED)

    def _unbound(self) -> None:
        """Take the operator's finalizer off: its work has been done here."""
        it = self.plan.newest
        if self.kubectl.get(RESOURCE_KIND, it.resource_name, it.resource_namespace) is not None:
            change: Object = {"metadata": {"finalizers": []}}
            self.kubectl.patch(RESOURCE_KIND, it.resource_name, it.resource_namespace, change, how="merge")

    def _gone(self, label: str) -> None:
        it, deadline, away = self.plan.newest, time.monotonic() + self.options.timeout, 0.0
        while True:
            try:
                if self.kubectl.get(RESOURCE_KIND, it.resource_name, it.resource_namespace) is None:
                    return
                away = 0.0
            except UnreachableError:
                away = away or time.monotonic()
                if time.monotonic() - away > PATIENCE:
                    raise
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{label} is still there after {self.options.timeout:.0f} s: the operator has not finished uninstalling",
                    hint="read the operator's log; can it reach its chart? --without-operator does its work from here",
                )
            time.sleep(STEP)

    def operator(self, releases: HelmReleases) -> None:
        it = self.plan.newest
        label = f"helm release {it.operator_namespace}/{it.operator_release}"
        there = releases.newest(it.operator_release, it.operator_namespace) is not None
        if there:
            releases.uninstall(it.operator_release, it.operator_namespace)
        self.note(label, DELETED if there else ABSENT)

    def objects(self) -> None:
        for key in self.plan.objects:
            self.note(_told(key), self._removed(key))

    def data(self) -> None:
        """Delete what holds data when told to; namespaces last, and only those in which nobody else has pods."""
        for key, why in sorted(
            self.plan.data, key=lambda it: (it[0][1] == "Namespace", it[0][1] == "CustomResourceDefinition")
        ):
            stays = why if not self.options.purge else self._others_in(key)
            if stays:
                self.kept.append((_told(key), stays))
                self.note(_told(key), f"{KEPT}: {stays}")
            else:
                self.note(_told(key), self._removed(key))

    def _others_in(self, key: ObjectKey) -> str:
        """Return why a namespace must stay although everything is to go, or nothing."""
        _, kind, _, name = key
        if kind == "CustomResourceDefinition":
            others = self.kubectl.listed(RESOURCE_KIND, everywhere=True) if "weightsandbiases" in name else []
            return f"{len(others)} other custom resources use it" if others else ""
        if kind != "Namespace":
            return ""
        pods = [it for it in self.kubectl.listed("Pod", name) if not get(it, ("metadata", "deletionTimestamp"))]
        return f"other pods are in it, such as {get(pods[0], ('metadata', 'name'))}" if pods else ""

    def _removed(self, key: ObjectKey) -> str:
        api_version, kind, namespace, name = key
        word = kind_word(api_version, kind)
        live = self.kubectl.get(word, name, namespace)
        if live is None:
            return ABSENT
        if _is_shared(key):
            self.kubectl.apply(_bare(key), force=True)
            return RELEASED
        self.kubectl.delete(word, name, namespace)
        return DELETED


def _is_shared(key: ObjectKey) -> bool:
    """Whether an object is not ours but was only added to: service accounts got the pull secret."""
    return key[1] == "ServiceAccount"


def _bare(key: ObjectKey) -> Object:
    """Return an object without any field of ours: applied, it makes the server take out what only we had set."""
    api_version, kind, namespace, name = key
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def _told(key: ObjectKey) -> str:
    _, kind, namespace, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def _why(key: ObjectKey) -> str:
    return {
        "CustomResourceDefinition": "deleting it deletes every custom resource of its kind",
        "Namespace": "deleting it deletes everything in it",
    }.get(key[1], "it holds data")


def _held(kubectl: Kubectl, receipt: Receipt) -> Iterator[tuple[ObjectKey, str]]:
    """Yield what stays by itself when the releases go: kept by the charts' own mark, and claims of StatefulSets."""
    for namespace in dict.fromkeys((receipt.resource_namespace, receipt.operator_namespace)):
        for item in kubectl.listed("Secret,PersistentVolumeClaim", namespace, MANAGED_BY_HELM):
            if get(item, ("metadata", "annotations", KEEP)) == "keep":
                yield _key(item), "its chart tells helm to keep it"
        for item in kubectl.listed("PersistentVolumeClaim", namespace, f"app.kubernetes.io/instance={receipt.resource_name}"):
            yield _key(item), "it holds data"


def _key(item: Mapping[str, Any]) -> ObjectKey:
    metadata = item["metadata"]
    return str(item["apiVersion"]), str(item["kind"]), str(metadata.get("namespace") or ""), str(metadata["name"])


def _operator_ready(kubectl: Kubectl, receipt: Receipt) -> bool:
    for item in kubectl.listed("Deployment.v1.apps", receipt.operator_namespace):
        released = get(item, ("metadata", "annotations", "meta.helm.sh/release-name")) == receipt.operator_release
        ready = get(item, ("status", "readyReplicas"))
        if released and isinstance(ready, int) and ready > 0:
            return True
    return False


def _refuse_stuck(plan: Plan) -> None:
    """Refuse to begin what cannot end: no operator runs, or a null in the spec makes it panic (wandb-v1.md section 11)."""
    hint = "or give --without-operator: its work is then done from here, by helm"
    if not plan.operator_ready:
        raise ClusterError(
            "the operator is not running, and without it the custom resource's finalizer never ends",
            hint=f"bring it up first (airgap status says why it is not), {hint}",
        )
    spec = (plan.resource or {}).get("spec")
    null = next((format_path(path) for path, value in leaves(spec) if value is None), "")
    if null:
        raise ClusterError(
            f"the custom resource has a null at spec.{null}, at which the operator stops, also when it is to be deleted",
            hint=f"take it out (kubectl edit wandb), {hint}",
        )


def _forget(kubectl: Kubectl, receipts: Receipts) -> None:
    """Delete the receipts, the newest last, then what points to them."""
    for number in receipts.numbers():
        for kind in ("Secret", "ConfigMap"):
            kubectl.delete(kind, f"{NAME}-{number}", receipts.namespace)
    kubectl.delete("ConfigMap", NAME, receipts.namespace)
    kubectl.delete(LEASE_KIND, LEASE, receipts.namespace)
