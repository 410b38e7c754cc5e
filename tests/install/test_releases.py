"""Helm as the installer of a chart on a real API server: what a killed helm leaves, autoscalers, accounts linked before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airgap.chart import Chart
from airgap.errors import ClusterError
from airgap.intent import Link
from airgap.kube import Kubectl
from airgap.releases import HelmReleases
from airgap.tools import Helm
from airgap.values import dump_yaml
from tests.install.killing import make_pending
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.plane import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.helm]


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster.bin / "kubectl", str(cluster.kubeconfig))


@pytest.fixture
def releases(kubectl: Kubectl) -> HelmReleases:
    return HelmReleases(Helm.find(environ={"AIRGAP_HELM": find_binary("helm")}), kubectl)


def _chart(folder: Path, *documents: dict[str, Any]) -> Chart:
    root = folder / "tiny"
    (root / "templates").mkdir(parents=True, exist_ok=True)
    (root / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: 1.0.0\n")
    (root / "values.yaml").write_text("size: 1\n")
    for number, document in enumerate(documents):
        (root / "templates" / f"{number}.yaml").write_text(dump_yaml(document))
    return Chart.load(root)


def _configmap() -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"size": "1"}}


def _deployment() -> dict[str, Any]:
    labels = {"app": "a"}
    pod = {"containers": [{"name": "a", "image": "reg.lan/a:1", "resources": {"requests": {"cpu": "1m"}}}]}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}


def test_a_release_is_installed_upgraded_rolled_back_and_removed(
    releases: HelmReleases, namespace: str, tmp_path: Path
) -> None:
    chart = _chart(tmp_path, _configmap())
    assert releases.newest("a", namespace) is None
    assert releases.upgrade_install("a", chart, namespace, {"size": 1}).revision == 1
    release = releases.upgrade_install("a", chart, namespace, {"size": 2})
    assert (release.revision, release.status, release.chart) == (2, "deployed", "tiny-1.0.0")
    assert releases.values("a", namespace) == {"size": 2}
    assert "kind: ConfigMap" in releases.manifest("a", namespace)
    releases.rollback("a", namespace, 1)
    assert releases.values("a", namespace) == {"size": 1}
    releases.uninstall("a", namespace)
    releases.uninstall("a", namespace)
    assert releases.history("a", namespace) == []


def test_the_record_of_a_killed_helm_is_put_away_and_its_objects_are_taken_over(
    releases: HelmReleases, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    chart = _chart(tmp_path, _configmap())
    releases.upgrade_install("a", chart, namespace, {})
    make_pending(cluster, namespace, "a", "pending-install")
    newest = releases.newest("a", namespace)
    assert newest is not None
    assert newest.status == "pending-install"
    assert releases.put_away_pending("a", namespace, patience=0)
    assert releases.upgrade_install("a", chart, namespace, {}).status == "deployed"
    assert not releases.put_away_pending("a", namespace, patience=0)


def test_what_an_autoscaler_has_scaled_can_still_be_upgraded(
    releases: HelmReleases, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3},
    }
    chart = _chart(tmp_path, _deployment(), scaler)
    releases.upgrade_install("a", chart, namespace, {})
    cluster.until(lambda: cluster.get("deployment", "a", namespace)["spec"]["replicas"] == 2, "the autoscaler has acted")
    assert releases.upgrade_install("a", chart, namespace, {"size": 2}).status == "deployed"


def test_an_account_that_was_linked_before_keeps_its_pull_secret_when_helm_takes_it_over(
    releases: HelmReleases, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubectl.apply(Link(namespace, "own", "pull", "a").to_document())
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own", "labels": {"chart": "tiny"}}}
    chart = _chart(tmp_path, account)
    for size in (1, 2):
        releases.upgrade_install("a", chart, namespace, {"size": size})
        live = kubectl.get("ServiceAccount", "own", namespace) or {}
        assert live["imagePullSecrets"] == [{"name": "pull"}]
        assert live["metadata"]["labels"]["chart"] == "tiny"


def test_a_chart_that_the_cluster_refuses_is_one_sentence(releases: HelmReleases, namespace: str, tmp_path: Path) -> None:
    bad = {**_configmap(), "metadata": {"name": "UPPER"}}
    with pytest.raises(ClusterError, match="UPPER") as error:
        releases.upgrade_install("a", _chart(tmp_path, bad), namespace, {})
    assert "\n" not in error.value.message
