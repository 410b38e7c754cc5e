"""The manifest: what it says, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from airgap.errors import ConfigurationError
from airgap.manifest import BundleManifest, Mirror, WheelEntry, base_url, default_manifest, schema
from airgap.oci import Digest, Platform

HEAD = "apiVersion: airgap/v1\nkind: BundleManifest\nmetadata: {name: x}\n"


def parse(text: str, head: str = HEAD) -> BundleManifest:
    return BundleManifest.parse((head + text).encode(), Path("/site/manifests/m.yaml"))


def fault(text: str, head: str = HEAD) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, head)
    return caught.value.message


def test_the_default_manifest_needs_no_edit():
    manifest = BundleManifest.load()
    assert manifest.name == "wandb"
    assert manifest.channel
    assert manifest.channel.url == "https://deploy.wandb.ai"
    assert manifest.channel.release == "latest"
    assert [(chart.name, chart.from_channel) for chart in manifest.charts] == [("operator", False), ("operator-wandb", True)]
    assert manifest.features == "default"
    assert manifest.platforms == (Platform("linux", "amd64"),)


def test_the_default_manifest_is_the_one_in_the_manifests_folder():
    assert default_manifest().parts[-2:] == ("manifests", "wandb.yaml")


def test_paths_are_relative_to_the_manifest():
    manifest = parse(
        "channel: {path: saved/spec.json, licenseFile: /etc/licence}\n"
        "charts: [{name: a, path: ../a-1.tgz, values: [v.yaml], profiles: {ha: [ha.yaml]}}]\n"
        "registries: {docker.io: {mirror: art.corp/hub/, caFile: ca.pem}}\n"
    )
    assert manifest.channel
    assert manifest.channel.path == Path("/site/manifests/saved/spec.json")
    assert manifest.channel.license_file == Path("/etc/licence")
    chart = manifest.chart("a")
    assert chart
    assert chart.path == Path("/site/manifests/../a-1.tgz")
    assert chart.values == (Path("/site/manifests/v.yaml"),)
    assert chart.profiles == {"ha": (Path("/site/manifests/ha.yaml"),)}
    assert manifest.registries == {"docker.io": Mirror("art.corp", "hub", ca_file=Path("/site/manifests/ca.pem"))}
    assert manifest.chart("b") is None


def test_docker_hub_has_one_name_and_hosts_are_lower_case():
    manifest = parse("registries: {Registry-1.Docker.IO: {plainHTTP: true}}\nhosts: {Charts.WandB.ai: {mirror: 'art:8443'}}\n")
    assert manifest.registries == {"docker.io": Mirror(plain_http=True)}
    assert manifest.hosts == {"charts.wandb.ai": Mirror("art:8443")}


def test_images_may_come_from_the_docker_engine():
    manifest = parse("images: [busybox, 'docker-daemon:site/tool:1']\n")
    assert [(str(image.reference), image.local) for image in manifest.images] == [
        ("docker.io/library/busybox:latest", False),
        ("docker.io/site/tool:1", True),
    ]


def test_wheels_are_requirements_for_a_python():
    manifest = parse(
        "wheels:\n- {requirements: ['wandb[media]>=0.18', numpy], python: '3.11'}\n"
        "- {requirements: [a], python: '3.9', platforms: [win_amd64, musllinux_1_2_x86_64]}\n"
    )
    assert manifest.wheels == (
        WheelEntry(("wandb[media]>=0.18", "numpy"), "3.11"),
        WheelEntry(("a",), "3.9", ("win_amd64", "musllinux_1_2_x86_64")),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{requirements: [a]}", "wheels[0] lacks python"),
        ("{requirements: [], python: '3.11'}", "wheels[0].requirements: it must not be empty"),
        ("{requirements: ['a @ https://x/y'], python: '3.11'}", "wheels[0].requirements[0]: it must look like"),
        ("{requirements: [--index-url=x], python: '3.11'}", "wheels[0].requirements[0]: it must look like"),
        ("{requirements: [./a.whl], python: '3.11'}", "wheels[0].requirements[0]: it must look like"),
        ("{requirements: [a], python: 3.11}", "wheels[0].python: it must be a string"),
        ("{requirements: [a], python: '3.11', platforms: [linux/amd64]}", "wheels[0].platforms[0]: it must look like"),
    ],
)
def test_wheels_that_pip_could_take_otherwise_are_refused(text: str, told: str):
    assert told in fault(f"wheels: [{text}]\n")


def test_files_have_a_name_and_those_from_outside_a_digest():
    digest = Digest.of(b"x")
    manifest = parse(f"files: [{{path: docs/guide.pdf}}, {{url: 'https://h/a/b.bin', sha256: {digest.hex}, name: c}}]\n")
    assert [(file.name, file.path, file.url, file.digest) for file in manifest.files] == [
        ("guide.pdf", Path("/site/manifests/docs/guide.pdf"), "", None),
        ("c", None, "https://h/a/b.bin", digest),
    ]


@pytest.mark.parametrize(
    ("text", "platforms"),
    [("[linux/arm64/v8]", (Platform("linux", "arm64", "v8"),)), ("[all]", ()), ("[linux/amd64, all]", ())],
)
def test_platforms_are_listed_or_all(text: str, platforms: tuple[Platform, ...]):
    assert parse(f"platforms: {text}\n").platforms == platforms


def test_features_are_default_all_or_names():
    assert parse("features: all\n").features == "all"
    assert parse("features: [bufstream, redis.metrics]\n").features == ("bufstream", "redis.metrics")


def test_an_unknown_key_is_told_with_the_nearest_known_one():
    assert "unknown key 'platfroms' (did you mean 'platforms'?)" in fault("platfroms: [linux/amd64]\n")
    assert "charts[0] has the unknown key 'repositry' (did you mean 'repository'?)" in fault(
        "charts: [{name: a, repositry: https://x}]\n"
    )
    assert "registries.\"quay.io\" has the unknown key 'zzz' (known: caFile, mirror, plainHTTP)" in fault(
        "registries: {quay.io: {zzz: 1}}\n"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("charts: [{name: a}]\n", "charts[0] must have exactly one of repository, from, path, not none"),
        ("charts: [{name: a, path: x, from: channel}]\nchannel: {}\n", "not from and path"),
        ("charts: [{name: a, path: x}, {name: a, path: y}]\n", "charts has 'a' twice"),
        ("charts: [{name: a, from: channel}]\n", "a chart comes from the channel but there is no channel"),
        ("charts: [{name: a, from: chanel}]\n", "charts[0].from: it must be 'channel'"),
        ("charts: [{repository: https://x}]\n", "charts[0] lacks name"),
        ("files: [{url: https://x/y}]\n", "files[0] has a url but no sha256"),
        ("features: al\n", "features must be default, all or a list of names, not 'al'"),
        ("platforms: []\n", "platforms: it must not be empty"),
        ("platforms: linux\n", "platforms: it must be an array"),
        ("channel: {url: 'https://user:pw@h'}\n", "channel.url: it must look like"),
        ("charts: {}\n", "charts: it must be an array, not {}"),
        ("images: ['" + "x" * 80 + "', 3]\n", "images[1]: it must be a string, not 3"),
        ("files: [{path: a, sha256: " + "a" * 70 + "}]\n", "aaa..."),
    ],
)
def test_what_the_schema_or_sense_forbids_is_told(text: str, told: str):
    assert told in fault(text)


def test_every_fault_is_told_at_once():
    message = fault("feature: all\nplatforms: []\ncharts: [{name: a}]\n")
    assert message.count(";") == 2


def test_a_reference_in_upper_case_is_refused():
    assert "upper case" in fault("images: [quay.io/Team/x:1]\n")


def test_what_is_no_manifest_is_refused():
    assert "it is empty" in fault("", head="") or "must be an object" in fault("", head="")
    assert "apiVersion: it must be 'airgap/v1'" in fault("", head=HEAD.replace("airgap/v1", "airgap/v9"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        BundleManifest.load(Path("/nonexistent/m.yaml"))


@pytest.mark.parametrize(
    "url",
    ["https://deploy.wandb.ai", "https://deploy.wandb.ai/", "https://deploy.wandb.ai/api/v1/operator/channel"],
)
def test_the_channel_may_be_given_with_or_without_the_path_of_its_api(url: str):
    assert base_url(url) == "https://deploy.wandb.ai"


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())
