"""What can be wrong outside: one clear sentence each, the right exit code, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from airgap.manifest import default_manifest
from tests.e2e.conftest import OLDEST, PYTHONS, Steps, refused, well
from tests.world.fixtures import DEMO, LICENSE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.world.fixtures import World

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]


def manifest(folder: Path, *changes: tuple[str, str], more: str = "") -> Path:
    """Write the default manifest with some words changed."""
    text = default_manifest().read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "manifest.yaml"
    path.write_text(text + more)
    return path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"manifest.yaml"}


@pytest.fixture
def folder(crossing: Steps, tmp_path: Path) -> Path:
    """A folder with the lock."""
    shutil.copy(crossing.lock, tmp_path)
    return tmp_path


# -- the manifest ------------------------------------------------------------------------------------------------------------


def test_a_misspelt_key_is_named_with_the_nearest_known_one(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, ("platforms:", "plattforms:"), ("release: latest", "realese: latest"))
    for command in (("plan", "-f", "manifest.yaml"), ("mirror", "b.tar", "-f", "manifest.yaml"), CHECK):
        told = refused(world.run("airgap", *command, folder=tmp_path), 2, "manifest.yaml", "'plattforms'", "'platforms'")
        assert "channel has the unknown key 'realese' (did you mean 'release'?)" in told, "all at once"
    assert left(tmp_path) == set()


CHECK = ("config", "validate", "manifest.yaml")


def test_a_reference_in_upper_case_is_refused_before_anything_is_asked(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, more="\nimages: [quay.io/Prometheus/prometheus:v2]\n")
    asked = len(world.asked)
    refused(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 2, "quay.io/Prometheus/prometheus:v2")
    assert len(world.asked) == asked
    assert left(tmp_path) == set()


def test_a_manifest_that_is_no_yaml_is_refused_with_its_line(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, more="\nimages: [a, b\n")
    refused(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 2, "manifest.yaml, line ")


def test_an_unknown_feature_is_refused_with_those_that_there_are(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, ("features: default", "features: [weave-trase]"))
    refused(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 2, "weave-trase", "weave-trace")
    assert left(tmp_path) == set()


# -- the channel -------------------------------------------------------------------------------------------------------------


def test_an_unknown_release_is_named(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, ("release: latest", "release: no-such-release"))
    refused(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 3, "no-such-release", "deploy.wandb.ai")
    assert left(tmp_path) == set()


def test_a_pinned_release_is_asked_for_by_its_id(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, ("release: latest", "release: pinned-1"))
    well(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path))
    assert any(asked.path.endswith("/release/pinned-1") for asked in world.asked)


def test_a_refused_licence_is_not_repeated_in_what_is_said(world: World, tmp_path: Path) -> None:
    done = world.run("airgap", "plan", "-vv", folder=tmp_path, env={"AIRGAP_LICENSE": "stolen-licence"})
    assert done.returncode == 3
    assert "licen" in done.stderr.lower()
    assert "stolen-licence" not in done.stderr + done.stdout
    done = world.run("airgap", "plan", folder=tmp_path, env={"AIRGAP_LICENSE": "stolen-licence"})
    refused(done, 3, "https://deploy.wandb.ai refuses this licence", "401")
    assert left(tmp_path) == set()


def test_the_right_licence_is_sent_to_the_channel_alone(world: World, tmp_path: Path) -> None:
    asked = len(world.asked)
    well(world.run("airgap", "plan", folder=tmp_path, env={"AIRGAP_LICENSE": LICENSE}))
    with_it = {asked.host for asked in world.asked[asked:] if asked.authorization}
    assert with_it == {"deploy.wandb.ai"}
    assert LICENSE.encode() not in (tmp_path / "airgap.lock").read_bytes()


def test_a_channel_that_answers_nonsense_is_told(world: World, tmp_path: Path) -> None:
    with kept(world.channel / "spec.json") as spec:
        spec.write_text("<html>maintenance</html>")
        refused(world.run("airgap", "plan", folder=tmp_path), 2, "deploy.wandb.ai")
    assert left(tmp_path) == set()


# -- charts ------------------------------------------------------------------------------------------------------------------


def test_a_chart_that_does_not_render_is_told_in_helms_words_with_template_and_line(world: World, tmp_path: Path) -> None:
    shutil.copytree(DEMO / "charts" / "operator", tmp_path / "operator")
    template = tmp_path / "operator" / "templates" / "broken.yaml"
    template.write_text('{{ fail "the site has no name" }}\n')
    manifest(tmp_path, ("repository: https://charts.wandb.ai", "path: ./operator"))
    told = refused(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 2, "the site has no name")
    assert "broken.yaml" in told
    assert left(tmp_path) == {"operator"}


def test_a_chart_version_that_is_not_there_is_told_with_the_newest(world: World, tmp_path: Path) -> None:
    manifest(tmp_path, ("repository: https://charts.wandb.ai", "repository: https://charts.wandb.ai\n    version: 7.7.7"))
    refused(world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 3, "7.7.7", "operator", "1.4.0")
    assert left(tmp_path) == set()


def test_a_chart_that_is_not_what_the_index_lists_is_refused(world: World, tmp_path: Path) -> None:
    archive = next((world.folder / "assets").rglob("operator-1.4.0.tgz"))
    with kept(archive):
        archive.write_bytes(archive.read_bytes() + b"\0")
        refused(world.run("airgap", "plan", folder=tmp_path), 4, "operator-1.4.0.tgz", "sha256:")
    assert left(tmp_path) == set()


# -- values ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("plan",), ("mirror", "b.tar")])
def test_values_of_the_wrong_kind_are_refused_with_path_and_both_layers(
    world: World, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    (tmp_path / "user.yaml").write_text("app: {image: wandb/local}\n")
    told = refused(world.run("airgap", *verb, "--values", "user.yaml", folder=tmp_path), 2, "app.image is a string")
    assert "custom resource" in told
    assert "release channel" in told
    assert left(tmp_path) == {"user.yaml"}


def test_a_null_where_the_channel_has_the_key_is_warned_about(world: World, tmp_path: Path) -> None:
    (tmp_path / "user.yaml").write_text("settingsMigrationJob: {image: {tag: null}}\n")
    done = well(world.run("airgap", "plan", "--values", "user.yaml", folder=tmp_path))
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert [line for line in warnings if "settingsMigrationJob.image.tag: null" in line]


# -- images ------------------------------------------------------------------------------------------------------------------


def test_images_that_are_gone_are_named_all_at_once_with_who_needs_them(world: World, tmp_path: Path) -> None:
    gone = ("quay.io/prometheus/prometheus", "docker.io/wandb/console")
    with hidden(world, *gone):
        manifest(tmp_path, more="\nimages: [ghcr.io/nobody/nothing:1]\n")
        told = refused(
            world.run("airgap", "plan", "-f", "manifest.yaml", folder=tmp_path), 3, *gone, "ghcr.io/nobody/nothing:1"
        )
    assert "Deployment/wandb-console" in told
    assert "manifest" in told
    assert left(tmp_path) == set()


def test_a_manifest_that_is_no_longer_served_is_told_and_the_rest_is_kept(world: World, folder: Path) -> None:
    with hidden(world, "docker.io/wandb/console"):
        told = refused(world.run("airgap", "mirror", "b.tar", "--lock", "airgap.lock", folder=folder), 3, "wandb/console")
        assert "plan again" in told
        assert "b.tar" not in left(folder)
    well(world.run("airgap", "mirror", "b.tar", "--lock", "airgap.lock", folder=folder))


def test_a_layer_whose_digest_does_not_match_ends_the_run_and_no_bundle_appears(world: World, folder: Path) -> None:
    lock = json.loads((folder / "airgap.lock").read_bytes())
    image = next(it for it in lock["images"] if it["reference"].startswith("quay.io/prometheus-operator/prometheus-operator"))
    layer = image["tree"]["blobs"][-1]["digest"]
    with kept(blob(world, "quay.io", layer)) as data:
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 1
        data.write_bytes(content)
        told = refused(world.run("airgap", "mirror", "b.tar", "--lock", "airgap.lock", folder=folder), 4, layer[:19])
        assert "quay.io/prometheus-operator/prometheus-operator" in told
        assert "b.tar" not in left(folder)
    well(world.run("airgap", "mirror", "b.tar", "--lock", "airgap.lock", folder=folder))
    well(world.run("airgap", "verify", "b.tar", folder=folder))


# -- the lock and this machine -----------------------------------------------------------------------------------------------


def test_a_lock_of_another_version_is_refused(world: World, folder: Path) -> None:
    lock = json.loads((folder / "airgap.lock").read_bytes())
    (folder / "new.lock").write_text(json.dumps({**lock, "schemaVersion": 99}))
    (folder / "cut.lock").write_bytes((folder / "airgap.lock").read_bytes()[:-100])
    refused(world.run("airgap", "mirror", "b.tar", "--lock", "new.lock", folder=folder), 2, "new.lock", "99")
    refused(world.run("airgap", "mirror", "b.tar", "--lock", "cut.lock", folder=folder), 2, "cut.lock")
    refused(world.run("airgap", "inspect", "new.lock", folder=folder), 2, "new.lock", "99")
    assert left(folder) == {"airgap.lock", "new.lock", "cut.lock"}


def test_without_helm_the_hint_says_where_to_get_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = world.run("airgap", "plan", folder=tmp_path, env={"PATH": str(tmp_path / "bin")})
    refused(done, 2, "helm", "scripts/get-tools", "--helm")
    assert left(tmp_path) == {"bin"}


def test_a_helm_that_is_none_is_refused(world: World, tmp_path: Path) -> None:
    for program in ("/bin/false", "/bin/echo"):
        refused(world.run("airgap", "plan", "--helm", program, folder=tmp_path), 2, program, "helm")


def test_a_bundle_asked_to_plan_says_where_that_is_done(world: World, crossing: Steps, tmp_path: Path) -> None:
    manifest(tmp_path)
    command = (PYTHONS[OLDEST], "-I", "-S", crossing.bundle, "plan", "-f", "manifest.yaml")
    refused(world.run(*command, folder=tmp_path), 2, "jsonschema", "connected host")


@pytest.mark.parametrize("size", ["1m", "40m"])
def test_a_full_disk_is_told_before_the_first_byte(world: World, crossing: Steps, tmp_path: Path, size: str) -> None:
    with small_disk(world, tmp_path, size) as small:
        well(world.run("cp", crossing.lock, small / "airgap.lock"))
        done = world.run("airgap", "mirror", small / "b.tar", "--lock", small / "airgap.lock")
        refused(done, 1, "b.tar needs", "do not fit on the disk")
        assert well(world.run("ls", "-A", small)).stdout.split() == ["airgap.lock"]


def test_a_lock_that_finds_no_room_keeps_the_old_one(world: World, crossing: Steps, tmp_path: Path) -> None:
    with small_disk(world, tmp_path, "12k") as small:
        well(world.run("sh", "-c", f"echo old >{small}/airgap.lock"))
        refused(world.run("airgap", "plan", "--lock", small / "airgap.lock"), 1, "airgap.lock", "No space left")
        assert well(world.run("cat", small / "airgap.lock")).stdout == "old\n"
        assert well(world.run("ls", "-A", small)).stdout.split() == ["airgap.lock"]


def test_a_folder_that_cannot_be_written_is_named(world: World, crossing: Steps, tmp_path: Path) -> None:
    (tmp_path / "wandb.tar").mkdir()
    refused_by_click = world.run("airgap", "mirror", "wandb.tar", folder=tmp_path)
    assert refused_by_click.returncode == 2
    done = world.run("airgap", "mirror", "no/such/folder/b.tar", "--lock", crossing.lock, folder=tmp_path)
    refused(done, 2, "no/such/folder")


@contextmanager
def small_disk(world: World, folder: Path, size: str) -> Iterator[Path]:
    """Put a small file system there, in the world's own mount namespace."""
    place = folder / "small"
    place.mkdir()
    well(world.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place))
    try:
        yield place
    finally:
        well(world.run("umount", place))


@contextmanager
def kept(path: Path) -> Iterator[Path]:
    """Give a file that is put back as it was."""
    content = path.read_bytes()
    try:
        yield path
    finally:
        path.write_bytes(content)


@contextmanager
def hidden(world: World, *names: str) -> Iterator[None]:
    """Take these images out of their registries for a while."""
    moved = []
    for name in names:
        host, _, repository = name.partition("/")
        host = "registry-1.docker.io" if host == "docker.io" else host
        place = storage(world, host) / "repositories" / repository / "_manifests"
        moved.append((place, place.with_name("hidden")))
    for place, aside in moved:
        place.rename(aside)
    try:
        yield
    finally:
        for place, aside in moved:
            aside.rename(place)


def storage(world: World, host: str) -> Path:
    return world.folder / "registries" / host / "registry-0" / "storage/docker/registry/v2"


def blob(world: World, host: str, digest: str) -> Path:
    """Return the file in which a registry keeps a blob."""
    hexadecimal = digest.removeprefix("sha256:")
    return storage(world, host) / "blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
