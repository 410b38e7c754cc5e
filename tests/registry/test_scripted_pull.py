"""Reading from registries that misbehave by a script.

One test for each habit or fault that registries of the field have and a real one on loopback cannot be made to have.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from airgap.errors import IntegrityError, MisledError, NetworkError, NotFoundError, RegistryError, UnauthorizedError
from airgap.oci import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Digest, Manifest
from tests.registry.conftest import QUICK
from tests.registry.shelf import JSON, Shelf, methods, refusal
from tests.transport.scripted import Answer, Scripted, Seen, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable


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


def test_a_registry_that_takes_every_request_and_says_nothing_is_asked_no_more_often_than_the_policy_says(open_registry, blob):
    with Scripted(lambda _: Answer(hang_up=True)) as server:
        with pytest.raises(NetworkError):
            list(open_registry(server.host).stream_blob("a/b", blob.descriptor))
        assert len(server.seen) == QUICK.attempts


def test_breaks_in_a_body_and_answers_that_never_come_are_one_budget(open_registry, blob):
    turn = iter(range(100))

    def answer(seen: Seen) -> Answer:
        return ranged(blob.data, cut=0)(seen) if next(turn) % 2 else Answer(503)

    with Scripted(answer) as server:
        with pytest.raises(NetworkError):
            list(open_registry(server.host).stream_blob("a/b", blob.descriptor))
        assert len(server.seen) == QUICK.attempts


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://169.254.169.254/x", "/v2/a/b/blobs/again"])
def test_a_redirect_that_is_refused_is_not_asked_for_again(open_registry, blob, location):
    with Scripted(lambda _: Answer(307, {"Location": location})) as server:
        with pytest.raises(MisledError, match=r"refused|more than 5"):
            list(open_registry(server.host).stream_blob("a/b", blob.descriptor))
        assert len(server.seen) == (6 if location.startswith("/") else 1)


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
