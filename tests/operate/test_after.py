"""Going back, taking away, and getting to the console, on a real control plane with a real registry."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.install.conftest import NEW_SERVER, OLD_OPERATOR, OLD_SERVER, USER
from tests.operate.conftest import airgap
from tests.operate.test_status import console_edit

if TYPE_CHECKING:
    from tests.cluster.fixtures import Operator
    from tests.install.conftest import Bundles, Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]


def done(site: Site, verb: str, *more: str) -> dict[str, Any]:
    ran = airgap(site, verb, *more, "-o", "json")
    assert ran.returncode == 0, ran.stderr[-4000:]
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def refused(site: Site, verb: str, *more: str, code: int = 6) -> str:
    ran = airgap(site, verb, *more)
    assert ran.returncode == code, (ran.stdout[-2000:], ran.stderr[-4000:])
    assert "Traceback" not in ran.stderr
    return ran.stderr


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_back_to_the_bundle_before_and_forward_again(site: Site, bundles: Bundles):
    site.install(bundles.old)
    before = site.resource()["spec"]
    site.install(bundles.new)
    answer = done(site, "rollback", "--plain-http", "--timeout", "60s")
    assert answer["to"] == 1
    assert site.resource()["spec"] == before
    assert site.revisions("wandb")[-1] == f"operator-wandb-{OLD_SERVER}"
    assert site.revisions("operator")[-1] == f"operator-{OLD_OPERATOR}"
    receipt = site.receipt(3)
    assert (receipt["state"], receipt["serverVersion"], receipt["previous"]) == ("done", OLD_SERVER, 2)
    assert airgap(site, "status", "--plain-http").returncode == 0
    assert done(site, "rollback", "--plain-http", "--timeout", "60s")["to"] == 2
    assert site.revisions("wandb")[-1] == f"operator-wandb-{NEW_SERVER}"


def test_from_an_upgrade_whose_image_no_node_gets_back_to_what_ran_before(site: Site, bundles: Bundles):
    site.install(bundles.old)
    before = site.resource()["spec"]
    site.values["weave"] = {"env": {"ROUND": "2"}}
    with site.cluster.plight({"weave-python": "image-not-found"}):
        assert "weave-python" in site.refused(bundles.new, "--timeout", "10s")
    assert done(site, "rollback", "--plain-http", "--timeout", "60s")["to"] == 1
    assert site.resource()["spec"] == before
    assert site.revisions("wandb")[-1] == f"operator-wandb-{OLD_SERVER}"
    assert airgap(site, "status", "--plain-http").returncode == 0


def test_the_way_back_is_known_where_only_nodes_can_use_their_name_of_the_registry(site: Site, bundles: Bundles):
    nodes = ("--pull-registry", "registry.nodes.invalid:5000/mirror", "--layout", "flat")
    site.install(bundles.old, *nodes)
    site.install(bundles.new, *nodes)
    receipt = site.receipt(2)
    assert receipt["location"] == "registry.nodes.invalid:5000/mirror"
    assert (receipt["pushedTo"], receipt["layout"], receipt["pullSecret"]) == (site.location, "flat", "airgap-registry")
    assert done(site, "rollback", "--plain-http", "--timeout", "60s")["to"] == 1
    assert site.revisions("wandb")[-1] == f"operator-wandb-{OLD_SERVER}"
    back = site.receipt(3)
    assert (back["pushedTo"], back["layout"], back["pullSecret"]) == (site.location, "flat", "airgap-registry")
    assert airgap(site, "audit", "--live").returncode == 0


def test_an_image_that_the_registry_lost_stops_it_before_anything_is_changed(site: Site, bundles: Bundles):
    site.install(bundles.old)
    site.install(bundles.new)
    name, digest = next((name, it) for name, it in site.receipt(1)["images"].items() if "/wandb/console" in name)
    forget(site, name.partition("/")[2].rpartition(":")[0], digest)
    try:
        before = site.versions()
        said = refused(site, "rollback", "--plain-http")
        assert f"{name}@{digest}" in said
        assert "the registry lacks 1 of its" in said
        assert site.versions() == before
    finally:
        site.run("push", bundles.old)


def forget(site: Site, repository: str, digest: str) -> None:
    """Delete a manifest from the registry."""
    request = urllib.request.Request(f"http://{site.registry.host}/v2/{repository}/manifests/{digest}", method="DELETE")
    request.add_header("Authorization", "Basic " + base64.b64encode(":".join(USER).encode()).decode())
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        assert answer.status == 202


def test_a_hand_edit_is_not_lost_by_going_back_unasked(site: Site, bundles: Bundles):
    site.install(bundles.old)
    site.install(bundles.new)
    change = '{"spec":{"values":{"parquet":{"replicas":2}}}}'
    where = ("weightsandbiases", "wandb", "-n", site.namespace, "--type=merge", "--field-manager=kubectl-edit")
    site.cluster.kubectl("patch", *where, "-p", change)
    assert "parquet" in refused(site, "rollback", "--plain-http", "--timeout", "60s")
    assert site.resource()["spec"]["values"]["parquet"]["replicas"] == 2
    done(site, "rollback", "--plain-http", "--timeout", "60s", "--overwrite-edits")
    assert site.revisions("wandb")[-1] == f"operator-wandb-{OLD_SERVER}"


def test_a_dry_run_checks_and_changes_nothing(site: Site, bundles: Bundles):
    site.install(bundles.old)
    assert "there is nothing before it" in refused(site, "rollback", "--plain-http")
    site.install(bundles.new)
    before = site.versions()
    assert done(site, "rollback", "--plain-http", "--dry-run")["to"]["number"] == 1
    assert site.versions() == before
    assert [it["number"] for it in done(site, "rollback", "--list")["receipts"]] == [1, 2]


# -- uninstall ---------------------------------------------------------------------------------------------------------


def left(site: Site) -> set[str]:
    """What is still in the namespace, but for what Kubernetes itself puts there."""
    kinds = "secrets,configmaps,deployments,statefulsets,daemonsets,jobs,pvc,services,pods,leases"
    found = json.loads(site.cluster.kubectl("get", kinds, "-n", site.namespace, "-o", "json"))["items"]
    return {f"{it['kind']}/{it['metadata']['name']}" for it in found if it["metadata"]["name"] != "kube-root-ca.crt"}


def test_uninstall_asks_then_takes_what_the_receipts_list_and_says_what_stays(site: Site, bundles: Bundles):
    site.install(bundles.new)
    before = site.versions()
    said = refused(site, "uninstall", code=2)
    assert "--yes" in said
    assert site.versions() == before
    answer = done(site, "uninstall", "--yes")
    order = [it["object"].partition(" ")[0] for it in answer["objects"]]
    assert order[:2] == ["WeightsAndBiases", "helm"]
    kept = {it["object"].partition(" ")[0]: it["why"] for it in answer["kept"]}
    assert {"Namespace", "CustomResourceDefinition"} <= set(kept)
    site.cluster.until(lambda: not [it for it in left(site) if it.startswith("Pod/")], "its pods are gone")
    told = {it["object"].replace(f" {site.namespace}/", "/") for it in answer["kept"]}
    site.cluster.until(lambda: left(site) <= told, f"nothing is left but {told}")
    account = site.cluster.get("serviceaccount", "default", site.namespace)
    assert not account.get("imagePullSecrets")
    assert done(site, "uninstall", "--yes") == {"schemaVersion": 1, "objects": [], "kept": []}


def test_purge_takes_namespace_and_crd_too(site: Site, bundles: Bundles):
    site.install(bundles.new)
    answer = done(site, "uninstall", "--yes", "--purge")
    assert answer["kept"] == []
    site.cluster.until(lambda: site.cluster.get("namespace", site.namespace) == {}, "the namespace is gone")
    assert site.cluster.get("crd", "weightsandbiases.apps.wandb.com") == {}


def test_an_operator_that_is_down_is_said_before_its_finalizer_is_waited_for(site: Site, bundles: Bundles, operator: Operator):
    site.install(bundles.new)
    site.cluster.kubectl("scale", "deployment", "wandb-controller-manager", "--replicas=0", "-n", site.namespace)
    ready = lambda: site.cluster.get("deployment", "wandb-controller-manager", site.namespace)["status"].get("readyReplicas")  # noqa: E731
    site.cluster.until(lambda: not ready(), "the operator is down")
    assert "the operator is not running" in refused(site, "uninstall", "--yes")
    assert site.resource()["metadata"].get("deletionTimestamp") is None
    done(site, "uninstall", "--yes", "--without-operator")
    assert site.resource() == {}
    assert site.revisions("wandb") == []


def test_a_null_that_would_stop_the_operator_for_good_is_said_first(site: Site, bundles: Bundles):
    site.install(bundles.new)
    live = site.resource()
    spec = {**live["spec"], "values": {**live["spec"]["values"], "extra": None}}
    metadata = {"name": "wandb", "namespace": site.namespace}
    site.cluster.apply({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "spec": spec})
    assert "null at spec.values.extra" in refused(site, "uninstall", "--yes")


def test_secrets_that_a_chart_tells_helm_to_keep_are_named_and_kept_unless_purged(site: Site, bundles: Bundles):
    site.install(bundles.new)
    metadata = {
        "name": "wandb-gorilla-session-key",
        "namespace": site.namespace,
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"helm.sh/resource-policy": "keep"},
    }
    site.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"key": "x"}})
    kept = {it["object"]: it["why"] for it in done(site, "uninstall", "--yes")["kept"]}
    assert kept[f"Secret {site.namespace}/wandb-gorilla-session-key"] == "its chart tells helm to keep it"
    assert site.cluster.get("secret", "wandb-gorilla-session-key", site.namespace)


def test_an_uninstall_that_was_killed_is_finished_by_the_same_command(site: Site, bundles: Bundles):
    site.install(bundles.new)
    command = [
        sys.executable,
        "-m",
        "airgap",
        "uninstall",
        "--yes",
        "-n",
        site.namespace,
        f"--kubeconfig={site.cluster.kubeconfig}",
    ]
    for patience in (1.5, 3.0):
        process = subprocess.Popen(command, env=site.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        process.kill()
        process.wait()
    done(site, "uninstall", "--yes")
    assert site.resource() == {}
    assert site.revisions("operator") == []
    assert done(site, "uninstall", "--yes")["objects"] == []


# -- console -----------------------------------------------------------------------------------------------------------


def with_password(site: Site) -> str:
    """The Secret that the System Console makes; there is no System Console in here."""
    metadata = {"name": "wandb-password", "namespace": site.namespace}
    site.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": "S3cret-word"}})
    return "S3cret-word"


def test_the_password_is_shown_on_a_terminal_or_when_asked_for(standing: Site):
    password = with_password(standing)
    plain = airgap(standing, "console", "--no-port-forward")
    assert plain.returncode == 0
    assert "https://wandb.datacenter.example/console" in plain.stdout
    assert password not in plain.stdout + plain.stderr
    assert done(standing, "console", "--show-password", "--no-port-forward")["password"] == password
    assert password in on_a_terminal(standing, "console", "--no-port-forward")


def on_a_terminal(site: Site, *arguments: str) -> str:
    """Run airgap on a pseudo-terminal and return what stands there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "airgap", *arguments, "-n", site.namespace, f"--kubeconfig={site.cluster.kubeconfig}"]
    ran = subprocess.run(
        command, env=site.environ, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, check=False, timeout=60
    )
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert ran.returncode == 0, text
    return text


def test_a_url_that_does_not_answer_is_said_with_the_way_around_it(standing: Site):
    with_password(standing)
    plain = airgap(standing, "console")
    assert "the URL does not answer: wandb.datacenter.example cannot be reached" in plain.stderr
    assert "--port-forward" in plain.stderr


def test_a_forward_that_kubectl_cannot_make_is_one_sentence(standing: Site):
    assert "kubectl port-forward ended with code" in refused(standing, "console", "--port-forward")


# -- what runs ---------------------------------------------------------------------------------------------------------


def test_what_runs_is_closed_until_somebody_changes_it(standing: Site):
    answer = done(standing, "audit", "--live")
    assert answer["closed"]
    assert answer["figures"]["allowed container"] >= 10
    policies = [it for it in answer["findings"] if it["text"] == "NetworkPolicy"]
    assert [it["verdict"] for it in policies] == ["inert"]
    where = ("-n", standing.namespace)
    standing.cluster.kubectl("set", "env", "deployment/wandb-console", "EXTRA=https://telemetry.evil.example/x", *where)
    standing.cluster.kubectl("set", "env", "deployment/wandb-controller-manager", "AIRGAPPED=false", *where)
    try:
        ran = airgap(standing, "audit", "--live", "-o", "json")
    finally:
        standing.cluster.kubectl("set", "env", "deployment/wandb-console", "EXTRA-", *where)
        standing.cluster.kubectl("set", "env", "deployment/wandb-controller-manager", "AIRGAPPED=true", *where)
    assert ran.returncode == 5
    opened = {it["text"] for it in json.loads(ran.stdout)["findings"] if it["verdict"] == "open"}
    assert opened == {"https://telemetry.evil.example/x", "AIRGAPPED=false"}


def test_what_the_operator_would_pull_next_is_judged_before_it_does(standing: Site, operator: Operator):
    operator.kill()
    try:
        console_edit(standing, {"mysql": {"install": True}})
        ran = airgap(standing, "audit", "--live", "-o", "json")
        blind = airgap(standing, "audit", "--live", "--no-render")
        console_edit(standing, {"global": "nonsense"})
        clash = airgap(standing, "audit", "--live")
    finally:
        console_edit(standing, {})
        operator.start()
    assert ran.returncode == 5, ran.stderr
    opened = {(it["text"], it["reason"]) for it in json.loads(ran.stdout)["findings"] if it["verdict"] == "open"}
    assert any("mysql" in text for text, _ in opened), opened
    assert blind.returncode == 0, blind.stdout
    assert clash.returncode == 5
    assert "global is a map in" in clash.stdout


def test_a_pod_that_ran_an_outside_image_and_ended_is_found(standing: Site):
    metadata = {"name": "intruder", "namespace": standing.namespace}
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "quay.io/evil/x:1"}]}}
    standing.cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}})
    standing.cluster.kubectl("wait", "--for=condition=Complete", "job/intruder", "-n", standing.namespace, "--timeout=60s")
    ran = airgap(standing, "audit", "--live")
    standing.cluster.kubectl("delete", "job", "intruder", "-n", standing.namespace)
    assert ran.returncode == 5
    assert "quay.io/evil/x:1" in ran.stdout


def test_without_a_receipt_there_is_nothing_to_hold_it_against(standing: Site, namespace: str):
    assert f"namespace {namespace} has no receipt" in refused(standing, "audit", "--live", "-n", namespace, code=2)
