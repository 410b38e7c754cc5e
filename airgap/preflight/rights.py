"""Every right that an install needs, as questions. Pure.

Server-side apply asks for ``patch`` and, where the object is new, ``create``; helm asks for ``get``, ``create``, ``patch`` and
``delete`` of what a chart renders and keeps its record in Secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.intent import placed
from airgap.kube import Question, identity
from airgap.wandb import API_VERSION, KIND

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airgap.intent import Intent
    from airgap.kube.client import Resource

APPLY = ("get", "create", "patch")
HELM = ("get", "create", "patch", "delete")
LOOK = ("get", "list")

_LOOKED_AT = (
    *(("apps", "deployments"), ("apps", "statefulsets"), ("apps", "daemonsets")),
    *(("batch", "jobs"), ("", "pods"), ("", "events")),
)
"""(group, plural) of what waiting looks at."""


def questions(intent: Intent, served: Sequence[Resource], absent: Iterable[str]) -> list[Question]:
    """Return every right, each once; ``served`` are the cluster's kinds, ``absent`` the namespaces that are to be made."""
    plurals = {(it.api_version, it.kind): it for it in served}
    found = [Question(verb, "", "namespaces", name=name) for name in intent.namespaces for verb in ("get",)]
    found += [Question("create", "", "namespaces") for _ in absent]
    found += _objects(intent, plurals)
    found += _own(intent.operator.namespace)
    for part in (intent.operator, intent.server):
        found += [Question(verb, group, plural, part.namespace) for group, plural in _LOOKED_AT for verb in ("list",)]
        found += [Question(verb, "", kind, part.namespace) for kind in ("secrets", "serviceaccounts") for verb in LOOK]
    found.append(Question("patch", "apps", "deployments", intent.operator.namespace))
    return list(dict.fromkeys(found))


def _objects(intent: Intent, plurals: Mapping[tuple[str, str], Resource]) -> Iterator[Question]:
    """Yield the rights for what is applied by us, and for what helm makes of the operator's chart."""
    home = intent.resource.namespace
    applied = [*intent.operator.crds, *intent.mirrors, *(link.to_document() for link in intent.links())]
    applied += [placed(it, home) for it in (*intent.secrets, *intent.others)]
    applied += [intent.chart_configmap] if intent.chart_configmap else []
    for document in applied:
        yield from _rights(document, APPLY, plurals, "")
    for item in intent.operator.installed:
        yield from _rights(item.object, HELM, plurals, intent.operator.namespace)
    group, _, _ = API_VERSION.partition("/")
    for verb in APPLY:
        yield Question(verb, group, _plural(KIND), home)


def _rights(
    document: Mapping[str, object], verbs: Sequence[str], plurals: Mapping[tuple[str, str], Resource], namespace: str
) -> Iterator[Question]:
    api_version, kind, own, _ = identity(document)
    resource = plurals.get((api_version, kind))
    group = api_version.rpartition("/")[0]
    plural = resource.plural if resource else _plural(kind)
    where = (own or namespace) if resource is None or resource.namespaced else ""
    for verb in verbs:
        yield Question(verb, group, plural, where)


def _own(namespace: str) -> Iterator[Question]:
    """Yield the rights for the lease, the receipts and helm's records."""
    for verb in ("get", "create", "update", "delete"):
        yield Question(verb, "coordination.k8s.io", "leases", namespace)
        yield Question(verb, "", "secrets", namespace)
    for kind in ("configmaps", "secrets"):
        for verb in ("get", "list", "create", "patch", "delete"):
            yield Question(verb, "", kind, namespace)


def _plural(kind: str) -> str:
    """Return the plural as Kubernetes makes it from a kind: for kinds that the cluster does not serve (yet)."""
    lower = kind.lower()
    if lower == KIND.lower():
        return lower
    if lower.endswith("y") and lower[-2:-1] not in "aeiou":
        return f"{lower[:-1]}ies"
    return f"{lower}es" if lower.endswith(("s", "x", "ch", "sh")) else f"{lower}s"
