"""Node mirror files: every format leads every reference inside, and none lets it fall back to the outside."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airgap.errors import AirgapError
from airgap.ref import Location, Reference
from airgap.relocate import MirrorOptions, mirrors
from airgap.relocate.mirrors import CONF, OPENSHIFT, RANCHER, mirror_files, resolve
from airgap.values import load_yaml, load_yaml_all
from tests.world.images import Picture, Pusher, draw
from tests.world.registries import find_binary, start_docker_registry

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    "nginx",
    "docker.io/wandb/local:1",
    "quay.io/prometheus/prometheus:v2@sha256:" + "ab" * 32,
    "reg.example:5000/a/b:1",
    "us-docker.pkg.dev/wandb-production/public/wandb/lumen:v0.1.5",
)
REFERENCES = [Reference.parse(name) for name in NAMES]
INSIDE = Location.parse("reg.lan:8443/team")


@pytest.mark.parametrize("place", ["reg.lan", "reg.lan:8443/team/deep"])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_leads_where_push_puts_it(place: str, name: str) -> None:
    location, reference = Location.parse(place), Reference.parse(name)
    found = resolve(mirror_files(REFERENCES, location, MirrorOptions()), reference)
    assert set(found.values()) == {location.relocate(reference).name}
    assert len(found) == 4


def test_what_is_not_in_the_bundle_is_led_nowhere_by_name() -> None:
    files = mirror_files(REFERENCES, INSIDE, MirrorOptions())
    assert set(resolve(files, Reference.parse("gcr.io/x/y:1")).values()) == {""}


def test_a_file_that_misleads_is_never_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "_place", lambda host, _: host)
    with pytest.raises(AirgapError, match=r"leads docker.io/library/nginx:latest to .* instead of"):
        mirror_files(REFERENCES, INSIDE, MirrorOptions())


def test_containerd_has_no_server_outside_and_a_table_in_the_default_too() -> None:
    files = mirror_files(REFERENCES, INSIDE, MirrorOptions(ca_file="/etc/pki/site.pem"))
    for name, text in files.items():
        if name.startswith("containerd/"):
            assert 'server = "https://reg.lan:8443"' in text
            assert '[host."https://reg.lan:8443' in text
            assert 'ca = "/etc/pki/site.pem"' in text


def test_the_toml_files_are_toml() -> None:
    tomllib: Any = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    files = mirror_files(REFERENCES, INSIDE, MirrorOptions(plain_http=True))
    parsed = tomllib.loads(files["containerd/docker.io/hosts.toml"])
    assert parsed["host"]["http://reg.lan:8443/v2/team/docker.io"] == {
        "capabilities": ["pull", "resolve"],
        "override_path": True,
    }
    (first, *_) = tomllib.loads(files[CONF])["registry"]
    assert first == {"prefix": "docker.io", "location": "reg.lan:8443/team/docker.io", "insecure": True}


def test_openshift_gets_digests_and_tags_with_the_source_forbidden() -> None:
    sets: Any = load_yaml_all(mirror_files(REFERENCES, INSIDE, MirrorOptions())[OPENSHIFT], OPENSHIFT)
    assert [document["kind"] for document in sets] == ["ImageDigestMirrorSet", "ImageTagMirrorSet"]
    digests, tags = (next(iter(document["spec"].values())) for document in sets)
    assert digests == tags
    assert {entry["mirrorSourcePolicy"] for entry in digests} == {"NeverContactSource"}
    assert "docker.io/library/nginx" in {entry["source"] for entry in digests}


def test_rancher_gets_an_anchored_rewrite_and_the_ca() -> None:
    document: Any = load_yaml(mirror_files(REFERENCES, INSIDE, MirrorOptions(ca_file="/ca.pem"))[RANCHER], RANCHER)
    assert document["mirrors"]["quay.io"] == {"endpoint": ["https://reg.lan:8443"], "rewrite": {"^(.*)$": "team/quay.io/$1"}}
    assert document["configs"] == {"reg.lan:8443": {"tls": {"ca_file": "/ca.pem"}}}


@pytest.mark.registry
def test_skopeo_pulls_an_outside_name_from_inside_by_registries_conf(tmp_path: Path) -> None:
    skopeo = find_binary("skopeo")
    with start_docker_registry(tmp_path) as registry:
        location = Location.parse(f"{registry.host}/team")
        reference = Reference.parse("quay.io/acme/app:1")
        Pusher(registry.url).push(draw(Picture(reference.name, ("1",))), location.relocate(reference).repository)
        conf = tmp_path / "registries.conf"
        conf.write_text(mirror_files([reference], location, MirrorOptions(plain_http=True))[CONF])
        command = [skopeo, "--registries-conf", str(conf), "inspect", "--raw", f"docker://{reference}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["layers"]
