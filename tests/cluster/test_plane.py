from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.plane import Cluster
from tests.cluster.stages import ANNOTATION, PULLS
from tests.world.netns import Namespace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster

IMAGE = "reg.lan:5000/air/docker.io/library/busybox:1.36"


def workload(kind: str, namespace: str, image: str = IMAGE, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    pod = {"containers": [{"name": "main", "image": image}]}
    metadata = {"labels": {"app": "it"}, "annotations": annotations or {}}
    if kind == "Job":
        spec: dict[str, Any] = {
            "backoffLimit": 0,
            "template": {"metadata": metadata, "spec": {**pod, "restartPolicy": "Never"}},
        }
        return {"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": "it", "namespace": namespace}, "spec": spec}
    spec = {"selector": {"matchLabels": {"app": "it"}}, "template": {"metadata": metadata, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "it", "namespace": namespace}, "spec": spec}


def states(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """The states of the containers of all pods."""
    found = cluster.objects("pods", namespace)
    return [state["state"] for pod in found for state in pod["status"].get("containerStatuses", ())]


def waits_with(cluster: Cluster, namespace: str, reason: str) -> bool:
    return [it.get("waiting", {}).get("reason") for it in states(cluster, namespace)] == [reason]


def runs(cluster: Cluster, namespace: str) -> bool:
    return [[*it] for it in states(cluster, namespace)] == [["running"]]


def test_the_api_server_says_its_version(cluster: Cluster):
    assert json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"] == "v1.34.4"


def test_a_deployment_becomes_available_and_goes(cluster: Cluster, namespace: str):
    cluster.apply(workload("Deployment", namespace))
    cluster.kubectl("wait", "--for=condition=Available", "deployment/it", "-n", namespace, "--timeout=60s")
    assert runs(cluster, namespace)
    cluster.kubectl("delete", "deployment", "it", "-n", namespace)
    cluster.until(lambda: not cluster.objects("pods", namespace), "its pod is gone")


def test_a_job_completes(cluster: Cluster, namespace: str):
    cluster.apply(workload("Job", namespace))
    cluster.kubectl("wait", "--for=condition=Complete", "job/it", "-n", namespace, "--timeout=60s")


def test_a_job_can_fail(cluster: Cluster, namespace: str):
    cluster.apply(workload("Job", namespace, annotations={ANNOTATION: "job-failed"}))
    cluster.kubectl("wait", "--for=condition=Failed", "job/it", "-n", namespace, "--timeout=60s")


@pytest.mark.parametrize("plight", PULLS)
def test_a_pull_fails_in_containerds_words_until_it_does_not(cluster: Cluster, namespace: str, plight: str):
    with cluster.plight({"library/busybox": plight}):
        cluster.apply(workload("Deployment", namespace))
        cluster.until(lambda: waits_with(cluster, namespace, "ImagePullBackOff"))
        message = states(cluster, namespace)[0]["waiting"]["message"]
        assert message.startswith(f'Back-off pulling image "{IMAGE}": ErrImagePull: failed to pull and unpack image "{IMAGE}"')
        assert message.endswith(PULLS[plight].replace("{image}", IMAGE))
        cluster.until(lambda: cluster.objects("events", namespace), "an event says so")
    cluster.until(lambda: runs(cluster, namespace), "the pod runs once the image can be pulled")


def test_a_pull_can_take_its_time(cluster: Cluster, namespace: str):
    cluster.apply(workload("Deployment", namespace, annotations={ANNOTATION: "slow-pull"}))
    cluster.until(lambda: waits_with(cluster, namespace, "ContainerCreating"))
    cluster.until(lambda: runs(cluster, namespace))


def test_a_container_can_crash_or_never_be_ready(cluster: Cluster, namespace: str):
    cluster.apply(workload("Deployment", namespace, annotations={ANNOTATION: "crash-loop"}))
    cluster.until(lambda: waits_with(cluster, namespace, "CrashLoopBackOff"))
    status = cluster.objects("pods", namespace)[0]["status"]["containerStatuses"][0]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (3, 1)
    cluster.kubectl("delete", "deployment", "it", "-n", namespace)
    cluster.until(lambda: not cluster.objects("pods", namespace))
    cluster.apply(workload("Deployment", namespace, annotations={ANNOTATION: "never-ready"}))
    cluster.until(lambda: runs(cluster, namespace))
    assert not cluster.get("deployment", "it", namespace)["status"].get("availableReplicas")


def test_a_node_can_say_by_which_digest_it_runs_an_image(cluster: Cluster, namespace: str):
    cluster.digests[IMAGE] = pinned = "reg.lan:5000/air/docker.io/library/busybox@sha256:" + "ab" * 32
    cluster.restart_nodes()
    cluster.apply(workload("Deployment", namespace))
    cluster.until(lambda: runs(cluster, namespace))
    assert cluster.objects("pods", namespace)[0]["status"]["containerStatuses"][0]["imageID"] == pinned
    cluster.digests.clear()


def test_a_claim_is_bound_to_a_volume(cluster: Cluster, namespace: str):
    cluster.add_volume(f"volume-of-{namespace}")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "data", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    cluster.until(lambda: cluster.get("pvc", "data", namespace)["status"].get("phase") == "Bound")


def test_a_user_may_do_what_the_rules_say_and_nothing_else(cluster: Cluster, namespace: str):
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    ann = cluster.user("ann", rules, [namespace])
    assert cluster.kubectl("get", "configmaps", "-n", namespace, "-o", "name", kubeconfig=ann)
    with pytest.raises(
        AssertionError, match=r'forbidden.*"system:serviceaccount:people:ann" cannot create resource "configmaps"'
    ):
        cluster.kubectl("create", "configmap", "x", "-n", namespace, kubeconfig=ann)
    with pytest.raises(AssertionError, match="Forbidden"):
        cluster.kubectl("get", "configmaps", "-n", "default", kubeconfig=ann)
    asked = [it for it in cluster.requests() if it["user"]["username"] == "system:serviceaccount:people:ann"]
    assert [(it["verb"], it["responseStatus"]["code"]) for it in asked] == [("list", 200), ("create", 403), ("list", 403)]


def test_a_quota_is_kept(cluster: Cluster, namespace: str):
    metadata = {"name": "none", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "0"}}})
    cluster.until(lambda: cluster.get("resourcequota", "none", namespace).get("status"))
    cluster.apply(workload("Deployment", namespace))
    cluster.until(lambda: any("exceeded quota" in it["message"] for it in cluster.objects("events", namespace)))
    assert not cluster.objects("pods", namespace)


def test_the_api_server_goes_away_and_comes_back(cluster: Cluster, namespace: str):
    cluster.stop_api()
    with pytest.raises(AssertionError, match="refused"):
        cluster.kubectl("get", "nodes")
    cluster.start_api()
    cluster.apply(workload("Deployment", namespace))
    cluster.until(lambda: runs(cluster, namespace), "controllers, scheduler and nodes are back at work")


@pytest.mark.netns
def test_a_cluster_can_stand_where_there_is_no_way_out(tmp_path: Path):
    with Namespace.open(tmp_path / "namespace", {}) as half, Cluster.start(tmp_path / "plane", half) as made:
        made.add_node()
        assert made.objects("nodes")[0]["metadata"]["name"] == "node-0"
        outside: list[str | Path] = [
            made.bin / "kubectl",
            f"--kubeconfig={made.kubeconfig}",
            "get",
            "nodes",
            "--request-timeout=2s",
        ]
        made.namespace = None
        assert made.run(*outside).returncode != 0
