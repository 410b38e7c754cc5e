"""Writing a bundle: in place, resumed, never half under its name."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from airgap.bundle import BundleReader, BundleWriter, arrange, interrupted
from airgap.bundle.claim import Claim
from airgap.bundle.crew import Crew, StoppedError
from airgap.bundle.pages import allocate
from airgap.errors import BundleError, ConfigurationError, DiskError, IntegrityError
from airgap.oci import Descriptor
from airgap.plan import missing
from airgap.progress import Progress
from airgap.verify import verify
from tests.bundle.estate import LAYER, Estate, bundle, small

ROOT = Path(__file__).resolve().parents[2]


class Told(Progress):
    def __init__(self):
        self.done_items: list[str] = []
        self.warnings: list[str] = []

    def done(self, item: str, note: str = "") -> None:
        self.done_items.append(f"{item} {note}")

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def half(estate, path, count):
    """Write the first ``count`` missing blobs and stop as a broken-off run would."""
    with BundleWriter(path, estate.lock) as writer:
        for descriptor in missing(estate.lock, writer.held)[:count]:
            with writer.sink(descriptor) as sink:
                sink.write(estate.contents[descriptor.digest])


def test_the_bundle_appears_only_when_it_is_whole(tmp_path):
    estate, path = small(), tmp_path / "b.tar"
    half(estate, path, 3)
    assert names(tmp_path) == ["b.tar.partial", "b.tar.partial.journal"]
    assert interrupted(path) == estate.lock.from_bytes(estate.lock.to_bytes())
    bundle(estate, path)
    assert names(tmp_path) == ["b.tar"]
    assert interrupted(path) is None


def test_a_resumed_bundle_has_the_same_bytes_as_one_written_in_one_go(tmp_path):
    estate = small()
    half(estate, tmp_path / "resumed.tar", 3)
    half(estate, tmp_path / "resumed.tar", 4)
    one, other = bundle(estate, tmp_path / "resumed.tar"), bundle(estate, tmp_path / "straight.tar")
    assert one.read_bytes() == other.read_bytes()


def test_a_resumed_writer_holds_what_was_finished_and_says_so(tmp_path):
    estate, told = small(), Told()
    half(estate, tmp_path / "b.tar", 5)
    with BundleWriter(tmp_path / "b.tar", estate.lock, told) as writer:
        assert len(missing(estate.lock, writer.held)) == len(missing(estate.lock, ())) - 5 - 1  # {} is decided by the lock
        assert len(told.done_items) == 5
        assert told.done_items[0].endswith("already there")


def test_what_the_journal_claims_is_hashed_again_and_fetched_again_when_wrong(tmp_path):
    estate, told, path = small(), Told(), tmp_path / "b.tar"
    half(estate, path, len(estate.contents))
    layer = Descriptor.of(LAYER, b"layer of the app")
    with (tmp_path / "b.tar.partial").open("r+b") as file:
        file.seek(arrange(estate.lock).blobs[layer.digest].offset)
        file.write(b"?")
    with BundleWriter(path, estate.lock, told) as writer:
        assert [descriptor.digest for descriptor in missing(estate.lock, writer.held)] == [layer.digest]
        assert "fetched again" in told.warnings[0]
        estate.write(writer)
    assert verify(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda journal: journal.unlink(),
        lambda journal: journal.write_bytes(b""),
        lambda journal: journal.write_bytes(b"something else\n{}\n"),
        lambda journal: journal.write_bytes(journal.read_bytes()[:200]),
        lambda journal: journal.with_name("b.tar.partial").unlink(),
        lambda journal: journal.with_name("b.tar.partial").write_bytes(b"short"),
        lambda journal: journal.write_bytes(journal.read_bytes() + b"sha256:torn"),
        lambda journal: journal.write_bytes(journal.read_bytes() + b"sha256:" + b"0" * 64 + b"\nnonsense\n"),
    ],
)
def test_a_spoilt_journal_or_partial_costs_time_and_nothing_else(tmp_path, spoil):
    estate, path = small(), tmp_path / "b.tar"
    half(estate, path, 4)
    spoil(tmp_path / "b.tar.partial.journal")
    bundle(estate, path)
    assert path.read_bytes() == bundle(estate, tmp_path / "straight.tar").read_bytes()


def test_a_partial_of_another_lock_is_not_touched(tmp_path):
    half(small(), tmp_path / "b.tar", 2)
    before = (tmp_path / "b.tar.partial").read_bytes()
    other = small()
    other.image("a.io/new:1", b"new")
    with pytest.raises(ConfigurationError, match="beginning of another bundle") as caught:
        BundleWriter(tmp_path / "b.tar", other.lock)
    assert "b.tar.partial.journal" in caught.value.hint
    assert (tmp_path / "b.tar.partial").read_bytes() == before


def test_the_same_bundle_again_is_nothing_to_do(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    stamp = path.stat().st_mtime_ns
    with BundleWriter(path, small().lock) as writer:
        assert writer.complete
        writer.finish()
    assert path.stat().st_mtime_ns == stamp
    assert names(tmp_path) == ["b.tar"]


def test_a_newer_bundle_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    old = path.read_bytes()
    newer = small()
    newer.image("a.io/new:1", b"new")
    half(newer, path, 2)
    assert path.read_bytes() == old
    bundle(newer, path)
    with BundleReader.open(path) as reader:
        assert reader.digest == newer.lock.digest


@pytest.mark.parametrize("content", [b"a user's own notes", b""])
def test_a_file_that_is_no_bundle_is_never_overwritten(tmp_path, content):
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(DiskError, match="left alone"):
        BundleWriter(tmp_path / "b.tar", small().lock)
    assert (tmp_path / "b.tar").read_bytes() == content
    assert names(tmp_path) == ["b.tar"]


def test_a_wrong_blob_never_counts(tmp_path):
    estate = small()
    layer = Descriptor.of(LAYER, b"layer of the app")
    with BundleWriter(tmp_path / "b.tar", estate.lock) as writer:
        with pytest.raises(IntegrityError, match="digest"), writer.sink(layer) as sink:
            sink.write(b"layer of an app!")
        with pytest.raises(IntegrityError, match="ends after 5"), writer.sink(layer) as sink:
            sink.write(b"layer")
        with pytest.raises(IntegrityError, match="goes on"), writer.sink(layer) as sink:
            sink.write(b"layer of the app and more")
        with pytest.raises(BundleError, match="lists no blob"):
            writer.sink(Descriptor.of(LAYER, b"stranger"))
        assert layer.digest not in writer.held
        with writer.sink(layer) as sink:
            sink.write(b"wrong")
            sink.restart()
            sink.write(b"layer ")
            assert sink.position == 6
            sink.write(memoryview(b"of the app"))
        assert layer.digest in writer.held
        with pytest.raises(BundleError, match="not whole"):
            writer.finish()


def test_a_blob_beside_a_wrong_one_is_not_hurt(tmp_path):
    estate = small()
    with BundleWriter(tmp_path / "b.tar", estate.lock) as writer:
        for descriptor in estate.lock.blobs().values():
            with pytest.raises(IntegrityError), writer.sink(descriptor) as sink:
                sink.write(estate.contents[descriptor.digest] + b"!" * 2000)
        estate.write(writer)
    assert verify(tmp_path / "b.tar")


def test_two_runs_on_the_same_output_are_refused_and_the_holder_is_named(tmp_path):
    with BundleWriter(tmp_path / "b.tar", small().lock):
        with pytest.raises(DiskError, match=f"pid {os.getpid()} on {socket.gethostname()}"):
            BundleWriter(tmp_path / "b.tar", small().lock)
        (tmp_path / "b.tar.partial.lock").write_text("gibberish")
        with pytest.raises(DiskError, match="does not say which"):
            BundleWriter(tmp_path / "b.tar", small().lock)
    bundle(small(), tmp_path / "b.tar")


def test_the_lock_of_a_dead_run_is_taken_over(tmp_path):
    (tmp_path / "b.tar.partial.lock").write_text(json.dumps({"pid": 1, "host": "another-host"}))
    bundle(small(), tmp_path / "b.tar")
    assert names(tmp_path) == ["b.tar"]


def test_an_output_where_nothing_can_be_written_is_a_plain_sentence(tmp_path):
    with pytest.raises(DiskError, match="cannot write"):
        BundleWriter(tmp_path / "absent" / "b.tar", small().lock)


def child(code, *arguments, **more):
    """Run a piece of Python against the small estate in a process of its own."""
    prelude = """
    import os, resource, signal, sys
    from pathlib import Path
    from airgap.bundle import BundleWriter
    from tests.bundle.estate import small
    estate, path = small(), Path(sys.argv[1])
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False, **more
    )


STAGES = ["os.fsync", "os.pwrite", "os.replace", "Path.replace", "Path.unlink", "os.close", "os.write"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_stage_the_next_run_finishes(tmp_path, stage, when):
    expected = bundle(small(), tmp_path / "straight.tar").read_bytes()
    (tmp_path / "straight.tar").unlink()
    for number in range(1, 200, 7 if stage in {"os.pwrite", "os.write"} else 1):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        result = child(
            """
            owner, name = sys.argv[2].split(".")
            owner = {"os": os, "Path": Path}[owner]
            real, left = getattr(owner, name), int(sys.argv[4])
            def fatal(*args, **more):
                global left
                left -= 1
                if not left and sys.argv[3] == "before":
                    os.kill(os.getpid(), signal.SIGKILL)
                answer = real(*args, **more)
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer
            setattr(owner, name, fatal)
            with BundleWriter(path, estate.lock) as writer:
                estate.write(writer)
            """,
            folder / "b.tar",
            stage,
            when,
            number,
        )
        if (folder / "b.tar").exists():
            assert (folder / "b.tar").read_bytes() == expected, "a half result under the final name"
        assert bundle(small(), folder / "b.tar").read_bytes() == expected
        assert names(folder) == ["b.tar"]
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr


def test_a_shell_that_allows_no_such_file_is_found_out_before_the_first_byte(tmp_path):
    result = child(
        """
        from airgap.errors import DiskError
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        try:
            BundleWriter(path, estate.lock)
        except DiskError as error:
            print(error.message, "|", error.hint)
        """,
        tmp_path / "b.tar",
    )
    assert "allows files of 5000 bytes at most | raise ulimit -f" in result.stdout, result.stderr
    assert names(tmp_path) == []


def test_a_limit_that_shows_while_writing_keeps_the_journal(tmp_path):
    result = child(
        """
        from airgap.errors import DiskError
        writer = BundleWriter(path, estate.lock)
        resource.setrlimit(resource.RLIMIT_FSIZE, (18000, resource.RLIM_INFINITY))
        try:
            with writer:
                estate.write(writer)
        except DiskError as error:
            print(error.exit_code, error.message, "|", error.hint)
        """,
        tmp_path / "b.tar",
    )
    assert "1 cannot write" in result.stdout, result.stderr
    assert "allows no larger file" in result.stdout
    assert "bytes are missing | make room" in result.stdout
    assert names(tmp_path) == ["b.tar.partial", "b.tar.partial.journal"]
    bundle(small(), tmp_path / "b.tar")


@pytest.fixture
def tiny_disk(tmp_path):
    """A tmpfs of 300 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def large() -> Estate:
    estate = Estate()
    estate.image("a.io/large:1", hashlib.sha256(b"1").digest() * 3000, hashlib.sha256(b"2").digest() * 3000)
    return estate


def test_a_disk_that_is_too_small_is_found_out_before_the_first_byte(tiny_disk):
    estate = large()
    estate.image("a.io/larger:1", b"0" * 300_000)
    with pytest.raises(DiskError, match="do not fit on the disk"):
        BundleWriter(tiny_disk / "b.tar", estate.lock)
    assert names(tiny_disk) == []


def test_a_disk_that_fills_up_meanwhile_is_a_sentence_and_the_run_can_be_repeated(tiny_disk, monkeypatch):
    monkeypatch.setattr("airgap.bundle.target.allocate", lambda *_: None)  # a file system that cannot set room aside
    estate = large()
    with BundleWriter(tiny_disk / "b.tar", estate.lock) as writer:
        (tiny_disk / "another.file").write_bytes(b"x" * 150_000)
        with pytest.raises(DiskError, match="the disk is full") as caught:
            estate.write(writer)
    assert caught.value.exit_code == 1
    assert "run the same command again" in caught.value.hint
    (tiny_disk / "another.file").unlink()
    path = bundle(estate, tiny_disk / "b.tar")
    assert verify(path)


def test_room_is_set_aside_before_the_first_byte_or_refused(tiny_disk):
    with (tiny_disk / "file").open("wb") as file:
        allocate(file.fileno(), 100_000)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 100_000
        with pytest.raises(OSError, match="No space left"):
            allocate(file.fileno(), 1_000_000)


def test_a_crew_hands_the_first_failure_over_and_stops_the_rest():
    done: list[int] = []

    def work(number: int) -> None:
        if number == 5:
            raise DiskError("no more")
        done.append(number)

    crew = Crew(3)
    with pytest.raises(DiskError, match="no more"):
        crew.run(range(1000), work)
    assert len(done) < 1000
    with pytest.raises(StoppedError):
        crew.check()


def test_a_crew_does_everything_once():
    done: list[int] = []
    crew = Crew(4)
    crew.run(range(500), done.append)
    crew.run(range(500, 600), done.append)
    assert sorted(done) == list(range(600))
    crew.check()


def test_a_lock_file_that_vanishes_while_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    """Another run may end, and delete its lock file, between our opening it and our locking it."""
    real, path = fcntl.flock, tmp_path / "b.tar.partial.lock"
    calls = []

    def late(fd, how):
        calls.append(fd)
        if len(calls) == 1:
            path.unlink()
        if len(calls) == 2:
            path.unlink()
            path.write_text("another run's")
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    claim = Claim(path, tmp_path / "b.tar")
    assert len(calls) == 3
    assert json.loads(path.read_text())["pid"] == os.getpid()
    claim.release()
    claim.release()
    assert names(tmp_path) == []


def test_a_writer_that_was_closed_takes_no_more_bytes(tmp_path):
    estate = small()
    layer = Descriptor.of(LAYER, b"layer of the app")
    writer = BundleWriter(tmp_path / "b.tar", estate.lock)
    sink = writer.sink(layer)
    with sink:
        writer.close()
        sink.write(b"layer of the app")  # a thread that is still at it may finish its blob: the file stays open for it
    with pytest.raises(DiskError, match="not being written any more"), writer.sink(layer):
        pass
