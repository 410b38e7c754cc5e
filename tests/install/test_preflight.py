"""Preflight: everything that would stop an install, all at once, with nothing left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.install.conftest import token
from tests.install.test_install import writes

if TYPE_CHECKING:
    from tests.install.conftest import Bundles, Site

CRD = "weightsandbiases.apps.wandb.com"

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]


def _asked(site: Site, bundles: Bundles, *more: str, code: int = 0) -> list[dict[str, str]]:
    done = site.run("preflight", bundles.new, "-o", "json", *more)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return found


def _stops(findings: list[dict[str, str]]) -> dict[str, str]:
    return {it["message"]: it["remedy"] for it in findings if it["level"] == "stop"}


def test_an_empty_cluster_has_all_that_is_needed_and_nothing_is_left_in_it(site: Site, bundles: Bundles) -> None:
    asked = len(site.cluster.requests())
    findings = _asked(site, bundles)
    assert _stops(findings) == {}
    checks = {it["check"] for it in findings}
    assert {"cluster", "registry", "pull", "api", "nodes", "namespaces", "rights", "crds", "lease", "licence"} <= checks
    assert {"upgrade", "secrets", "storage", "sizes", "pull secret"} <= checks
    assert not writes(site, asked)


def test_everything_that_is_wrong_is_told_at_once_each_with_a_remedy(site: Site, bundles: Bundles) -> None:
    crd: dict[str, Any] = json.loads(json.dumps(_crd("v0")))
    site.cluster.apply(crd)
    site.cluster.kubectl("create", "namespace", site.namespace)
    site.values["global"]["license"] = token(1_000_000_000)
    site.values["global"]["caCertsConfigMap"] = "site-ca"
    findings = _asked(site, bundles, code=6)
    stops = _stops(findings)
    told = "\n".join(stops)
    assert "objects stored as v0" in told
    assert "the licence ended on 2001-09-09" in told
    assert f"ConfigMap {site.namespace}/site-ca is missing" in told
    assert all(stops.values()), stops
    relaxed = _asked(site, bundles, "--ignore", "crds", "--ignore", "licence", "--ignore", "secrets")
    assert _stops(relaxed) == {}


def test_settings_of_the_system_console_that_would_stop_the_operator_are_found(site: Site, bundles: Bundles) -> None:
    site.cluster.kubectl("create", "namespace", site.namespace)
    _console(site, {"app": "oops"})
    (told,) = _stops(_asked(site, bundles, code=6))
    assert f"Secret {site.namespace}/wandb-spec-user" in told
    assert "app is a map in" in told
    assert "a string in" in told
    _console(site, {"app": None})
    (told,) = _stops(_asked(site, bundles, code=6))
    assert "app is null in the user input" in told


def test_what_the_system_console_switches_on_is_part_of_what_is_proved(site: Site, bundles: Bundles) -> None:
    site.cluster.kubectl("create", "namespace", site.namespace)
    _console(site, {"mysql": {"install": True}})
    said = site.refused(bundles.new, code=5)
    assert "mysql" in said
    assert site.cluster.get("crd", "weightsandbiases.apps.wandb.com") == {}


def _console(site: Site, values: dict[str, Any]) -> None:
    metadata = {"name": "wandb-spec-user", "namespace": site.namespace}
    data = {"chart": "null", "values": json.dumps(values), "metadata": "null"}
    site.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})


def test_a_crd_whose_stored_version_would_vanish_is_not_applied_even_if_the_check_is_ignored(
    site: Site, bundles: Bundles
) -> None:
    site.cluster.apply(_crd("v0"))
    said = site.refused(bundles.new, "--ignore", "crds")
    assert "objects stored as v0" in said
    versions = site.cluster.get("crd", "weightsandbiases.apps.wandb.com")["spec"]["versions"]
    assert [it["name"] for it in versions] == ["v0"]


def test_a_crd_that_is_being_deleted_is_one_finding_that_names_what_holds_it(site: Site, bundles: Bundles) -> None:
    site.cluster.apply(_crd("v1"))
    site.cluster.kubectl("wait", "--for=condition=Established", "crd", CRD, "--timeout=60s")
    site.cluster.kubectl("create", "namespace", site.namespace)
    metadata = {"name": "old", "namespace": site.namespace, "finalizers": ["finalizer.app.wandb.com"]}
    site.cluster.apply({"apiVersion": "apps.wandb.com/v1", "kind": "WeightsAndBiases", "metadata": metadata})
    site.cluster.kubectl("delete", "crd", CRD, "--wait=false")
    stops = _stops(_asked(site, bundles, code=6))
    assert list(stops) == [f"CRD {CRD} is being deleted"]
    (remedy,) = stops.values()
    assert f"WeightsAndBiases {site.namespace}/old" in remedy
    said = site.refused(bundles.new, "--ignore", "crds")
    assert f"Error: CRD {CRD} is being deleted" in said
    advice = remedy.partition("for good: ")[2].replace("kubectl", f"{site.cluster.bin}/kubectl", 1)
    site.cluster.run("sh", "-c", advice, env=site.admin)
    site.cluster.until(lambda: site.cluster.get("crd", CRD) == {}, "what the remedy says helps")


def test_a_namespace_that_is_being_deleted_is_one_finding_that_says_what_it_waits_for(site: Site, bundles: Bundles) -> None:
    site.cluster.kubectl("create", "namespace", site.namespace)
    metadata = {"name": "held", "namespace": site.namespace, "finalizers": ["example.com/held"]}
    site.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    site.cluster.kubectl("delete", "namespace", site.namespace, "--wait=false")
    waits = lambda: "example.com/held" in json.dumps(site.cluster.get("namespace", site.namespace)["status"])  # noqa: E731
    site.cluster.until(waits, "the namespace says what it waits for")
    try:
        (stop,) = _stops(_asked(site, bundles, code=6))
        assert stop.startswith(f"namespace {site.namespace} is being deleted (Some content in the namespace has finalizers")
        assert "example.com/held" in stop
        assert "is being deleted" in site.refused(bundles.new, verb="install")
    finally:
        change = '{"metadata":{"finalizers":null}}'
        site.cluster.kubectl("patch", "configmap", "held", "-n", site.namespace, "--type=merge", "-p", change)


def test_each_right_that_is_missing_is_named_with_verb_and_resource(site: Site, bundles: Bundles) -> None:
    rules = [{"apiGroups": [""], "resources": ["namespaces", "pods", "configmaps"], "verbs": ["get", "list"]}]
    site.kubeconfig = site.cluster.user("reader", rules)
    stops = _stops(_asked(site, bundles, code=6))
    told = "\n".join(stops)
    assert "may not create namespaces" in told
    assert "may not get,create,patch customresourcedefinitions.apiextensions.k8s.io" in told
    assert f"leases.coordination.k8s.io in namespace {site.namespace}" in told
    assert "weightsandbiases.apps.wandb.com" in told
    assert any(remedy.startswith("ask for it: kubectl create role") for remedy in stops.values())


def test_a_user_who_may_not_grant_the_operators_rights_is_told_so(site: Site, bundles: Bundles) -> None:
    named = ["", "apps", "batch", "coordination.k8s.io", "apiextensions.k8s.io", "rbac.authorization.k8s.io", "apps.wandb.com"]
    verbs = ["get", "list", "watch", "create", "patch", "update", "delete"]
    site.kubeconfig = site.cluster.user("deployer", [{"apiGroups": named, "resources": ["*"], "verbs": verbs}])
    told = "\n".join(_stops(_asked(site, bundles, code=6)))
    assert "ClusterRole wandb-manager cannot be made" in told
    assert "would grant rights that this user has not" in told
    assert "ClusterRoleBinding" not in told


def test_a_cluster_that_is_not_there_is_one_finding_beside_those_of_the_registry(site: Site, bundles: Bundles) -> None:
    config = json.loads(site.cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    site.kubeconfig = site.folder / "wrong.kubeconfig"
    site.kubeconfig.write_text(json.dumps(config))
    findings = _asked(site, bundles, code=6)
    assert [it["check"] for it in findings if it["level"] == "stop"] == ["cluster"]
    assert {"registry", "sizes"} <= {it["check"] for it in findings}
    assert "127.0.0.1:1 was refused" in "\n".join(_stops(findings))


def test_a_kubeconfig_that_is_not_there_is_named(site: Site, bundles: Bundles) -> None:
    site.kubeconfig = site.folder / "nowhere"
    said = site.refused(bundles.new, verb="preflight")
    assert "nowhere" in said
    assert "--kubeconfig" in said


def test_a_name_that_nodes_use_and_that_leads_elsewhere_is_found_before_anything_is_applied(
    site: Site, bundles: Bundles
) -> None:
    host = site.registry.host.replace("127.0.0.1", "localhost")
    said = site.refused(bundles.new, "--pull-registry", f"{host}/elsewhere")
    assert "not found under the name that nodes use" in said
    assert site.cluster.get("namespace", site.namespace) == {}
    answer = site.install(bundles.new, "--pull-registry", f"{host}/{site.prefix}")
    assert answer["receipt"]["location"] == f"{host}/{site.prefix}"
    images = {it["spec"]["containers"][0]["image"] for it in site.cluster.objects("pods", site.namespace)}
    assert all(image.startswith(f"{host}/") for image in images), images


def _crd(version: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "weightsandbiases.apps.wandb.com"},
        "spec": {
            "group": "apps.wandb.com",
            "scope": "Namespaced",
            "names": {"kind": "WeightsAndBiases", "plural": "weightsandbiases", "singular": "weightsandbiases"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }
