"""From a manifest to charts, values, files and a lock; and a lock's artifacts made again."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airgap.errors import ConfigurationError, IntegrityError, NotFoundError
from airgap.lock import Lock, LockedImage, LockedTree
from airgap.manifest import BundleManifest, Mirror
from airgap.oci import HELM_CHART, HELM_CONFIG, OCI_MANIFEST, Descriptor, Platform, parse_manifest
from airgap.ref import Reference
from airgap.sources import (
    Gathered,
    ImageSources,
    Means,
    Places,
    chart_artifact,
    fetch_chart,
    gather,
    gather_files,
    installer_artifact,
    restore,
    spec_artifact,
    tool_artifact,
)
from airgap.tools import Helm
from airgap.transport import Client
from airgap.wandb import CustomResource, UserInput
from tests.sources.conftest import Site, client_for, places_for
from tests.sources.test_helmrepo import archive, index
from tests.world.registries import find_binary, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = "apiVersion: airgap/v1\nkind: BundleManifest\nmetadata: {name: x}\n"
CHANNEL = "channel: {url: https://deploy.example}\n"
LATEST = "/api/v1/operator/channel"


def manifest(text: str, folder: Path) -> BundleManifest:
    return BundleManifest.parse((HEAD + text).encode(), folder / "m.yaml")


def spec(**chart: str) -> tuple[int, bytes]:
    return 200, json.dumps({"chart": chart, "values": {"tag": "channel", "list": [1]}, "metadata": None}).encode()


def run(site: Site, text: str, folder: Path, user: UserInput | None = None) -> Gathered:
    places = places_for(deploy_example=site, charts_example=site)
    return gather(manifest(text, folder), client_for(site.host), places, user=user, environ={})


@pytest.fixture
def stocked(site: Site) -> Site:
    site.answers[LATEST] = spec(url="https://charts.example", name="app", version="1.0.0")
    site.answers["/index.yaml"] = (200, index(("2.0.0", ["b.tgz"], ""), ("1.0.0", ["a.tgz"], "")))
    site.answers["/a.tgz"] = (200, archive())
    site.answers["/b.tgz"] = (200, archive("2.0.0"))
    return site


def test_the_channel_decides_chart_version_and_values(stocked: Site, tmp_path: Path):
    found = run(stocked, CHANNEL + "charts: [{name: app, from: channel}]\n", tmp_path)
    chart = found.charts[0]
    assert (chart.fetched.chart.label, chart.release, chart.namespace) == ("app-1.0.0", "wandb", "default")
    assert chart.profiles["default"]["tag"] == "channel"
    assert chart.profiles["default"]["global"]["operator"]["namespace"] == "wandb"
    assert found.channel
    assert found.channel.release == "latest"


def test_the_users_values_stand_over_the_channels_as_the_operator_merges_them(stocked: Site, tmp_path: Path):
    (tmp_path / "site.yaml").write_text("tag: manifest\nlist: [2]\n")
    (tmp_path / "ha.yaml").write_text("tag: ha\n")
    text = CHANNEL + "charts: [{name: app, from: channel, values: [site.yaml], profiles: {ha: [ha.yaml]}}]\n"
    user = UserInput({"list": [3]}, CustomResource("prod", "apps"))
    chart = run(stocked, text, tmp_path, user).charts[0]
    assert (chart.release, chart.namespace) == ("prod", "apps")
    assert chart.profiles["default"]["tag"] == "manifest"
    assert chart.profiles["default"]["list"] == [3, 2, 1]
    assert chart.profiles["ha"]["tag"] == "ha"


def test_charts_come_from_repositories_files_and_folders(stocked: Site, tmp_path: Path):
    (tmp_path / "a.tgz").write_bytes(archive("3.0.0", "packed"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "Chart.yaml").write_text("apiVersion: v2\nname: operator\nversion: 4.0.0\n")
    text = (
        "charts:\n- {name: app, repository: 'https://charts.example'}\n- {name: packed, path: a.tgz}\n"
        "- {name: operator, path: folder}\n"
    )
    found = run(stocked, text, tmp_path)
    assert [(it.fetched.chart.label, it.fetched.source, it.namespace) for it in found.charts] == [
        ("app-2.0.0", "https://charts.example/b.tgz", "default"),
        ("packed-3.0.0", "a.tgz", "default"),
        ("operator-4.0.0", "folder", "wandb"),
    ]
    assert found.channel is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("charts: [{name: other, path: a.tgz}]\n", "is chart packed, the manifest calls it other"),
        ("charts: [{name: packed, path: a.tgz, values: [none.yaml]}]\n", "cannot be read"),
        ("charts: [{name: packed, path: a.tgz, values: [list.yaml]}]\n", "is no mapping"),
        (CHANNEL + "charts: [{name: else, from: channel}]\n", "whose spec names app"),
    ],
)
def test_what_does_not_fit_is_told(stocked: Site, tmp_path: Path, text: str, told: str):
    (tmp_path / "a.tgz").write_bytes(archive("3.0.0", "packed"))
    (tmp_path / "list.yaml").write_text("[1]\n")
    with pytest.raises(ConfigurationError, match=told):
        run(stocked, text, tmp_path)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[tuple[str, Places, Client]]:
    """A registry with the chart app 1.0.0+build, played as oci://charts.example/air."""
    with start_docker_registry(tmp_path) as registry:
        oci = [find_binary("oras"), "push", "--plain-http", f"{registry.host}/air/app:1.0.0_build"]
        config, content = tmp_path / "config.json", tmp_path / "app.tgz"
        config.write_text("{}")
        content.write_bytes(archive("1.0.0+build"))
        done = subprocess.run(
            [*oci, "--config", f"config.json:{HELM_CONFIG}", f"app.tgz:{HELM_CHART}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        mirror = {"charts.example": Mirror(registry.host, plain_http=True)}
        places = Places(mirror)
        yield registry.host, places, Client(hosts=places.settings())


@pytest.mark.registry
@pytest.mark.parametrize(
    ("url", "version"),
    [
        ("oci://charts.example/air", "1.0.0+build"),
        ("oci://charts.example/air", ""),
        ("oci://charts.example/air/app", "~1"),
        ("oci://charts.example/air/app:1.0.0_build", ""),
    ],
)
def test_charts_come_from_registries(shelf: tuple[str, Places, Client], url: str, version: str):
    _, places, client = shelf
    fetched = fetch_chart(client, url, "app", version, places=places)
    assert (fetched.chart.version, fetched.source) == ("1.0.0+build", "oci://charts.example/air/app:1.0.0+build")


@pytest.mark.registry
def test_the_channel_may_name_a_chart_in_a_registry(shelf: tuple[str, Places, Client], tmp_path: Path):
    _, places, client = shelf
    (tmp_path / "spec.json").write_bytes(spec(url="oci://charts.example/air/app", version="1.0.0+build")[1])
    text = "channel: {path: spec.json}\ncharts: [{name: app, from: channel}]\n"
    found = gather(manifest(text, tmp_path), client, places, environ={})
    assert found.charts[0].fetched.chart.label == "app-1.0.0+build"


def test_a_chart_artifact_is_what_helm_push_makes(stocked: Site):
    fetched = fetch_chart(client_for(stocked.host), "https://charts.example", "app", places=places_for(charts_example=stocked))
    made = chart_artifact(fetched)
    raw = made.blobs[made.locked.tree.root.digest]
    assert isinstance(raw, bytes)
    document = parse_manifest(raw)
    assert json.loads(raw)["config"]["mediaType"] == HELM_CONFIG
    assert document.descriptor.media_type == OCI_MANIFEST
    assert made.locked.content.media_type == HELM_CHART
    assert made.blobs[made.locked.content.digest] == fetched.chart.archive
    assert chart_artifact(fetched).locked == made.locked


def test_files_cross_with_their_digest(site: Site, tmp_path: Path):
    (tmp_path / "guide.txt").write_text("guide")
    site.answers["/x/tool.bin"] = (200, b"tool")
    digest = hashlib.sha256(b"tool").hexdigest()
    text = f"files: [{{path: guide.txt}}, {{url: 'https://files.example/x/tool.bin', sha256: {digest}}}]\n"
    places, client = places_for(files_example=site), client_for(site.host)
    entries = manifest(text, tmp_path).files
    made = gather_files(entries, client, places, tmp_path)
    assert [(it.locked.name, it.locked.source, it.locked.content.size) for it in made] == [
        ("guide.txt", "guide.txt", 5),
        ("tool.bin", "https://files.example/x/tool.bin", 4),
    ]
    site.answers["/x/tool.bin"] = (200, b"changed")
    with pytest.raises(IntegrityError, match=r"file tool\.bin has the digest"):
        gather_files(entries, client, places, tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        gather_files(manifest("files: [{path: none}]\n", tmp_path).files, client, places, tmp_path)


@pytest.mark.helm
def test_the_artifacts_of_a_lock_are_made_again_or_refused(stocked: Site, tmp_path: Path):
    helm = Helm.at(Path(find_binary("helm")))
    (tmp_path / "guide.txt").write_text("guide")
    text = CHANNEL + "charts: [{name: app, from: channel}]\nfiles: [{path: guide.txt}]\n"
    found = run(stocked, text, tmp_path)
    assert found.channel
    client, places = client_for(stocked.host), places_for(deploy_example=stocked, charts_example=stocked)
    files = gather_files(manifest(text, tmp_path).files, client, places, tmp_path)
    artifacts = (
        chart_artifact(found.charts[0].fetched),
        spec_artifact(found.channel),
        tool_artifact(helm, Platform("linux", "amd64")),
        installer_artifact(b"zip", "1.0"),
        *files,
    )
    lock = Lock("x", (), (), tuple(it.locked for it in artifacts), channel=found.channel.to_json())
    stocked.answers[LATEST] = (404, b"")
    again = restore(Lock.from_bytes(lock.to_bytes()), Means(client, places, helm, b"zip"), files)
    assert {it.locked.name: it.locked.tree for it in again} == {it.locked.name: it.locked.tree for it in artifacts}
    with pytest.raises(IntegrityError, match=r"installer airgap 1\.0 is sha256:"):
        restore(lock, Means(client, places, helm, b"other zip"), files)
    with pytest.raises(IntegrityError, match=r"file guide\.txt  ?is not at hand"):
        restore(lock, Means(client, places, helm, b"zip"))


@pytest.mark.registry
def test_a_chart_of_a_registry_is_made_again(shelf: tuple[str, Places, Client]):
    _, places, client = shelf
    made = chart_artifact(fetch_chart(client, "oci://charts.example/air", "app", places=places))
    lock = Lock("x", (), (), (made.locked,))
    assert restore(lock, Means(client, places, None, b""))[0].locked == made.locked


def test_the_sources_give_artifacts_from_memory_and_from_files(tmp_path: Path):
    (tmp_path / "helm").write_bytes(b"a binary")
    helm: Any = replace(Helm(tmp_path / "helm", "4.0.0"))
    tool, installer = tool_artifact(helm, Platform("linux", "amd64")), installer_artifact(b"zip file", "1.0")
    sources = ImageSources(Client(), artifacts=[tool, installer])
    assert b"".join(sources.blob(tool.locked, tool.locked.content, 2)) == b"binary"
    assert b"".join(sources.blob(installer.locked, installer.locked.content, 4)) == b"file"
    other = installer_artifact(b"another", "1.0")
    with pytest.raises(NotFoundError, match="is not what it was when the lock was written"):
        list(sources.blob(other.locked, other.locked.content))


@pytest.mark.registry
def test_the_sources_give_images_through_the_mirror(shelf: tuple[str, Places, Client]):
    _, places, client = shelf
    sources = ImageSources(client, places)
    reference = Reference.parse("charts.example/air/app:1.0.0_build")
    registry, repository = sources.locate(reference)
    found = registry.get_manifest(repository, "1.0.0_build")
    assert sources.manifest(reference, found.descriptor) == found.raw
    layer = next(blob for blob in found.blobs if blob.media_type == HELM_CHART)  # type: ignore[union-attr]
    root: Descriptor = found.descriptor
    image = LockedImage(reference, LockedTree(root, (root,), (layer,)))
    assert b"".join(sources.blob(image, layer)) == archive("1.0.0+build")
    assert b"".join(sources.blob(image, layer, 10)) == archive("1.0.0+build")[10:]
