"""The bundle that mirror wrote, read by other people's tools."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.world.registries import find_binary, start_crane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Steps
    from tests.world.registries import RunningRegistry

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]

IMAGES = ("docker.io/wandb/controller:latest", "docker.io/otel/opentelemetry-collector-contrib:0.97.0")
"""One out of an index with an attestation, one of Docker's media types."""


def run(folder: Path, program: str, *arguments: str | Path) -> str:
    """Run a tool with a home of its own; return what it says."""
    environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "TMPDIR": str(folder)}
    command = [find_binary(program), *map(str, arguments)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def digests(crossing: Steps) -> dict[str, str]:
    lock = json.loads(crossing.lock.read_bytes())
    return {image["reference"]: image["tree"]["manifests"][-1]["digest"] for image in lock["images"]}


@pytest.fixture(scope="module")
def unpacked(crossing: Steps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout as a folder, for the tools that read no tar."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "-xf", crossing.bundle, "-C", folder], check=True)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    with start_crane(tmp_path) as running:
        yield running


def test_skopeo_reads_every_byte_of_an_image_from_the_tar(crossing: Steps, digests: dict[str, str], tmp_path: Path) -> None:
    # Only of OCI's media types: skopeo finds no image of Docker's in an OCI layout, whoever wrote it.
    reference = IMAGES[0]
    source = f"oci-archive:{crossing.bundle}:{reference}"
    raw = run(tmp_path, "skopeo", "inspect", "--raw", source)
    assert json.loads(raw)["schemaVersion"] == 2
    run(tmp_path, "skopeo", "--insecure-policy", "copy", "--preserve-digests", source, f"dir:{tmp_path}/copied")
    assert (tmp_path / "copied" / "manifest.json").read_text() == raw
    found = run(tmp_path, "skopeo", "inspect", "--format", "{{.Digest}}", source).strip()
    assert found == digests[reference]


def test_oras_pulls_the_lock_and_copies_images_and_a_chart_from_the_tar(
    crossing: Steps, digests: dict[str, str], registry: RunningRegistry, tmp_path: Path
) -> None:
    run(tmp_path, "oras", "pull", "--oci-layout-path", crossing.bundle, "airgap.lock", "--output", tmp_path / "pulled")
    assert (tmp_path / "pulled" / "airgap.lock").read_bytes() == crossing.lock.read_bytes()
    for tag, reference in enumerate((*IMAGES, "charts/operator-wandb:0.43.0")):
        target = f"{registry.host}/oras:{tag}"
        run(tmp_path, "oras", "cp", "--from-oci-layout-path", crossing.bundle, reference, "--to-plain-http", target)
        found = run(tmp_path, "crane", "digest", "--insecure", target).strip()
        assert found == digests.get(reference, found)


def test_crane_pushes_the_whole_layout(
    unpacked: Path, digests: dict[str, str], registry: RunningRegistry, tmp_path: Path
) -> None:
    run(tmp_path, "crane", "push", "--insecure", "--index", unpacked, f"{registry.host}/crane:1")
    index = json.loads(run(tmp_path, "crane", "manifest", "--insecure", f"{registry.host}/crane:1"))
    assert {it["digest"] for it in index["manifests"]} >= set(digests.values())
    for digest in digests.values():
        run(tmp_path, "crane", "validate", "--insecure", "--remote", f"{registry.host}/crane@{digest}")


@pytest.mark.parametrize("reference", IMAGES)
def test_regctl_imports_an_image_from_the_tar(
    crossing: Steps, digests: dict[str, str], registry: RunningRegistry, tmp_path: Path, reference: str
) -> None:
    target = f"{registry.host}/regctl:1"
    run(tmp_path, "regctl", "registry", "set", registry.host, "--tls", "disabled")
    run(tmp_path, "regctl", "image", "import", target, crossing.bundle, "--name", reference)
    assert run(tmp_path, "crane", "digest", "--insecure", target).strip() == digests[reference]
