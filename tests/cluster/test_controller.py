"""The small operator does what the real one was seen to do (upstream's 1.22.0 on the same control plane)."""

from __future__ import annotations

import base64
import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.fixtures import OPERATOR_NAMESPACE
from tests.cluster.site import PATH, Site, Web, repository
from tests.world.registries import find_binary, start_docker_registry

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [pytest.mark.cluster, pytest.mark.helm]


def test_a_chart_from_the_config_map_is_installed_and_kept_in_mind(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH}, app={"replicas": 1})
    site.becomes("Completed")
    helm = [find_binary("helm"), "--kubeconfig", str(site.cluster.kubeconfig), "-n", site.namespace, "list", "-o", "json"]
    (release,) = json.loads(site.cluster.run(*helm).stdout)
    assert (release["name"], release["chart"], release["status"]) == ("wandb", "operator-wandb-0.43.0", "deployed")
    active = site.secret("spec-active")
    assert active["chart"] == {"path": PATH}
    operator = {"apiVersion": "apps.wandb.com/v1", "namespace": OPERATOR_NAMESPACE}
    assert active["values"] == {"app": {"replicas": 1}, "global": {"operator": operator}}
    assert site.secret("spec-user") == {"chart": None, "metadata": None, "values": {}}
    assert not site.secret("latest-cached-release")
    assert site.cluster.get("wandb", "wandb", site.namespace)["metadata"]["finalizers"] == ["finalizer.app.wandb.com"]
    assert site.revisions == 1
    reasons = {it["reason"] for it in site.cluster.objects("events", site.namespace)}
    assert {"Reconciling", "LoadingConfig", "Completed"} <= reasons


def test_a_raw_archive_works_as_well(site: Site, charts: dict[str, Path]):
    site._charts(binaryData={"operator-wandb": base64.b64encode(charts["0.43.0"].read_bytes()).decode()})
    site.apply({"path": PATH})
    site.becomes("Completed")


def test_the_consoles_lists_are_joined_to_the_resources(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH}, console={"tolerations": [{"key": "cr"}]}, app={"replicas": 1})
    site.becomes("Completed")
    site.user_input({"console": {"tolerations": [{"key": "user"}]}, "app": {"replicas": 2, "more": True}})
    site.cluster.until(lambda: site.secret("spec-active")["values"].get("app") == {"replicas": 1, "more": True})
    assert site.secret("spec-active")["values"]["console"] == {"tolerations": [{"key": "cr"}, {"key": "user"}]}


def test_a_chart_replaced_under_its_path_is_not_seen_but_under_a_new_path_it_is(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.charts(operator_wandb=charts["0.44.0"], newer=charts["0.44.0"])
    before = site.log
    site.user_input({})
    site.cluster.kubectl("annotate", "secret", "wandb-spec-user", "-n", site.namespace, "looked=at")
    site.cluster.until(lambda: "No changes found" in site.log[len(before) :])
    assert site.revisions == 1
    site.apply({"path": "/charts/newer"})
    site.cluster.until(lambda: site.secret("spec-active")["chart"] == {"path": "/charts/newer"})
    assert site.revisions == 2


def test_a_null_stops_everything_and_nobody_says_so(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.user_input({"app": {"extra": "x"}})
    site.cluster.until(lambda: site.revisions == 2)
    site.apply({"path": PATH}, app={"extra": None})
    site.cluster.until(lambda: site.log.count("nil pointer") > 2, "it is tried again and again")
    assert (site.phase, site.revisions) == ("Completed", 2)
    site.delete()
    site.cluster.until(lambda: site.cluster.get("wandb", "wandb", site.namespace)["metadata"].get("deletionTimestamp"))
    assert site.phase == "Completed"
    site.apply({"path": PATH}, app={"extra": "y"})
    site.becomes("gone")


def test_different_kinds_stop_it_as_well(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.user_input({"app": {"extra": "x"}})
    site.cluster.until(lambda: site.revisions == 2)
    site.apply({"path": PATH}, app="oops")
    site.cluster.until(lambda: site.log.count(f"Reconciler error {site.namespace}/wandb: type not match") > 2)
    assert (site.phase, site.revisions) == ("Completed", 2)


def test_without_a_chart_the_config_is_invalid(site: Site):
    site.apply(None, app={"replicas": 1})
    site.becomes("Invalid Config")
    assert "No release type was found in the spec" in site.log


def test_a_chart_that_is_not_there_is_not_tried_again_for_an_hour(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": "/charts/late"})
    site.becomes("Invalid Config")
    assert "open /charts/late: no such file or directory" in site.log
    site.charts(operator_wandb=charts["0.43.0"], late=charts["0.43.0"])
    site.apply({"path": "/charts/late"}, now="look again")
    site.becomes("Completed")


def test_what_the_api_server_refuses_is_an_invalid_config(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH}, app={"image": {"tag": "1@sha256:" + "0" * 64}, "replicas": "many"})
    site.becomes("Invalid Config")
    assert "Failed to apply config changes" in site.log


def test_deleting_the_resource_uninstalls_the_release(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.delete()
    site.becomes("gone")
    assert site.revisions == 0
    site.cluster.until(lambda: not site.cluster.objects("deployments", site.namespace))


@pytest.mark.slow
def test_a_hook_has_half_a_minute_for_everything_its_pull_included(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    with site.cluster.plight({"alpine/k8s": "image-unreachable"}):
        site.apply({"path": PATH}, more=1)
        site.becomes("Invalid Config")
    assert "pre-upgrade" in site.log
    site.apply({"path": PATH}, more=2)
    site.becomes("Completed")


def test_a_resource_that_was_never_installed_cannot_be_deleted(site: Site):
    site.apply({"path": "/charts/never"})
    site.becomes("Invalid Config")
    site.delete()
    site.cluster.until(lambda: "Failed to cleanup deployment" in site.log and "release: not found" in site.log)
    assert site.phase == "Invalid Config"


def test_the_operator_has_the_rights_of_its_service_account_and_no_more(site: Site, charts: dict[str, Path]):
    role = site.cluster.get("clusterrole", "wandb-manager")
    less = {**role, "rules": [it for it in role["rules"] if "deployments" not in it["resources"]]}
    kept = {key: {it: value[it] for it in ("name",)} if key == "metadata" else value for key, value in less.items()}
    site.charts(operator_wandb=charts["0.43.0"])
    site.cluster.apply(kept)
    try:
        site.apply({"path": PATH})
        site.becomes("Invalid Config")
        assert "is forbidden" in site.log
    finally:
        site.cluster.apply({**kept, "rules": role["rules"]})


@pytest.mark.registry
@pytest.mark.parametrize("login", [False, True], ids=["open", "with a credentialSecret"])
def test_a_chart_comes_from_a_registry(site: Site, charts: dict[str, Path], tmp_path: Path, login: bool):
    helm = partial(subprocess.run, check=True, capture_output=True, text=True)
    with start_docker_registry(tmp_path, htpasswd={"robot": "secret"} if login else None) as registry:
        repository = f"oci://{registry.host}/air/charts"
        user = ["--username", "robot", "--password", "secret"] if login else []
        helm([find_binary("helm"), "push", str(charts["0.43.0"]), repository, "--plain-http", *user])
        chart: dict[str, Any] = {"url": f"{repository}/operator-wandb", "version": "0.43.0", "plainHTTP": True}
        if login:
            keys = {"HELM_USERNAME": "robot", "HELM_PASSWORD": "secret"}
            metadata = {"name": "chart-login", "namespace": site.namespace}
            site.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})
            chart["credentialSecret"] = {"name": "chart-login"}
        site.apply(chart)
        site.becomes("Completed")
        assert site.secret("spec-active")["chart"]["url"] == f"{repository}/operator-wandb"
        if login:  # the names of its keys are filled in, so that it never looks unchanged: a revision each time
            site.cluster.kubectl("annotate", "secret", "wandb-spec-user", "-n", site.namespace, "looked=at")
            site.cluster.until(lambda: site.revisions == 2)
    site.delete()
    site.becomes("gone")  # the registry is not asked for that


def test_a_chart_of_a_repository_must_be_there_for_removal_too(site: Site, charts: dict[str, Path], web: tuple[str, type[Web]]):
    url, served = web
    repository(served, charts)
    site.apply({"url": url, "name": "operator-wandb", "version": "0.43.0"})
    site.becomes("Completed")
    files = dict(served.files)
    served.files.clear()
    site.delete()
    site.cluster.until(lambda: "Failed to cleanup deployment" in site.log)
    assert site.phase == "Completed"
    served.files.update(files)
