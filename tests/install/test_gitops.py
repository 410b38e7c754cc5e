"""A site that never runs install: the rendered folder, built by the real kubectl and taken by a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airgap.values import dump_yaml, load_yaml_all
from tests.install.conftest import COMMAND_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Bundles, Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]

GIT = "https://git.datacenter.example/site.git//wandb?ref=live"


def _airgap(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "airgap", *arguments, "--registry", site.location, "--plain-http"]
    return subprocess.run(
        command, env=site.environ, cwd=site.folder, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT
    )


def _rendered(site: Site, bundles: Bundles, name: str, *more: str) -> Path:
    (site.folder / "values.yaml").write_text(dump_yaml(site.values))
    folder = site.folder / name
    arguments = ("--values", "values.yaml", "-n", site.namespace, "--dir", str(folder), *more)
    done = _airgap(site, "render", str(bundles.new), *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(it.relative_to(folder)): it.read_bytes() for it in folder.rglob("*") if it.is_file()}


def _built(site: Site, folder: Path) -> list[dict[str, Any]]:
    text = site.cluster.kubectl("kustomize", folder)
    return [it for it in load_yaml_all(text, str(folder)) if isinstance(it, dict)]


def test_a_site_that_never_runs_install_comes_up_from_the_folder_by_kubectl_alone(site: Site, bundles: Bundles) -> None:
    pushed = _airgap(site, "push", str(bundles.new))
    assert pushed.returncode == 0, pushed.stderr
    folder = _rendered(site, bundles, "site", "--git", GIT)
    assert _bytes(_rendered(site, bundles, "again", "--git", GIT)) == _bytes(folder), "the same input, the same bytes"

    audited = _airgap(site, "audit", str(folder), "-n", site.namespace)
    assert audited.returncode == 0, (audited.stdout, audited.stderr)

    kinds = {it["kind"] for part in (folder, folder / "operator", folder / "flux" / "operator") for it in _built(site, part)}
    assert {"Namespace", "CustomResourceDefinition", "Deployment", "WeightsAndBiases", "HelmRelease"} <= kinds
    assert "Secret" not in kinds

    kubectl = site.cluster.kubectl
    kubectl("apply", "--server-side", "-k", folder / "operator")
    kubectl("apply", "--server-side", "-f", folder / "secrets.yaml")
    kubectl("wait", "--for=condition=Established", "crd/weightsandbiases.apps.wandb.com", "--timeout=60s")
    kubectl("apply", "--server-side", "--dry-run=server", "-k", folder)
    assert not site.resource(), "a dry run"
    kubectl("apply", "--server-side", "-k", folder)
    site.cluster.until(lambda: site.resource().get("status", {}).get("phase") == "Completed", "W&B runs", 120)
    kubectl("apply", "--server-side", "-k", folder / "operator")
    again = kubectl("apply", "--server-side", "-k", folder)
    assert "created" not in again
    kubectl("delete", "-k", folder, "--wait=false")
    site.cluster.until(lambda: not site.resource(), "the operator took it away", 120)
    kubectl("delete", "-k", folder / "operator", "--wait=false")


def test_an_outside_image_written_into_the_operators_objects_by_hand_is_found(site: Site, bundles: Bundles) -> None:
    assert _airgap(site, "push", str(bundles.new)).returncode == 0
    folder = _rendered(site, bundles, "site")
    objects = folder / "operator" / "operator.yaml"
    documents: list[Any] = list(load_yaml_all(objects.read_bytes(), "operator.yaml"))
    for it in documents:
        if it["kind"] == "Deployment":
            it["spec"]["template"]["spec"]["containers"][0]["image"] = "docker.io/wandb/controller:9.9.9"
    objects.write_text("---\n".join(dump_yaml(it) for it in documents))
    done = _airgap(site, "audit", str(folder), "-n", site.namespace, "-o", "json")
    assert done.returncode == 5, done.stderr
    assert any("9.9.9" in it["text"] for it in json.loads(done.stdout)["findings"])
