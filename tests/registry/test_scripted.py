"""What registries of the field do and a real one on loopback cannot be made to do: one test for each habit or fault."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from airgap.errors import IntegrityError, NetworkError, NotFoundError, RegistryError, UnauthorizedError
from airgap.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Manifest
from airgap.registry import Registry, verbs
from airgap.registry.ways import MIB, Step, Way, next_way
from tests.registry.conftest import QUICK, Blob
from tests.transport.scripted import Answer, Scripted, Seen, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = {"Content-Type": "application/json"}


def refusal(code: str, message: str = "no") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass
class Shelf:
    """A registry for uploads that keeps what it gets; ``rule`` may answer first. Every answer has a new Location."""

    rule: Callable[[Seen, Shelf], Answer | None] | None = None
    location: str = "/v2/{repository}/blobs/uploads/{session}?_state=s{step}%3D%3D"
    blobs: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    step: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, seen: Seen) -> Answer:
        with self.lock:
            if self.rule and (answer := self.rule(seen, self)):
                return answer
            verbs: dict[str, Callable[[Seen], Answer]] = {
                "HEAD": self.head,
                "GET": self.head,
                "POST": self.post,
                "PATCH": self.patch,
                "PUT": self.put,
                "DELETE": self.delete,
            }
            return verbs[seen.method](seen)

    def head(self, seen: Seen) -> Answer:
        digest = seen.path.rpartition("/")[2]
        return Answer(200, body=self.blobs[digest]) if digest in self.blobs else Answer(404)

    def post(self, _: Seen) -> Answer:
        session = f"session{len(self.sessions)}"
        self.sessions[session] = bytearray()
        return Answer(202, {"Location": self._next(session)})

    def patch(self, seen: Seen) -> Answer:
        session = self._session(seen)
        if session is None:
            return Answer(404, JSON, refusal("BLOB_UPLOAD_UNKNOWN"))
        self.sessions[session] += seen.body
        return Answer(202, {"Location": self._next(session), "Range": f"0-{len(self.sessions[session]) - 1}"})

    def put(self, seen: Seen) -> Answer:
        session = self._session(seen)
        if session is None:
            return Answer(404, JSON, refusal("BLOB_UPLOAD_UNKNOWN"))
        data = bytes(self.sessions.pop(session) + seen.body)
        digest = parse_qs(urlsplit(seen.path).query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            return Answer(400, JSON, refusal("DIGEST_INVALID"))
        self.blobs[digest] = data
        return Answer(201, {"Docker-Content-Digest": digest, "Location": "/x"})

    def delete(self, seen: Seen) -> Answer:
        self.sessions.pop(self._session(seen) or "", None)
        return Answer(204)

    def _next(self, session: str) -> str:
        self.step += 1
        return self.location.format(repository="a/b", session=session, step=self.step)

    def _session(self, seen: Seen) -> str | None:
        """The session of the last Location given; an older one is refused (P6)."""
        path = urlsplit(seen.path)
        if f"s{self.step}%3D%3D" not in path.query and "{step}" in self.location:
            return None
        return next((name for name in self.sessions if name in path.path), None)


def upload(registry: Registry, blob: Blob, mount_from: tuple[str, ...] = ()) -> str:
    return registry.upload("a/b", blob.descriptor, blob.open, mount_from)


def methods(server: Scripted) -> list[str]:
    return [one.method for one in server.seen]


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


def serving(manifest: Manifest, **headers: str) -> Callable[[Seen], Answer]:
    def answer(seen: Seen) -> Answer:
        return Answer(200, {"Content-Type": OCI_MANIFEST, **headers}, manifest.raw)

    return answer


def test_a_head_that_says_too_little_is_followed_by_a_get(open_registry, manifest):
    with Scripted(serving(manifest)) as server:
        assert open_registry(server.host).head_manifest("a/b", "1") == manifest.descriptor
        assert methods(server) == ["HEAD", "GET"]


def test_a_registry_that_knows_no_head_is_asked_by_get(open_registry, manifest):
    def answer(seen: Seen) -> Answer:
        return Answer(405) if seen.method == "HEAD" else serving(manifest)(seen)

    with Scripted(answer) as server:
        registry = open_registry(server.host)
        assert registry.head_manifest("a/b", "1") == manifest.descriptor
        assert not registry.has_blob("a/b", manifest.descriptor.digest)


def test_a_policy_that_hides_an_image_is_not_absence(open_registry):
    with Scripted(in_turn(Answer(412))) as server:
        with pytest.raises(RegistryError) as caught:
            open_registry(server.host).head_manifest("a/b", "1")
        assert len(server.seen) == 1
    assert "policy" in caught.value.hint


def test_other_bytes_than_the_digest_asked_for_are_an_integrity_error(open_registry, manifest):
    with Scripted(serving(manifest)) as server:
        registry = open_registry(server.host)
        for ask in (registry.get_manifest, registry.head_manifest):
            with pytest.raises(IntegrityError):
                ask("a/b", str(Digest.of(b"wanted")))


def test_a_lying_digest_header_is_an_integrity_error(open_registry, manifest):
    headers = {"Docker-Content-Digest": str(Digest.of(b"a lie"))}
    with Scripted(serving(manifest, **headers)) as server:
        registry = open_registry(server.host)
        with pytest.raises(IntegrityError, match="other bytes"):
            registry.get_manifest("a/b", "1")


def test_a_manifest_keeps_the_type_it_was_served_as(open_registry, manifest):
    data = json.loads(manifest.raw)
    del data["mediaType"]
    raw = json.dumps(data).encode()
    with Scripted(in_turn(Answer(200, {"Content-Type": f"{DOCKER_MANIFEST}; charset=utf-8"}, raw))) as server:
        assert open_registry(server.host).get_manifest("a/b", "1").media_type == DOCKER_MANIFEST
        assert OCI_INDEX in server.seen[0].headers["accept"]


def test_a_manifest_of_a_hundred_megabytes_is_not_read(open_registry):
    headers = {"Content-Type": OCI_MANIFEST, "Content-Length": "100000000"}
    with Scripted(in_turn(Answer(200, headers, b" " * 8_000_000))) as server, pytest.raises(IntegrityError, match="longer"):
        open_registry(server.host).get_manifest("a/b", "1")


def ranged(
    data: bytes, *, cut: int | None = None, whole: bool = False, shift: int = 0, total: int | None = None
) -> Callable[[Seen], Answer]:
    """Serve ``data`` by Range as told: cut after some bytes each time, or without knowing ranges, or with a wrong one."""

    def answer(seen: Seen) -> Answer:
        told = seen.headers.get("range", "")
        if not told or whole:
            return Answer(200, {}, data, cut=cut)
        start = int(told.removeprefix("bytes=").partition("-")[0]) + shift
        size = len(data) if total is None else total
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{size}"}
        return Answer(206, headers, data[start:], cut=cut)

    return answer


def test_a_download_that_breaks_goes_on_where_it_was(open_registry, blob):
    with Scripted(ranged(blob.data, cut=700_000)) as server:
        assert b"".join(open_registry(server.host).stream_blob("a/b", blob.descriptor)) == blob.data
        assert len(server.seen) > 3
        assert all("range" in one.headers for one in server.seen[1:])


def test_a_server_without_ranges_sends_all_and_the_beginning_is_read_away(open_registry, blob):
    breaks = [True]

    def answer(seen: Seen) -> Answer:
        cut = 1_000_000 if breaks and breaks.pop() else None
        return ranged(blob.data, cut=cut, whole=True)(seen)

    with Scripted(answer) as server:
        assert b"".join(open_registry(server.host).stream_blob("a/b", blob.descriptor)) == blob.data
        assert len(server.seen) == 2


@pytest.mark.parametrize("how", [{"shift": 1}, {"shift": -1}, {"total": 5}])
def test_another_range_than_asked_for_is_never_appended_and_never_asked_for_again(open_registry, blob, how):
    with Scripted(ranged(blob.data, **how)) as server:
        registry = open_registry(server.host)
        for _ in range(2):
            assert b"".join(registry.stream_blob("a/b", blob.descriptor, 1000)) == blob.data[1000:]
        assert [one.headers.get("range", "") for one in server.seen] == ["bytes=1000-2999999", "", ""]


def test_a_refused_range_is_read_away_from_the_whole(open_registry, blob):
    def answer(seen: Seen) -> Answer:
        return Answer(416) if "range" in seen.headers else Answer(200, body=blob.data)

    with Scripted(answer) as server:
        assert b"".join(open_registry(server.host).stream_blob("a/b", blob.descriptor, 1000)) == blob.data[1000:]


def test_a_download_that_never_moves_ends(open_registry, blob):
    with Scripted(ranged(blob.data, cut=0)) as server:
        with pytest.raises(NetworkError):
            list(open_registry(server.host).stream_blob("a/b", blob.descriptor))
        assert len(server.seen) == QUICK.attempts


def test_a_blob_of_another_size_is_an_integrity_error_before_it_is_read(open_registry, blob):
    with Scripted(in_turn(Answer(200, body=blob.data[:-1]))) as server, pytest.raises(IntegrityError, match="2999999 bytes"):
        open_registry(server.host).open_blob("a/b", blob.descriptor)


def test_a_blob_that_goes_on_beyond_its_size_is_cut(open_registry, blob):
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(blob.data) + 5, blob.data + b"extra")
    with (
        Scripted(in_turn(Answer(200, {"Transfer-Encoding": "chunked"}, chunk))) as server,
        pytest.raises(IntegrityError, match="more than"),
    ):
        list(open_registry(server.host).stream_blob("a/b", blob.descriptor))


def test_wrong_bytes_of_a_small_blob_are_fetched_once_more_and_then_refused(open_registry, blob):
    wrong = bytes([blob.data[0] ^ 1]) + blob.data[1:]
    with Scripted(in_turn(Answer(200, body=wrong), Answer(200, body=blob.data))) as server:
        assert open_registry(server.host).read_blob("a/b", blob.descriptor) == blob.data
    with Scripted(in_turn(Answer(200, body=wrong))) as server:
        with pytest.raises(IntegrityError, match="other bytes"):
            open_registry(server.host).read_blob("a/b", blob.descriptor)
        assert len(server.seen) == 2
    with pytest.raises(IntegrityError, match="too many"):
        open_registry("nowhere.lan").read_blob("a/b", Descriptor("x", blob.descriptor.digest, 10**9))


def test_a_blob_in_a_store_elsewhere_is_there(open_registry, blob):
    with Scripted(in_turn(Answer(307, {"Location": "http://store.lan/x?sig=1"}))) as server:
        assert open_registry(server.host).has_blob("a/b", blob.descriptor.digest)


def test_a_blob_in_a_store_elsewhere_is_fetched_anew_from_the_registry_when_it_breaks(open_registry, blob):
    with Scripted(ranged(blob.data, cut=2_000_000)) as store:

        def answer(seen: Seen) -> Answer:
            return Answer(307, {"Location": f"{store.url}/x?sig={len(store.seen)}"})

        with Scripted(answer) as server:
            assert b"".join(open_registry(server.host).stream_blob("a/b", blob.descriptor)) == blob.data
            assert len(server.seen) == 2
        assert [one.path for one in store.seen] == ["/x?sig=0", "/x?sig=1"]


def test_tags_are_read_page_by_page(open_registry):
    def answer(seen: Seen) -> Answer:
        last = parse_qs(urlsplit(seen.path).query).get("last", [""])[0]
        pages = {"": ("b", '</v2/a/b/tags/list?n=1&last=b>; rel="next"'), "b": ("a", "<list?last=c>; rel=next"), "c": ("c", "")}
        tag, link = pages[last]
        return Answer(200, {**JSON, **({"Link": link} if link else {})}, json.dumps({"name": "a/b", "tags": [tag]}).encode())

    with Scripted(answer) as server:
        assert open_registry(server.host).tags("a/b") == ("a", "b", "c")


def test_a_listing_that_goes_on_at_another_host_is_refused(open_registry):
    headers = {**JSON, "Link": '<http://evil.lan/v2/list>; rel="next"'}
    with Scripted(in_turn(Answer(200, headers, b'{"tags": []}'))) as server, pytest.raises(NetworkError, match=r"evil\.lan"):
        open_registry(server.host).tags("a/b")


@pytest.mark.parametrize("body", [b'{"tags": ["a\\r\\nX: y"]}', b'{"tags": ["-x"]}', b'{"tags": [""]}', b"<html>", b"[1"])
def test_tags_that_are_none_are_refused(open_registry, body):
    with Scripted(in_turn(Answer(200, JSON, body))) as server, pytest.raises(RegistryError):
        open_registry(server.host).tags("a/b")


@pytest.mark.parametrize("body", [b"null", b"[]", b'{"tags": null}', b"{}"])
def test_a_listing_without_tags_is_empty(open_registry, body):
    with Scripted(in_turn(Answer(200, JSON, body))) as server:
        assert open_registry(server.host).tags("a/b") == ()


def index_of(*descriptors: Descriptor) -> bytes:
    data = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.to_json() for one in descriptors]}
    return json.dumps(data).encode()


@pytest.mark.parametrize("status", [404, 405, 400])
def test_a_registry_without_referrers_has_them_under_the_fallback_tag(open_registry, manifest, status):
    signature = Descriptor(OCI_MANIFEST, Digest.of(b"sig"), 3, artifact_type="application/x.sig")

    def answer(seen: Seen) -> Answer:
        if "/referrers/" in seen.path:
            return Answer(status)
        assert seen.path == f"/v2/a/b/manifests/sha256-{manifest.descriptor.digest.hex}"
        return Answer(200, {"Content-Type": OCI_INDEX}, index_of(signature))

    with Scripted(answer) as server:
        assert open_registry(server.host).referrers("a/b", manifest.descriptor.digest) == (signature,)


def test_referrers_are_read_page_by_page_each_once(open_registry, manifest):
    one, two = (Descriptor(OCI_MANIFEST, Digest.of(text), 3) for text in (b"1", b"2"))

    def answer(seen: Seen) -> Answer:
        if "page=2" in seen.path:
            return Answer(200, {"Content-Type": OCI_INDEX}, index_of(one, two))
        link = f'<{seen.path}?page=2>; rel="next"'
        return Answer(200, {"Content-Type": OCI_INDEX, "Link": link}, index_of(one))

    with Scripted(answer) as server:
        assert open_registry(server.host).referrers("a/b", manifest.descriptor.digest) == (one, two)


def test_a_repository_that_is_not_made_by_pushing_is_told_with_what_makes_it(open_registry):
    with Scripted(in_turn(Answer(404, JSON, refusal("NAME_UNKNOWN", "repository name not known")))) as server:
        with pytest.raises(NotFoundError, match="NAME_UNKNOWN") as caught:
            open_registry(server.host).probe_repository("a/b")
        assert methods(server) == ["POST"]
    assert "create-repository" in caught.value.hint


def test_a_repository_that_is_not_ours_is_told(open_registry):
    with (
        Scripted(in_turn(Answer(403, JSON, refusal("DENIED")))) as server,
        pytest.raises(UnauthorizedError, match="DENIED"),
    ):
        open_registry(server.host).probe_repository("a/b")


@pytest.mark.parametrize("status", [204, 404, 405, 500])
def test_a_probe_closes_its_session_whatever_the_answer(open_registry, status):
    def rule(seen: Seen, _: Shelf) -> Answer | None:
        return Answer(status) if seen.method == "DELETE" else None

    with Scripted(Shelf(rule)) as server:
        open_registry(server.host).probe_repository("a/b")
        assert methods(server) == ["POST", "DELETE"]


def test_sha512_is_a_digest_too(open_registry):
    data = b"long digest"
    digest = Digest("sha512", hashlib.sha512(data).hexdigest())
    with Scripted(in_turn(Answer(200, body=data))) as server:
        assert open_registry(server.host).read_blob("a/b", Descriptor("x", digest, len(data))) == data
