"""What goes wrong in the middle: another install, an API server that goes away, a lease left behind."""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from airgap.lease import NAME

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Bundles, Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]


def _lease(site: Site, holder: str, renewed: datetime) -> None:
    site.cluster.kubectl("create", "namespace", site.namespace)
    time_text = renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 30, "renewTime": time_text}
    metadata = {"name": NAME, "namespace": site.namespace}
    site.cluster.apply({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})


def test_a_second_install_is_refused_while_the_first_one_runs(site: Site, bundles: Bundles) -> None:
    _lease(site, "other-host/4711/1 ann", datetime.now(timezone.utc))
    said = site.refused(bundles.new)
    assert "another install is running: ann on other-host (process 4711" in said
    assert site.cluster.get("crd", "weightsandbiases.apps.wandb.com") == {}


def test_a_lease_of_a_dead_host_is_taken_over_once_it_has_run_out(site: Site, bundles: Bundles) -> None:
    _lease(site, "other-host/4711/1 ann", datetime.now(timezone.utc) - timedelta(minutes=10))
    site.install(bundles.new)
    assert site.resource()["status"]["phase"] == "Completed"


def test_an_api_server_that_goes_away_for_a_moment_is_waited_for(site: Site, bundles: Bundles) -> None:
    process = _start(site, bundles.new)
    site.cluster.until(lambda: site.cluster.get("secret", "airgap-registry", site.namespace), "secrets are applied", 120)
    site.cluster.restart_api()
    assert process.wait(200) == 0, _said(site)
    assert site.resource()["status"]["phase"] == "Completed"


def test_an_api_server_that_stays_away_is_one_sentence_and_the_next_run_goes_on(site: Site, bundles: Bundles) -> None:
    process = _start(site, bundles.new)
    site.cluster.until(lambda: site.cluster.get("secret", "airgap-registry", site.namespace), "secrets are applied", 120)
    site.cluster.stop_api()
    try:
        code = process.wait(200)
    finally:
        site.cluster.start_api()
    assert code == 6
    last = [line for line in _said(site).splitlines() if line.startswith(("Error", "Hint"))]
    assert len(last) == 2
    assert "cannot be reached" in last[0]
    answer = site.install(bundles.new)
    assert answer["receipt"]["number"] == 1
    assert answer["receipt"]["state"] == "done"


def _start(site: Site, bundle: Path) -> subprocess.Popen[Any]:
    with (site.folder / "said").open("wb") as said:
        command = site.command("install", bundle, "--timeout", "60s")
        return subprocess.Popen(command, env=site.environ, cwd=site.folder, stdout=said, stderr=said)


def _said(site: Site) -> str:
    return (site.folder / "said").read_text(errors="replace")
