"""Images are moved by the values that a probe found, pinned by digest, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airgap.oci import Digest
from airgap.ref import Location, Reference
from airgap.relocate.probe import spots
from airgap.relocate.rewrite import Rewrite, rewrite
from tests.relocate.shapes import BASE, at, chart, lock, operator, references, renderer, umbrella

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airgap.chart import Chart

pytestmark = pytest.mark.helm

INSIDE = Location.parse("reg.lan:5000/team")


def moved(subject: Chart, tmp_path: Path, values: Mapping[str, Any] | None = None, location: Location = INSIDE) -> Rewrite:
    given = dict(values or {})
    return rewrite(renderer(subject, tmp_path), given, lock(references(subject, given, tmp_path)), location)


def images(result: Rewrite) -> dict[str, str]:
    return {f"{spot.document.label} {spot.place[1][-1]}": spot.text for spot in spots(result.after)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Rewrite:
    """The umbrella with its own values, moved."""
    return moved(umbrella(), tmp_path_factory.mktemp("plain"))


def digest_of(text: str) -> str:
    return str(Digest.of(str(Reference.parse(text)).encode()))


def outside(result: Rewrite) -> list[str]:
    return sorted(spot.text for spot in spots(result.after) if not (spot.reference and INSIDE.holds(spot.reference)))


def test_every_shape_moves_and_only_the_test_pod_stays(plain: Rewrite) -> None:
    assert outside(plain) == ["busybox"]
    assert [(it.object, it.is_test) for it in plain.unmoved] == [("Pod/wandb-test", True)]


def test_a_digest_key_is_used_where_the_chart_has_one(plain: Rewrite) -> None:
    assert at(plain.values, "api.image.digest") == digest_of("wandb/api:1.0.0")
    assert (
        images(plain)["Deployment/wandb-api image"] == f"reg.lan:5000/team/docker.io/wandb/api@{digest_of('wandb/api:1.0.0')}"
    )


def test_a_tag_with_a_digest_is_used_where_no_digest_key_is_read(plain: Rewrite) -> None:
    tag = at(plain.values, "exporter.image.tag")
    assert tag == f"9.9@{digest_of('quay.io/prom/exporter:9.9')}", "the chart's appVersion is the tag when none is set"
    assert at(plain.values, "exporter.image.digest") is None, "the form that failed leaves nothing behind"


def test_a_tag_that_yaml_reads_as_a_number_is_pinned_too(plain: Rewrite) -> None:
    assert at(plain.values, "reader.image.tag") == f"8.4@{digest_of('mysql:8.4')}"
    assert at(plain.values, "reader.image.repository") == "reg.lan:5000/team/docker.io/library/mysql"


def test_the_image_of_a_container_beats_that_of_its_alias(plain: Rewrite) -> None:
    own = at(plain.values, "worker.containers.main.image")
    assert own == {"repository": "reg.lan:5000/team/docker.io/wandb/worker", "digest": digest_of("wandb/worker:2.0.0")}
    assert at(plain.values, "worker.image") is None, "the dead value is left alone"


def test_registry_and_repository_are_set_apart(plain: Rewrite) -> None:
    etcd = at(plain.values, "etcd.image")
    assert etcd == {
        "registry": "reg.lan:5000",
        "repository": "team/docker.io/bitnamilegacy/etcd",
        "digest": digest_of("bitnamilegacy/etcd:3.5.17"),
    }


def test_a_chart_that_polices_its_images_is_let_be_with_a_reason(plain: Rewrite) -> None:
    switch = next(it for it in plain.changes if it.path == "global.security.allowInsecureImages")
    assert (switch.new, "not TLS" in switch.reason) == (True, True)


def test_a_value_that_holds_a_whole_reference_is_set_whole(plain: Rewrite) -> None:
    assert at(plain.values, "whole.image") == f"reg.lan:5000/team/ghcr.io/acme/whole:3@{digest_of('ghcr.io/acme/whole:3')}"


def test_an_image_in_an_argument_moves_like_any_other(plain: Rewrite) -> None:
    assert at(plain.values, "exporter.reloader").startswith("reg.lan:5000/team/quay.io/acme/reloader:2@sha256:")


def test_globals_that_the_user_set_are_emptied_so_that_no_host_stands_twice(tmp_path: Path) -> None:
    own: dict[str, Any] = {"repositoryPrefix": "mirror.example/all", "imageRegistry": "mirror.example/bitnami"}
    result = moved(umbrella(), tmp_path, {"global": {**own, "security": {"allowInsecureImages": True}}})
    assert outside(result) == ["busybox"]
    assert at(result.values, "global.repositoryPrefix") == ""
    assert at(result.values, "global.imageRegistry") == ""
    assert at(result.values, "api.image.repository") == "reg.lan:5000/team/mirror.example/all/wandb/api"
    assert at(result.values, "etcd.image.repository") == "team/mirror.example/bitnami/bitnamilegacy/etcd"


def test_a_global_is_taken_where_nothing_nearer_moves_an_image(tmp_path: Path) -> None:
    template = """
{{- $prefix := "" }}
{{- with .Values.global.repositoryPrefix }}{{ $prefix = print . "/" }}{{ end }}
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - {name: fixed, image: "{{ $prefix }}acme/fixed:1"}
    - {name: free, image: "{{ $prefix }}{{ .Values.image.repository }}:1"}
"""
    subject = chart("half", template, {"global": {"repositoryPrefix": ""}, "image": {"repository": "acme/free"}})
    result = moved(subject, tmp_path)
    assert at(result.values, "global.repositoryPrefix") == "reg.lan:5000/team/docker.io"
    assert at(result.values, "image.repository") in (None, "acme/free"), "nothing is put in front twice"
    assert outside(result) == []


def test_a_literal_is_reported_with_remedies_and_the_rest_moves(tmp_path: Path) -> None:
    result = moved(umbrella(), tmp_path, {"literal": {"install": True}})
    (literal,) = [it for it in result.unmoved if not it.is_test]
    assert literal.reference == "quay.io/acme/literal:1"
    assert literal.template == "server/charts/literal/templates/all.yaml"
    assert any("node-mirrors" in remedy for remedy in literal.remedies)
    assert outside(result) == ["busybox", "quay.io/acme/literal:1"]


def test_what_a_form_brings_along_is_named(plain: Rewrite) -> None:
    change = next(it for it in plain.changes if it.path == "api.image.digest")
    label = 'metadata.labels."app.kubernetes.io/version"'
    assert change.by_products == (
        f"Deployment/wandb-api {label}",
        f"Deployment/wandb-api spec.template.{label}",
        f"Service/wandb-api {label}",
    )
    assert change.moves == ("Deployment/wandb-api main",)


def test_a_form_that_makes_an_invalid_label_is_dropped_for_the_next(tmp_path: Path) -> None:
    """wandb-base without its digest key: the tag is a label too, and tag@digest is no label value."""
    template = BASE.replace("$image.digest", "false").replace(".Values.image.digest", "false")
    subject = chart("labels", template, {"global": {"repositoryPrefix": ""}, "image": {"repository": "acme/app", "tag": "1.0"}})
    result = moved(subject, tmp_path)
    assert images(result)["Deployment/wandb-labels image"] == "reg.lan:5000/team/docker.io/acme/app:1.0"
    assert {it.form for it in result.changes} == {"tag"}


def test_a_form_that_changes_anything_else_is_dropped(tmp_path: Path) -> None:
    template = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - name: a
      image: "{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag }}{{ end }}"
      env: [{name: PINNED, value: {{ hasKey .Values.image "digest" | quote }}}]
"""
    result = moved(chart("env", template, {"image": {"repository": "acme/app", "tag": "1.0"}}), tmp_path)
    assert {it.form for it in result.changes} == {"tag@digest"}


def test_a_chart_whose_schema_knows_no_digest_gets_it_by_the_tag(tmp_path: Path) -> None:
    schema = b'{"properties": {"image": {"additionalProperties": false, "properties": {"repository": {}, "tag": {}}}}}'
    template = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: a, image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"}]}
"""
    subject = chart("strict", template, {"image": {"repository": "acme/app", "tag": "1"}}, more={"values.schema.json": schema})
    result = moved(subject, tmp_path)
    assert outside(result) == []
    assert at(result.values, "image.tag") == f"1@{digest_of('acme/app:1')}"


def test_a_chart_that_refuses_a_value_keeps_the_others_moving(tmp_path: Path) -> None:
    template = """
{{- if ne .Values.b.image.repository "acme/b" }}{{ fail "b must be acme/b" }}{{ end }}
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - {name: a, image: "{{ .Values.a.image.repository }}:1"}
    - {name: b, image: "{{ .Values.b.image.repository }}:1"}
    - {name: c, image: "{{ .Values.c.image.repository }}:1"}
"""
    values = {name: {"image": {"repository": f"acme/{name}"}} for name in "abc"}
    result = moved(chart("picky", template, values), tmp_path)
    assert outside(result) == ["acme/b:1"]
    (left,) = result.unmoved
    assert "b must be acme/b" in left.reason


def test_an_empty_registry_that_a_helper_fills_in_is_found_in_the_second_round(tmp_path: Path) -> None:
    template = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: a, image: "{{ .Values.image.registry | default "quay.io" }}/acme/app:{{ .Values.image.tag }}"}]}
"""
    result = moved(chart("filled", template, {"image": {"registry": None, "tag": "1"}}), tmp_path)
    assert at(result.values, "image.registry") == "reg.lan:5000/team/quay.io"
    assert outside(result) == []


def test_a_list_is_set_whole_because_helm_replaces_lists(tmp_path: Path) -> None:
    template = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: {{ toYaml .Values.extra | nindent 4 }}
"""
    extra = [{"name": "x", "image": "acme/x:1"}, {"name": "y", "image": "acme/y:1"}]
    result = moved(chart("lists", template, {"extra": extra}), tmp_path)
    assert [item["name"] for item in at(result.values, "extra")] == ["x", "y"]
    assert all(item["image"].startswith("reg.lan:5000/team/docker.io/acme/") for item in at(result.values, "extra"))


def test_values_that_only_fail_together_leave_the_images_where_they_are(tmp_path: Path) -> None:
    template = """
{{- if and (hasPrefix "reg.lan" .Values.a.image.repository) (hasPrefix "reg.lan" .Values.b.image.repository) }}
{{- fail "not both" }}{{ end }}
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - {name: a, image: "{{ .Values.a.image.repository }}:1"}
    - {name: b, image: "{{ .Values.b.image.repository }}:1"}
"""
    values = {name: {"image": {"repository": f"acme/{name}"}} for name in "ab"}
    result = moved(chart("pair", template, values), tmp_path)
    assert outside(result) == ["acme/a:1", "acme/b:1"]
    assert ["not both" in it.reason for it in result.unmoved] == [True, True]


def test_a_value_that_would_spoil_another_image_is_not_set_and_each_says_why(tmp_path: Path) -> None:
    template = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
    - {name: a, image: "{{ .Values.registry }}/acme/a:1"}
    - {name: b, image: "{{ .Values.registry }}/acme/b:1"}
    - {name: c, image: "quay.io/{{ .Values.registry }}/c:1"}
"""
    result = moved(chart("shared", template, {"registry": "ghcr.io"}), tmp_path)
    assert (result.changes, len(outside(result))) == ((), 3)
    reasons = {it.reference: it.reason for it in result.unmoved}
    assert "makes other images too" in reasons["quay.io/ghcr.io/c:1"]
    assert "it also changes Pod/a spec.containers[" in reasons["ghcr.io/acme/a:1"]


def test_two_references_in_one_text_both_move(tmp_path: Path) -> None:
    template = """
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data:
  spawner.conf: |
    first {{ .Values.a.image.repository }}:{{ .Values.a.image.tag }}, then
    second {{ .Values.b.image.repository }}:{{ .Values.b.image.tag }}
"""
    values = {name: {"image": {"repository": f"quay.io/acme/{name}", "tag": "1"}} for name in "ab"}
    result = moved(chart("two", template, values), tmp_path)
    assert outside(result) == []
    assert {it.form for it in result.changes} == {"tag@digest"}


def test_what_lies_in_the_private_registry_already_is_left_alone(tmp_path: Path) -> None:
    own = {"api": {"image": {"repository": "reg.lan:5000/elsewhere/api"}}}
    assert images(moved(umbrella(), tmp_path, own))["Deployment/wandb-api image"] == "reg.lan:5000/elsewhere/api:1.0.0"


def test_what_the_user_pinned_keeps_his_digest(tmp_path: Path) -> None:
    pinned = "sha256:" + "ab" * 32
    result = moved(umbrella(), tmp_path, {"api": {"image": {"digest": pinned}}})
    assert images(result)["Deployment/wandb-api image"] == f"reg.lan:5000/team/docker.io/wandb/api@{pinned}"


def test_an_image_that_the_bundle_lacks_moves_without_a_digest_and_is_said(tmp_path: Path) -> None:
    subject = umbrella()
    held = lock({it for it in references(subject, {}, tmp_path) if it.repository != "wandb/api"})
    result = rewrite(renderer(subject, tmp_path), {}, held, INSIDE)
    assert images(result)["Deployment/wandb-api image"] == "reg.lan:5000/team/docker.io/wandb/api:1.0.0"
    assert any("wandb/api:1.0.0 is not in the bundle" in note for note in result.notes)


def test_a_reference_that_is_none_is_reported_and_never_dropped(tmp_path: Path) -> None:
    result = moved(umbrella(), tmp_path, {"api": {"image": {"repository": "wandb/API"}}})
    assert any(it.reference == "wandb/API:1.0.0" and "upper case" in it.reason for it in result.unmoved)


def test_without_a_prefix_the_source_host_is_the_first_part_of_the_path(tmp_path: Path) -> None:
    result = moved(umbrella(), tmp_path, location=Location.parse("reg.lan"))
    assert at(result.values, "etcd.image.registry") == "reg.lan"
    assert at(result.values, "etcd.image.repository") == "docker.io/bitnamilegacy/etcd"


def test_a_second_rewrite_changes_nothing(tmp_path: Path) -> None:
    first = moved(umbrella(), tmp_path)
    again = rewrite(renderer(umbrella(), tmp_path), first.values, lock([]), INSIDE)
    assert (again.changes, again.values) == ((), first.values)


def test_the_operator_chart_goes_through_the_same_code(tmp_path: Path) -> None:
    result = moved(operator(), tmp_path)
    assert at(result.values, "image") == {
        "repository": "reg.lan:5000/team/docker.io/wandb/controller",
        "digest": digest_of("wandb/controller:1.22.0"),
    }


def test_few_renders_are_enough(tmp_path: Path) -> None:
    subject = umbrella()
    tool = renderer(subject, tmp_path)
    rewrite(tool, {}, lock(references(subject, {}, tmp_path)), INSIDE)
    assert tool.renders < 25
