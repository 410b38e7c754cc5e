"""Pods: the pod templates inside Kubernetes objects, whatever their kind, and how their images are pulled. Pure.

A pod spec is recognised by its ``containers`` list, so CronJobs, Argo's and Knative's own kinds and bare Pods need no table.

>>> from airgap.scan import Document
>>> pod = Document("t", {"kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"image": "b"}]}})
>>> [pod.document.label for pod in without_pull_secret([pod])]
['Pod/a']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airgap.scan import Document
    from airgap.values import Json, ValuePath


@dataclass(frozen=True)
class Pod:
    """A pod spec inside an object, at ``path``."""

    document: Document
    path: ValuePath
    spec: dict[str, Json]

    @property
    def service_account(self) -> str:
        """The account that the pod runs under."""
        return str(self.spec.get("serviceAccountName") or self.spec.get("serviceAccount") or "default")

    @property
    def names_pull_secret(self) -> bool:
        """Whether the pod itself names a pull secret."""
        return has_pull_secret(self.spec)


def has_pull_secret(holder: dict[str, Json]) -> bool:
    """Whether a pod spec or a ServiceAccount names a pull secret, in the form that the API server takes."""
    listed = holder.get("imagePullSecrets")
    return isinstance(listed, list) and any(isinstance(item, dict) and item.get("name") for item in listed)


def pods(documents: Iterable[Document]) -> Iterator[Pod]:
    """Yield every pod spec in the objects."""
    for document in documents:
        if document.kind != "CustomResourceDefinition":
            yield from _pods(document, (), document.object)


def without_pull_secret(documents: Iterable[Document]) -> list[Pod]:
    """Return the pods that pull with no secret, neither their own nor their ServiceAccount's (cases.md C1); tests left out."""
    listed = list(documents)
    accounts = {it.name for it in listed if it.kind == "ServiceAccount" and has_pull_secret(it.object)}
    return [
        pod
        for pod in pods(listed)
        if not pod.document.is_test and not pod.names_pull_secret and pod.service_account not in accounts
    ]


def _pods(document: Document, path: ValuePath, node: Json) -> Iterator[Pod]:
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _pods(document, (*path, index), item)
    if not isinstance(node, dict):
        return
    containers = node.get("containers")
    if isinstance(containers, list) and any(isinstance(item, dict) and "image" in item for item in containers):
        yield Pod(document, path, node)
        return
    for key, value in node.items():
        yield from _pods(document, (*path, key), value)
