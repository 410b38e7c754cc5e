"""What points outside in strings that are no image, and the images that only values hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.scan import Document, is_inside, parse_rendering, scan, scan_values
from airgap.values import leaves
from tests.unit.test_scan import WANDB, hits, real, said
from tests.unit.test_values import TREES


class TestOutsideHosts:
    @pytest.mark.parametrize(
        ("text", "found", "host"),
        [
            ("https://api.wandb.ai/email/dispatch", "https://api.wandb.ai/email/dispatch", "api.wandb.ai"),
            ("see http://redis.io/topics/x#y.", "http://redis.io/topics/x#y", "redis.io"),
            ("OCI://GHCR.IO/a/b", "oci://GHCR.IO/a/b", "ghcr.io"),
            ("ftp://files.lan", "ftp://files.lan", "files.lan"),
            ("git+ssh://git@github.com/a/b", "git+ssh://***@github.com/a/b", "github.com"),
            ("git@github.com:a/b.git", "git@github.com", "github.com"),
            ("mysql://user:pass@db.lan:3306/x?password=y", "mysql://***@db.lan:3306/x", "db.lan"),
            ("https://[2001:db8::1]:8443/x", "https://[2001:db8::1]:8443/x", "[2001:db8::1]"),
            ("http://10.1.2.3:9000", "http://10.1.2.3:9000", "10.1.2.3"),
            ("//iam.googleapis.com/projects/1", "//iam.googleapis.com/projects/1", "iam.googleapis.com"),
            ('<script src="//cdn.example.com/x.js">', "//cdn.example.com/x.js", "cdn.example.com"),
            ("https://api.wandb.ai.", "https://api.wandb.ai.", "api.wandb.ai"),
            ("smtp.gmail.com:587", "smtp.gmail.com:587", "smtp.gmail.com"),
            ("broker=kafka.lan:9092", "kafka.lan:9092", "kafka.lan"),
            ("[2001:db8::1]:53", "[2001:db8::1]:53", "[2001:db8::1]"),
            ("8.8.8.8:53", "8.8.8.8:53", "8.8.8.8"),
            ("datadoghq.com", "datadoghq.com", "datadoghq.com"),
            ("https://$(HOST).lan/x https://real.lan", "https://real.lan", "real.lan"),
        ],
    )
    def test_in_any_text(self, text, found, host):
        hit = next(hit for hit in scan([Document("t", {"x": text})]).urls)
        assert (hit.text, hit.host, hit.reference) == (found, host, None)

    @pytest.mark.parametrize(
        "text",
        [
            "http://wandb-app:8080/x",
            "http://localhost:8080",
            "http://127.0.0.1/x",
            "http://[::1]:80/",
            "http://0.0.0.0:80",
            "http://169.254.169.254/latest",
            "http://a.b.svc/x",
            "http://a.b.svc.cluster.local:80",
            "http://x.pod.cluster.local",
            "http://a.b.svc.my.domain",
            "https://$(HOST)/x",
            "https://${HOST}/x",
            "https://{{ .Values.host }}/x",
            "https:///x",
            "file:///etc/x.y",
            "unix://run.lan/x",
            "redis.conf:12",
            "main.py:3",
            "10:30",
            "a:b:c",
            "app.kubernetes.io/name",
            "events.k8s.io",
            "some.attribute.name",
            "// comment",
            "path//to.com/x",
            "*.example.com",
            "user@example.com",
            "1.2.3",
        ],
    )
    def test_what_is_no_outside_host(self, text):
        assert [hit.text for hit in scan([Document("t", {"x": text})]).urls] == []

    @pytest.mark.parametrize(
        ("text", "found", "host"),
        [
            ("s3://bucket", "s3://bucket", "s3.amazonaws.com"),
            ("s3://KEY:SECRET@bucket/path?region=x", "s3://***@bucket/path", "s3.amazonaws.com"),
            ("GS://Bucket/a.", "gs://Bucket/a", "storage.googleapis.com"),
            ("--store=azblob://container", "azblob://container", "blob.core.windows.net"),
            ("pubsub:/project/topic/sub", "pubsub:/project/topic/sub", "pubsub.googleapis.com"),
            ("gcppubsub://projects/p/topics/t", "gcppubsub://projects/p/topics/t", "pubsub.googleapis.com"),
            ("awssqs:///x", "awssqs:///x", "sqs.amazonaws.com"),
            ("s3://minio.corp.lan:9000/bucket", "s3://minio.corp.lan:9000/bucket", "minio.corp.lan"),
        ],
    )
    def test_a_cloud_s_address_counts_as_the_provider_s_host(self, text, found, host):
        (hit,) = scan([Document("t.yaml", {"spec": {"x": text}})]).hits
        assert (hit.kind, hit.text, hit.host) == ("url", found, host)

    @pytest.mark.parametrize(
        "text",
        [
            "s3://$(BUCKET_NAME)/x",
            "s3://$(KEY):$(SECRET)@$(BUCKET_NAME)",
            "gs://{{ .Values.bucket }}",
            "s3:GetObject",
            "arn:aws:s3:::bucket",
            "s3://minio:9000/bucket",
            "noop://",
            "memory://",
            "file:///vol",
            "redis://redis",
            "mys3://bucket",
        ],
    )
    def test_what_is_no_cloud_s_address(self, text):
        assert said(text) == []

    @pytest.mark.parametrize("key", ["host", "SMTP_HOST", "serverUrl", "endpoint", "registry", "hosts"])
    def test_a_bare_name_under_a_key_that_says_host(self, key):
        assert said("w.corp.lan", key) == [("url", "w.corp.lan")]
        assert said("w.corp.lan., x.corp.lan", key) == [("url", "w.corp.lan."), ("url", "x.corp.lan")]
        assert said("wandb-mysql", key) == []

    @pytest.mark.parametrize("key", ["apiGroup", "apiGroups", "group", "name", "provisioner", "finalizers"])
    def test_names_that_are_no_hosts_by_their_key(self, key):
        assert said("apps.wandb.com", key) == []

    def test_a_key_may_be_an_address(self):
        auths = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": "x"}}})
        assert hits({"data": {"c.json": auths}}) == [
            ("url", 'data."c.json"!auths."https://index.docker.io/v1/"', "https://index.docker.io/v1/")
        ]

    def test_a_comment_in_yaml_counts_too(self):
        assert hits({"data": {"c.yaml": "# see https://docs.lan/x\na: 1\n"}}) == [
            ("url", 'data."c.yaml"', "https://docs.lan/x")
        ]

    def test_services_that_are_rendered_too_are_inside(self):
        service = Document("s", {"kind": "Service", "metadata": {"name": "redis"}})
        pod = Document(
            "p", {"x": "http://redis.prod:1 http://redis-0.redis.prod http://redis-0.redis http://redis.example.com http://a.b"}
        )
        assert [hit.host for hit in scan([service, pod]).urls] == ["redis.example.com", "a.b"]

    @pytest.mark.parametrize(
        ("host", "inside"), [("a", True), ("LOCALHOST", True), ("x.localhost", True), ("svc.lan", False), ("a.svc.", True)]
    )
    def test_is_inside(self, host, inside):
        assert is_inside(host) is inside


class TestScanValues:
    def test_references_that_only_values_hold(self):
        values: Any = {
            "app": {"image": {"repository": "wandb/local", "tag": "1"}},
            "side": {"image": "busybox:1"},
            "list": [{"image": {"registry": "docker.io", "repository": "bitnami/x", "tag": 7, "digest": ""}}],
            "reloader": {"image": {"name": "stakater/reloader", "tag": "v1"}},
            "url": "https://api.wandb.ai",
            "text": "quay.io/a/b:1",
            "pullPolicy": "Always",
        }
        assert [(hit.path, hit.text, hit.kind) for hit in scan_values(values)] == [
            ("app.image.repository", "wandb/local:1", "image"),
            ("side.image", "busybox:1", "image"),
            ("list[0].image.repository", "docker.io/bitnami/x:7", "image"),
            ("reloader.image.name", "stakater/reloader:v1", "image"),
        ]

    def test_sidecars_in_values(self):
        [hit] = scan_values({"extraContainers": 1, "containers": [{"image": "a/b:1"}]})
        assert (hit.kind, hit.path) == ("container", "containers[0].image")
        assert scan_values(["x"]) == ()


@given(TREES)
def test_any_object_can_be_scanned_and_hits_have_their_place(tree):
    for hit in scan([Document("t", {"x": tree})]).hits:
        assert hit.path
        assert hit.host or hit.problem


@given(TREES, st.sampled_from(["quay.io/a/b:1", "https://api.wandb.ai/x"]))
def test_nothing_hides_however_deep(tree, text):
    assert text in [hit.text for hit in scan([Document("t", {"x": [tree, {"y": {"z": [[text]]}}]})]).hits]


def test_a_document_that_is_rendered_again_is_the_same_object():
    text = "---\n# Source: c/a.yaml\nkind: Pod\n"
    assert parse_rendering(text, "x")[0].object is parse_rendering(f"---\n# Source: c/0.yaml\nkind: Job\n{text}", "x")[1].object


@real
@pytest.mark.parametrize("name", sorted(path.stem for path in WANDB.glob("rendered/*.yaml")) or ["none"])
class TestUpstreamsRenders:
    def test_every_image_is_found_and_nothing_else(self, name):
        found = scan(parse_rendering((WANDB / "rendered" / f"{name}.yaml").read_text(), name))
        assert {hit.text for hit in found.containers} == set(json.loads((WANDB / "images.json").read_text())[name])
        assert [hit for hit in found.hits if hit.problem] == []
        assert found.images == ()

    def test_the_outside_hosts_are_the_known_ones(self, name):
        found = scan(parse_rendering((WANDB / "rendered" / f"{name}.yaml").read_text(), name))
        hosts = {hit.host for hit in found.urls}
        assert {"api.wandb.ai", "redis.io"} <= hosts
        assert hosts <= {"api.wandb.ai", "redis.io", "wandb.example.com", "s3.amazonaws.com"}
        cloud = {hit.text for hit in found.urls if hit.host == "s3.amazonaws.com"}
        assert cloud <= {"s3://local-files", "s3://customer-onprem-bucket/lumen"}

    def test_an_image_put_into_any_string_is_found(self, name):
        documents = parse_rendering((WANDB / "rendered" / f"{name}.yaml").read_text(), name)
        document = next(document for document in documents if document.kind == "Deployment")
        for path, value in list(leaves(document.object))[::7]:
            if isinstance(value, str) and path[-1] != "image":
                changed: Any = json.loads(json.dumps(document.object))
                here = changed
                for step in path[:-1]:
                    here = here[step]
                here[path[-1]] = f"{value} quay.io/planted/image:1"
                assert "quay.io/planted/image:1" in [hit.text for hit in scan([Document("t", changed)]).images]
