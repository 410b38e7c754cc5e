"""Uploads that go on: after a break, in another run, with a registry that forgets, lies or is full."""

from __future__ import annotations

import stat
import threading
import time

import pytest

from airgap.errors import DiskError, IntegrityError, NetworkError, RegistryError
from airgap.oci import Digest
from airgap.push.journal import noted_uploads, places
from airgap.ref import Location
from airgap.registry import sessions as module
from airgap.registry import ways
from airgap.registry.sessions import Noted, SavedSessions, journal_name
from tests.engine.conftest import MIB, Keeping, connect, ranges
from tests.registry.conftest import QUICK
from tests.registry.shelf import JSON, Shelf, methods, refusal, upload
from tests.transport.scripted import Answer, Scripted, Seen

TARGET = Location.parse("reg.lan/team")
PIECE = 8 * MIB


@pytest.fixture
def pieces(monkeypatch):
    """Pieces of the least size, whatever the speed."""
    monkeypatch.setattr(ways, "FIRST", PIECE)
    monkeypatch.setattr(ways, "MOST", PIECE)


@pytest.mark.usefixtures("pieces")
def test_a_large_blob_goes_in_pieces_and_a_small_one_in_one_request(large, tmp_path):
    with Scripted(shelf := Keeping()) as server:
        assert upload(connect(server.host), large) == "sent"
        assert methods(server) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
        assert ranges(server.seen) == ["0-8388607", "8388608-16777215", "16777216-20971519"]
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kept", [0, 1, 1_000_000])
def test_a_break_inside_a_piece_goes_on_where_the_registry_stands(large, kept):
    with Scripted(shelf := Keeping(kept=kept, broken=1)) as server:
        upload(connect(server.host), large)
        sent = sum(len(one.body) for one in server.seen)
        assert len(server.requests("POST")) == (1 if kept > 1 else 2)
    assert shelf.blobs[str(large.descriptor.digest)] == large.data
    assert sent <= len(large.data) + PIECE


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("lies", ["", "0-99999999", "nonsense"])
def test_a_registry_that_does_not_say_or_says_too_much_is_sent_the_blob_anew(large, lies):
    with Scripted(shelf := Keeping(kept=100, broken=1, lies=lies)) as server:
        upload(connect(server.host), large)
        assert len(server.requests("POST")) == 2
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


@pytest.mark.usefixtures("pieces")
def test_what_a_registry_says_is_not_believed_while_all_is_well(large):
    def rule(seen: Seen, shelf: Shelf) -> Answer | None:
        if seen.method != "PATCH":
            return None
        answer = shelf.patch(seen)
        return Answer(202, {**answer.headers, "Range": "0-99"})  # zot, ECR (P14)

    with Scripted(shelf := Keeping(rule=rule)) as server:
        upload(connect(server.host), large)
        assert shelf.asked == []
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


@pytest.mark.usefixtures("pieces")
def test_bytes_that_do_not_fit_together_after_a_break_are_sent_once_more_from_the_start(large):
    shelf = Keeping(kept=500_000, broken=1, lies="0-300000")
    with Scripted(shelf) as server:
        upload(connect(server.host), large)
        assert len(server.requests("POST")) == 2
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


@pytest.mark.usefixtures("pieces")
def test_a_piece_that_is_refused_as_out_of_order_goes_on_where_the_registry_stands(large):
    """F4: 416 in the middle, because the registry has less (or more) than we counted."""
    refused: list[str] = []

    def rule(seen: Seen, shelf: Shelf) -> Answer | None:
        data = shelf.sessions.get("session0", b"")
        if seen.method != "PATCH" or len(data) != 2 * PIECE or refused:
            return None
        refused.append(seen.path)
        del shelf.sessions["session0"][PIECE:]  # another replica, which has seen the first piece only
        return Answer(416, JSON, refusal("RANGE_INVALID"))

    with Scripted(shelf := Keeping(rule=rule)) as server:
        upload(connect(server.host), large)
        assert len(server.requests("POST")) == 1
        pieces = ["0-8388607", "8388608-16777215", "16777216-20971519"]
        assert ranges(server.seen) == [*pieces, *pieces[1:]]
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


@pytest.mark.usefixtures("pieces")
def test_an_upload_to_a_registry_that_is_gone_ends_after_one_budget(large):
    gone: list[str] = []

    def rule(seen: Seen, _: Shelf) -> Answer | None:
        if seen.method == "PATCH" or gone:
            gone.append(seen.method)
            return Answer(hang_up=True)
        return None

    with Scripted(Keeping(rule=rule)) as server, pytest.raises(NetworkError, match="broke off"):
        upload(connect(server.host), large)
    assert len(gone) <= 2 * QUICK.attempts, gone


@pytest.mark.usefixtures("pieces")
def test_a_registry_that_breaks_every_piece_off_ends_the_upload(large):
    with Scripted(Keeping(kept=0, broken=10**6)) as server:
        with pytest.raises(Exception, match="broke off"):
            upload(connect(server.host), large)
        assert sum(1 for one in server.seen if one.body) < 15


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("answer", [Answer(507), Answer(500, JSON, refusal("UNKNOWN", "write: no space left on device"))])
def test_a_registry_without_room_is_not_filled_again(large, answer):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return answer if seen.method == "PATCH" else None

    with Scripted(Keeping(rule=rule)) as server:
        with pytest.raises(RegistryError) as caught:
            upload(connect(server.host), large)
        assert len(server.requests("PATCH")) == 1
    assert "no room" in caught.value.hint


@pytest.mark.usefixtures("pieces")
def test_another_run_goes_on_with_the_session_of_the_first(large, tmp_path):
    shelf, path = Keeping(), tmp_path / "journal"

    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(403) if seen.method == "PATCH" and len(shelf.sessions["session0"]) >= PIECE else None

    shelf.rule = rule
    with Scripted(shelf) as server:
        with SavedSessions(path) as sessions, pytest.raises(Exception, match="403"):
            upload(connect(server.host, sessions), large)
        assert path.exists()
        shelf.rule = None
        before = len(server.seen)
        with SavedSessions(path) as sessions:
            upload(connect(server.host, sessions), large)
        assert [one.method for one in server.seen[before:]] == ["GET", "PATCH", "PATCH", "PUT"]
        assert not path.exists()
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("location", ["http://evil.lan/v2/x", "nonsense", "/v2/a/b/blobs/uploads/gone", ""])
def test_a_note_that_leads_nowhere_or_elsewhere_is_dropped(large, tmp_path, location):
    with Scripted(shelf := Keeping()) as server:
        if location.startswith("/"):
            location = server.url + location
        with SavedSessions(tmp_path / "journal") as sessions:
            sessions.note(f"{server.url}/v2/a/b {large.descriptor.digest}", location, PIECE)
            upload(connect(server.host, sessions), large)
        assert server.requests("POST")
    assert shelf.blobs[str(large.descriptor.digest)] == large.data


def test_notes_survive_a_torn_line_and_are_gone_when_they_are_forgotten(tmp_path):
    path = tmp_path / "journal"
    with SavedSessions(path) as sessions:
        sessions.note("one", "http://x/1", 5)
        sessions.note("one", "http://x/2", 9)
        sessions.note("two", "http://x/3", 1)
        sessions.forget("two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(path.read_bytes() + b'{"key": "three", "loca')
    with SavedSessions(path) as sessions:
        assert sessions.recall("one") == Noted("http://x/2", 9)
        assert sessions.recall("two") is None
        assert sessions.recall("three") is None
        sessions.clear()
    assert not path.exists()


def test_damage_and_foreign_files_are_read_as_nothing(tmp_path):
    path = tmp_path / "journal"
    for data in (
        b"",
        b"\0\0\0",
        b"something else\n{}\n",
        b'airgap-uploads 1\n[]\n{"key": 1}\nnull\n{"key":"a","offset":"x"}\n',
    ):
        path.write_bytes(data)
        with SavedSessions(path) as sessions:
            assert sessions.recall("a") is None


def test_a_second_run_waits_for_the_first_and_then_says_who_it_is(tmp_path, monkeypatch):
    path = tmp_path / "journal"
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    first = SavedSessions(path)
    with pytest.raises(DiskError, match=r"pid \d+"):
        SavedSessions(path)
    monkeypatch.setattr(module, "PATIENCE", 30.0)
    threading.Timer(0.5, first.close).start()
    begun = time.monotonic()
    SavedSessions(path).close()
    assert time.monotonic() - begun < 20


def fail(bundle, digest, environ):
    with noted_uploads(bundle, digest, TARGET, environ) as sessions:
        sessions.note("x", "http://x/1", 1)
        raise IntegrityError("the push failed")


def test_notes_lie_beside_the_bundle_or_in_the_cache_or_nowhere(tmp_path):
    bundle, digest = tmp_path / "media" / "wandb.tar", Digest.of(b"lock")
    bundle.parent.mkdir()
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    beside, cached = places(bundle, digest, TARGET, environ)
    assert beside == bundle.with_name(journal_name("wandb.tar", "reg.lan/team"))
    assert places(bundle.with_name("wandb.tar.003"), digest, TARGET, environ)[0] == beside
    assert places(bundle, digest, TARGET, {"HOME": "/home/ann"})[1].is_relative_to("/home/ann/.cache/airgap")
    assert places(bundle, digest, TARGET, {}) == (beside,)
    with noted_uploads(bundle, digest, TARGET, environ) as sessions:
        sessions.note("x", "http://x/1", 1)
        assert beside.exists()
    assert not beside.exists()
    beside.mkdir()  # nothing can be written there
    with pytest.raises(IntegrityError):
        fail(bundle, digest, environ)
    assert cached.exists()
    with noted_uploads(bundle, digest, TARGET, {}) as sessions:
        assert sessions.recall("x") is None
