from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airgap.demo.images import recipes
from airgap.ref import Reference
from tests.demo.conftest import DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.demo.conftest import Render

pytestmark = pytest.mark.helm

EVERYTHING = (
    "weave-trace.install=true,settingsMigrationJob.install=true,mysql.install=true,yace.install=true,cadvisor.install=true",
    "bufstream.install=true,bufstream.bufstream.bucket.name=topics",
    "redis.metrics.enabled=true,redis.volumePermissions.enabled=true,otel.deployment.install=true",
    "prometheus.redis-exporter.enabled=true",
    "ingress.issuer.create=true,ingress.issuer.email=ops@datacenter.example,global.license=x,global.customCACerts={pem}",
)
LABEL = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


def pod_specs(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("containers"), list):
            yield node
        for value in node.values():
            yield from pod_specs(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_specs(value)


def images(documents: list[dict[str, Any]]) -> set[str]:
    return {
        container["image"]
        for document in documents
        for spec in pod_specs(document)
        for container in (*spec["containers"], *spec.get("initContainers", ()))
    }


@pytest.mark.parametrize("name", ["operator", "operator-wandb"])
def test_helm_lint_has_nothing_to_say_but_the_missing_icon(helm: str, name: str) -> None:
    done = subprocess.run(
        [helm, "lint", str(DATA / "charts" / name), "--strict", "--kube-version", "1.34.4"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert said == ["[INFO] Chart.yaml: icon is recommended"]


def test_the_default_installation_asks_for_these_images(render: Render) -> None:
    assert images(render("operator-wandb")) == {
        "wandb/local:0.78.1",
        "wandb/console:2.20.0",
        "wandb/weave-python:0.78.1",
        "wandb/megabinary:0.78.1",
        "alpine/k8s:1.31.12",
        "docker.io/bitnamilegacy/redis:7.2.4-debian-12-r9",
        "otel/opentelemetry-collector-contrib:0.97.0",
        "quay.io/prometheus/prometheus:v2.47.0",
        "quay.io/prometheus-operator/prometheus-operator:v0.67.0",
        "quay.io/prometheus-operator/prometheus-config-reloader:v0.67.0",
        "us-docker.pkg.dev/wandb-production/public/python:3.12",
    }


def test_every_image_of_every_feature_can_be_built(render: Render) -> None:
    known = {Reference.parse(f"{recipe.reference.name}:{tag}") for recipe in recipes() for tag in recipe.tags}
    asked = {Reference.parse(text) for text in images(render("operator-wandb", *EVERYTHING)) | images(render("operator"))}
    assert asked <= known
    assert {reference.name for reference in known - asked} == {
        "docker.io/library/busybox",  # asked for by the manifest
        "docker.io/wandb/controller",  # its other tag
    }


def test_bufstream_does_not_render_without_a_bucket(render: Render) -> None:
    with pytest.raises(ValueError, match=r"\.Values\.bufstream\.bucket\.name is required"):
        render("operator-wandb", "bufstream.install=true")


def test_a_containers_own_image_wins_over_its_components(render: Render) -> None:
    switched_on = "settingsMigrationJob.install=true"
    before = images(render("operator-wandb", switched_on))
    assert images(render("operator-wandb", switched_on, "settingsMigrationJob.image.repository=moved")) == before
    deep = "settingsMigrationJob.jobs.smj.containers.smj.image.repository=moved"
    assert "moved:0.78.1" in images(render("operator-wandb", switched_on, deep))


def test_the_two_global_prefixes_reach_what_they_reach_in_the_real_chart(render: Render) -> None:
    found = images(render("operator-wandb", *EVERYTHING, "global.repositoryPrefix=reg.lan/p,global.imageRegistry=reg.lan/p"))
    outside = {image for image in found if not image.startswith("reg.lan/p/")}
    assert {Reference.parse(image).registry for image in outside} == {
        "docker.io",  # the exporter of the nested chart
        "gcr.io",
        "ghcr.io",
        "quay.io",
        "us-docker.pkg.dev",
    }
    assert {"reg.lan/p/mysql:8.4", "reg.lan/p/bitnamilegacy/redis:7.2.4-debian-12-r9"} <= found


def test_a_digest_takes_the_tags_place_and_shortens_in_the_label(render: Render) -> None:
    digest = "sha256:" + "12ab" * 16
    documents = render("operator-wandb", f"app.image.digest={digest}")
    app = next(item for item in documents if item["kind"] == "Deployment" and item["metadata"]["name"] == "wandb-app")
    assert {container["image"] for container in app["spec"]["template"]["spec"]["containers"]} == {f"wandb/local@{digest}"}
    assert app["metadata"]["labels"]["app.kubernetes.io/version"] == "12ab12ab12ab"


def test_the_tag_is_the_version_label_as_it_stands_so_that_a_digest_in_it_is_refused_by_kubernetes(render: Render) -> None:
    documents = render("operator-wandb", "app.image.tag=1@sha256:abc")
    labels = {item["metadata"].get("labels", {}).get("app.kubernetes.io/version") for item in documents}
    assert "1@sha256:abc" in labels
    assert not LABEL.fullmatch("1@sha256:abc")


def test_mail_goes_to_the_vendor_until_the_site_names_its_own_server(render: Render) -> None:
    def sinks(**how: Any) -> set[str]:
        return {
            variable["value"]
            for document in render("operator-wandb", **how)
            for spec in pod_specs(document)
            for container in (*spec["containers"], *spec.get("initContainers", ()))
            for variable in container.get("env", ())
            if variable["name"] == "EMAIL_SINK"
        }

    assert sinks(site=False) == {"https://api.wandb.ai/email/dispatch"}
    assert sinks() == {"smtp://smtp.datacenter.example:587?from=wandb@datacenter.example"}


def test_an_issuer_asks_lets_encrypt_only_when_it_is_made(render: Render) -> None:
    assert "letsencrypt" not in str(render("operator-wandb"))
    assert "https://acme-v02.api.letsencrypt.org/directory" in str(render("operator-wandb", "ingress.issuer.create=true"))


def test_pull_secrets_given_as_maps_reach_every_pod_but_the_test(render: Render) -> None:
    for document in render("operator-wandb", *EVERYTHING, "global.imagePullSecrets[0].name=pull"):
        for spec in pod_specs(document):
            hook = document["metadata"].get("annotations", {}).get("helm.sh/hook")
            assert spec.get("imagePullSecrets") == (None if hook == "test" else [{"name": "pull"}]), document["metadata"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("operator", ()),
        ("operator", ("airgapped=true,customCACerts={pem},image.pullSecrets={pull}", "extraEnv[0].name=A,extraEnv[0].value=b")),
        ("operator", ("namespaceIsolation.enabled=true",)),
        ("operator-wandb", ()),
        ("operator-wandb", EVERYTHING),
    ],
)
def test_the_objects_keep_what_an_api_server_checks_first(render: Render, name: str, settings: tuple[str, ...]) -> None:
    seen = set()
    for document in render(name, *settings):
        metadata = document["metadata"]
        key = (document["apiVersion"], document["kind"], metadata["name"])
        assert key not in seen
        seen.add(key)
        assert NAME.fullmatch(metadata["name"]), key
        assert all(isinstance(value, str) and LABEL.fullmatch(value) for value in metadata.get("labels", {}).values()), key
        selector = document.get("spec", {}).get("selector")
        if document["kind"] in {"Deployment", "StatefulSet", "DaemonSet"}:
            labels = document["spec"]["template"]["metadata"]["labels"]
            assert selector["matchLabels"].items() <= labels.items(), key
        for spec in pod_specs(document.get("spec", {})):
            volumes = {volume["name"] for volume in spec.get("volumes", ())}
            volumes |= {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", ())}
            for container in (*spec["containers"], *spec.get("initContainers", ())):
                assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes, key
                for variable in container.get("env", ()):
                    assert isinstance(variable.get("value", ""), str), key


def test_the_crd_takes_any_chart_and_values(render: Render) -> None:
    (crd,) = (item for item in render("operator") if item["kind"] == "CustomResourceDefinition")
    (version,) = crd["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert crd["metadata"]["name"] == f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
    assert all(spec[field]["x-kubernetes-preserve-unknown-fields"] for field in ("chart", "values"))


def test_the_custom_resource_says_what_the_values_file_says() -> None:
    resource = yaml.safe_load((DATA / "custom-resource.yaml").read_text())
    assert resource["spec"]["values"] == yaml.safe_load((DATA / "values.yaml").read_text())


def test_the_data_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 150_000
