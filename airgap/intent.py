"""Intent: everything that an install will put into a cluster, as data: what preflight questions and apply carries out. Pure.

::

    intent = Intent(bundle="wandb", lock=lock.digest, location=location, operator=Part(...), server=Part(...), resource=...)
    intent.namespaces            # ("wandb",)
    links(intent.server, "airgap-registry")

Invariants: nothing is asked of a cluster; the same configuration has the same intent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.pods import pods, without_pull_secret
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.oci import Digest
    from airgap.ref import Location
    from airgap.scan import Document
    from airgap.values import Json
    from airgap.wandb import CustomResource

Object = dict[str, "Json"]

CRD = "CustomResourceDefinition"
CRD_FOLDER = "/crds/"
"""Where a chart keeps the CRDs that helm installs once and never upgrades (cases.md C3)."""

_CLUSTER_WIDE = frozenset(
    {CRD, "Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "StorageClass", "PersistentVolume"}
    | {"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "IngressClass", "APIService"}
    | {"ImageDigestMirrorSet", "ImageTagMirrorSet"}
)
"""Kinds that have no namespace, as far as charts and values files bring them."""


@dataclass(frozen=True)
class Part:
    """One chart as it will be released: the operator by us, the server by the operator; ``documents``: all that it renders.

    ``digest`` is that of its archive.
    """

    chart: str
    version: str
    release: str
    namespace: str
    documents: tuple[Document, ...] = field(repr=False)
    digest: str = ""

    @property
    def label(self) -> str:
        """``name-version``, as helm tells it."""
        return f"{self.chart}-{self.version}"

    @property
    def crds(self) -> tuple[Object, ...]:
        """The CRDs of the chart's crds folder, which are applied before the chart."""
        return tuple(it.object for it in self.documents if it.kind == CRD and CRD_FOLDER in it.template)

    @property
    def installed(self) -> tuple[Document, ...]:
        """What helm installs: everything else but tests; hooks included."""
        return tuple(it for it in self.documents if not it.is_test and not (it.kind == CRD and CRD_FOLDER in it.template))

    def workloads(self) -> tuple[Document, ...]:
        """Return what must come up: Deployments, StatefulSets and DaemonSets that are no hooks."""
        kinds = ("Deployment", "StatefulSet", "DaemonSet")
        return tuple(it for it in self.installed if it.kind in kinds and not it.hooks)


@dataclass(frozen=True)
class Link:
    """A service account that must name the pull secret. ``owner``: the release that will bring the account, or empty."""

    namespace: str
    account: str
    secret: str
    owner: str = ""
    labels: Mapping[str, Json] = field(default_factory=dict, hash=False)

    def to_document(self) -> Object:
        """Return the account as it is applied: ours is the pull secret alone; what helm will own bears helm's marks."""
        metadata: Object = {"name": self.account, "namespace": self.namespace}
        if self.owner:
            metadata["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
            names = {"release-name": self.owner, "release-namespace": self.namespace}
            metadata["annotations"] = {f"meta.helm.sh/{key}": value for key, value in names.items()}
        secrets: list[Json] = [{"name": self.secret}]
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "imagePullSecrets": secrets}


@dataclass(frozen=True)
class Intent:
    """What is to be installed. ``others`` are objects of the values files; ``mirrors`` IDMS and ITMS, when asked for."""

    bundle: str
    lock: Digest
    location: Location
    operator: Part
    server: Part
    operator_values: Mapping[str, Json] = field(hash=False, repr=False)
    resource: CustomResource = field(repr=False)
    secrets: tuple[Object, ...] = field(default=(), repr=False)
    others: tuple[Object, ...] = field(default=(), repr=False)
    chart_configmap: Object | None = field(default=None, repr=False)
    mirrors: tuple[Object, ...] = field(default=(), repr=False)
    pull_secret: str = ""
    images: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every namespace that something goes to, the operator's first."""
        more = [placed(it, self.resource.namespace) for it in (*self.secrets, *self.others)]
        names = [
            self.operator.namespace,
            self.resource.namespace,
            *(str(get(it, ("metadata", "namespace")) or "") for it in more),
        ]
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def own_namespaces(self) -> frozenset[str]:
        """Namespaces that the values files bring as objects."""
        return frozenset(str(get(it, ("metadata", "name"))) for it in self.others if it.get("kind") == "Namespace")

    def links(self) -> tuple[Link, ...]:
        """Return every service account that gets the pull secret (cases.md C1)."""
        if not self.pull_secret:
            return ()
        found = [Link(namespace, "default", self.pull_secret) for namespace in (self.operator.namespace, self.server.namespace)]
        for part in (self.operator, self.server):
            found += [Link(part.namespace, *it) for it in _accounts(part, self.pull_secret)]
        return tuple({(link.namespace, link.account): link for link in found}.values())

    def unlinked(self) -> tuple[str, ...]:
        """Return the pods that no link reaches: helm makes their account anew for each hook."""
        if not self.pull_secret:
            return ()
        return tuple(
            f"{pod.document.label} (service account {pod.service_account})"
            for part in (self.operator, self.server)
            for pod in without_pull_secret(part.documents)
            if _is_hook_account(part, pod.service_account)
        )

    def needed(self) -> frozenset[tuple[str, str, str]]:
        """Return (kind, namespace, name) of each Secret and ConfigMap that pods need and nothing here brings."""
        wanted = {
            (kind, part.namespace, name)
            for part in (self.operator, self.server)
            for pod in pods(part.installed)
            for kind, name in _references(pod.spec)
        }
        brought = [*self.secrets, *(placed(it, self.resource.namespace) for it in self.others), self.chart_configmap or {}]
        there = {
            (str(it.get("kind")), str(get(it, ("metadata", "namespace"))), str(get(it, ("metadata", "name")))) for it in brought
        }
        there |= {
            (it.kind, it.namespace or part.namespace, it.name) for part in (self.operator, self.server) for it in part.installed
        }
        return frozenset(wanted - there)


def placed(document: Object, namespace: str) -> Object:
    """Return an object of a values file with the namespace that it goes to: its own, else ``namespace``."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("namespace") or document.get("kind") in _CLUSTER_WIDE:
        return document
    return {**document, "metadata": {**metadata, "namespace": namespace}}


def _accounts(part: Part, secret: str) -> Iterator[tuple[str, str, str]]:
    """Yield (account, pull secret, owning release) for the pods of a part that name none themselves."""
    rendered = {it.name: it for it in part.installed if it.kind == "ServiceAccount"}
    for pod in without_pull_secret(part.installed):
        account = rendered.get(pod.service_account)
        if account is None or not account.hooks:
            yield pod.service_account, secret, part.release if account else ""


def _is_hook_account(part: Part, name: str) -> bool:
    return any(it.kind == "ServiceAccount" and it.name == name and it.hooks for it in part.installed)


def _references(node: Json) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of what a pod cannot start without: references marked optional are left out."""
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        kind = _FIELDS.get(key, "")
        if kind and isinstance(value, dict):
            name = value.get("name") or value.get("secretName")
            if isinstance(name, str) and name and value.get("optional") is not True:
                yield kind, name
        yield from _references(value)


_FIELDS = {
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
    "secret": "Secret",
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "configMap": "ConfigMap",
}
"""Where a pod spec names a Secret or ConfigMap (core/v1 PodSpec): environment, volumes and projected volumes."""
