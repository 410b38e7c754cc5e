"""What a medium can bring: damaged, hostile or foreign files, told by every verb that opens a bundle; nothing is extracted."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Bare, Done, Steps, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world.fixtures import Inside

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]

PREFIX = "damaged"


@pytest.fixture
def copy(bare: Bare, tmp_path: Path) -> Path:
    """A bundle of one's own to spoil; the host runs the whole one."""
    return Path(shutil.copy(bare.bundle, tmp_path / "bad.tar"))


def left(inside: Inside) -> list[Path]:
    """Return the tags of this file's prefix: there must never be one."""
    return list((inside.storage / "docker/registry/v2/repositories" / PREFIX).rglob("_manifests/tags/*"))


def every_verb(bare: Bare, path: Path, folder: Path) -> dict[str, Done]:
    """Open a bundle by each verb that does."""
    (folder / "user.yaml").write_text("global: {host: https://wandb.corp.test}\n")
    values = ("--values", folder / "user.yaml")
    return {
        "verify": bare.run("verify", path),
        "inspect": bare.run("inspect", path),
        "push": bare.signed_in("push", path, prefix=PREFIX),
        "render": bare.signed_in("render", path, *values, "--dir", folder / "out", prefix=PREFIX),
        "audit": bare.signed_in("audit", path, *values, prefix=PREFIX),
    }


def everything_refuses(bare: Bare, path: Path, folder: Path, *words: str) -> None:
    """Check that each verb refuses, with exit code 4 and these words, and that nothing has appeared anywhere."""
    before = {it for it in folder.rglob("*") if it.is_file()}
    for done in every_verb(bare, path, folder).values():
        refused(done, 4, *words)
    assert {it for it in folder.rglob("*") if it.is_file()} == before | {folder / "user.yaml"}
    assert left(bare.half) == []


# -- damaged -----------------------------------------------------------------------------------------------------------------


def test_a_truncated_bundle_is_refused_by_every_verb(bare: Bare, copy: Path, tmp_path: Path) -> None:
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size // 3)
    everything_refuses(bare, copy, tmp_path, "bad.tar")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.95, 0.99999])
def test_wherever_a_bundle_is_cut_it_is_refused_before_a_byte_is_sent(bare: Bare, copy: Path, share: float) -> None:
    with copy.open("r+b") as file:
        file.truncate(int(copy.stat().st_size * share))
    for done in (bare.run("inspect", copy), bare.signed_in("push", copy, prefix=PREFIX)):
        refused(done, 4, "bad.tar")
    assert left(bare.half) == []


def test_a_truncated_bundle_is_told_with_the_bytes_that_are_missing(bare: Bare, copy: Path) -> None:
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size - 20_000_000)
    done = bare.run("verify", copy)
    refused(done, 4, "bad.tar")
    assert "bytes are missing" in done.stdout


def offsets(path: Path) -> dict[str, int]:
    """Return the offset of each member's content."""
    with tarfile.open(path) as tar:
        return {member.name: member.offset_data for member in tar.getmembers()}


def flip(path: Path, offset: int) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def layer(crossing: Steps, reference: str) -> str:
    """Return the name of the member with the last layer of an image."""
    lock = json.loads(crossing.lock.read_bytes())
    image = next(it for it in lock["images"] if it["reference"].startswith(reference))
    return f"blobs/sha256/{image['tree']['blobs'][-1]['digest'].removeprefix('sha256:')}"


def test_two_flipped_bits_in_layers_are_both_found_by_verify_in_one_run(bare: Bare, crossing: Steps, copy: Path) -> None:
    members = [layer(crossing, name) for name in ("quay.io/prometheus/prometheus", "docker.io/alpine/k8s")]
    for member in members:
        flip(copy, offsets(copy)[member] + 20)
    done = bare.run("verify", copy)
    refused(done, 4, "2 faults")
    assert all(member in done.stdout for member in members)
    document = json.loads(bare.run("verify", copy, "-o", "json").stdout)
    assert {fault["member"] for fault in document["faults"]} == set(members)
    assert document["whole"] is False


def test_push_of_a_flipped_bit_stops_with_the_digest_and_tags_nothing_that_has_it(
    bare: Bare, crossing: Steps, copy: Path, inside: Inside
) -> None:
    flip(copy, offsets(copy)[layer(crossing, "quay.io/prometheus/prometheus")] + 20)
    refused(bare.signed_in("push", copy, prefix=PREFIX), 4, "sha256:")
    repositories = inside.storage / "docker/registry/v2/repositories" / PREFIX
    assert not list((repositories / "quay.io/prometheus/prometheus").rglob("_manifests/tags/*"))
    shutil.rmtree(repositories, ignore_errors=True)


@pytest.mark.parametrize("where", ["oci-layout", "index.json", "lock"])
def test_a_flipped_bit_in_what_is_read_first_is_refused_by_every_verb(
    bare: Bare, copy: Path, tmp_path: Path, where: str
) -> None:
    members = offsets(copy)
    name = where if where in members else next(name for name in members if name.startswith("blobs/"))
    flip(copy, members[name] + 9)
    refused(bare.run("verify", copy), 4, "bad.tar")
    assert left(bare.half) == []


def test_a_flipped_bit_in_a_header_is_refused(bare: Bare, copy: Path, tmp_path: Path) -> None:
    last = max(offsets(copy).values())
    flip(copy, last - 512 + 130)
    refused(bare.run("verify", copy), 4, "bad.tar")


def test_a_flipped_bit_in_the_helm_that_would_be_run_ends_before_it_runs(bare: Bare, copy: Path, tmp_path: Path) -> None:
    with tarfile.open(copy) as tar:
        helm = max(tar.getmembers(), key=lambda member: member.size)
    flip(copy, helm.offset_data + helm.size // 2)
    home = tmp_path / "home"
    home.mkdir()
    host = Bare(bare.half, bare.bundle, home)
    (tmp_path / "user.yaml").write_text("{}\n")
    done = host.signed_in("render", copy, "--values", tmp_path / "user.yaml", "--dir", tmp_path / "out")
    refused(done, 4, "helm")
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "out").exists()


# -- hostile -----------------------------------------------------------------------------------------------------------------


def member(name: str, content: bytes = b"planted", **more: object) -> Callable[[tarfile.TarFile], None]:
    """Return what adds a member to a tar."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        for key, value in more.items():
            setattr(info, key, value)
        info.size = 0 if more.get("type") else len(content)
        tar.addfile(info, io.BytesIO(content))

    return add


HOSTILE = {
    "a way up": member("../planted"),
    "a way up inside": member("blobs/sha256/../../../planted"),
    "an absolute path": member("/tmp/planted-by-a-bundle"),  # noqa: S108 - it must not appear there
    "a symbolic link": member("blobs/sha256/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("blobs/sha256/link", type=tarfile.LNKTYPE, linkname="index.json"),
    "a device": member("blobs/sha256/device", type=tarfile.CHRTYPE),
    "a second index": member("index.json", b'{"schemaVersion": 2, "manifests": []}'),
    "a second lock": member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
    "a member that is not in the lock": member("planted"),
    "another spelling": member("./index.json", b"{}"),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_is_refused_and_lands_nowhere(bare: Bare, tmp_path: Path, name: str, *, first: bool) -> None:
    path = tmp_path / "deep" / "er" / "bad.tar"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as out, tarfile.open(bare.bundle) as whole:
        if first:
            HOSTILE[name](out)
        for info in whole.getmembers():
            content = whole.extractfile(info) if info.isfile() else None
            # What is cut here is read by nobody: a hostile bundle is to be refused by its members' headers.
            out.addfile(info, content)
        if not first:
            HOSTILE[name](out)
    for verb in ("verify", "inspect"):
        refused(bare.run(verb, path), 4, "bad.tar")
    assert [it for it in tmp_path.rglob("*") if it.is_file()] == [path]


def test_what_is_no_bundle_is_refused_by_every_verb(bare: Bare, tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(b"hello\n")
    everything_refuses(bare, path, tmp_path, "bad.tar")


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"\x1f\x8b\x08\0" + b"\0" * 1000, b"PK\3\4" + b"\0" * 100])
def test_a_file_of_another_kind_is_no_bundle(bare: Bare, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    refused(bare.run("verify", path), 4, "bad.tar")


def test_an_image_archive_of_another_tool_is_no_bundle(bare: Bare, tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as tar:
        member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')(tar)
        member("index.json", b'{"schemaVersion": 2, "manifests": []}')(tar)
    told = refused(bare.run("push", path, *bare.at(PREFIX)), 4, "bad.tar")
    assert "Hint: " in told


def test_a_bundle_that_is_not_there_is_wrong_usage(bare: Bare, tmp_path: Path) -> None:
    for verb in ("verify", "inspect"):
        done = bare.run(verb, tmp_path / "none.tar")
        assert done.returncode == 2
        assert "none.tar" in done.stderr
        assert "Traceback" not in done.stderr
