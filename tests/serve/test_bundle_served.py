"""A bundle is served where it lies: every name that pushing it would make, and every name that a node mirror may ask by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError
from airgap.oci import OCI_INDEX, Digest
from airgap.plan import wanted
from airgap.ref import Location
from airgap.serve import Options, Server
from tests.serve.shelf import SPEC, Content
from tests.serve.talk import Talk, code, sha256

if TYPE_CHECKING:
    from pathlib import Path

    import requests

    from airgap.serve import Access

PROMETHEUS = "/v2/quay.io/prometheus/prometheus"


def test_everything_that_push_would_make_is_here_byte_for_byte(shelf: Talk, bundle: BundleReader) -> None:
    seen = 0
    for item in wanted(bundle.lock, Location.parse("reg.lan")):
        for blob in item.tree.blobs:
            answer = shelf.get(f"/v2/{item.repository}/blobs/{blob.digest}")
            assert sha256(answer.content) == answer.headers["Docker-Content-Digest"] == str(blob.digest)
            seen += 1
        for manifest in item.tree.manifests:
            answer = shelf.get(f"/v2/{item.repository}/manifests/{manifest.digest}")
            assert sha256(answer.content) == str(manifest.digest)
            assert answer.headers["Content-Type"] == manifest.media_type
        if item.tag:
            answer = shelf.get(f"/v2/{item.repository}/manifests/{item.tag}")
            assert answer.headers["Docker-Content-Digest"] == str(item.tree.root.digest)
    assert seen > 15


def test_a_head_tells_size_and_digest_and_sends_nothing(shelf: Talk) -> None:
    whole = shelf.get(f"{PROMETHEUS}/manifests/v2.47.2")
    head = shelf.ask("HEAD", f"{PROMETHEUS}/manifests/v2.47.2")
    assert head.status_code == 200
    assert head.content == b""
    for name in ("Content-Length", "Content-Type", "Docker-Content-Digest"):
        assert head.headers[name] == whole.headers[name]
    assert shelf.get(f"{PROMETHEUS}/manifests/v2.47.2", If_None_Match=head.headers["ETag"]).status_code == 304


def test_a_blob_of_one_repository_is_unknown_in_another(shelf: Talk) -> None:
    digest = shelf.get(f"{PROMETHEUS}/manifests/v2.47.2").json()["config"]["digest"]
    assert shelf.get(f"{PROMETHEUS}/blobs/{digest}").status_code == 200
    assert code(shelf.get(f"/v2/docker.io/library/busybox/blobs/{digest}")) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=5-100000", 206, slice(5, None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_a_range_of_a_blob(shelf: Talk, asked: str, status: int, part: slice) -> None:
    digest = shelf.get(f"{PROMETHEUS}/manifests/v2.47.2").json()["layers"][0]["digest"]
    whole = shelf.get(f"{PROMETHEUS}/blobs/{digest}").content
    answer = shelf.get(f"{PROMETHEUS}/blobs/{digest}", Range=asked)
    assert (answer.status_code, answer.content) == (status, whole[part])
    if status == 206:
        first = whole.index(whole[part])
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=100000-", "bytes=-0", "bytes=7-3"])
def test_a_range_outside_of_the_blob_is_416(shelf: Talk, asked: str) -> None:
    digest = shelf.get(f"{PROMETHEUS}/manifests/v2.47.2").json()["layers"][0]["digest"]
    answer = shelf.get(f"{PROMETHEUS}/blobs/{digest}", Range=asked)
    assert answer.status_code == 416
    assert answer.headers["Content-Range"].startswith("bytes */")


def test_referrers_are_listed_with_their_type_and_filtered(shelf: Talk) -> None:
    subject = shelf.get(f"{PROMETHEUS}/manifests/v2.47.2").headers["Docker-Content-Digest"]
    answer = shelf.get(f"{PROMETHEUS}/referrers/{subject}")
    assert answer.headers["Content-Type"] == OCI_INDEX
    (entry,) = answer.json()["manifests"]
    assert entry["artifactType"] == "application/spdx+json"
    assert shelf.get(f"{PROMETHEUS}/manifests/{entry['digest']}").json()["subject"]["digest"] == subject
    filtered = shelf.get(f"{PROMETHEUS}/referrers/{subject}?artifactType=text/plain")
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert filtered.json()["manifests"] == []
    assert shelf.get(f"{PROMETHEUS}/referrers/{Digest.of(b'')}").json()["manifests"] == []


def test_the_fallback_and_signature_tags_are_tags_like_others(shelf: Talk) -> None:
    tags = shelf.get(f"{PROMETHEUS}/tags/list").json()
    assert tags["name"] == "quay.io/prometheus/prometheus"
    assert [len(tag) for tag in tags["tags"]] == [71, 75, 7]


def test_tags_come_in_pages_with_a_link_to_the_next(shelf: Talk) -> None:
    found, path = [], f"{PROMETHEUS}/tags/list?n=1"
    while path:
        answer = shelf.get(path)
        found += answer.json()["tags"]
        path = answer.links.get("next", {}).get("url", "")
        assert len(found) < 9
    assert found == shelf.get(f"{PROMETHEUS}/tags/list").json()["tags"]
    none = shelf.get(f"{PROMETHEUS}/tags/list?n=0")
    assert (none.json()["tags"], none.links) == ([], {})
    assert code(shelf.get(f"{PROMETHEUS}/tags/list?n=many"))[0] == 400


def test_an_index_of_which_one_platform_is_carried_answers_by_its_digest(shelf: Talk, bundle: BundleReader) -> None:
    (index,) = (image.index for image in bundle.lock.images if image.index)
    answer = shelf.get(f"/v2/docker.io/library/busybox/manifests/{index.digest}")
    assert (answer.status_code, sha256(answer.content)) == (200, str(index.digest))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v2/library/busybox/manifests/1.36?ns=docker.io", {}),  # containerd with hosts.toml
        ("/v2/docker.io/library/busybox/manifests/1.36?ns=docker.io", {}),  # the same with a path in hosts.toml
        ("/v2/library/busybox/manifests/1.36", {}),  # docker's registry-mirrors
        ("/v2/busybox/manifests/1.36", {}),
        ("/v2/library/busybox/manifests/1.36", {"Host": "registry-1.docker.io"}),
        ("/v2/prometheus/prometheus/manifests/v2.47.2?ns=quay.io", {}),
        ("/v2/prometheus/prometheus/manifests/v2.47.2", {"Host": "quay.io:443"}),  # hosts: of the options
    ],
)
def test_a_node_mirror_asks_by_the_names_of_the_source(
    bundle: BundleReader, session: requests.Session, path: str, headers: dict[str, str]
) -> None:
    with Server(bundle, options=Options(hosts=["quay.io"])) as server:
        answer = Talk(server, session).get(path, **headers)
    assert answer.status_code == 200
    assert answer.headers.get("OCI-Namespace", "") == path.partition("ns=")[2]


def test_with_a_prefix_repositories_lie_below_it(bundle: BundleReader, session: requests.Session) -> None:
    with Server(bundle, options=Options(prefix="team/wandb")) as server:
        talk = Talk(server, session)
        assert talk.get("/v2/_catalog").json()["repositories"][0] == "team/wandb/charts/platform"
        assert talk.get("/v2/team/wandb/quay.io/prometheus/prometheus/manifests/v2.47.2").status_code == 200
        assert talk.get("/v2/library/busybox/manifests/1.36?ns=docker.io").status_code == 200
        assert talk.get("/v2/quay.io/prometheus/prometheus/tags/list").json()["name"].startswith("team/wandb/")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/absent/manifests/1", (404, "NAME_UNKNOWN")),
        (f"{PROMETHEUS}/manifests/absent", (404, "MANIFEST_UNKNOWN")),
        ("/v2/absent/tags/list", (404, "NAME_UNKNOWN")),
        (f"{PROMETHEUS}/blobs/{Digest.of(b'absent')}", (404, "BLOB_UNKNOWN")),
        ("/v2/%2e%2e/%2e%2e/etc/tags/list", (400, "NAME_INVALID")),
        ("/v2/a%00b/tags/list", (400, "NAME_INVALID")),
        (f"{PROMETHEUS}/blobs/uploads/", (405, "UNSUPPORTED")),
    ],
)
def test_what_is_not_there_is_said_with_its_code(shelf: Talk, path: str, expected: tuple[int, str]) -> None:
    assert code(shelf.get(path)) == expected


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_bundle_is_read_only(shelf: Talk, method: str) -> None:
    answer = shelf.ask(method, "/v2/a/blobs/uploads/", data=b"x")
    assert code(answer) == (405, "UNSUPPORTED")
    assert "read-only" in answer.text
    assert answer.headers["Allow"] == "GET, HEAD"


def test_the_chart_index_has_relative_urls_that_lead_to_the_charts(shelf: Talk) -> None:
    for base in ("/charts/", "/", "/charts.wandb.ai/"):
        index = yaml.safe_load(shelf.get(f"{base}index.yaml").text)
        entries = index["entries"]["platform"]
        assert [entry["version"] for entry in entries] == ["0.3.0-PR7", "0.2.0", "0.1.0+build.5", "0.1.0"]
        for entry in entries:
            (url,) = entry["urls"]
            assert "/" not in url
            assert sha256(shelf.get(f"{base}{url}").content) == f"sha256:{entry['digest']}"
    assert shelf.get("/charts/platform-9.9.9.tgz").status_code == 404


def test_the_channel_answers_the_spec_with_its_chart_here(shelf: Talk) -> None:
    answer = shelf.get("/api/v1/operator/channel", Content_Type="application/json").json()
    assert answer["values"] == SPEC["values"]
    assert answer["metadata"] == SPEC["metadata"]
    assert answer["chart"] == {"url": f"{shelf.server.url}/charts", "name": "platform", "version": "0.2.0"}
    assert shelf.get("/api/v1/operator/channel/release/stable-1").json() == answer
    refused = shelf.get("/api/v1/operator/channel/release/stable-2")
    assert refused.status_code == 404
    assert "stable-1" in refused.text


def test_the_channel_may_name_the_chart_as_oci_and_by_a_public_url(bundle: BundleReader, session: requests.Session) -> None:
    options = Options(oci_charts=True, public_url="https://airgap.wandb.svc/")
    with Server(bundle, options=options) as server:
        chart = Talk(server, session).get("/api/v1/operator/channel").json()["chart"]
    assert chart == {"url": "oci://airgap.wandb.svc/charts/platform", "version": "0.2.0"}


def test_a_spec_whose_chart_is_not_here_keeps_its_source(bundle: BundleReader, session: requests.Session) -> None:
    chart = {"url": "https://charts.example", "name": "elsewhere", "version": "1.0.0"}
    releases = {"latest": json.dumps({"chart": chart, "values": {}}).encode()}
    with Server(bundle, options=Options(releases=releases)) as server:
        assert Talk(server, session).get("/api/v1/operator/channel").json() == {"metadata": None, "chart": chart, "values": {}}


def test_a_bundle_without_spec_or_charts_says_so(tmp_path: Path, session: requests.Session) -> None:
    with Server(None, tmp_path / "store") as server:
        talk = Talk(server, session)
        assert talk.get("/api/v1/operator/channel").status_code == 404
        assert yaml.safe_load(talk.get("/charts/index.yaml").text) == {"apiVersion": "v1", "entries": {}}


def test_people_and_probes_are_answered_too_with_an_access_line_for_each(
    bundle: BundleReader, session: requests.Session
) -> None:
    accesses: list[Access] = []
    with Server(bundle, access_log=accesses.append) as server:
        talk = Talk(server, session)
        assert "quay.io/prometheus/prometheus" in talk.get("/").text
        assert talk.get("/healthz?a=%0A", User_Agent="x\x1b[31m").text == "ok\n"
    assert [(access.method, access.target, access.status) for access in accesses] == [
        ("GET", "/", 200),
        ("GET", "/healthz?a=%0A", 200),
    ]
    assert "\x1b" not in str(accesses[1])
    assert '/healthz?a=%0A" 200 3 ' in str(accesses[1])


def test_bytes_that_are_damaged_in_the_bundle_never_leave_as_a_manifest(
    tmp_path: Path, bundle_path: Path, session: requests.Session
) -> None:
    copy = tmp_path / "damaged.tar"
    copy.write_bytes(bundle_path.read_bytes())
    with BundleReader.open(copy) as bundle, Server(bundle) as server:
        talk = Talk(server, session)
        raw = talk.get(f"{PROMETHEUS}/manifests/v2.47.2").content
        data = copy.read_bytes()
        position = data.index(raw)
        copy.open("r+b").close()
        with copy.open("r+b") as file:
            file.seek(position)
            file.write(b"[")
        answer = talk.get(f"{PROMETHEUS}/manifests/v2.47.2")
        assert code(answer) == (500, "UNKNOWN")
        assert "digest" in answer.text


def test_an_empty_content_is_served_as_empty(tmp_path: Path, session: requests.Session) -> None:
    path = Content().write(tmp_path / "empty.tar")
    with BundleReader.open(path) as bundle, Server(bundle) as server:
        assert Talk(server, session).get("/v2/_catalog").json() == {"repositories": []}


def test_a_bundle_under_a_prefix_that_is_no_path_is_refused(bundle: BundleReader) -> None:
    with pytest.raises(ConfigurationError, match="upper case"):
        Server(bundle, options=Options(prefix="Team")).start()


@pytest.mark.parametrize(
    ("chart", "expected"),
    [
        ({"url": "oci://ghcr.io/wandb/platform", "version": "0.1.0"}, "0.1.0"),
        ({"url": "oci://ghcr.io/wandb/platform:0.2.0"}, "0.2.0"),
        ({"url": "https://charts.example", "name": "platform"}, "0.2.0"),
        ({"url": "https://charts.example", "name": "platform", "version": "~0.1"}, "0.1.0+build.5"),
    ],
)
def test_every_form_of_the_charts_source_leads_here(
    bundle: BundleReader, session: requests.Session, chart: dict[str, str], expected: str
) -> None:
    with Server(bundle, options=Options(releases={"latest": json.dumps({"chart": chart, "values": {}}).encode()})) as server:
        found = Talk(server, session).get("/api/v1/operator/channel").json()["chart"]
        assert found == {"url": f"{server.url}/charts", "name": "platform", "version": expected}


def test_a_chart_in_the_operators_own_files_stays_there(bundle: BundleReader, session: requests.Session) -> None:
    releases = {"latest": b'{"chart": {"path": "/charts/x.tgz"}, "values": {}}', "7": b'{"values": {"a": 1}}'}
    with Server(bundle, options=Options(releases=releases)) as server:
        talk = Talk(server, session)
        assert talk.get("/api/v1/operator/channel").json()["chart"] == {"path": "/charts/x.tgz"}
        assert talk.get("/api/v1/operator/channel/release/7").json() == {"metadata": None, "chart": None, "values": {"a": 1}}
