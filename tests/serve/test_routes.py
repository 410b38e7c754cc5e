from __future__ import annotations

import pytest

from airgap.oci import Digest
from airgap.ref import Location
from airgap.serve.messages import RefusalError
from airgap.serve.routes import Route, candidates, route, short_names

DIGEST = Digest.of(b"")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/", Route("ping")),
        ("/v2", Route("ping")),
        ("/v2/_catalog", Route("catalog")),
        ("/v2/a/b/manifests/1.0", Route("manifest", "a/b", "1.0")),
        (f"/v2/a/manifests/{DIGEST}", Route("manifest", "a", str(DIGEST), DIGEST)),
        (f"/v2/a/blobs/{DIGEST}", Route("blob", "a", str(DIGEST), DIGEST)),
        ("/v2/a/blobs/uploads/", Route("uploads", "a")),
        ("/v2/a/blobs/uploads", Route("uploads", "a")),
        ("/v2/a/blobs/uploads/" + "0" * 32, Route("upload", "a", "0" * 32)),
        ("/v2/a/blobs/uploads/manifests/x", Route("manifest", "a/blobs/uploads", "x")),
        ("/v2/a/tags/list", Route("tags", "a")),
        (f"/v2/a/referrers/{DIGEST}", Route("referrers", "a", str(DIGEST), DIGEST)),
        ("/charts/index.yaml", Route("chart-index")),
        ("/index.yaml", Route("chart-index")),
        ("/charts.wandb.ai/index.yaml", Route("chart-index")),
        ("/charts/operator-1.4.8.tgz", Route("chart", rest="operator-1.4.8")),
        ("/api/v1/operator/channel", Route("channel")),
        ("/deploy.wandb.ai/api/v1/operator/channel/release/17", Route("channel", rest="17")),
        ("/", Route("front")),
        ("/healthz", Route("health")),
    ],
)
def test_a_path_says_what_is_asked_for(path: str, expected: Route) -> None:
    assert route(path) == expected


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/A/manifests/1", 400, "NAME_INVALID"),
        ("/v2/../manifests/1", 400, "NAME_INVALID"),
        ("/v2/a/../../etc/manifests/1", 400, "NAME_INVALID"),
        ("/v2/a//b/tags/list", 400, "NAME_INVALID"),
        ("/v2/docker://x/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/ /tags/list", 400, "NAME_INVALID"),
        (f"/v2/{'a' * 300}/tags/list", 400, "NAME_INVALID"),
        ("/v2/a/manifests/.hidden", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/" + "x" * 129, 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/1@x", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/sha256:short", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/sha256:../../../etc/passwd", 404, "UNSUPPORTED"),
        ("/v2/a/blobs/..", 400, "DIGEST_INVALID"),
        ("/v2/a/referrers/1", 400, "DIGEST_INVALID"),
        ("/v2/a", 404, "UNSUPPORTED"),
        ("/charts/../../etc/passwd.tgz", 404, "UNSUPPORTED"),
        ("/etc/passwd", 404, "UNSUPPORTED"),
    ],
)
def test_what_is_no_name_by_the_grammar_goes_no_further(path: str, status: int, code: str) -> None:
    with pytest.raises(RefusalError) as caught:
        route(path)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_name_may_mean_several_repositories_and_the_named_host_comes_first() -> None:
    assert candidates("busybox", hosts=["docker.io"]) == ("docker.io/library/busybox", "busybox")
    assert candidates("a/b", hosts=["quay.io"], place=Location("x", "team")) == ("team/quay.io/a/b", "a/b", "team/a/b")
    assert candidates("a/b", hosts=["reg.lan:5000"]) == ("reg.lan_5000/a/b", "a/b")
    assert candidates("a/b", hosts=["not a host"]) == ("a/b",)


def test_a_short_name_is_looked_for_under_every_source_and_docker_hub_wins() -> None:
    known = ["quay.io/library/busybox", "docker.io/library/busybox", "ghcr.io/busybox", "team/x"]
    assert short_names("library/busybox", known) == ("docker.io/library/busybox", "quay.io/library/busybox")
    assert short_names("busybox", known) == ("docker.io/library/busybox", "ghcr.io/busybox")
    assert short_names("busybox", [f"p/{name}" for name in known], place=Location("x", "p"))[0] == "p/docker.io/library/busybox"
    assert short_names("absent", known) == ()
