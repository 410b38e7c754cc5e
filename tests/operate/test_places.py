"""Operator and server in namespaces of their own: what pulls, trusts and mounts must be in the right one, or in both."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.install.conftest import NEW_SERVER
from tests.operate.conftest import airgap
from tests.world.authority import Authority
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Bundles, Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]

LINK = {"name": "airgap-registry"}


def test_everything_is_in_the_namespace_of_whoever_needs_it(site: Site, bundles: Bundles, tmp_path: Path):
    apps = f"{site.namespace}-apps"
    authority = Authority.create(tmp_path)
    others = tmp_path / "others.yaml"
    others.write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: site-settings}, data: {a: b}}\n")
    where = ("--resource-namespace", apps, "--ca-file", str(authority.root), "--values", str(others))
    site.install(bundles.old, *where)
    answer = site.install(bundles.new, *where)
    assert answer["receipt"]["resourceNamespace"] == apps
    assert site.cluster.get("weightsandbiases", "wandb", apps)["spec"]["chart"]["path"].startswith(
        f"/charts/operator-wandb-{NEW_SERVER}-"
    )
    pem = authority.root.read_text().strip()
    for namespace in (site.namespace, apps):
        held = [text for it in site.cluster.objects("configmaps", namespace) for text in it.get("data", {}).values()]
        assert any(pem in text for text in held), f"the CA in namespace {namespace}"
        assert site.cluster.get("secret", "airgap-registry", namespace)["type"] == "kubernetes.io/dockerconfigjson"
        assert _without_secret(site, namespace) == []
    assert _hooks_without_secret(site, apps) == []
    assert site.cluster.get("configmap", "wandb-charts", site.namespace)
    assert site.cluster.get("configmap", "site-settings", apps)["data"] == {"a": "b"}
    status = airgap(site, "status", "--plain-http", "-o", "json")
    assert status.returncode == 0, status.stdout
    assert airgap(site, "audit", "--live").returncode == 0
    gone = airgap(site, "uninstall", "--yes", "--purge")
    assert gone.returncode == 0, gone.stderr
    site.cluster.until(lambda: not site.cluster.get("namespace", apps), f"namespace {apps} has gone", 120)


def _linked(site: Site, namespace: str) -> set[str]:
    accounts = site.cluster.objects("serviceaccounts", namespace)
    return {it["metadata"]["name"] for it in accounts if LINK in it.get("imagePullSecrets", [])}


def _without_secret(site: Site, namespace: str) -> list[str]:
    """Pods that would pull without credentials."""
    linked, pods = _linked(site, namespace), site.cluster.objects("pods", namespace)
    assert pods, f"pods in namespace {namespace}"
    return [it["metadata"]["name"] for it in pods if not _pulls_with_secret(it["spec"], linked)]


def _hooks_without_secret(site: Site, namespace: str) -> list[str]:
    """Hooks, which are gone once they have run, that pulled without credentials."""
    helm = (find_binary("helm"), "--kubeconfig", str(site.cluster.kubeconfig), "-n", namespace)
    text = subprocess.run([*helm, "get", "hooks", "wandb"], capture_output=True, text=True, check=True).stdout
    jobs = [it for it in yaml.safe_load_all(text) if it and it["kind"] == "Job"]
    assert jobs
    linked = _linked(site, namespace)
    return [it["metadata"]["name"] for it in jobs if not _pulls_with_secret(it["spec"]["template"]["spec"], linked)]


def _pulls_with_secret(spec: dict[str, Any], linked: set[str]) -> bool:
    return LINK in spec.get("imagePullSecrets", []) or spec.get("serviceAccountName", "default") in linked
