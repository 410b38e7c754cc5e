"""Other people's tools read a bundle: skopeo, oras, GNU tar and Python from the tar, crane and regctl too."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tarfile

import pytest

from airgap.bundle import arrange
from airgap.oci import Descriptor, Digest
from tests.bundle.estate import LAYER, Estate, bundle, small
from tests.world.registries import find_binary, start_crane

pytestmark = pytest.mark.registry

HUGE = 9 * 2**30


@pytest.fixture
def path(tmp_path):
    return bundle(small(), tmp_path / "wandb.tar")


@pytest.fixture
def registry(tmp_path):
    with start_crane(tmp_path) as running:
        yield running


@pytest.fixture
def unpacked(path, tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", path, "-C", folder], check=True)
    return folder


def run(tmp_path, program, *arguments):
    """Run a witness with a home of its own; return what it said."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    result = subprocess.run(
        [find_binary(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path)},
    )
    assert result.returncode == 0, f"{program} {arguments}: {result.stderr}{result.stdout}"
    return result.stdout


def there(tmp_path, registry, name):
    return run(tmp_path, "crane", "digest", "--insecure", f"{registry.host}/{name}").strip()


def test_skopeo_copies_images_and_indexes_out_of_the_tar(path, registry, tmp_path):
    for image in small().images:
        run(
            tmp_path,
            "skopeo",
            "--insecure-policy",
            "copy",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            f"oci-archive:{path}:{image.reference}",
            f"docker://{registry.host}/skopeo/{image.reference.repository}:1",
        )
        assert there(tmp_path, registry, f"skopeo/{image.reference.repository}:1") == str(image.digest)


def test_oras_reads_images_by_name_and_the_lock_out_of_the_tar(path, registry, tmp_path):
    estate = small()
    for image in estate.images:
        target = f"{registry.host}/oras/{image.reference.repository}:1"
        run(tmp_path, "oras", "cp", "--from-oci-layout-path", path, image.reference, "--to-plain-http", target)
        assert there(tmp_path, registry, f"oras/{image.reference.repository}:1") == str(image.digest)
    run(tmp_path, "oras", "pull", "--oci-layout", f"{path}:airgap.lock", "--output", tmp_path / "pulled")
    assert (tmp_path / "pulled" / "airgap.lock").read_bytes() == estate.lock.to_bytes()
    signed = estate.images[0]
    found = run(tmp_path, "oras", "discover", "--format", "json", "--oci-layout", f"{path}@{signed.digest}")
    assert [item["digest"] for item in json.loads(found)["referrers"]] == [str(signed.referrers[0].tree.root.digest)]


def test_regctl_imports_an_image_out_of_the_tar(path, registry, tmp_path):
    image = small().images[1]
    run(tmp_path, "regctl", "registry", "set", registry.host, "--tls", "disabled")
    run(tmp_path, "regctl", "image", "import", f"{registry.host}/regctl:1", path, "--name", image.reference)
    assert there(tmp_path, registry, "regctl:1") == str(image.digest)


def test_regctl_and_crane_read_the_unpacked_layout(unpacked, registry, tmp_path):
    image = small().images[2]
    run(tmp_path, "regctl", "registry", "set", registry.host, "--tls", "disabled")
    run(tmp_path, "regctl", "image", "copy", f"ocidir://{unpacked}@{image.digest}", f"{registry.host}/regctl:2")
    assert there(tmp_path, registry, "regctl:2") == str(image.digest)
    run(tmp_path, "crane", "push", "--insecure", "--index", unpacked, f"{registry.host}/crane:1")
    index = Digest.of((unpacked / "index.json").read_bytes())
    assert there(tmp_path, registry, "crane:1") == str(index)


def test_python_and_gnu_tar_list_exactly_our_members(path, tmp_path):
    names = [member.name for member in arrange(small().lock).members]
    with tarfile.open(path) as archive:
        assert archive.getnames() == names
    listed = subprocess.run(["tar", "-tf", path], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == names
    assert listed.stderr == ""


@pytest.fixture
def beyond(tmp_path):
    """A sparse bundle with one layer of 9 GiB (all zeros, of a made-up digest) and a small layer behind it."""
    estate = Estate()
    first = estate.image("a.io/huge:1", b"stands in for the huge layer")
    estate.image("b.io/small:1", b"behind the huge layer")
    huge = Descriptor(LAYER, Digest.of(b"made up"), HUGE)
    tree = dataclasses.replace(first.tree, blobs=(first.tree.blobs[0], huge))
    estate.images[0] = dataclasses.replace(first, tree=tree)
    arrangement = arrange(estate.lock)
    path = tmp_path / "huge.tar"
    with path.open("wb") as file:
        for member in arrangement.members:
            file.seek(member.start)
            content = member.content or estate.contents.get(member.digest or Digest.of(b""), b"")
            file.write(member.header + content)
        file.truncate(arrangement.size)
    return path


def test_a_member_of_nine_gibibytes_is_passed_by_python_go_and_gnu_tar(beyond, tmp_path):
    behind = Digest.of(b"behind the huge layer")
    with tarfile.open(beyond) as archive:
        assert {member.size for member in archive} > {HUGE, 21}
    listed = subprocess.run(["tar", "-tvf", beyond], check=True, capture_output=True, text=True)
    assert f" {HUGE} " in listed.stdout
    assert behind.hex in listed.stdout.splitlines()[-1]
    fetched = run(tmp_path, "oras", "blob", "fetch", "--oci-layout", f"{beyond}@{behind}", "--output", "-")
    assert fetched == "behind the huge layer"
