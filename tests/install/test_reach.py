"""The way to the cluster: kubeconfigs that lead nowhere, and an API server that goes away at any step and comes back."""

from __future__ import annotations

import base64
import json
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.world.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Bundles, Site

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]

MOMENTS = ("deployment wandb-controller-manager", "weightsandbiases wandb", "deployment wandb-console")
"""What has just been made when the API server goes away."""


def _config(site: Site) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(site.cluster.kubeconfig.read_text())
    return config


def test_a_kubeconfig_that_cannot_be_used_says_what_is_wrong_with_it(site: Site, bundles: Bundles, tmp_path: Path) -> None:
    token, context, ca = _config(site), _config(site), _config(site)
    token["users"][0]["user"] = {"token": "nobody"}
    context["current-context"] = "elsewhere"
    stranger = base64.b64encode(Authority.create(tmp_path).root.read_bytes()).decode()
    server = ca["clusters"][0]["cluster"]["server"]
    ca["clusters"][0]["cluster"] = {"server": server, "certificate-authority-data": stranger}
    told = [
        ("does not accept the kubeconfig's credentials", json.dumps(token)),
        ("kubeconfig cannot be used", json.dumps(context)),
        ("kubeconfig cannot be used", "{"),
        ("certificate is not accepted", json.dumps(ca)),
        ("no kubeconfig names a cluster", ""),
    ]
    site.kubeconfig = tmp_path / "config"
    for sentence, text in told:
        site.kubeconfig.write_text(text)
        said = site.refused(bundles.new)
        (error,) = [line for line in said.splitlines() if line.startswith("Error")]
        assert sentence in error, said
        assert "Hint" in said


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_api_server_that_goes_away_at_any_step_is_waited_for(site: Site, bundles: Bundles, moment: str) -> None:
    said = site.folder / "said"
    with said.open("wb") as log:
        command = site.command("install", bundles.new, "--timeout", "150s")
        process = subprocess.Popen(command, env=site.environ, cwd=site.folder, stdout=log, stderr=log)
    try:
        site.cluster.until(lambda: _is_there(site, *moment.split()), f"{moment} is there", 150)
        site.cluster.restart_api()
        code = process.wait(200)
    finally:
        process.kill()
        process.wait()
    assert code == 0, said.read_text(errors="replace")[-3000:]
    assert site.resource()["status"]["phase"] == "Completed"
    assert site.receipt(1)["state"] == "done"


def _is_there(site: Site, kind: str, name: str) -> bool:
    with suppress(AssertionError):  # the kind itself is not there yet
        return bool(site.cluster.get(kind, name, site.namespace))
    return False
