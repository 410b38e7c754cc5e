"""Pushing to registries that misbehave by a script.

One test for each habit or fault that registries of the field have and a real one on loopback cannot be made to have.
"""

from __future__ import annotations

import os

import pytest

from airgap.errors import IntegrityError, NetworkError, RegistryError
from airgap.oci import OCI_MANIFEST, Digest
from airgap.registry import verbs
from airgap.registry.ways import MIB, Step, Way, next_way
from tests.registry.conftest import Blob
from tests.registry.shelf import JSON, Shelf, methods, refusal, upload
from tests.transport.scripted import Answer, Scripted, Seen, in_turn


def test_a_location_that_is_relative_has_a_query_and_changes_is_followed_as_it_is(open_registry, blob):
    shelf = Shelf(location="uploads-elsewhere/{session}?x=%2F%3D&_state=s{step}%3D%3D")
    with Scripted(shelf) as server:
        assert upload(open_registry(server.host), blob) == "sent"
        assert methods(server) == ["POST", "PUT"]
        put = server.seen[1]
        assert put.path.startswith("/v2/a/b/blobs/uploads/uploads-elsewhere/session0?x=%2F%3D&_state=s1%3D%3D&digest=sha256%3A")
        assert put.headers["content-length"] == str(len(blob.data))
    assert shelf.blobs == {str(blob.descriptor.digest): blob.data}


@pytest.mark.parametrize("status", [404, 400, 405, 411, 501])
def test_a_registry_that_takes_no_single_put_gets_a_patch_and_a_put_and_is_remembered(open_registry, blob, tmp_path, status):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(status, JSON, refusal("BLOB_UNKNOWN")) if seen.method == "PUT" and seen.body else None

    shelf = Shelf(rule)
    second = Blob.make(tmp_path, b"second", "second")
    with Scripted(shelf) as server:
        registry = open_registry(server.host)
        upload(registry, blob)
        assert methods(server) == ["POST", "PUT", "POST", "PATCH", "PUT"]
        assert "content-range" not in server.requests("PATCH")[0].headers
        upload(registry, second)
        assert methods(server)[5:] == ["POST", "PATCH", "PUT"]
    assert set(shelf.blobs.values()) == {blob.data, b"second"}


def test_a_proxy_that_limits_bodies_gets_smaller_ones(open_registry, blob):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        page = b"<html><title>413 Request Entity Too Large</title></html>"
        return Answer(413, {"Content-Type": "text/html"}, page) if len(seen.body) > MIB else None

    shelf = Shelf(rule)
    with Scripted(shelf) as server:
        upload(open_registry(server.host), blob)
        taken = [one for one in server.requests("PATCH") if len(one.body) <= MIB]
    assert shelf.blobs[str(blob.descriptor.digest)] == blob.data
    assert [one.headers["content-range"] for one in taken] == ["0-1048575", "1048576-2097151", "2097152-2999999"]


def test_a_proxy_that_limits_bodies_too_much_is_named(open_registry, blob):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(413, {"Content-Type": "text/html"}, b"<html>413</html>") if seen.body else None

    with Scripted(Shelf(rule)) as server:
        with pytest.raises(RegistryError, match="413") as caught:
            upload(open_registry(server.host), blob)
        assert len(server.seen) < 12
    assert "client_max_body_size" in caught.value.hint


def test_a_proxy_that_breaks_off_large_bodies_gets_smaller_ones(open_registry, blob):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(hang_up=True) if len(seen.body) > 4 * MIB else None

    big = Blob.make(blob.path.parent, os.urandom(6 * MIB), "big")
    shelf = Shelf(rule)
    with Scripted(shelf) as server:
        upload(open_registry(server.host), big)
    assert shelf.blobs[str(big.descriptor.digest)] == big.data


def test_a_registry_that_wants_chunks_of_a_size_gets_them_no_smaller(open_registry, blob):
    def rule(seen: Seen, shelf: Shelf) -> Answer | None:
        if seen.method == "POST":
            answer = shelf.post(seen)
            return Answer(202, {**answer.headers, "OCI-Chunk-Min-Length": "1500000"})
        return Answer(413) if len(seen.body) > 2_000_000 else None

    shelf = Shelf(rule)
    with Scripted(shelf) as server:
        upload(open_registry(server.host), blob)
        sizes = [len(one.body) for one in server.requests("PATCH")][-2:]
    assert sizes == [1_500_000, 1_500_000]
    assert shelf.blobs[str(blob.descriptor.digest)] == blob.data


BIG = 10 * MIB
PUT, ONE_PATCH = Step("PUT", BIG), Step("PATCH", BIG)
FIRST, SECOND = Step("PATCH", 8 * MIB, whole=False), Step("PATCH", 8 * MIB, 8 * MIB, whole=False)
CLOSING = Step("PUT", 0, BIG, whole=False)


@pytest.mark.parametrize(
    ("way", "step", "status", "found"),
    [
        (Way(), PUT, 404, Way(put=False)),
        (Way(put_works=True), PUT, 404, Way(put_works=True)),
        (Way(put=False), ONE_PATCH, 404, Way(put=False)),
        (Way(put_works=True), PUT, 413, Way(put_works=True, cap=4 * MIB)),
        (Way(cap=4 * MIB), Step("PATCH", 4 * MIB, whole=False), 413, Way(cap=MIB)),
        (Way(cap=MIB), Step("PATCH", MIB, whole=False), 413, Way(cap=MIB)),
        (Way(), FIRST, 416, Way(whole=True)),
        (Way(whole=True), PUT, 416, Way(cap=4 * MIB)),
        (Way(), SECOND, 416, Way(whole=True)),
        (Way(), SECOND, 400, Way(whole=True)),
        (Way(pieces_work=True), SECOND, 416, Way(pieces_work=True)),
        (Way(), CLOSING, 500, Way(tail=True)),
        (Way(tail=True), CLOSING, 500, Way(tail=True)),
        (Way(pieces_work=True), CLOSING, 500, Way(pieces_work=True)),
        (Way(), PUT, 500, Way()),
        (Way(), PUT, 0, Way()),
    ],
)
def test_a_way_is_left_for_sizes_always_and_for_refusals_only_until_it_has_worked(way, step, status, found):
    assert next_way(way, step, status, failures=1) == found


def test_a_large_body_that_breaks_twice_may_be_too_large():
    assert next_way(Way(), PUT, 0, failures=2) == Way(cap=4 * MIB)
    assert next_way(Way(), Step("PUT", 100), 0, failures=2) == Way()
    assert next_way(Way(put_works=True), PUT, 0, failures=2) == Way(put_works=True)


def test_an_upload_that_was_taken_though_no_answer_came_is_not_sent_again(open_registry, blob):
    def rule(seen: Seen, shelf: Shelf) -> Answer | None:
        if seen.method == "PUT":
            shelf.put(seen)
            return Answer(hang_up=True)
        return None

    with Scripted(Shelf(rule)) as server:
        assert upload(open_registry(server.host), blob) == "sent"
        assert methods(server) == ["POST", "PUT", "HEAD"]


@pytest.mark.parametrize(
    "fault", [Answer(hang_up=True), Answer(502, body=b"<html>"), Answer(404, JSON, refusal("BLOB_UPLOAD_UNKNOWN"))]
)
def test_a_session_that_is_lost_is_opened_anew(open_registry, blob, tmp_path, fault: Answer):
    failing = [True]

    def rule(seen: Seen, _: Shelf) -> Answer | None:
        if seen.method == "PUT" and len(seen.body) > 100 and failing.pop():
            failing.append(False)
            return fault
        return None

    shelf = Shelf(rule)
    with Scripted(shelf) as server:
        registry = open_registry(server.host)
        failing.append(False)
        upload(registry, Blob.make(tmp_path, b"small", "small"))
        failing.append(True)
        upload(registry, blob)
        assert len(server.requests("POST")) == 3
        assert len(server.requests("PATCH")) == 0  # one PUT had worked: a 404 is a lost session
    assert shelf.blobs[str(blob.descriptor.digest)] == blob.data


def test_sessions_that_are_always_lost_end_the_upload(open_registry, blob):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(500, JSON, refusal("UNKNOWN", "disk full")) if seen.method == "PUT" else None

    with Scripted(Shelf(rule)) as server:
        with pytest.raises(RegistryError, match="disk full"):
            upload(open_registry(server.host), blob)
        assert len(server.requests("PUT")) == 4
        assert len(server.seen) < 40


def test_another_digest_in_the_answer_is_an_integrity_error_and_not_repeated(open_registry, blob):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(201, {"Docker-Content-Digest": str(Digest.of(b"other"))}) if seen.method == "PUT" else None

    with Scripted(Shelf(rule)) as server:
        with pytest.raises(IntegrityError, match="instead of"):
            upload(open_registry(server.host), blob)
        assert methods(server) == ["POST", "PUT"]


@pytest.mark.parametrize(
    ("location", "hint"),
    [
        ("http://evil.lan/upload", "--upload-host evil.lan"),
        ("http://127.0.0.1:9/upload", "http.relativeurls"),
        ("https://{host}/u", "X-Forwarded-Proto"),
    ],
)
def test_an_upload_is_not_sent_to_another_place(open_registry, blob, location, hint):
    server = Scripted(lambda _: Answer(202, {"Location": location.format(host=server.host)}))
    with server:
        with pytest.raises(NetworkError, match=r"sends an upload to .*: refused") as caught:
            upload(open_registry(server.host), blob)
        assert methods(server) == ["POST"]
    assert hint in caught.value.hint


def test_an_upload_goes_to_a_host_that_was_allowed_and_without_authorization(open_registry, blob):
    with Scripted(in_turn(Answer(201))) as elsewhere:

        def answer(seen: Seen) -> Answer:
            if "authorization" not in seen.headers:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            return Answer(202, {"Location": f"{elsewhere.url}/store?sig=1"})

        with Scripted(answer) as server:
            upload(open_registry(server.host, upload_hosts={elsewhere.host}), blob)
        assert elsewhere.seen[0].body == blob.data
        assert "authorization" not in elsewhere.seen[0].headers


def test_an_answer_without_location_is_an_error(open_registry, blob):
    with Scripted(in_turn(Answer(202))) as server, pytest.raises(RegistryError, match="without a Location"):
        upload(open_registry(server.host), blob)


def test_a_mount_that_opens_a_session_instead_is_uploaded_there(open_registry, blob):
    shelf = Shelf()
    with Scripted(shelf) as server:
        assert upload(open_registry(server.host), blob, ("x/y", "z")) == "sent"
        assert methods(server) == ["POST", "PUT"]
        assert "mount=sha256%3A" in server.seen[0].path
        assert "from=x%2Fy" in server.seen[0].path
    assert shelf.blobs


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_a_mount_that_is_refused_is_uploaded_plainly(open_registry, blob, status):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(status) if "mount=" in seen.path else None

    shelf = Shelf(rule)
    with Scripted(shelf) as server:
        assert upload(open_registry(server.host), blob, ("x/y", "z", "w")) == "sent"
        assert methods(server) == ["POST", "POST", "POST", "PUT"]
    assert shelf.blobs


def test_a_mount_that_breaks_off_is_uploaded_plainly(open_registry, blob):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(hang_up=True) if "mount=" in seen.path else None

    with Scripted(Shelf(rule)) as server:
        assert upload(open_registry(server.host), blob, ("x",)) == "sent"


def test_a_mount_of_something_else_is_an_integrity_error(open_registry, blob):
    headers = {"Docker-Content-Digest": str(Digest.of(b"other"))}
    with Scripted(in_turn(Answer(201, headers))) as server, pytest.raises(IntegrityError):
        upload(open_registry(server.host), blob, ("x",))


def test_a_blob_just_written_is_waited_for_and_one_never_written_is_not(open_registry, blob, monkeypatch):
    monkeypatch.setattr(verbs, "LAG_WAITS", (0.01, 0.01, 0.01))
    hidden = [0]

    def rule(seen: Seen, _: Shelf) -> Answer | None:
        if seen.method == "HEAD" and hidden[0]:
            hidden[0] -= 1
            return Answer(404)
        return None

    with Scripted(Shelf(rule)) as server:
        registry = open_registry(server.host)
        assert not registry.has_blob("a/b", blob.descriptor.digest)
        assert len(server.seen) == 1
        upload(registry, blob)
        hidden[0] = 2
        assert registry.has_blob("a/b", blob.descriptor.digest)
        hidden[0] = 99
        assert not registry.has_blob("a/b", blob.descriptor.digest)
        assert hidden[0] == 95


def test_a_manifest_is_sent_again_while_its_blobs_are_not_seen_and_then_no_more(open_registry, manifest, monkeypatch):
    monkeypatch.setattr(verbs, "UNKNOWN_BLOB_WAITS", (0.01, 0.01, 0.01))
    unknown = Answer(400, JSON, refusal("MANIFEST_BLOB_UNKNOWN"))
    told = {"Docker-Content-Digest": str(manifest.descriptor.digest)}
    with Scripted(in_turn(unknown, unknown, Answer(201, told))) as server:
        registry = open_registry(server.host)
        assert registry.put_manifest("a/b", "1", manifest.raw, manifest.media_type) == manifest.descriptor.digest
        assert [one.headers["content-type"] for one in server.seen] == [OCI_MANIFEST] * 3
    with Scripted(in_turn(unknown)) as server:
        with pytest.raises(RegistryError, match="MANIFEST_BLOB_UNKNOWN"):
            open_registry(server.host).put_manifest("a/b", "sha256:" + "0" * 64, manifest.raw, manifest.media_type)
        assert len(server.seen) == 4


@pytest.mark.parametrize("status", [400, 403, 409, 412])
def test_a_tag_that_may_not_move_is_said_to_be_that(open_registry, manifest, status):
    there = Digest.of(b"what is there")

    def answer(seen: Seen) -> Answer:
        if seen.method == "PUT":
            return Answer(status, JSON, refusal("TAG_INVALID", "tag is immutable"))
        headers = {"Docker-Content-Digest": str(there), "Content-Type": OCI_MANIFEST, "Content-Length": "500"}
        return Answer(200, headers)

    with (
        Scripted(answer) as server,
        pytest.raises(RegistryError, match=f"a/b:1 is {there} and may not be overwritten with {manifest.descriptor.digest}"),
    ):
        open_registry(server.host).put_manifest("a/b", "1", manifest.raw, manifest.media_type)


def test_a_manifest_stored_under_another_digest_is_an_integrity_error(open_registry, manifest):
    with (
        Scripted(in_turn(Answer(201, {"Docker-Content-Digest": str(Digest.of(b"x"))}))) as server,
        pytest.raises(IntegrityError),
    ):
        open_registry(server.host).put_manifest("a/b", "1", manifest.raw, manifest.media_type)
