"""Install on a real control plane: once, again, newer, older, by half, and what a failure leaves."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.install.conftest import COMMAND_LIMIT, NEW_SERVER, OLD_OPERATOR, OLD_SERVER, charts_of, replace_chart
from tests.install.killing import make_pending

if TYPE_CHECKING:
    from tests.cluster.fixtures import Operator
    from tests.install.conftest import Bundles, Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]


def test_one_command_installs_and_the_same_command_again_changes_nothing(site: Site, bundles: Bundles) -> None:
    first = site.install(bundles.new)
    assert site.resource()["status"]["phase"] == "Completed"
    assert first["receipt"]["state"] == "done"
    assert site.receipt(1)["stages"] == ["preflight", "push", "render", "audit", "operator", "resource", "wait"]
    before = site.versions()
    second = site.install(bundles.new)
    assert site.changes(second) == {}
    assert second["pushed"]["sent"] == 0
    assert site.versions() == before
    assert site.revisions("operator") == ["operator-1.4.0"]


def test_the_bundle_installs_itself_with_python_kubectl_and_nothing_else(site: Site, bundles: Bundles) -> None:
    arguments = site.command("install", bundles.new, "--timeout", "60s")[3:]
    environ = {name: site.environ[name] for name in ("HOME", "XDG_CACHE_HOME", "AIRGAP_USERNAME", "AIRGAP_PASSWORD")}
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(bundles.new), *arguments],
        env={**environ, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_LIMIT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert site.resource()["status"]["phase"] == "Completed"


def test_the_pull_secret_reaches_every_service_account_that_pods_use(site: Site, bundles: Bundles) -> None:
    site.install(bundles.new)
    secret = site.cluster.get("secret", "airgap-registry", site.namespace)
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    linked = {
        it["metadata"]["name"]
        for it in site.cluster.objects("serviceaccounts", site.namespace)
        if {"name": "airgap-registry"} in it.get("imagePullSecrets", [])
    }
    for pod in site.cluster.objects("pods", site.namespace):
        names = {it["name"] for it in pod["spec"].get("imagePullSecrets", [])}
        assert "airgap-registry" in names or pod["spec"]["serviceAccountName"] in linked, pod["metadata"]["name"]


def test_a_dry_run_shows_every_object_and_changes_nothing(site: Site, bundles: Bundles) -> None:
    asked = len(site.cluster.requests())
    done = site.run("install", bundles.new, "--dry-run", "-o", "json")
    shown = {it["object"].partition(" ")[0]: it["what"] for it in json.loads(done.stdout)["objects"]}
    assert {"Namespace", "CustomResourceDefinition", "Deployment", "WeightsAndBiases", "ConfigMap"} <= set(shown)
    assert set(shown.values()) == {"create"}
    assert site.cluster.get("namespace", site.namespace) == {}
    assert not writes(site, asked)


def writes(site: Site, start: int) -> list[str]:
    """Requests that changed something: neither a question about rights nor a dry run."""
    return [
        it["requestURI"]
        for it in site.cluster.requests()[start:]
        if it["verb"] not in ("get", "list", "watch")
        and "selfsubjectaccessreviews" not in it["requestURI"]
        and "dryRun=All" not in it["requestURI"]
        and it["user"]["username"] == "admin"
    ]


def test_a_newer_bundle_upgrades_and_the_older_chart_stays_until_the_newer_is_in_use(site: Site, bundles: Bundles) -> None:
    site.install(bundles.old)
    assert site.resource()["spec"]["chart"]["path"].startswith(f"/charts/operator-wandb-{OLD_SERVER}-")
    answer = site.install(bundles.new)
    assert site.revisions("wandb") == [f"operator-wandb-{OLD_SERVER}", f"operator-wandb-{NEW_SERVER}"]
    assert site.revisions("operator") == [f"operator-{OLD_OPERATOR}", "operator-1.4.0"]
    assert answer["receipt"]["number"] == 2
    assert answer["receipt"]["previous"] == 1
    assert [key.rpartition("-")[0] for key in charts_of(site)] == [f"operator-wandb-{NEW_SERVER}"]
    pointer = site.cluster.get("configmap", "airgap-receipt", site.namespace)["data"]
    assert pointer == {"current": "2", "latest": "2"}


def test_an_older_bundle_is_refused_unless_it_is_asked_for(site: Site, bundles: Bundles) -> None:
    site.install(bundles.new)
    said = site.refused(bundles.old)
    assert f"operator-wandb {OLD_SERVER} is older than {NEW_SERVER}" in said
    assert site.revisions("wandb") == [f"operator-wandb-{NEW_SERVER}"]
    site.install(bundles.old, "--allow-older")
    assert site.resource()["spec"]["chart"]["path"].startswith(f"/charts/operator-wandb-{OLD_SERVER}-")


def test_operator_and_server_can_be_upgraded_each_alone(site: Site, bundles: Bundles) -> None:
    site.install(bundles.old)
    site.install(bundles.new, "--only", "operator")
    assert site.revisions("operator")[-1] == "operator-1.4.0"
    assert site.revisions("wandb") == [f"operator-wandb-{OLD_SERVER}"]
    site.install(bundles.new, "--only", "server")
    assert site.revisions("wandb")[-1] == f"operator-wandb-{NEW_SERVER}"


def test_an_operator_that_would_not_see_the_new_chart_for_a_minute_is_replaced(
    site: Site, bundles: Bundles, operator: Operator
) -> None:
    site.install(bundles.old)
    before = _operators(site)
    with operator.playing(mount_delay=60.0):
        site.install(bundles.new, "--only", "server")
    assert site.revisions("wandb")[-1] == f"operator-wandb-{NEW_SERVER}"
    assert "Invalid Config" not in operator.log.rpartition(f"{site.namespace}/wandb")[0][-2000:]
    assert before.isdisjoint(_operators(site))


def _operators(site: Site) -> set[str]:
    pods = site.cluster.objects("pods", site.namespace)
    return {it["metadata"]["name"] for it in pods if it["metadata"]["name"].startswith("wandb-controller-manager")}


def test_hand_edits_are_named_and_not_overwritten_without_being_asked(site: Site, bundles: Bundles) -> None:
    site.install(bundles.new)
    site.cluster.kubectl(
        *("patch", "weightsandbiases", "wandb", "-n", site.namespace, "--type=merge", "--field-manager=kubectl-edit"),
        *("-p", '{"spec":{"values":{"app":{"replicas":3},"global":{"extra":"by hand"}}}}'),
    )
    said = site.refused(bundles.new)
    assert "values.app.replicas" in said
    assert "kubectl-edit" in said
    assert site.resource()["spec"]["values"]["app"]["replicas"] == 3
    site.install(bundles.new, "--overwrite-edits")
    values = site.resource()["spec"]["values"]
    assert "replicas" not in values.get("app", {})
    assert "extra" not in values["global"]


def test_a_null_put_in_by_hand_is_named_and_not_taken_out_without_being_asked(site: Site, bundles: Bundles) -> None:
    site.install(bundles.new)
    change = [{"op": "add", "path": "/spec/values/extra", "value": None}]
    site.cluster.kubectl(
        *("patch", "weightsandbiases", "wandb", "-n", site.namespace, "--type=json", "--field-manager=kubectl-edit"),
        *("-p", json.dumps(change)),
    )
    said = site.refused(bundles.new)
    assert "spec.values.extra: nothing became null, by kubectl-edit" in said
    assert "extra" in site.resource()["spec"]["values"]
    site.install(bundles.new, "--overwrite-edits")
    assert "extra" not in site.resource()["spec"]["values"]


def test_a_chart_that_was_replaced_under_its_path_is_not_lost_without_being_asked(site: Site, bundles: Bundles) -> None:
    site.install(bundles.new)
    (key,) = charts_of(site)
    other = base64.b64encode(b"another chart").decode()
    replace_chart(site, key, other)
    assert f"binaryData.{key}: chart " in site.refused(bundles.new)
    assert charts_of(site) == {key: other}
    site.install(bundles.new, "--overwrite-edits")
    assert charts_of(site)[key] != other
    assert len(site.revisions("wandb")) == 1
    replace_chart(site, "by-hand.tgz", other)
    site.values["app"] = {"replicas": 2}
    site.install(bundles.new)
    assert list(charts_of(site)) == [key], "what is not ours leaves no room for the next chart"


def test_a_change_of_values_is_a_new_receipt_and_one_change(site: Site, bundles: Bundles) -> None:
    site.install(bundles.new)
    site.values["app"] = {"replicas": 2}
    answer = site.install(bundles.new)
    assert list(site.changes(answer)) == [f"WeightsAndBiases {site.namespace}/wandb"]
    assert answer["receipt"]["number"] == 2
    app = site.cluster.get("deployment", "wandb-app", site.namespace)
    assert app["spec"]["replicas"] == 2


def test_nothing_is_applied_that_is_not_closed(site: Site, bundles: Bundles) -> None:
    del site.values["global"]["email"]
    said = site.refused(bundles.new, code=5)
    assert "api.wandb.ai" in said
    assert site.cluster.get("namespace", site.namespace) == {}


def test_a_pod_that_does_not_come_up_is_explained_and_the_next_run_finishes(site: Site, bundles: Bundles) -> None:
    site.install(bundles.old)
    site.values["weave"] = {"env": {"ROUND": "2"}}
    with site.cluster.plight({"weave-python": "image-not-found"}):
        said = site.refused(bundles.new, "--timeout", "15s")
    assert "wandb-weave" in said
    assert "weave-python" in said
    assert _available(site, "wandb-weave"), "the pod of before keeps running"
    failed = site.receipt(2)
    assert (failed["state"], failed["stages"][-1]) == ("failed", "resource")
    assert site.cluster.get("configmap", "airgap-receipt", site.namespace)["data"] == {"current": "1", "latest": "2"}
    answer = site.install(bundles.new)
    assert answer["receipt"]["number"] == 2
    assert site.receipt(2)["state"] == "done"


def _available(site: Site, name: str) -> int:
    status = site.cluster.get("deployment", name, site.namespace)["status"]
    return int(status.get("availableReplicas", 0))


def test_an_operator_that_gave_up_is_told_to_look_again_by_the_same_command(
    site: Site, bundles: Bundles, operator: Operator
) -> None:
    site.install(bundles.old)
    with operator.playing(hook="3s"), site.cluster.plight({"alpine/k8s": "image-not-found"}):
        assert "alpine/k8s" in site.refused(bundles.new, "--timeout", "15s")
        site.cluster.until(lambda: site.resource()["status"]["phase"] == "Invalid Config", "the operator gave up")
    answer = site.install(bundles.new)
    resource = f"WeightsAndBiases {site.namespace}/wandb"
    assert resource not in site.changes(answer), "the operator has the spec already, and would not look at it for an hour"
    assert site.resource()["status"]["phase"] == "Completed"
    assert site.revisions("wandb")[-1] == f"operator-wandb-{NEW_SERVER}"


def test_a_release_that_the_operator_left_in_the_middle_is_put_away_and_made_anew(
    site: Site, bundles: Bundles, operator: Operator
) -> None:
    site.install(bundles.new)
    make_pending(site.cluster, site.namespace, "wandb", "pending-upgrade")
    site.values["app"] = {"replicas": 2}
    answer = site.install(bundles.new, "--timeout", "120s")  # 20 s in Invalid Config, 40 s for a helm that may still run
    assert list(site.changes(answer)) == [f"WeightsAndBiases {site.namespace}/wandb"]
    assert site.cluster.get("deployment", "wandb-app", site.namespace)["spec"]["replicas"] == 2
    assert "another operation" in operator.log
