"""The whole story, as a user tells it to the command line: two halves of a world, one file between them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from airgap.manifest import default_manifest
from airgap.ref import Reference
from tests.e2e.conftest import PREFIX, PYTHONS, Bare, Done, Steps, refused, served, well
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.fixtures import Inside, World

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]

PYTHON_IMAGE = "us-docker.pkg.dev/wandb-production/public/python:3.12"


def images(lock: Path) -> dict[str, str]:
    """Return what a lock pins: reference to digest."""
    document = json.loads(lock.read_bytes())
    return {image["reference"]: image["tree"]["manifests"][-1]["digest"] for image in document["images"]}


# -- outside -----------------------------------------------------------------------------------------------------------------


def test_plan_shows_each_image_with_its_size_and_what_each_feature_would_add(crossing: Steps) -> None:
    for reference, digest in images(crossing.lock).items():
        assert re.search(rf"^{re.escape(reference)} +\S+ \S+ +{digest[7:19]} ", crossing.planned.stdout, re.MULTILINE)
    features = crossing.planned.stdout.partition("FEATURE")[2]
    assert re.search(r"^unrendered +no +1 +\? +docker.io/bitnamilegacy/bufstream:0.3.0$", features, re.MULTILINE), "no prose"
    assert re.search(r"^weave-trace +no +1 +\S+ \S+ +docker.io/wandb/weave-trace:0.78.1$", features, re.MULTILINE)


def test_the_newest_stable_charts_are_taken_although_the_index_tempts_with_prereleases(crossing: Steps) -> None:
    charts = {it["name"]: it["version"] for it in json.loads(crossing.lock.read_bytes())["artifacts"] if it["kind"] == "chart"}
    assert charts == {"operator": "1.4.0", "operator-wandb": "0.43.0"}


def test_one_token_is_asked_for_per_repository(crossing: Steps) -> None:
    scopes = [token["parameters"]["scope"][0] for token in crossing.tokens]  # type: ignore[index]
    assert len(scopes) == len(set(scopes)) > 5
    assert {scope.rpartition(":")[2] for scope in scopes} == {"pull"}


def test_mirror_fetches_no_blob_and_no_manifest_twice(crossing: Steps) -> None:
    blobs, manifests = served(crossing.mirror_log), served(crossing.mirror_log, "manifests")
    assert len(blobs) > 20
    assert len(manifests) > 10
    assert {path: times for path, times in {**blobs, **manifests}.items() if times > 1} == {}


def test_plan_fetches_no_layer_and_each_manifest_once(crossing: Steps) -> None:
    locked = json.loads(crossing.lock.read_bytes())
    layers = {blob["digest"] for image in locked["images"] for blob in image["tree"]["blobs"] if "tar" in blob["mediaType"]}
    assert {path for path in served(crossing.plan_log) if path.rpartition("/")[2] in layers} == set()
    assert {path: times for path, times in served(crossing.plan_log, "manifests").items() if times > 1} == {}


def test_why_prints_the_chain_from_the_chart_to_the_value(world: World, tmp_path: Path) -> None:
    told = well(world.run("airgap", "plan", "--why", "quay.io/prometheus/prometheus:v2.47.0", folder=tmp_path)).stdout
    assert "needed by default" in told
    assert re.search(r"operator-wandb-0\.43\.0 > .*prometheus.*deployment\.yaml > Deployment/wandb-prometheus-server", told)
    assert not (tmp_path / "airgap.lock").exists(), "a question writes nothing"


def test_all_features_bring_every_image_of_the_upstream(world: World, crossing: Steps, tmp_path: Path) -> None:
    text = default_manifest().read_text().replace("features: default", "features: all")
    (tmp_path / "all.yaml").write_text(text)
    well(world.run("airgap", "plan", "-f", "all.yaml", "--lock", "all.lock", folder=tmp_path))
    found = set(images(tmp_path / "all.lock"))
    assert found > set(images(crossing.lock))
    missing = {"docker.io/wandb/weave-trace:0.78.1", "docker.io/library/mysql:8.4", "gcr.io/cadvisor/cadvisor:v0.49.1"} - found
    assert missing == set()


# -- the medium --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", PYTHONS)
def test_the_bundle_verifies_itself_on_every_python_without_packages(bare: Bare, python: str) -> None:
    done = well(Bare(bare.half, bare.bundle, bare.home, PYTHONS[python]).run("verify", "wandb.tar"))
    assert re.search(r"wandb.tar: whole, \d+ blobs", done.stdout)
    assert list(bare.home.iterdir()) == [] or (bare.home / ".cache").exists()


def test_inspect_says_what_is_inside(bare: Bare, crossing: Steps) -> None:
    names = well(bare.run("inspect", "wandb.tar", "-o", "name")).stdout.split()
    assert names == sorted(images(crossing.lock))
    document = json.loads(well(bare.run("inspect", "wandb.tar", "-o", "json")).stdout)
    assert document["schemaVersion"] == 1
    lock = well(bare.run("inspect", crossing.lock, "-o", "name")).stdout.split()
    assert lock == names, "a lock by itself is shown the same way"


# -- inside ------------------------------------------------------------------------------------------------------------------


def test_config_explain_names_the_layer_of_each_value_and_shows_no_secret(bare: Bare, tmp_path: Path) -> None:
    console = tmp_path / "console.yaml"
    console.write_text("global: {mysql: {password: hidden-one}, extraEnv: {FROM: console}}\n")
    told = well(bare.run("config", "explain", "wandb.tar", "--values", "user.yaml", "--user-input", console, "-o", "json"))
    found = {item["path"]: (item["value"], item["layer"]) for item in json.loads(told.stdout)["values"]}
    assert found["global.host"][1] == "the custom resource"
    assert found["global.extraEnv.FROM"] == ("console", "the user input")
    assert found["global.operator.namespace"] == ("wandb", "the operator's defaults")
    assert "the release channel" in {layer for _, layer in found.values()}
    assert "hidden-one" not in told.stdout + told.stderr


def test_push_puts_every_image_under_its_source_host_by_digest_and_tag(pushed: Done, crossing: Steps, inside: Inside) -> None:
    repositories = inside.storage / "docker/registry/v2/repositories" / PREFIX
    for text, digest in images(crossing.lock).items():
        reference = Reference.parse(text)
        tag = repositories / reference.registry / reference.repository / "_manifests/tags" / str(reference.tag) / "current/link"
        assert tag.read_text() == digest


def test_the_second_push_sends_nothing(pushed: Done, bare: Bare) -> None:
    again = json.loads(well(bare.signed_in("push", "wandb.tar", "-o", "json")).stdout)
    assert (again["sent"], again["mounted"], again["sentBytes"]) == (0, 0, 0)
    assert {item["note"] for item in again["items"]} == {"already there"}


def test_a_dry_run_of_push_sends_nothing_and_says_what_it_would(bare: Bare, inside: Inside) -> None:
    told = json.loads(well(bare.signed_in("push", "wandb.tar", "--dry-run", "-o", "json", prefix="dry")).stdout)
    assert told["plan"]["blobs"] > 20
    kept = inside.storage / "docker/registry/v2/repositories/dry"
    assert not kept.exists(), "nothing is left of a dry run"
    well(bare.signed_in("push", "wandb.tar", "--dry-run", "--probe", prefix="dry"))
    assert {path.name for path in kept.rglob("_*")} <= {"_uploads"}, "asking for an upload shows which repository is missing"


def test_helm_pulls_the_chart_from_the_private_registry(pushed: Done, bare: Bare, inside: Inside, tmp_path: Path) -> None:
    helm = (find_binary("helm"), "pull", f"oci://{inside.registry}/{PREFIX}/charts/operator-wandb", "--version", "0.43.0")
    settings = ("--ca-file", inside.ca_file, "--registry-config", inside.auth_file)
    well(inside.run(*helm, *settings, folder=tmp_path))
    pulled = (tmp_path / "operator-wandb-0.43.0.tgz").read_bytes()
    listed = json.loads(well(bare.run("inspect", "wandb.tar", "-o", "json")).stdout)
    assert hashlib.sha256(pulled).hexdigest() in json.dumps(listed)


def test_render_writes_pull_secret_and_authority_and_points_every_image_inside(site: Path, inside: Inside) -> None:
    secret = yaml.safe_load((site / "secrets.yaml").read_text())
    auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    assert auths[inside.registry]["password"] == inside.password
    operator = yaml.safe_load((site / "operator-values.yaml").read_text())
    assert operator["airgapped"] is True
    assert operator["customCACerts"] == [inside.ca_file.read_text()]
    assert operator["image"]["pullSecrets"] == [secret["metadata"]["name"]]
    resource = yaml.safe_load((site / "wandb.yaml").read_text())
    app = resource["spec"]["values"]["app"]["image"]
    assert app["repository"] == f"{inside.registry}/{PREFIX}/docker.io/wandb/local"
    assert app["digest"].startswith("sha256:")


def test_audit_of_the_bundle_is_closed(pushed: Done, bare: Bare) -> None:
    done = well(bare.signed_in("audit", "wandb.tar", "--values", "user.yaml"))
    assert re.search(r"^closed: \d+ image references, 0 of them open, 0 open URLs", done.stdout, re.MULTILINE)
    assert re.search(rf"^inert +{re.escape(PYTHON_IMAGE)}$", done.stdout, re.MULTILINE), "a helm test is listed, not hidden"


def test_audit_of_the_rendered_folder_is_closed_with_the_helm_of_the_bundle_that_runs(site: Path, bare: Bare) -> None:
    assert "\nclosed: " in well(bare.signed_in("audit", "site")).stdout


@pytest.fixture
def edited(site: Path, bare: Bare) -> Path:
    """A rendered folder of one's own, beside the bundle."""
    copy = bare.bundle.parent / "edited"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(site, copy)
    return copy


def test_a_hand_edit_that_points_outside_is_open_with_template_path_and_fix(edited: Path, bare: Bare, inside: Inside) -> None:
    resource = edited / "wandb.yaml"
    moved = f"{inside.registry}/{PREFIX}/docker.io/wandb/console"
    assert moved in resource.read_text()
    resource.write_text(resource.read_text().replace(moved, "docker.io/wandb/console"))
    done = bare.signed_in("audit", "edited")
    refused(done, 5, "not closed: 1 open")
    group = done.stdout.partition("\nclosed")[0].partition("\ninert")[0]
    assert re.match(r"open +docker\.io/wandb/console", group)
    assert re.search(r"^ +fix: \S", group, re.MULTILINE)
    where = "Deployment/wandb-console spec.template.spec.containers[0].image"
    assert re.search(rf"^ +operator-wandb/\S+\.yaml: {re.escape(where)}$", group, re.MULTILINE)


def test_a_mail_sink_that_is_left_empty_is_open(pushed: Done, bare: Bare) -> None:
    text = (bare.bundle.parent / "user.yaml").read_text()
    leaking = yaml.safe_load(text)
    del leaking["global"]["email"]
    (bare.bundle.parent / "no-mail.yaml").write_text(yaml.safe_dump(leaking))
    done = bare.signed_in("audit", "wandb.tar", "--values", "no-mail.yaml", "-o", "json")
    refused(done, 5, "not closed")
    found = [it for it in json.loads(done.stdout)["findings"] if it["verdict"] == "open"]
    assert {it["text"] for it in found} == {"https://api.wandb.ai/email/dispatch"}
    assert all(it["fix"] and it["template"] and it["path"] for it in found)


def test_an_image_that_was_deleted_or_replaced_in_the_registry_is_open(bare: Bare, inside: Inside, tmp_path: Path) -> None:
    well(bare.signed_in("push", "wandb.tar", prefix="worn"))
    worn = inside.storage / "docker/registry/v2/repositories/worn"
    shutil.rmtree(worn / "docker.io/wandb/console/_manifests")
    # Under the collector's tag stands another image now, and its own has gone.
    shutil.rmtree(worn / "docker.io/otel/opentelemetry-collector-contrib/_manifests")
    source, target = "docker.io/alpine/k8s:1.31.12", "docker.io/otel/opentelemetry-collector-contrib:0.97.0"
    copied = (f"docker://{inside.registry}/worn/{name}" for name in (source, target))
    well(inside.run(find_binary("skopeo"), "--insecure-policy", "copy", *copied, folder=tmp_path))
    done = bare.signed_in("audit", "wandb.tar", "--values", "user.yaml", "-o", "json", prefix="worn")
    refused(done, 5, "not closed")
    found = [it for it in json.loads(done.stdout)["findings"] if it["verdict"] == "open"]
    assert {it["text"].partition("@")[0].partition(":0.97")[0].partition("worn/")[2] for it in found} == {
        "docker.io/wandb/console",
        "docker.io/otel/opentelemetry-collector-contrib",
    }
    assert all(it["fix"] for it in found)
    well(bare.signed_in("push", "wandb.tar", prefix="worn"))
    assert "\nclosed: " in well(bare.signed_in("audit", "wandb.tar", "--values", "user.yaml", prefix="worn")).stdout
