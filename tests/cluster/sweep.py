"""Taking W&B's custom resources and their CRD out of a cluster, whatever state a test has left them in.

The operator's finalizer outlives its operator, and a CRD waits for everything that has one: left alone, one custom resource
makes every later test meet "create not allowed while custom resource definition is terminating". What is left at the end of a
test is nobody's, so its finalizers are taken off. Over the API itself, because kubectl believes for hours that a CRD has the
versions which it once had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from tests.cluster.api import Api, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.plane import Cluster

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/weightsandbiases.apps.wandb.com"
LIMIT = 180.0
"""Seconds until the CRD has gone: two on an idle machine."""
ORPHANS = ("clusterrolebindings", "clusterroles")
"""What of the operator's release is not in its namespace: a record that is lost leaves them behind."""


def sweep(cluster: Cluster) -> None:
    """Delete every custom resource, the CRD and what a lost release left in the cluster; wait until they have gone."""
    api = Api(cluster.server, cluster.ca_file, "admin-token")
    told = [""]

    def swept() -> bool:
        try:
            return not any([*_resources(api), *_orphans(api)])
        except (ApiError, requests.RequestException) as error:
            told[0] = str(error)
            return False

    try:
        cluster.until(swept, "CRD and custom resources of W&B have gone", LIMIT)
    except AssertionError as error:
        raise AssertionError(f"{error}; {told[0]}") from error


def release(api: Api, path: str) -> None:
    """Delete one custom resource and take its finalizers off: in this order, so that no operator can put one on again."""
    _unless_gone(api, "DELETE", path)
    _unless_gone(api, "PATCH", path, {"metadata": {"finalizers": None}})


def _resources(api: Api) -> Iterator[bool]:
    """Yield True for each custom resource and CRD that was there; the CRD goes last, or its deletion waits for them."""
    crd = api.find(CRD)
    if crd is None:
        return
    served = [it["name"] for it in crd["spec"]["versions"] if it["served"]]
    place = f"/apis/apps.wandb.com/{served[0]}"
    found = _listed(api, f"{place}/weightsandbiases")
    for metadata in (it["metadata"] for it in found):
        release(api, f"{place}/namespaces/{metadata['namespace']}/weightsandbiases/{metadata['name']}")
    if not found and "deletionTimestamp" not in crd["metadata"]:
        _unless_gone(api, "DELETE", CRD)
    yield True


def _orphans(api: Api) -> Iterator[bool]:
    for plural in ORPHANS:
        path = f"/apis/rbac.authorization.k8s.io/v1/{plural}"
        for it in api.list(path, labelSelector="app.kubernetes.io/managed-by=Helm"):
            _unless_gone(api, "DELETE", f"{path}/{it['metadata']['name']}")
            yield True


def _listed(api: Api, path: str) -> list[dict[str, Any]]:
    """Return what is there; a CRD that was made or deleted just now is not served (yet, any more)."""
    try:
        return api.list(path)
    except ApiError as error:
        if error.status != requests.codes.not_found:
            raise
        return []


def _unless_gone(api: Api, method: str, path: str, body: Any = None) -> None:
    try:
        api.call(method, path, body)
    except ApiError as error:
        if error.status not in (requests.codes.not_found, requests.codes.conflict):
            raise
