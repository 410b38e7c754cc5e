from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from airgap.demo.images import build, recipes, uploads
from airgap.demo.site import WEB_HOSTS
from airgap.demo.upstream import EXTRA_IMAGE, IntoRegistry, bundle_manifest, fill, source_hosts
from airgap.manifest import BundleManifest
from airgap.registry import Registry
from airgap.transport import Client, HostSettings
from airgap.values import dump_yaml
from tests.world.registries import find_binary, start_crane, start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.world.registries import RunningRegistry


def filled(registry: RunningRegistry) -> Registry:
    connected = Registry(Client(hosts={registry.host: HostSettings(plain_http=True)}, environ={}), registry.host)
    fill(IntoRegistry(connected))
    return connected


@pytest.mark.registry
@pytest.mark.parametrize("start", [start_docker_registry, start_distribution3, start_crane])
def test_real_registries_take_every_image_and_skopeo_copies_them_all(
    start: Callable[[Path], RunningRegistry], tmp_path: Path
) -> None:
    skopeo = find_binary("skopeo")
    with start(tmp_path) as registry:
        filled(registry)
        for number, upload in enumerate(uploads()):
            tag = next(put for put in upload.manifests if not put.locator.startswith("sha256"))
            source = f"docker://{registry.host}/{upload.registry}/{upload.repository}:{tag.locator}"
            folder = tmp_path / f"copy-{number}"
            copy = ["copy", "--insecure-policy", "--all", "--preserve-digests", "--src-tls-verify=false"]
            subprocess.run([skopeo, *copy, source, f"dir:{folder}"], check=True, capture_output=True, timeout=60)
            assert (folder / "manifest.json").read_bytes() == tag.raw


@pytest.mark.registry
def test_what_a_registry_serves_is_byte_for_byte_what_was_built(tmp_path: Path) -> None:
    with start_docker_registry(tmp_path) as registry:
        connected = filled(registry)
        for upload in uploads():
            for put in upload.manifests:
                served = connected.get_manifest(f"{upload.registry}/{upload.repository}", put.locator)
                assert served.raw == put.raw


def test_a_push_callback_gets_every_repository_once() -> None:
    taken: list[str] = []
    fill(lambda upload: taken.append(f"{upload.registry}/{upload.repository}"))
    assert taken == [recipe.reference.name for recipe in recipes()]


def test_the_manifest_is_valid_and_replaces_every_host_of_the_upstream(tmp_path: Path) -> None:
    text = dump_yaml(bundle_manifest("127.0.0.1:1", "127.0.0.1:2"))
    manifest = BundleManifest.parse(text.encode(), tmp_path / "demo.yaml")
    assert set(manifest.hosts) == set(WEB_HOSTS)
    assert set(manifest.registries) == set(source_hosts())
    assert {(mirror.host, mirror.plain_http) for mirror in manifest.registries.values()} == {("127.0.0.1:2", True)}


def test_the_image_that_no_chart_names_is_among_those_that_are_built() -> None:
    recipe = next(recipe for recipe in recipes() if str(recipe.reference) == EXTRA_IMAGE)
    assert len(recipe.platforms) == 3
    assert build(recipe).manifests[-1].locator == "1.36"
