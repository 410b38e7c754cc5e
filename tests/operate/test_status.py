"""Status on a real control plane: health, what each pod is for, what is wrong and why, and what was changed since."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from airgap.demo.site import packed_chart
from tests.install.conftest import charts_of, replace_chart
from tests.operate.conftest import airgap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.install.conftest import Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]


def status(site: Site, code: int = 6, *more: str) -> dict[str, Any]:
    """What status says; it must end with ``code``."""
    done = airgap(site, "status", "--plain-http", "-o", "json", *more)
    assert done.returncode == code, (done.stdout[-3000:], done.stderr)
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def problems(found: dict[str, Any], *, waiting: bool = True) -> str:
    return "\n".join(
        f"{it['about']}: {it['sentence']} -> {it['fix']}" for it in found["problems"] if waiting or not it["waiting"]
    )


def healthy_again(site: Site) -> None:
    told = [""]

    def is_healthy() -> bool:
        revive(site)
        ran = airgap(site, "status", "--plain-http")
        told[0] = ran.stdout + ran.stderr
        return ran.returncode == 0

    try:
        site.cluster.until(is_healthy, "it is healthy again", limit=150.0)
    except AssertionError as error:
        raise AssertionError(f"{error}: {told[0]}") from error


def revive(site: Site) -> None:
    """Make pods anew that a node lost while it was silent (a busy machine): a kubelet takes them back, kwok does not."""
    for pod in site.cluster.objects("pods", site.namespace):
        statuses = pod["status"].get("containerStatuses", [])
        ready = {it["type"]: it["status"] for it in pod["status"].get("conditions", [])}.get("Ready")
        if statuses and all(it["ready"] for it in statuses) and ready == "False":
            site.cluster.kubectl("delete", "pod", pod["metadata"]["name"], "-n", site.namespace, "--ignore-not-found")


def patch(site: Site, spec: dict[str, Any], manager: str = "kubectl-edit") -> None:
    """Change the custom resource by hand."""
    where = ("weightsandbiases", "wandb", "-n", site.namespace, "--type=merge", f"--field-manager={manager}")
    site.cluster.kubectl("patch", *where, "-p", json.dumps({"spec": spec}))


def console_edit(site: Site, values: dict[str, Any]) -> None:
    """Write what the System Console would."""
    encoded = base64.b64encode(json.dumps(values).encode()).decode()
    change = json.dumps({"data": {"values": encoded}})
    site.cluster.kubectl("patch", "secret", "wandb-spec-user", "-n", site.namespace, "--type=merge", "-p", change)


@contextmanager
def new_pods(site: Site, part: str, plight: str) -> Iterator[None]:
    """Let the pods of a part be made anew, and fare badly."""
    selector = f"app.kubernetes.io/name={part}"
    delete = ("delete", "pods", "-n", site.namespace, "-l", selector, "--wait=true")
    try:
        with site.cluster.plight({f"megabinary|{part}": plight}):
            site.cluster.kubectl(*delete)
            site.cluster.until(lambda: states(site, selector), "the new pod has a status")
            yield
    finally:
        site.cluster.kubectl(*delete)
    healthy_again(site)


def states(site: Site, selector: str) -> list[Any]:
    return [
        it
        for pod in site.cluster.objects("pods", site.namespace, selector)
        for it in pod["status"].get("containerStatuses", [])
    ]


def test_a_healthy_site_is_told_with_roles_versions_and_digests(standing: Site):
    found = status(standing, 0)
    assert found["healthy"]
    assert found["phase"] == "Completed"
    assert found["appVersion"] == "0.78.1"
    assert {it["name"]: it["chart"] for it in found["releases"]} == {
        "operator": "operator-1.4.0",
        "wandb": "operator-wandb-0.43.0",
    }
    roles = {pod["role"]: pod["does"] for pod in found["pods"]}
    assert {"operator", "app", "console", "otel", "parquet", "prometheus", "redis", "weave"} <= set(roles)
    assert all(roles.values())
    images = [image for pod in found["pods"] for image in pod["images"]]
    assert {image["verdict"] for image in images} == {"known"}
    assert found["receipt"]["number"] == 1
    assert (found["problems"], found["drift"], found["warnings"]) == ([], [], [])


def test_an_image_that_a_node_does_not_find_though_the_registry_holds_it(standing: Site):
    with new_pods(standing, "parquet", "image-not-found"):
        told = problems(status(standing))
    assert "docker.io/wandb/megabinary" in told
    assert "the registry holds it when asked from here" in told


def test_an_image_that_wants_credentials_while_the_pull_secret_has_the_wrong_ones(standing: Site):
    with new_pods(standing, "parquet", "image-unauthorized"):
        assert "refuses the credentials of pull secret airgap-registry" in problems(status(standing))


def test_an_untrusted_registry_is_the_nodes_fault_and_the_file_is_named(standing: Site):
    with new_pods(standing, "parquet", "image-untrusted"):
        told = problems(status(standing))
    assert "the node does not trust the certificate authority of 127.0.0.1" in told
    assert "/etc/containerd/certs.d/" in told


def test_a_crash_says_where_the_log_is(standing: Site):
    with new_pods(standing, "parquet", "crash-loop"):
        found = status(standing)
    assert "it ended with code 1 and is started again, 3 times so far" in problems(found)
    assert "logs wandb-parquet" in problems(found)
    assert any(pod["state"] == "failing" for pod in found["pods"])


def test_a_quota_that_lets_no_pod_be_made_is_named_when_its_event_is_read(standing: Site):
    cluster, namespace = standing.cluster, standing.namespace
    metadata = {"name": "nothing", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "0"}}})
    cluster.until(lambda: cluster.get("resourcequota", "nothing", namespace).get("status"))
    cluster.kubectl("delete", "pods", "-n", namespace, "-l", "app.kubernetes.io/name=parquet")
    cluster.until(lambda: "quota nothing" in problems(status(standing)), "status names the quota")
    cluster.kubectl("delete", "resourcequota", "nothing", "-n", namespace)
    cluster.kubectl("rollout", "restart", "deployment/wandb-parquet", "-n", namespace)
    healthy_again(standing)


def test_a_hand_edit_is_drift_by_somebody_and_no_disease(standing: Site):
    before = standing.resource()["spec"]
    patch(standing, {"values": {"parquet": {"replicas": 2}}})
    healthy_again(standing)
    drift = status(standing, 0)["drift"]
    told = [(it["path"], it["how"], it["who"]) for it in drift]
    assert told == [("spec.values.parquet.replicas", "added", "kubectl-edit")]
    standing.install(bundle_of(standing), "--overwrite-edits")
    assert standing.resource()["spec"] == before
    assert status(standing, 0)["drift"] == []


def bundle_of(site: Site) -> Any:
    """The bundle that the standing site was installed from."""
    return site.bundle  # type: ignore[attr-defined]


def test_an_edit_in_the_system_console_is_seen_and_one_that_the_resource_outranks_is_called_without_effect(standing: Site):
    console_edit(standing, {"parquet": {"replicas": 1}, "global": {"host": "https://other.example"}})
    drift = {it["path"]: it["note"] for it in status_soon(standing)["drift"]}
    assert drift["parquet.replicas"] == ""
    assert "without effect" in drift["global.host"]
    console_edit(standing, {})
    healthy_again(standing)


def status_soon(site: Site) -> dict[str, Any]:
    """What status says, healthy or not yet: the operator looks at its Secrets by and by."""
    done = airgap(site, "status", "--plain-http", "-o", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_layers_that_the_operator_cannot_merge_are_named_while_the_phase_says_completed(standing: Site):
    console_edit(standing, {"global": "nonsense"})
    found = status(standing)
    assert found["phase"] == "Completed"
    assert "the operator cannot merge its layers" in problems(found)
    assert "global" in problems(found)
    console_edit(standing, {})
    healthy_again(standing)


def test_a_null_that_stops_the_operator_is_found_though_the_phase_says_completed(standing: Site):
    console_edit(standing, {"app": {"extra": "x"}})
    healthy_again(standing)
    live = standing.resource()
    spec = {
        **live["spec"],
        "values": {**live["spec"]["values"], "app": {**live["spec"]["values"].get("app", {}), "extra": None}},
    }
    document = {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {"name": "wandb", "namespace": standing.namespace},
        "spec": spec,
    }
    standing.cluster.apply(document)
    found = status(standing)
    assert found["phase"] == "Completed"
    assert "app.extra is null in the custom resource and set in the user input" in problems(found)
    standing.install(bundle_of(standing), "--overwrite-edits")
    console_edit(standing, {})
    healthy_again(standing)


def test_a_chart_that_was_replaced_under_its_path_is_seen_though_the_operator_sees_nothing(standing: Site):
    ((key, chart),) = charts_of(standing).items()
    replace_chart(standing, key, base64.b64encode(packed_chart("operator-wandb", "0.43.9").archive).decode())
    found = status(standing)
    assert found["phase"] == "Completed"
    assert f"the chart {key} in ConfigMap {standing.namespace}/wandb-charts was replaced" in problems(found)
    live = airgap(standing, "audit", "--live", "--plain-http")
    assert live.returncode == 5
    assert "the chart was replaced under its path" in live.stdout
    standing.cluster.kubectl(
        *("patch", "configmap", "wandb-charts", "-n", standing.namespace, "--type=json"),
        *("-p", json.dumps([{"op": "remove", "path": f"/binaryData/{key}"}])),
    )
    assert "there is no" in problems(status(standing))
    replace_chart(standing, key, chart)
    healthy_again(standing)


def test_a_pod_that_takes_an_image_from_elsewhere(standing: Site):
    cluster, namespace = standing.cluster, standing.namespace
    deployment = cluster.get("deployment", "wandb-console", namespace)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    cluster.kubectl("set", "image", "deployment/wandb-console", "-n", namespace, "console=docker.io/wandb/console:evil")
    cluster.kubectl("rollout", "status", "deployment/wandb-console", "-n", namespace, "--timeout=60s")
    found = status(standing)
    assert "docker.io/wandb/console:evil comes from elsewhere" in problems(found)
    assert [it["verdict"] for it in found["foreign"]] == ["outside"]
    cluster.kubectl("set", "image", "deployment/wandb-console", "-n", namespace, f"console={image}")
    healthy_again(standing)


def test_somebody_who_may_only_see_pods_is_told_what_could_not_be_looked_at(standing: Site):
    rules = [
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps.wandb.com"], "resources": ["weightsandbiases"], "verbs": ["get", "list"]},
    ]
    kubeconfig = standing.cluster.user("onlooker", rules, [standing.namespace])
    standing.kubeconfig = kubeconfig
    try:
        found = status_soon(standing)
    finally:
        standing.kubeconfig = None
    assert found["pods"]
    assert found["phase"] == "Completed"
    assert any("Secret" in it and "may not get secrets" in it for it in found["warnings"])
    assert not any("has not applied" in it["sentence"] for it in found["problems"])


def test_where_nothing_is_installed_that_is_the_sentence(standing: Site, namespace: str):
    done = airgap(standing, "status", "-n", namespace)
    assert done.returncode == 6
    assert f"there is no custom resource {namespace}/wandb" in done.stderr
    assert "no receipt of airgap" in done.stdout


def test_an_api_server_that_is_gone_is_one_sentence(standing: Site):
    standing.cluster.stop_api()
    try:
        done = airgap(standing, "status")
    finally:
        standing.cluster.start_api()
    assert done.returncode == 6
    assert "the cluster cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
