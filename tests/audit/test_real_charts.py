"""The real W&B charts, where they are at hand: rewritten, pushed as tiny images, audited closed.

``AIRGAP_REAL_CHARTS`` names a folder with ``operator-*.tgz`` and ``operator-wandb-*.tgz``; nothing of them is in this checkout.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airgap.chart import Chart
from airgap.scan import parse_rendering, scan
from airgap.values import coalesce
from airgap.wandb import CustomResource, RepoChart
from tests.audit.site import Site, lock_of
from tests.relocate.shapes import references
from tests.world.registries import start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.helm, pytest.mark.registry, pytest.mark.slow]

SITE: dict[str, Any] = {
    "global": {
        "host": "https://wandb.corp.lan",
        "license": "x.y.z",
        "email": {"smtp": {"host": "smtp.corp.lan", "port": 25, "user": "mail", "password": "mailpw"}},
        "mysql": {"host": "mysql.corp.lan", "password": "topsecret", "user": "wandb", "database": "wandb"},
        "redis": {"host": "redis.corp.lan", "password": "redispw"},
        "bucket": {"provider": "s3", "name": "minio.corp.lan:9000", "path": "b", "accessKey": "A", "secretKey": "S"},
    },
    "mysql": {"install": False},
    "redis": {"install": False},
}


def real(pattern: str) -> Chart:
    folder = os.environ.get("AIRGAP_REAL_CHARTS")
    if not folder:
        pytest.skip("AIRGAP_REAL_CHARTS is not set")
    (found,) = (path for path in Path(folder).glob("*.tgz") if path.stem.rpartition("-")[0] == pattern)
    return Chart.load(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    operator, server = real("operator"), real("operator-wandb")
    folder = tmp_path_factory.mktemp("real")
    with start_docker_registry(folder) as running:
        yield Site(running, folder, SITE, server, operator)


def test_a_complete_site_is_closed_with_secrets_apart(site: Site) -> None:
    held = lock_of(site.found)
    site.fill(held)
    made = site.relocated(held, username="ann", password="pw")
    assert [it.is_test for it in made.unmoved] == [True] * len(made.unmoved)
    verdict = site.audit(held, made)
    assert verdict, [str(it) for it in verdict.open]
    assert not verdict.warnings
    assert "topsecret" not in made.files()["wandb.yaml"]
    assert made.notes == ()


def test_without_a_mail_server_the_sink_is_all_that_is_open(site: Site) -> None:
    bare = Site(
        site.running, site.folder, coalesce([SITE, {"global": {"email": {"smtp": {"host": ""}}}}]), site.server, site.operator
    )
    held = lock_of(bare.found)
    bare.fill(held)
    assert {it.text for it in bare.audit(held, bare.relocated(held)).open} == {"https://api.wandb.ai/email/dispatch"}
    bare.values = coalesce([bare.values, {"global": {"extraEnv": {"GORILLA_EMAIL_SINK": "smtp://localhost:25"}}}])
    assert bare.audit(held, bare.relocated(held)), "the way out that the fix names is one"


def test_the_documentations_paths_leave_each_of_these_outside(site: Site) -> None:
    """otel.image, prometheus.server and prometheus.configmapReload are no paths of the chart, and redis stays on."""
    inside = {"repository": f"{site.location}/x", "tag": "1"}
    values: dict[str, Any] = {
        **{name: {"image": inside} for name in ("app", "console", "parquet", "weave")},
        "otel": {"image": inside},
        "prometheus": {"server": {"image": inside}, "configmapReload": {"prometheus": {"image": inside}}},
    }
    held = lock_of(references(site.server, {}, site.folder))
    made = site.relocated(lock_of(site.found))
    resource = CustomResource("wandb", "wandb", RepoChart("https://charts.wandb.ai", "operator-wandb"), values)
    verdict = site.audit(held, made, resource=resource)
    outside = sorted(it.text.partition(":")[0] for it in verdict.open if it.reason.startswith("it is pulled from"))
    assert outside == [
        "alpine/k8s",
        "alpine/k8s",
        "docker.io/bitnamilegacy/redis",
        "otel/opentelemetry-collector-contrib",
        "quay.io/prometheus-operator/prometheus-config-reloader",
        "quay.io/prometheus/prometheus",
    ]


def test_the_operator_chart_reaches_the_channel_unless_told(site: Site) -> None:
    text = site.helm.template(site.operator.write(site.folder), release="operator", namespace="wandb")
    assert scan(parse_rendering(text, "operator")).containers
    made = site.relocated(lock_of(site.found))
    verdict = site.audit(lock_of(site.found), made, operator_values={**made.operator_values, "airgapped": False})
    assert {it.kind for it in verdict.open} == {"setting"}
