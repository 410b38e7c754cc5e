"""A store takes what the distribution-spec lets clients push, refuses what would make it lie, and forgets nothing."""

from __future__ import annotations

import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from airgap.errors import ConfigurationError, DiskError, IntegrityError
from airgap.oci import DOCKER_MANIFEST, HELM_CHART, HELM_CONFIG, OCI_INDEX, OCI_MANIFEST, Digest
from airgap.serve import Options, Rules, Server, sessions
from tests.serve.talk import Talk, code, descriptor, eventually, image, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle import BundleReader


def files(folder: Path) -> set[str]:
    """What lies in a store beside its own bookkeeping."""
    return {str(path.relative_to(folder)) for path in folder.glob("blobs/*/*")}


# -- pushing ------------------------------------------------------------------------------------------------------------------


def test_an_image_that_was_pushed_is_pulled_byte_for_byte(store: Talk, tmp_path: Path) -> None:
    digest = store.image("team/app", "1.0", b"layer")
    raw = store.get("/v2/team/app/manifests/1.0").content
    assert sha256(raw) == digest
    assert store.get(f"/v2/team/app/blobs/{sha256(b'layer')}").content == b"layer"
    assert files(tmp_path / "store") == {f"blobs/sha256/{Digest.of(data).hex}" for data in (raw, b"{}", b"layer")}


def test_a_blob_in_chunks_keeps_order_and_says_how_far_it_is(store: Talk) -> None:
    place = store.open("app")
    first = store.ask("PATCH", place, data=b"0123", headers={"Content-Range": "0-3"})
    assert (first.status_code, first.headers["Range"]) == (202, "0-3")
    early = store.ask("PATCH", place, data=b"89", headers={"Content-Range": "8-9"})
    assert (early.status_code, early.headers["Range"], early.headers["Location"]) == (416, "0-3", place)
    assert code(store.ask("PATCH", place, data=b"4567", headers={"Content-Range": "4-9"})) == (400, "SIZE_INVALID")
    assert code(store.ask("PATCH", place, data=b"4567", headers={"Content-Range": "four"})) == (400, "BLOB_UPLOAD_INVALID")
    status = store.get(place)
    assert (status.status_code, status.headers["Range"]) == (204, "0-3")
    store.ask("PATCH", place, data=iter([b"45", b"67"]))  # streamed: chunked coding, no Content-Range
    done = store.ask("PUT", place, params={"digest": sha256(b"0123456789")}, data=b"89", headers={"Content-Range": "8-9"})
    assert (done.status_code, done.headers["Location"]) == (201, f"/v2/app/blobs/{sha256(b'0123456789')}")
    assert store.get(done.headers["Location"]).content == b"0123456789"
    assert code(store.get(place)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_a_blob_in_one_post(store: Talk) -> None:
    answer = store.ask("POST", "/v2/app/blobs/uploads/", params={"digest": sha256(b"data")}, data=b"data")
    assert answer.status_code == 201
    assert store.get(answer.headers["Location"]).content == b"data"


def test_a_sha512_blob_has_its_own_folder(store: Talk, tmp_path: Path) -> None:
    digest = Digest("sha512", Digest("sha512", "").hasher().hexdigest())
    answer = store.ask("PUT", store.open("app"), params={"digest": str(digest)})
    assert answer.status_code == 201
    assert files(tmp_path / "store") == {f"blobs/sha512/{digest.hex}"}


@pytest.mark.parametrize("wanted", [sha256(b"other"), "sha256:short", "md5:" + "0" * 32, ""])
def test_bytes_that_do_not_match_never_get_a_name(store: Talk, tmp_path: Path, wanted: str) -> None:
    place = store.open("app")
    assert code(store.ask("PUT", place, params={"digest": wanted}, data=b"data")) == (400, "DIGEST_INVALID")
    assert code(store.ask("POST", "/v2/app/blobs/uploads/", params={"digest": sha256(b"x")}, data=b"y"))[0] == 400
    assert files(tmp_path / "store") == set()
    assert "app" not in store.get("/v2/_catalog").json()["repositories"]


def test_a_cancelled_upload_leaves_nothing(store: Talk, tmp_path: Path) -> None:
    place = store.open("app")
    store.ask("PATCH", place, data=b"data")
    assert store.ask("DELETE", place).status_code == 204
    assert code(store.ask("PATCH", place, data=b"data")) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert list((tmp_path / "store/.airgap/uploads").iterdir()) == []


def test_an_upload_belongs_to_its_repository(store: Talk) -> None:
    place = store.open("app").replace("/v2/app/", "/v2/other/")
    assert code(store.ask("PATCH", place, data=b"data")) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_a_mount_needs_no_bytes_and_an_unknown_one_becomes_an_upload(store: Talk) -> None:
    digest = store.blob("one", b"data")
    assert store.get(f"/v2/two/blobs/{digest}").status_code == 404
    mounted = store.ask("POST", "/v2/two/blobs/uploads/", params={"mount": digest, "from": "one"})
    assert (mounted.status_code, mounted.headers["Location"]) == (201, f"/v2/two/blobs/{digest}")
    assert store.get(f"/v2/two/blobs/{digest}").content == b"data"
    assert store.ask("POST", "/v2/three/blobs/uploads/", params={"mount": digest}).status_code == 201
    assert store.ask("POST", "/v2/four/blobs/uploads/", params={"mount": digest, "from": "five"}).status_code == 202
    assert store.ask("POST", "/v2/four/blobs/uploads/", params={"mount": sha256(b"?")}).status_code == 202
    assert code(store.ask("POST", "/v2/x/blobs/uploads/", params={"mount": digest, "from": "../one"}))[1] == "NAME_INVALID"


# -- manifests ----------------------------------------------------------------------------------------------------------------


def test_a_manifest_with_missing_parts_is_refused_and_leaves_nothing(store: Talk, tmp_path: Path) -> None:
    store.blob("app", b"{}")
    assert code(store.manifest("app", "1", image(b"{}", b"absent"))) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert files(tmp_path / "store") == {f"blobs/sha256/{Digest.of(b'{}').hex}"}
    assert store.get("/v2/app/tags/list").json()["tags"] == []


def test_a_layer_that_may_lie_elsewhere_need_not_be_here(store: Talk) -> None:
    store.blob("app", b"{}")
    foreign = {**descriptor(b"windows"), "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}
    raw = json.dumps({**json.loads(image(b"{}")), "layers": [foreign]}).encode()
    assert store.manifest("app", "1", raw).status_code == 201


def index_of(*children: bytes) -> bytes:
    manifests = [descriptor(child, OCI_MANIFEST) for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()


def test_a_sparse_index_is_refused_unless_allowed(store: Talk, tmp_path: Path, session: requests.Session) -> None:
    store.image("app", "child", b"layer")
    child = store.get("/v2/app/manifests/child").content
    assert store.manifest("app", "whole", index_of(child), OCI_INDEX).status_code == 201
    sparse = index_of(child, b"not here")
    assert code(store.manifest("app", "sparse", sparse, OCI_INDEX)) == (400, "MANIFEST_BLOB_UNKNOWN")
    with Server(None, tmp_path / "other", options=Options(rules=Rules(sparse=True))) as server:
        talk = Talk(server, session)
        assert talk.manifest("app", "sparse", sparse, OCI_INDEX).status_code == 201
        talk.blob("app", b"{}")
        assert code(talk.manifest("app", "half", image(b"{}", b"absent")))[1] == "MANIFEST_BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("raw", "media_type"),
    [
        (b"no JSON", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+json"),
        (image(b"{}"), DOCKER_MANIFEST),
        (image(b"{}", manifests=[]), OCI_MANIFEST),
    ],
)
def test_what_is_no_manifest_or_another_than_it_says_is_refused(store: Talk, raw: bytes, media_type: str) -> None:
    store.blob("app", b"{}")
    assert code(store.manifest("app", "1", raw, media_type)) == (400, "MANIFEST_INVALID")


def test_a_manifest_under_another_digest_is_refused(store: Talk) -> None:
    store.blob("app", b"{}")
    assert code(store.manifest("app", sha256(b"other"), image(b"{}"))) == (400, "DIGEST_INVALID")


def test_a_manifest_larger_than_registries_allow_is_413_by_length_and_by_stream(store: Talk) -> None:
    big = b" " * (4 << 20) + b"{}"
    assert store.manifest("app", "1", big).status_code == 413
    streamed = store.ask("PUT", "/v2/app/manifests/1", data=iter([big[: 3 << 20], big[3 << 20 :]]))
    assert streamed.status_code == 413


def test_more_tags_come_with_one_manifest(store: Talk) -> None:
    store.blob("app", b"{}")
    raw = image(b"{}")
    answer = store.ask(
        "PUT", f"/v2/app/manifests/{sha256(raw)}?tag=1&tag=1.2", data=raw, headers={"Content-Type": OCI_MANIFEST}
    )
    assert answer.headers["OCI-Tag"] == "1, 1.2"
    assert store.get("/v2/app/tags/list").json()["tags"] == ["1", "1.2"]


def test_a_subject_is_acknowledged_and_found_even_before_it_is_pushed(store: Talk) -> None:
    subject = image(b"{}", b"layer")
    store.blob("app", b"{}")
    signature = image(b"{}", subject=descriptor(subject, OCI_MANIFEST), annotations={"k": "v"}, artifactType="text/x")
    answer = store.manifest("app", sha256(signature), signature)
    assert answer.headers["OCI-Subject"] == sha256(subject)
    (entry,) = store.get(f"/v2/app/referrers/{sha256(subject)}").json()["manifests"]
    assert (entry["artifactType"], entry["annotations"]) == ("text/x", {"k": "v"})


def test_a_tag_moves_and_the_old_manifest_stays_by_digest(store: Talk) -> None:
    old, new = store.image("app", "1", b"old"), store.image("app", "1", b"new")
    assert store.get("/v2/app/manifests/1").headers["Docker-Content-Digest"] == new
    assert store.get(f"/v2/app/manifests/{old}").status_code == 200


def test_an_immutable_tag_stays_and_pushing_the_same_again_is_fine(tmp_path: Path, session: requests.Session) -> None:
    rules = Rules(immutable_tags=True, delete=True)
    with Server(None, tmp_path / "store", options=Options(rules=rules)) as server:
        talk = Talk(server, session)
        digest = talk.image("app", "1", b"old")
        assert talk.image("app", "1", b"old") == digest
        talk.blob("app", b"new")
        assert code(talk.manifest("app", "1", image(b"{}", b"new"))) == (409, "DENIED")
        assert code(talk.ask("DELETE", "/v2/app/manifests/1")) == (405, "UNSUPPORTED")
        assert talk.get("/v2/app/manifests/1").headers["Docker-Content-Digest"] == digest


# -- deleting -----------------------------------------------------------------------------------------------------------------


def test_deletion_is_off_unless_allowed(store: Talk) -> None:
    digest = store.image("app", "1")
    for path in ("manifests/1", f"manifests/{digest}", f"blobs/{sha256(b'{}')}"):
        assert code(store.ask("DELETE", f"/v2/app/{path}")) == (405, "UNSUPPORTED")
    assert store.get("/v2/app/manifests/1").status_code == 200


def test_what_is_deleted_in_one_repository_stays_in_the_other(tmp_path: Path, session: requests.Session) -> None:
    with Server(None, tmp_path / "store", options=Options(rules=Rules(delete=True))) as server:
        talk = Talk(server, session)
        digest = talk.image("one", "1")
        talk.image("two", "1")
        assert talk.ask("DELETE", f"/v2/one/manifests/{digest}").status_code == 202
        assert code(talk.get("/v2/one/manifests/1")) == (404, "MANIFEST_UNKNOWN")
        assert talk.ask("DELETE", f"/v2/one/blobs/{sha256(b'{}')}").status_code == 202
        assert code(talk.ask("DELETE", f"/v2/one/blobs/{sha256(b'{}')}")) == (404, "BLOB_UNKNOWN")
        assert code(talk.ask("DELETE", "/v2/one/manifests/absent")) == (404, "MANIFEST_UNKNOWN")
        assert talk.get("/v2/two/manifests/1").status_code == 200
        assert talk.get(f"/v2/two/blobs/{sha256(b'{}')}").status_code == 200
        assert talk.ask("DELETE", "/v2/two/manifests/1").status_code == 202
        assert talk.get(f"/v2/two/manifests/{digest}").status_code == 200
        for path in (f"manifests/{digest}", f"blobs/{sha256(b'{}')}", f"blobs/{sha256(b'a layer')}"):
            talk.ask("DELETE", f"/v2/two/{path}")
        talk.ask("DELETE", f"/v2/one/blobs/{sha256(b'a layer')}")
    assert files(tmp_path / "store") == set()
    assert json.loads((tmp_path / "store/index.json").read_bytes())["manifests"] == []


# -- staying ------------------------------------------------------------------------------------------------------------------


def test_a_restart_keeps_everything_uploads_included(tmp_path: Path, session: requests.Session) -> None:
    folder = tmp_path / "store"
    with Server(None, folder) as server:
        talk = Talk(server, session)
        digest = talk.image("a/b", "1", subject=descriptor(b"something", OCI_MANIFEST))
        moved = talk.image("a/b", "2", b"old")
        talk.image("a/b", "2", b"new")
        talk.blob("a", b"not in a manifest yet")
        place = talk.open("a")
        talk.ask("PATCH", place, data=b"01")
    with Server(None, folder) as server:
        talk = Talk(server, session)
        assert talk.get("/v2/_catalog").json()["repositories"] == ["a", "a/b"]
        assert talk.get("/v2/a/b/tags/list").json()["tags"] == ["1", "2"]
        assert talk.get(f"/v2/a/b/manifests/{moved}").status_code == 200
        assert len(talk.get(f"/v2/a/b/referrers/{sha256(b'something')}").json()["manifests"]) == 1
        assert talk.get(f"/v2/a/blobs/{sha256(b'not in a manifest yet')}").status_code == 200
        assert talk.get(place).headers["Range"] == "0-1"
        done = talk.ask("PUT", place, params={"digest": sha256(b"0123")}, data=b"23")
        assert done.status_code == 201
        assert talk.image("a/b", "1", subject=descriptor(b"something", OCI_MANIFEST)) == digest


def test_an_upload_that_broke_off_goes_on_where_it_stopped(store: Talk) -> None:
    place = store.open("app")
    host, _, port = store.server.host.rpartition(":")
    with socket.create_connection((host, int(port))) as broken:
        broken.sendall(f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0123".encode())
    eventually(lambda: store.get(place).headers["Range"] == "0-3")
    data = b"0123456789"
    assert store.ask("PUT", place, params={"digest": sha256(data)}, data=data[4:]).status_code == 201


def test_an_upload_that_nobody_touched_for_a_day_is_removed(tmp_path: Path, session: requests.Session) -> None:
    folder = tmp_path / "store"
    with Server(None, folder) as server:
        talk = Talk(server, session)
        old, new = talk.open("app"), talk.open("app")
        data = folder / ".airgap/uploads" / f"{old.rpartition('/')[2]}.data"
        then = data.stat().st_mtime - sessions.SESSION_LIFE - 60
        os.utime(data, (then, then))
    with Server(None, folder) as server:
        talk = Talk(server, session)
        assert talk.get(old).status_code == 404
        assert talk.get(new).status_code == 204


def test_many_clients_push_the_same_and_different_things_at_once(store: Talk, tmp_path: Path) -> None:
    def push(number: int) -> str:
        with requests.Session() as own:
            own.trust_env = False
            talk = Talk(store.server, own)
            talk.image("shared", f"tag{number}", b"the same layer")
            return talk.image(f"own{number}", "1", f"layer {number}".encode() * 100_000)

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(push, range(16)))
    assert len(store.get("/v2/shared/tags/list").json()["tags"]) == 16
    for number, digest in enumerate(digests):
        assert store.get(f"/v2/own{number}/manifests/1").headers["Docker-Content-Digest"] == digest
    entries = json.loads((tmp_path / "store/index.json").read_bytes())["manifests"]
    assert len(entries) == 32
    assert list((tmp_path / "store/.airgap").glob("*.tmp")) == []


def test_two_processes_cannot_use_one_store(store: Talk, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="in use"):
        Server(None, tmp_path / "store").start()
    assert store.get("/v2/").status_code == 200


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="neither empty nor an OCI layout"):
        Server(None, tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", [b"{", b"{}", b'{"manifests": [{}]}', b'{"manifests": 3}'])
def test_a_store_whose_index_is_damaged_says_so(tmp_path: Path, damage: bytes) -> None:
    folder = tmp_path / "store"
    Server(None, folder).start().stop()
    (folder / "index.json").write_bytes(damage)
    with pytest.raises(IntegrityError, match="cannot be read"):
        Server(None, folder).start()
    (folder / "index.json").write_bytes(b'{"manifests": []}')
    Server(None, folder).start().stop()


def test_a_manifest_damaged_on_disk_is_not_sent(store: Talk, tmp_path: Path) -> None:
    digest = store.image("app", "1")
    path = tmp_path / "store/blobs/sha256" / digest.partition(":")[2]
    path.write_bytes(path.read_bytes().replace(b"schemaVersion", b"schemaversion"))
    assert code(store.get("/v2/app/manifests/1")) == (500, "UNKNOWN")
    store.image("app", "1")
    assert store.get("/v2/app/manifests/1").status_code == 200


def test_entries_of_other_tools_stay_in_the_layout(tmp_path: Path, session: requests.Session) -> None:
    folder = tmp_path / "store"
    with Server(None, folder) as server:
        Talk(server, session).image("app", "1")
    index = json.loads((folder / "index.json").read_bytes())
    stranger = {**index["manifests"][0], "annotations": {"org.example": "x"}}
    index["manifests"].append(stranger)
    (folder / "index.json").write_text(json.dumps(index))
    with Server(None, folder) as server:
        Talk(server, session).image("app", "2", b"two")
    assert stranger in json.loads((folder / "index.json").read_bytes())["manifests"]


def test_a_disk_that_is_too_small_is_said_before_the_first_byte(
    store: Talk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "RESERVE", 1 << 62)
    place = store.open("app")
    answer = store.ask("PATCH", place, data=b"data")
    assert answer.status_code == 507
    assert "do not fit" in answer.text
    monkeypatch.setattr(sessions, "RESERVE", 0)
    assert store.get(place).headers["Range"] == "0-0"
    assert store.ask("PUT", place, params={"digest": sha256(b"data")}, data=b"data").status_code == 201


def test_two_requests_do_not_write_to_one_upload_at_once(store: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "TAKE_OVER", 0.2)
    place = store.open("app")
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> object:
        yield b"01"
        begun.set()
        go_on.wait(10)
        yield b"23"

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: store.ask("PATCH", place, data=slowly()))
        begun.wait(10)
        second = requests.get(f"{store.server.url}{place}", timeout=10)
        go_on.set()
        assert second.status_code == 409
        assert first.result().headers["Range"] == "0-3"


# -- with a bundle under it ---------------------------------------------------------------------------------------------------


def test_over_a_bundle_the_store_is_written_and_both_are_read(
    bundle: BundleReader, tmp_path: Path, session: requests.Session
) -> None:
    name = "quay.io/prometheus/prometheus"
    with Server(bundle, tmp_path / "store") as server:
        talk = Talk(server, session)
        raw = talk.get(f"/v2/{name}/manifests/v2.47.2").content
        assert talk.manifest(name, "mine", raw).status_code == 201
        talk.image("own", "1")
        config = json.loads(raw)["config"]["digest"]
        assert talk.ask("POST", "/v2/own/blobs/uploads/", params={"mount": config, "from": name}).status_code == 201
        assert talk.get(f"/v2/own/blobs/{config}").status_code == 200
        assert {"own", name} <= set(talk.get("/v2/_catalog").json()["repositories"])
        assert {"mine", "v2.47.2"} <= set(talk.get(f"/v2/{name}/tags/list").json()["tags"])
    with Server(None, tmp_path / "store") as server:  # the store is whole without the bundle
        talk = Talk(server, session)
        for layer in json.loads(raw)["layers"]:
            assert sha256(talk.get(f"/v2/{name}/blobs/{layer['digest']}").content) == layer["digest"]
        assert talk.get(f"/v2/{name}/manifests/mine").content == raw


def test_charts_that_are_pushed_appear_in_the_chart_repository(store: Talk) -> None:
    metadata = json.dumps({"apiVersion": "v2", "name": "mine", "version": "1.0.0"}).encode()
    for data in (metadata, b"a packed chart", b"not JSON", b"[]"):
        store.blob("charts/mine", data)
    for tag, config in (("1.0.0", metadata), ("bad", b"[]")):
        document = json.loads(image(config))
        document["config"]["mediaType"] = HELM_CONFIG
        document["layers"] = [descriptor(b"a packed chart", HELM_CHART)]
        assert store.manifest("charts/mine", tag, json.dumps(document).encode()).status_code == 201
    store.image("not/a/chart", "1")
    (entry,) = store.get("/charts/index.yaml").json()["entries"]["mine"]
    assert (entry["version"], entry["urls"]) == ("1.0.0", ["mine-1.0.0.tgz"])
    assert store.get("/charts/mine-1.0.0.tgz").content == b"a packed chart"


def test_a_played_host_takes_pushes_under_its_name(tmp_path: Path, session: requests.Session) -> None:
    with Server(None, tmp_path / "store", options=Options(hosts=["quay.io"])) as server:
        talk = Talk(server, session)
        session.headers["Host"] = "quay.io"
        digest = talk.image("a/b", "1")
        assert talk.get("/v2/a/b/manifests/1").headers["Docker-Content-Digest"] == digest
        session.headers["Host"] = "registry-1.docker.io"
        talk.image("library/x", "1")
        del session.headers["Host"]
        assert talk.get("/v2/_catalog").json()["repositories"] == ["docker.io/library/x", "quay.io/a/b"]
