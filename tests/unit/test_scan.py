import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.scan import Document, parse_rendering, scan
from airgap.values import dump_yaml
from tests.unit.test_values import TREES

D = f"sha256:{'a' * 64}"
WANDB = Path(__file__).parents[3] / "shared/data/wandb"
real = pytest.mark.skipif(not WANDB.is_dir(), reason="../shared is not beside this checkout")


def hits(data):
    """Return (kind, path, text) of everything found in one object."""
    return [(hit.kind, hit.path, hit.text) for hit in scan([Document("t.yaml", data)]).hits]


def said(text, key="x"):
    """Return (kind, text) of everything that a text under a key says."""
    return [(kind, found) for kind, _, found in hits({key: text})]


class TestParseRendering:
    def test_documents_know_their_template(self):
        text = (
            "---\n# Source: chart/templates/a.yaml\nkind: Service\nmetadata: {name: a, namespace: ns}\n"
            "---\n# Source: chart/charts/sub/templates/b.yaml\nkind: Pod\n--- # three\nkind: Job\n---\n\n---\n# only words\n"
        )
        documents = parse_rendering(text, "operator-wandb")
        assert [(document.template, document.kind) for document in documents] == [
            ("chart/templates/a.yaml", "Service"),
            ("chart/charts/sub/templates/b.yaml", "Pod"),
            ("chart/charts/sub/templates/b.yaml", "Job"),
        ]
        assert (documents[0].label, documents[0].namespace, documents[1].label) == ("Service/a", "ns", "Pod/")

    def test_a_file_that_begins_with_a_marker_or_has_several_documents_is_one_file(self):
        crds = "---\nkind: CustomResourceDefinition\n---\nkind: CustomResourceDefinition\n"
        text = f"---\nkind: Pod\n---\n# Source: operator/crds/wandb.yaml\n{crds}---\n# Source: c/t/a.yaml\nkind: Role\n"
        templates = [document.template for document in parse_rendering(text, "operator")]
        assert templates == ["", "operator/crds/wandb.yaml", "operator/crds/wandb.yaml", "c/t/a.yaml"]

    def test_nothing_renders_nothing(self):
        assert parse_rendering("", "x") == ()
        assert parse_rendering("---\n---\n~\n", "x") == ()

    @pytest.mark.parametrize(
        ("hook", "hooks", "is_test"),
        [
            ("test", ("test",), True),
            ("test-success", ("test-success",), True),
            ("pre-install, pre-upgrade", ("pre-install", "pre-upgrade"), False),
            ("test,post-install", ("test", "post-install"), False),
            ("", (), False),
            (None, (), False),
        ],
    )
    def test_hooks(self, hook, hooks, is_test):
        document = Document("t", {"metadata": {"annotations": {"helm.sh/hook": hook}}})
        assert (document.hooks, document.is_test) == (hooks, is_test)

    def test_lists_are_unwrapped(self):
        text = dump_yaml(
            {
                "apiVersion": "v1",
                "kind": "List",
                "items": [{"kind": "Pod", "metadata": {"name": "a"}}, {"kind": "List", "items": [{"kind": "Job"}]}],
            }
        )
        assert [document.label for document in parse_rendering(text, "x")] == ["Pod/a", "Job/"]

    def test_items_of_a_typed_list_get_their_kind(self):
        [document] = parse_rendering("apiVersion: v1\nkind: ConfigMapList\nmetadata: {}\nitems: [{metadata: {name: a}}]\n", "x")
        assert (document.label, document.object["apiVersion"]) == ("ConfigMap/a", "v1")

    def test_a_kind_that_only_ends_in_list_stays_whole(self):
        [document] = parse_rendering("kind: AllowList\nitems: [{x: 1}]\nspec: {}\n", "x")
        assert document.kind == "AllowList"
        [document] = parse_rendering("kind: AllowList\nspec: {}\n", "x")
        assert document.kind == "AllowList"

    def test_keys_that_stand_twice_are_read_as_kubernetes_does(self):
        assert parse_rendering("kind: Pod\nkind: Job\n", "x")[0].kind == "Job"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("---\n# Source: c/t/a.yaml\na: 1\nb: [\n", "operator-wandb: c/t/a.yaml, line 5"),
            ("---\na: 1\n---\n\nb: [\n", "operator-wandb, line 6"),
            ("---\n# Source: c/t/a.yaml\n- x\n", "operator-wandb: c/t/a.yaml: renders a list, which is no Kubernetes object"),
            ("---\n# Source: c/t/a.yaml\nwords\n", "c/t/a.yaml: renders a str"),
            ("kind: List\nitems: [x]\n", "renders a str"),
        ],
    )
    def test_what_cannot_be_read_is_named(self, text, reason):
        with pytest.raises(ConfigurationError, match=reason):
            parse_rendering(text, "operator-wandb")

    @given(
        st.lists(
            TREES.filter(lambda tree: isinstance(tree, dict) and tree and not str(tree.get("kind")).endswith("List")),
            max_size=4,
        )
    )
    def test_what_was_rendered_comes_apart_as_it_was(self, objects):
        text = "".join(f"---\n# Source: c/{index}.yaml\n{dump_yaml(data)}" for index, data in enumerate(objects))
        documents = parse_rendering(text, "x")
        assert [(document.template, document.object) for document in documents] == [
            (f"c/{index}.yaml", data) for index, data in enumerate(objects)
        ]


class TestContainers:
    @pytest.mark.parametrize("place", ["containers", "initContainers", "ephemeralContainers"])
    @pytest.mark.parametrize(
        "above",
        [
            ("spec",),
            ("spec", "template", "spec"),
            ("spec", "jobTemplate", "spec", "template", "spec"),
            ("spec", "any", "thing"),
        ],
    )
    def test_of_all_kinds_anywhere(self, place, above):
        data: object = {place: [{"name": "x"}, {"image": "busybox"}]}
        for key in reversed(above):
            data = {key: data}
        assert hits(data) == [("container", f"{'.'.join(above)}.{place}[1].image", "busybox")]

    def test_the_reference_is_normalised_and_the_text_as_written(self):
        [hit] = scan([Document("t", {"spec": {"containers": [{"image": "nginx"}]}})]).containers
        assert (hit.text, str(hit.reference), hit.host, hit.problem) == (
            "nginx",
            "docker.io/library/nginx:latest",
            "docker.io",
            "",
        )

    @pytest.mark.parametrize(
        ("image", "problem"),
        [
            (f"r:{D}", "is not a tag"),  # R3
            ("ghcr.io/OrgName/app:1", "upper case"),  # R4
            ("", "the image is an empty text"),
            (None, "is not a repository path|null"),
            (3, None),
            ("reg.lan//x:1", "is not a repository path"),
        ],
    )
    def test_what_is_no_reference_is_kept_with_its_problem(self, image, problem):
        [hit] = scan([Document("t", {"spec": {"containers": [{"image": image}]}})]).hits
        assert hit.kind == "container"
        if problem and image is not None:
            assert hit.reference is None
            assert problem in hit.problem

    def test_an_image_volume(self):
        volumes = [{"name": "v", "image": {"reference": "quay.io/a/b:1", "pullPolicy": "Always"}}, {"image": {}}]
        assert hits({"spec": {"volumes": volumes}}) == [("container", "spec.volumes[0].image.reference", "quay.io/a/b:1")]

    def test_a_pod_inside_a_string(self):
        pod = dump_yaml({"spec": {"containers": [{"image": "quay.io/a/b:1"}]}})
        assert hits({"data": {"pod.yaml": pod}}) == [("container", 'data."pod.yaml"!spec.containers[0].image', "quay.io/a/b:1")]


class TestImagesInOtherStrings:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("quay.io/a/b:1", ["quay.io/a/b:1"]),
            (f"quay.io/a/b@{D}", [f"quay.io/a/b@{D}"]),
            (f"localhost:5000/a:1@{D}", [f"localhost:5000/a:1@{D}"]),
            ("localhost/a:1", ["localhost/a:1"]),
            ("registry:5000/a:1", ["registry:5000/a:1"]),
            ("10.0.0.1:5000/a:1", ["10.0.0.1:5000/a:1"]),
            ("10.0.0.1/a:1", ["10.0.0.1/a:1"]),
            ("[fd00::1]:5000/a:1", ["[fd00::1]:5000/a:1"]),
            ("--prometheus-config-reloader=quay.io/x/y:v0.34.0", ["quay.io/x/y:v0.34.0"]),
            ("docker run quay.io/x/y:1 && docker rm 'gcr.io/a/b:2'", ["quay.io/x/y:1", "gcr.io/a/b:2"]),
            ("docker://quay.io/a/b:1", ["quay.io/a/b:1"]),
            ("a=quay.io/a/b:1,b=gcr.io/c/d:2", ["quay.io/a/b:1", "gcr.io/c/d:2"]),
            ("ghcr.io/OrgName/app:1", ["ghcr.io/OrgName/app:1"]),
        ],
    )
    def test_a_full_reference_in_any_text(self, text, found):
        assert [text for kind, text in said(text) if kind == "image"] == found

    @pytest.mark.parametrize(
        "text",
        [
            "nginx:1.25",
            "a/b:1",
            "app.kubernetes.io/name",
            "apps.wandb.com/v1",
            "rbac.authorization.k8s.io/v1",
            "app.kubernetes.io/name: x",
            "/etc/config.yaml:/x",
            "redis.conf/x:1",
            "script.py/x:12",
            "v1.2/3:4",
            "10.0.0.0/8:443",
            "host.lan:5000/path",
            "https://host.lan/path:1",
            "https://host.lan:5000/v2/a/b:1",
            "user@host.lan/a:1",
            "$(HOST).lan/a:1",
            "{{ host }}.lan/a:1",
            "quay.io/a/b:$TAG",
            "quay.io/a/b:{{ tag }}",
            "2001-01-01T10.20/a:1",
            "words. And/or:x",
            "s3://bucket.lan/a:1",
        ],
    )
    def test_what_only_looks_like_one(self, text):
        assert [found for kind, found in said(text) if kind == "image"] == []

    @pytest.mark.parametrize("key", ["image", "baseImage", "BASE_IMAGE", "base-image", "kaniko.image", "configReloaderImage"])
    @pytest.mark.parametrize("text", ["busybox", "busybox:1", "a/b", f"a/b@{D}", "quay.io/a/b:1", " docker://quay.io/a/b "])
    def test_anything_under_a_key_that_ends_in_image(self, key, text):
        assert said(text, key) == [("image", text.strip())]

    @pytest.mark.parametrize("key", ["RELATED_IMAGE_AGENT", "images", "imageName", "imageRef"])
    def test_a_key_that_has_image_in_it_needs_a_path_or_a_tag(self, key):
        assert said("a/b", key) == [("image", "a/b")]
        assert said("busybox:1", key) == [("image", "busybox:1")]
        assert said("busybox", key) == []

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("imagePullPolicy", "Always"),
            ("imageTag", "a:1"),
            ("imageRegistry", "reg.lan:5000/p"),
            ("image", "true"),
            ("image", "latest"),
            ("image", "12"),
            ("image", "images/logo.png"),
            ("image", "$(IMAGE)"),
            ("image", "{{ .Values.image }}"),
            ("image", "some words"),
            ("image", "/var/lib/image"),
            ("image", ""),
            ("image", "data:image/png;base64,AAAA"),
            ("imagePullSecret", "a/b"),
            ("imagine", "a/b"),
        ],
    )
    def test_what_speaks_of_images_but_names_none(self, key, text):
        assert [found for kind, found in said(text, key) if kind == "image"] == []

    def test_a_web_address_under_image_is_an_address(self):
        assert said("https://cdn.example.com/logo:1", "image") == [("url", "https://cdn.example.com/logo:1")]

    def test_environment_is_called_by_its_name(self):  # R8
        env = [
            {"name": "RELATED_IMAGE_AGENT", "value": f"quay.io/a/b@{D}"},
            {"name": "AGENT_IMAGE", "value": "busybox"},
            {"value": "a"},
        ]
        data = {"spec": {"containers": [{"name": "c", "image": "manager", "env": env}]}}
        assert hits(data) == [
            ("container", "spec.containers[0].image", "manager"),
            ("image", "spec.containers[0].env[0].value", f"quay.io/a/b@{D}"),
            ("image", "spec.containers[0].env[1].value", "busybox"),
        ]

    @pytest.mark.parametrize(
        ("args", "found"),
        [
            (["--image", "q.io/a:1"], [("image", "args[1]", "q.io/a:1")]),
            (["--image", "busybox"], [("image", "args[1]", "busybox")]),
            (["--agent-image=busybox"], [("image", "args[0]", "busybox")]),
            (["-image=a/b"], [("image", "args[0]", "a/b")]),
            (["IMAGE=a/b"], [("image", "args[0]", "a/b")]),
            (["--image", 3, "busybox"], []),
            (["--image=a/b", "busybox"], [("image", "args[0]", "a/b")]),
            (["--image-pull-policy=Always", "--verbose", "busybox"], []),
            (["--leader-election-id=x.wandb.com"], []),
            (["--server=api.example.io"], [("url", "args[0]", "api.example.io")]),
        ],
    )
    def test_flags(self, args, found):  # R7
        assert hits({"args": args}) == found

    @pytest.mark.parametrize(
        ("data", "path", "text"),
        [
            ({"baseImage": "quay.io/x/y", "version": "v1"}, "spec.baseImage", "quay.io/x/y:v1"),  # R7
            ({"image": "quay.io/x/y", "tag": "v1"}, "spec.image", "quay.io/x/y:v1"),
            ({"image": "quay.io/x/y", "tag": 1.5}, "spec.image", "quay.io/x/y:1.5"),
            ({"repository": "a/b", "tag": "1"}, "spec.repository", "a/b:1"),
            ({"repository": "a/b", "tag": "1", "digest": D}, "spec.repository", f"a/b:1@{D}"),
            ({"registry": "quay.io", "repository": "a/b", "tag": ""}, "spec.repository", "quay.io/a/b"),
            ({"registry": "reg.lan/", "repository": "a/b", "sha": "a" * 64}, "spec.repository", f"reg.lan/a/b@{D}"),
            ({"registry": "", "repository": "a/b", "tag": "1"}, "spec.repository", "a/b:1"),
        ],
    )
    def test_parts_in_a_map_are_joined(self, data, path, text):
        assert hits({"spec": data}) == [("image", path, text)]

    @pytest.mark.parametrize(
        ("data", "path", "text"),
        [
            ({"repository": "a/b"}, "agent.image.repository", "a/b"),
            ({"name": "stakater/reloader", "tag": "v1"}, "agent.image.name", "stakater/reloader:v1"),
            ({"value": "busybox:1"}, "agent.image.value", "busybox:1"),
        ],
    )
    def test_a_map_called_image(self, data, path, text):
        assert hits({"agent": {"image": data}}) == [("image", path, text)]

    @pytest.mark.parametrize(
        "data",
        [
            {"repository": "https://github.com/x/y", "tag": "1"},
            {"repository": "a/b"},
            {"repository": "", "tag": "1"},
            {"repository": ["a"], "tag": "1"},
            {"repository": "Not A Repository", "tag": "1"},
            {"name": "app", "version": "1"},
            {"tag": True, "image": "x y"},
        ],
    )
    def test_maps_that_are_no_images(self, data):
        assert [found for kind, _, found in hits({"spec": data}) if kind == "image"] == []

    def test_a_part_with_its_own_tag_is_not_joined(self):
        assert hits({"spec": {"image": "a/b:1", "version": "2"}}) == [("image", "spec.image", "a/b:1")]

    def test_a_config_map_with_yaml_in_it(self):  # R7
        spawner = "image:\n  value: gcr.io/a/b:1\nnested: |\n  image: busybox\n  x: y\n"
        assert hits({"data": {"spawner.yaml": spawner}}) == [
            ("image", 'data."spawner.yaml"!image.value', "gcr.io/a/b:1"),
            ("image", 'data."spawner.yaml"!nested!image', "busybox"),
        ]

    def test_json_in_an_annotation(self):
        text = json.dumps({"image": "a/b", "hosts": ["api.example.com"]})
        assert hits({"metadata": {"annotations": {"conf": text}}}) == [
            ("image", "metadata.annotations.conf!image", "a/b"),
            ("url", "metadata.annotations.conf!hosts[0]", "api.example.com"),
        ]

    def test_a_template_that_is_no_yaml_is_read_line_by_line(self):
        text = "{{ if x }}\nimage: a/b:1\nIMAGE=c/d\nimage: word\nimagePullPolicy: a/b\n{{ end }}\n"
        assert said(text) == [("image", "a/b:1"), ("image", "c/d")]

    def test_strings_in_strings_are_opened_only_so_deep(self):
        text = "image: busybox\n\n"
        for _ in range(8):
            text = json.dumps({"x": text})
        assert hits({"data": text}) == []

    def test_a_secrets_data_is_decoded(self):
        encoded = base64.b64encode(b"server: https://api.example.com\nimage: a/b\n").decode()
        secret = {
            "kind": "Secret",
            "data": {"conf": encoded, "binary": "/////w==", "odd": "%%%"},
            "stringData": {"x": "https://b.lan"},
        }
        assert hits(secret) == [
            ("url", "data.conf!!server", "https://api.example.com"),
            ("image", "data.conf!!image", "a/b"),
            ("url", "stringData.x", "https://b.lan"),
        ]
        assert hits({"kind": "ConfigMap", "binaryData": {"conf": encoded}}) != []
        assert hits({"kind": "ConfigMap", "data": {"conf": encoded}}) == []

    def test_one_place_tells_a_thing_once(self):
        assert hits({"image": "quay.io/a/b:1 "}) == [("image", "image", "quay.io/a/b:1")]
        assert hits({"x": "https://a.lan https://a.lan"}) == [("url", "x", "https://a.lan")]
