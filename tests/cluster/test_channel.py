"""The operator with its release channel, and where no operator is."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.cluster.site import Site, Web, repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.fixtures import Operator
    from tests.cluster.plane import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.helm]


def test_the_release_channel_is_the_lowest_layer_and_outlives_its_server(
    cluster: Cluster, operator: Operator, namespace: str, charts: dict[str, Path], web: tuple[str, type[Web]]
):
    url, served = web
    repository(served, charts)
    chart = {"url": url, "name": "operator-wandb", "version": "0.43.0"}
    said = {
        "metadata": {"channel": "x"},
        "chart": chart,
        "values": {"console": {"tolerations": [{"key": "chan"}]}, "a": "chan"},
    }
    served.files["/api/v1/operator/channel"] = json.dumps(said).encode()
    extra = [{"name": "DEPLOYER_CHANNEL_URL", "value": url}]
    with operator.install("wandb-connected", airgapped=False, extraEnv=extra):
        site = Site(cluster, namespace, operator)
        site.apply(None, console={"tolerations": [{"key": "cr"}]}, **{"global": {"license": "abc"}})
        site.becomes("Completed")
        active = site.secret("spec-active")
        assert (active["metadata"], active["chart"]["url"]) == ({"channel": "x"}, url)
        assert active["values"]["console"]["tolerations"] == [{"key": "cr"}, {"key": "chan"}]
        basic = "Basic " + base64.b64encode(b"license:abc").decode()
        assert ("/api/v1/operator/channel", basic) in served.asked
        assert site.secret("latest-cached-release")["values"] == said["values"]
        del served.files["/api/v1/operator/channel"]
        site.apply(None, a="cr", **{"global": {"license": "abc"}})
        cluster.until(lambda: site.secret("spec-active")["values"]["a"] == "cr", "the cached release serves")
        site.delete()
        site.becomes("gone")


def test_nothing_happens_without_an_operator(cluster: Cluster, operator: Operator, namespace: str, charts: dict[str, Path]):
    with operator.install("wandb-unready"):
        cluster.kubectl("scale", "deployment", "wandb-controller-manager", "-n", "wandb-unready", "--replicas=0")
        cluster.until(lambda: not cluster.objects("pods", "wandb-unready"))
        metadata = {"name": "wandb", "namespace": namespace}
        resource = {"apiVersion": "apps.wandb.com/v1", "kind": "WeightsAndBiases", "metadata": metadata, "spec": {"values": {}}}
        cluster.apply(resource)
        before = operator.log
        cluster.until(lambda: "is no more" in operator.log)
        assert "Reconciling" not in operator.log[len(before) :]
        cluster.kubectl("delete", "wandb", "wandb", "-n", namespace)
