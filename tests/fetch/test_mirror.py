"""mirror: from real registries into one file, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError, DiskError, IntegrityError, NetworkError, NotFoundError
from airgap.fetch import mirror
from airgap.oci import Descriptor
from airgap.progress import Progress
from airgap.verify import verify
from tests.bundle.estate import LAYER, Estate, small
from tests.fetch.conftest import RegistrySource, connect, fetched, fill

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.registry


class Heard(Progress):
    def __init__(self):
        self.lines: list[str] = []
        self.bytes = 0

    def advance(self, size: int) -> None:
        self.bytes += size

    def begin(self, what: str, items: int, size: int = 0) -> None:
        self.lines.append(f"begin {what} {items} {size}")

    def done(self, item: str, note: str = "") -> None:
        self.lines.append(f"{item} {note}")

    def warn(self, message: str) -> None:
        self.lines.append(f"warn {message}")

    def debug(self, message: str) -> None:
        self.lines.append(f"debug {message}")


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  # content, not a secret


def estate_of_layers(count: int, size: int) -> Estate:
    estate = Estate()
    for number in range(count):
        estate.image(f"a.io/images/{number}:1", noise(number, size), noise(1000, size))
    return estate


def test_the_bundle_holds_every_byte_and_is_the_same_for_any_number_of_jobs(upstream, tmp_path):
    estate = small()
    fill(estate, connect(upstream.host))
    digests = set()
    for jobs in (1, 2, 8):
        path = tmp_path / f"{jobs}.tar"
        result = mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), path, jobs=jobs)
        assert verify(path)
        assert result.size == path.stat().st_size
        assert result.digest == estate.lock.digest
        assert (result.already, result.held) == (False, 0), "what the lock itself decides was not there before"
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_each_blob_is_fetched_once_though_several_images_have_it(upstream, tmp_path):
    estate = estate_of_layers(4, 1000)
    fill(estate, connect(upstream.host))
    heard = Heard()
    result = mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), tmp_path / "b.tar", progress=heard)
    served = fetched(upstream)
    assert len(served) == len(set(served)) == 9
    assert result.fetched_size == heard.bytes
    assert heard.lines[0] == f"begin mirror {result.fetched} {result.fetched_size}"


def test_a_second_run_finds_the_bundle_and_fetches_nothing(upstream, tmp_path):
    estate = small()
    fill(estate, connect(upstream.host))
    source = RegistrySource(estate, connect(upstream.host))
    mirror(estate.lock, source, tmp_path / "b.tar")
    before = fetched(upstream)
    result = mirror(estate.lock, source, tmp_path / "b.tar")
    assert result.already
    assert (result.fetched, result.fetched_size) == (0, 0)
    assert fetched(upstream) == before


def start(upstream, estate, tmp_path, *, pause=0.0, limit=0):
    """Start a mirror in a process of its own; ``pause``: seconds before each chunk; ``limit``: bytes a file may have.

    Not under coverage: a KeyboardInterrupt that comes while coverage holds its lock leaves it held for ever.
    """
    folder = tmp_path / "artifacts"
    folder.mkdir(exist_ok=True)
    for artifact in estate.artifacts:
        for descriptor in (*artifact.tree.manifests, *artifact.tree.blobs):
            (folder / descriptor.digest.hex).write_bytes(estate.contents[descriptor.digest])
    (tmp_path / "airgap.lock").write_bytes(estate.lock.to_bytes())
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.fetch.child"),
            *(upstream.host, tmp_path / "b.tar", tmp_path / "airgap.lock", folder, str(pause), str(limit)),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def journalled(tmp_path):
    try:
        lines = (tmp_path / "b.tar.partial.journal").read_text().split("\n")
    except FileNotFoundError:
        return set()
    return {line for line in lines[2:-1] if line.startswith("sha256:")}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_the_next_run_fetches_no_finished_blob_again(upstream, tmp_path, how):
    estate = estate_of_layers(30, 3_000_000)
    estate.artifacts = small().artifacts
    estate.contents |= small().contents
    fill(estate, connect(upstream.host))
    killed = 0
    finished_before: set[str] = set()
    for wanted in (8, 20, 40):
        child = start(upstream, estate, tmp_path, pause=0.03)
        while child.poll() is None and len(journalled(tmp_path)) < wanted:
            time.sleep(0.005)
        if child.poll() is None:
            child.send_signal(how)
            killed += 1
        out, _ = child.communicate(timeout=60)
        assert not (tmp_path / "b.tar").exists() or "result" in out
        finished = journalled(tmp_path)
        assert finished_before <= finished or (tmp_path / "b.tar").exists()
        finished_before = finished
        before = fetched(upstream)
    assert killed == 3
    assert finished_before
    child = start(upstream, estate, tmp_path)
    out, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    assert "begin check what is already there" in out
    again = fetched(upstream)[len(before) :]
    assert not set(again) & finished_before, "a finished blob was fetched again"
    assert verify(tmp_path / "b.tar")
    assert hashlib.sha256((tmp_path / "b.tar").read_bytes()).digest() == undisturbed(upstream, estate, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("b.tar*")) == ["b.tar"]


def undisturbed(upstream, estate, tmp_path):
    mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), tmp_path / "undisturbed.tar")
    return hashlib.sha256((tmp_path / "undisturbed.tar").read_bytes()).digest()


def test_ctrl_c_ends_soon_and_leaves_partial_and_journal(upstream, tmp_path):
    estate = estate_of_layers(30, 3_000_000)
    fill(estate, connect(upstream.host))
    child = start(upstream, estate, tmp_path, pause=0.05)
    while not journalled(tmp_path):
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    asked = time.monotonic()
    child.communicate(timeout=30)
    assert time.monotonic() - asked < 10
    assert child.returncode != 0
    left = {path.name for path in tmp_path.glob("b.tar*")}
    # A thread that was still in a blob when the process ended could not take the claim away; nobody holds it any more.
    assert left - {"b.tar.partial.lock"} == {"b.tar.partial", "b.tar.partial.journal"}
    again = start(upstream, estate, tmp_path)
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert [path.name for path in tmp_path.glob("b.tar*")] == ["b.tar"]


def test_an_image_that_is_gone_is_named_and_the_rest_is_kept(upstream, tmp_path):
    estate = estate_of_layers(5, 2000)
    fill(estate, connect(upstream.host))
    gone = [estate.image("a.io/images/gone:1", b"gone"), estate.image("a.io/images/also:2", b"gone too")]
    with pytest.raises(NotFoundError, match="blobs cannot be had") as caught:
        mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), tmp_path / "b.tar")
    assert str(gone[0].reference) in caught.value.message
    assert str(gone[1].reference) in caught.value.message
    assert caught.value.hint == "run airgap plan again"
    assert not (tmp_path / "b.tar").exists()
    before = len(fetched(upstream))
    fill(estate, connect(upstream.host))
    result = mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), tmp_path / "b.tar")
    assert result.fetched == 6
    assert len(fetched(upstream)) - before == 4


def test_a_blob_that_one_image_lost_is_taken_from_another(upstream, tmp_path):
    estate = Estate()
    first = estate.image("a.io/images/first:1", b"a shared layer")
    second = estate.image("a.io/images/second:1", b"a shared layer")
    fill(estate, connect(upstream.host))
    layer = first.tree.blobs[-1]
    link = next(Path(upstream.folder).rglob(f"images/first/_layers/sha256/{layer.digest.hex}/link"))
    link.unlink()
    mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), tmp_path / "b.tar")
    assert verify(tmp_path / "b.tar")
    assert second.tree.blobs[-1].digest == layer.digest


class Lying(RegistrySource):
    """Serves a blob wrongly, a number of times."""

    def __init__(self, estate, registry, wrong, times, how):
        super().__init__(estate, registry)
        self.wrong, self.times, self.how, self.asked = wrong, times, how, 0

    def blob(self, owner, descriptor, offset=0, room=None):
        del room  # one piece is kept until the next
        data = b"".join(super().blob(owner, descriptor, offset))
        if descriptor.digest == self.wrong:
            self.asked += 1
            if self.asked <= self.times:
                data = self.how(data)
        yield data


HOW = {
    "a flipped bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "too long": lambda data: data + b"!",
    "too short": lambda data: data[:-1],
}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_wrong_bytes_once_cost_a_second_fetch(upstream, tmp_path, how):
    estate = small()
    fill(estate, connect(upstream.host))
    layer = Descriptor.of(LAYER, b"layer of the app")
    source, heard = Lying(estate, connect(upstream.host), layer.digest, 1, how), Heard()
    mirror(estate.lock, source, tmp_path / "b.tar", progress=heard)
    assert source.asked == 2
    assert any("once more from the start" in line for line in heard.lines)
    assert verify(tmp_path / "b.tar")


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_wrong_bytes_always_are_an_integrity_error_and_never_get_a_name(upstream, tmp_path, how):
    estate = small()
    fill(estate, connect(upstream.host))
    layer = Descriptor.of(LAYER, b"layer of the app")
    source = Lying(estate, connect(upstream.host), layer.digest, 99, how)
    with pytest.raises(IntegrityError, match=r"quay.io/team/app:1.0") as caught:
        mirror(estate.lock, source, tmp_path / "b.tar")
    assert caught.value.exit_code == 4
    assert source.asked == 2
    assert not (tmp_path / "b.tar").exists()
    assert str(layer.digest) not in journalled(tmp_path)


def test_a_dead_registry_stops_the_run_and_the_journal_stays(upstream, tmp_path):
    estate = small()
    fill(estate, connect(upstream.host))
    registry = connect(upstream.host)
    upstream.stop()
    with pytest.raises(NetworkError):
        mirror(estate.lock, RegistrySource(estate, registry), tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.glob("b.tar*")) == ["b.tar.partial", "b.tar.partial.journal"]


def test_foreign_layers_are_refused_by_name_unless_they_are_wanted(tmp_path):
    estate = Estate()
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    estate.image("mcr.example.com/windows/base:1", b"a layer from elsewhere", layer_type=foreign)
    linked = estate.image("a.io/linked:1", b"linked")
    outside = dataclasses.replace(linked.tree.blobs[-1], urls=("https://outside.example.com/layer",))
    estate.images[1] = dataclasses.replace(linked, tree=dataclasses.replace(linked.tree, blobs=(linked.tree.blobs[0], outside)))
    with pytest.raises(ConfigurationError, match="foreign layers") as caught:
        mirror(estate.lock, estate, tmp_path / "b.tar")
    assert "mcr.example.com/windows/base:1, a.io/linked:1" in caught.value.message
    assert list(tmp_path.iterdir()) == []
    mirror(estate.lock, estate, tmp_path / "b.tar", include_foreign=True)
    assert verify(tmp_path / "b.tar")


def test_a_file_size_limit_is_found_out_before_anything_is_asked_for(upstream, tmp_path):
    estate = small()
    fill(estate, connect(upstream.host))
    child = start(upstream, estate, tmp_path, limit=9000)
    _, errors = child.communicate(timeout=60)
    assert "allows files of 9000 bytes at most" in errors
    assert fetched(upstream) == []
    assert not list(tmp_path.glob("b.tar*"))


def test_memory_does_not_grow_with_the_blob(upstream, tmp_path):
    """Peak memory of a mirror of one 64 MiB layer stays far below the layer's size on top of the interpreter's own."""
    sizes = []
    for size in (1_000_000, 64_000_000):
        estate = Estate()
        estate.image(f"a.io/images/of{size}:1", noise(size, size))
        fill(estate, connect(upstream.host))
        folder = tmp_path / str(size)
        folder.mkdir()
        child = start(upstream, estate, folder)
        out, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        sizes.append(int(out.split("peak ")[1]))
    assert sizes[1] - sizes[0] < 24_000, f"KiB: {sizes}"


def test_two_runs_at_once_are_refused(upstream, tmp_path):
    estate = estate_of_layers(20, 3_000_000)
    fill(estate, connect(upstream.host))
    child = start(upstream, estate, tmp_path, pause=0.05)
    while not journalled(tmp_path):
        time.sleep(0.005)
    with pytest.raises(DiskError, match=f"pid {child.pid}"):
        mirror(estate.lock, RegistrySource(estate, connect(upstream.host)), tmp_path / "b.tar")
    child.communicate(timeout=60)
    assert child.returncode == 0
    with BundleReader.open(tmp_path / "b.tar") as reader:
        assert reader.digest == estate.lock.digest
