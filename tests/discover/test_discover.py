"""Discovery: a union over renderings, features by name, nothing in by accident and nothing dropped in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airgap.chart import Chart
from airgap.discover import ChartInput, discover
from airgap.errors import ConfigurationError
from airgap.lock import Origin
from airgap.manifest import ImageEntry
from airgap.progress import Progress
from airgap.ref import Reference
from airgap.tools import RenderError
from tests.discover.conftest import Look, offered, pod, references, write_chart

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.tools import Helm

pytestmark = pytest.mark.helm

IMAGE = "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
SUBCHARTS = {
    "Chart.yaml": """\
        dependencies:
        - {name: base, version: 1.0.0, alias: web, condition: web.install}
        - {name: base, version: 1.0.0, alias: worker, condition: worker.install}
        - {name: store, version: 1.0.0, condition: store.install}
        """,
    "values.yaml": """\
        web: {install: true, image: {repository: site/web, tag: "1"}}
        worker: {install: false, image: {repository: site/worker, tag: "1"}}
        store: {install: false}
        """,
    "charts/base/Chart.yaml": "apiVersion: v2\nname: base\nversion: 1.0.0\n",
    "charts/base/templates/pod.yaml": pod("base", IMAGE),
    "charts/store/Chart.yaml": "apiVersion: v2\nname: store\nversion: 1.0.0\n"
    "dependencies: [{name: keeper, version: 1.0.0, condition: keeper.enabled}]\n",
    "charts/store/values.yaml": """\
        keeper: {enabled: false}
        image: {repository: store/db, tag: "2"}
        metrics: {enabled: false, image: {registry: quay.io, repository: store/exporter, tag: "3"}}
        """,
    "charts/store/templates/pod.yaml": pod("db", IMAGE),
    "charts/store/templates/metrics.yaml": pod(
        "metrics",
        "{{ with .Values.metrics.image }}{{ .registry }}/{{ .repository }}:{{ .tag }}{{ end }}",
        ".Values.metrics.enabled",
    ),
    "charts/store/charts/keeper/Chart.yaml": "apiVersion: v2\nname: keeper\nversion: 1.0.0\n",
    "charts/store/charts/keeper/values.yaml": 'image: {repository: store/keeper, tag: "4"}\n',
    "charts/store/charts/keeper/templates/pod.yaml": pod("keeper", IMAGE),
}


def test_by_default_only_what_renders_by_default_is_in(look: Look):
    found = look(SUBCHARTS)
    assert references(found) == {"site/web:1"}
    assert found.selected == ()
    assert found.warnings == ()


def test_each_optional_image_is_offered_under_its_innermost_switch(look: Look):
    found = look(SUBCHARTS)
    assert offered(found) == {
        "site/worker:1": ("worker",),
        "store/db:2": ("store",),
        "store/keeper:4": ("store.keeper",),
        "quay.io/store/exporter:3": ("store.metrics",),
    }
    features = {feature.name: feature for feature in found.features}
    assert dict(features["store.keeper"].switches) == {"store.install": True, "store.keeper.enabled": True}
    assert dict(features["store.metrics"].switches) == {"store.install": True, "store.metrics.enabled": True}
    assert [str(reference) for reference in features["store"].adds] == ["docker.io/store/db:2"]


def test_features_are_chosen_by_name_or_all(look: Look):
    assert references(look(SUBCHARTS, features=["store.metrics", "worker"])) == {
        "site/web:1",
        "site/worker:1",
        "quay.io/store/exporter:3",
        "store/db:2",
    }
    everything = look(SUBCHARTS, features="all")
    assert everything.offered == ()
    assert len(everything.requirements) == 5
    assert set(everything.selected) == {"store", "store.keeper", "store.metrics", "worker"}


def test_an_unknown_feature_is_told_with_the_nearest(look: Look):
    with pytest.raises(ConfigurationError, match=r"'store\.metric' \(did you mean 'store\.metrics'\?\)"):
        look(SUBCHARTS, features=["store.metric"])


def test_what_is_on_in_the_users_values_is_no_feature_any_more(look: Look):
    found = look(SUBCHARTS, values={"worker": {"install": True}, "web": {"install": False}})
    assert references(found) == {"site/worker:1"}
    assert offered(found)["site/web:1"] == ("web",)


def test_every_hit_says_where_it_comes_from(look: Look):
    found = look(SUBCHARTS)
    assert found.requirements[0].origins == (
        Origin(
            kind="template",
            chart="app-1.0.0",
            profile="default",
            template="app/charts/web/templates/pod.yaml",
            object="Pod/base",
            path="spec.containers[0].image",
            value="web.image",
        ),
    )
    assert {origin.profile for item in found.offered for origin in item.origins} == {
        "worker",
        "store",
        "store.keeper",
        "store.metrics",
    }


def test_value_profiles_add_what_they_need(look: Look):
    found = look(SUBCHARTS, profiles={"default": {}, "big": {"worker": {"install": True}}})
    assert references(found) == {"site/web:1", "site/worker:1"}
    assert {origin.profile for item in found.requirements for origin in item.origins} == {"default", "big"}


def test_hooks_tests_cronjobs_and_init_containers_count(look: Look):
    job = "{{spec: {{template: {{spec: {{containers: [{{name: c, image: {0}}}]}}}}}}}}"
    found = look(
        {
            "templates/hook.yaml": "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: h\n"
            "  annotations: {helm.sh/hook: pre-upgrade}\n" + job.format("hook:1")[1:-1] + "\n",
            "templates/tests/t.yaml": pod("t", "tester:1").replace("{name: t}", "{name: t, annotations: {helm.sh/hook: test}}"),
            "templates/cron.yaml": "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: c}\n"
            "spec: {jobTemplate: " + job.format("cron:1") + "}\n",
            "templates/init.yaml": pod("i", "init:1", kind="init"),
            "crds/crd.yaml": "apiVersion: x/v1\nkind: Thing\nmetadata: {name: x}\nspec: {image: 'quay.io/crd/x:1'}\n",
        }
    )
    assert references(found) == {"hook:1", "tester:1", "cron:1", "init:1", "quay.io/crd/x:1"}


def test_images_in_arguments_and_environment_count(look: Look):
    found = look(
        {
            "templates/d.yaml": pod("d", "main:1").replace(
                "image: main:1",
                "image: main:1, args: ['--reloader-image=quay.io/x/reloader:v1'], "
                "env: [{name: RELATED_IMAGE_AGENT, value: 'quay.io/x/agent:v2'}]",
            )
        }
    )
    assert references(found) == {"main:1", "quay.io/x/reloader:v1", "quay.io/x/agent:v2"}


def test_what_only_a_cluster_with_certain_apis_would_get_counts(look: Look):
    gate = '.Capabilities.APIVersions.Has "monitoring.coreos.com/v1"'
    found = look({"templates/m.yaml": pod("m", "monitor:1", gate), "templates/n.yaml": pod("n", "plain:1", f"not ({gate})")})
    assert references(found) == {"monitor:1", "plain:1"}


def test_the_kubernetes_version_can_be_asked_for(look: Look):
    gate = 'semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version'
    files = {"templates/m.yaml": pod("m", "new:1", gate), "templates/n.yaml": pod("n", "old:1", f"not ({gate})")}
    assert references(look(files)) == {"new:1"}
    assert references(look(files, kube_version="1.29.0")) == {"old:1"}


def test_modes_that_exclude_each_other_are_both_found(look: Look):
    files = {
        "values.yaml": """\
            a: {enabled: true, image: {repository: mode/a, tag: "1"}}
            b: {enabled: false, image: {repository: mode/b, tag: "1"}}
            """,
        "templates/a.yaml": pod("a", "{{ .Values.a.image.repository }}:{{ .Values.a.image.tag }}", ".Values.a.enabled"),
        "templates/b.yaml": "{{- if and .Values.a.enabled .Values.b.enabled }}{{ fail `only one of a and b` }}{{ end }}\n"
        + pod("b", "{{ .Values.b.image.repository }}:{{ .Values.b.image.tag }}", ".Values.b.enabled"),
    }
    found = look(files)
    assert references(found) == {"mode/a:1"}
    features = {feature.name: feature for feature in found.features}
    assert "only one of a and b" in features["b"].problem
    assert any("only one of a and b" in warning for warning in found.warnings)
    assert offered(found) == {"mode/b:1": ("unrendered",)}


def test_a_chart_that_checks_its_values_in_its_notes_is_looked_into_all_the_same(look: Look):
    files = {**SUBCHARTS, "templates/NOTES.txt": "{{ if .Values.worker.install }}{{ fail `not both` }}{{ end }}"}
    assert offered(look(files))["site/worker:1"] == ("worker",)


def test_two_features_that_cannot_be_on_together_are_rendered_apart(look: Look):
    files = {
        **SUBCHARTS,
        "templates/check.yaml": "{{ if and .Values.worker.install .Values.store.install }}{{ fail `not both` }}{{ end }}",
    }
    found = look(files)
    assert offered(found)["site/worker:1"] == ("worker",)
    assert offered(found)["store/db:2"] == ("store",)
    assert found.warnings == ()


def test_a_feature_gets_plausible_values_at_the_path_that_helm_names(look: Look):
    files = {
        **SUBCHARTS,
        "charts/store/templates/pod.yaml": "{{ $b := required `.Values.bucket.name must be set` (.Values.bucket).name }}\n"
        + pod("db", IMAGE),
    }
    found = look(files)
    assert offered(found)["store/db:2"] == ("store",)
    assert found.warnings == ()


def test_a_feature_gets_plausible_values_that_a_named_template_looks_for(look: Look):
    files = {
        **SUBCHARTS,
        "templates/_h.tpl": '{{- define "bucket" }}\nname: {{ (.Values.global.bucket).name }}\n{{- end }}\n'
        '{{- define "bucket.upper" -}}\n{{ (include "bucket" . | fromYaml).name | upper }}\n{{- end }}\n',
        "charts/store/templates/pod.yaml": '# {{ include "bucket.upper" . }}\n' + pod("db", IMAGE),
        "values.yaml": SUBCHARTS["values.yaml"].replace(
            "        web", "        global: {bucket: {name: '', path: ''}}\n        web"
        ),
    }
    found = look(files)
    assert offered(found)["store/db:2"] == ("store",)


def test_a_feature_that_does_not_render_is_told_and_the_rest_counts(look: Look):
    files = {**SUBCHARTS, "charts/store/templates/bad.yaml": "\n{{ .Values.a.b.c }}\n"}
    found = look(files)
    assert references(found) == {"site/web:1"}
    assert offered(found)["site/worker:1"] == ("worker",)
    problem = {feature.name: feature.problem for feature in found.features}["store"]
    assert "app/charts/store/templates/bad.yaml line 2" in problem
    assert offered(found)["store/db:2"] == ("unrendered",)


def test_a_chart_that_does_not_render_by_default_is_an_error_with_template_and_line(look: Look):
    with pytest.raises(RenderError, match=r"app/templates/x\.yaml line 2: no way"):
        look({"templates/x.yaml": "\n{{ fail `no way` }}\n"})


def test_a_chart_that_renders_for_some_clusters_only_is_a_warning(look: Look):
    files = {
        "templates/x.yaml": pod("x", "plain:1"),
        "templates/y.yaml": '{{ if .Capabilities.APIVersions.Has "a.b/v1" }}{{ .Values.x.y.z }}{{ end }}',
    }
    found = look(files)
    assert references(found) == {"plain:1"}
    assert any("renders for some clusters only" in warning for warning in found.warnings)


def test_a_word_that_a_template_compares_with_is_tried_where_an_image_is_unexplained(look: Look):
    image = "{{ .Values.sentinel.image.repository }}:{{ .Values.sentinel.image.tag }}"
    files = {
        "values.yaml": """\
            architecture: standalone
            other: a
            sentinel: {enabled: false, image: {repository: redis/sentinel, tag: "7"}}
            """,
        "templates/_h.tpl": '{{- define "sentinel.image" }}' + image + "{{ end }}",
        "templates/s.yaml": pod(
            "s", '{{ include "sentinel.image" . }}', 'and (eq .Values.architecture "replication") .Values.sentinel.enabled'
        ),
        "templates/t.yaml": '{{ if eq .Values.other "b" }}{{ end }}\n',
    }
    found = look(files)
    assert offered(found) == {"redis/sentinel:7": ("sentinel",)}
    assert dict(found.features[0].switches) == {"sentinel.enabled": True, "architecture": "replication"}


def test_a_word_alone_can_be_a_feature(look: Look):
    files = {
        "values.yaml": 'mode: small\nlarge: {image: {repository: app/large, tag: "1"}}\n',
        "templates/l.yaml": pod(
            "l", "{{ .Values.large.image.repository }}:{{ .Values.large.image.tag }}", 'eq .Values.mode "large"'
        ),
    }
    assert offered(look(files)) == {"app/large:1": ("mode.large",)}


def test_a_switch_far_from_its_image_is_found_by_renderings(look: Look):
    files = {**SUBCHARTS, "templates/extra.yaml": pod("e", "extra:1", ".Values.worker.install")}
    assert offered(look(files))["extra:1"] == ("worker",)


def test_a_switch_that_no_template_names_is_found_by_halves(look: Look):
    files = {
        **SUBCHARTS,
        "templates/_h.tpl": '{{ define "on" }}{{ if (index .Values "store" "install") }}yes{{ end }}{{ end }}',
        "templates/extra.yaml": pod("e", "extra:1", 'eq (include "on" .) "yes"'),
    }
    assert offered(look(files))["extra:1"] == ("store",)


def test_values_that_nothing_renders_are_offered_as_unrendered_and_never_in_by_accident(look: Look):
    files = {
        "values.yaml": """\
            image: {repository: app/app, tag: "1"}
            dead: {image: {repository: app/dead, tag: "9"}}
            old: {image: {repository: app/app}}
            """,
        "templates/p.yaml": pod("p", IMAGE),
    }
    found = look(files)
    assert references(found) == {"app/app:1"}
    assert offered(found) == {"app/dead:9": ("unrendered",)}
    assert found.offered[0].optional
    assert found.offered[0].origins[0].kind == "values"
    assert found.offered[0].origins[0].value == "dead.image"
    assert "app/dead:9" in references(look(files, features="all"))
    assert "app/dead:9" in references(look(files, features=["unrendered"]))


def test_a_literal_in_a_template_that_a_switch_opens_is_a_feature_of_the_chart(look: Look):
    files = {
        **SUBCHARTS,
        "charts/base/values.yaml": "test: {enabled: false}\n",
        "charts/base/templates/test.yaml": pod("t", "tester", ".Values.test.enabled"),
    }
    found = look(files)
    assert offered(found)["tester:latest"] == ("base.test",)
    feature = next(feature for feature in found.features if feature.name == "base.test")
    assert dict(feature.switches) == {"web.test.enabled": True}
    note = next(item.notes for item in found.offered if item.reference.repository == "library/tester")
    assert "moves" in note[0]


def test_a_literal_that_nothing_opens_is_offered_as_unrendered(look: Look):
    found = look({"templates/never.yaml": pod("n", "never:1", "eq 1 2"), "templates/p.yaml": pod("p", "app:1")})
    assert offered(found) == {"never:1": ("unrendered",)}


def test_an_annotation_adds_and_is_marked(look: Look):
    files = {
        "Chart.yaml": """\
            annotations:
              images: |
                - {name: a, image: docker.io/site/only:1}
                - {name: b, image: docker.io/site/app:1}
              helm.sh/images: |
                - image: quay.io/site/also:2
            """,
        "templates/p.yaml": pod("p", "site/app:1"),
    }
    found = look(files)
    assert references(found) == {"site/app:1", "site/only:1", "quay.io/site/also:2"}
    only = next(item for item in found.requirements if item.reference.repository == "site/only")
    assert only.optional
    assert only.notes == ("annotation only: no rendering shows it",)
    app = next(item for item in found.requirements if item.reference.repository == "site/app")
    assert [origin.kind for origin in app.origins] == ["annotation", "template"]
    assert not app.optional


def test_an_annotation_with_the_old_name_of_a_rendered_image_is_not_bundled(look: Look):
    files = {
        "Chart.yaml": "annotations:\n  images: |\n    - image: docker.io/bitnami/redis:7.2\n",
        "templates/p.yaml": pod("p", "bitnamilegacy/redis:7.2"),
    }
    found = look(files)
    assert references(found) == {"bitnamilegacy/redis:7.2"}
    assert offered(found) == {"bitnami/redis:7.2": ("unrendered",)}


def test_the_annotation_of_an_optional_chart_belongs_to_its_feature(look: Look):
    files = {
        **SUBCHARTS,
        "charts/store/Chart.yaml": SUBCHARTS["charts/store/Chart.yaml"] + "annotations: {images: '[{image: store/tool:5}]'}\n",
    }
    assert offered(look(files))["store/tool:5"] == ("store",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prose: [", "annotation images"),
        ("just words", "is no list of images"),
        ("[{image: 'NOT A REF'}]", "no image reference"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_a_warning(look: Look, text: str, told: str):
    files = {"Chart.yaml": f'annotations: {{images: "{text}"}}\n', "templates/p.yaml": pod("p", "app:1")}
    found = look(files)
    assert references(found) == {"app:1"}
    assert any(told in warning for warning in found.warnings)


def test_a_rendered_reference_that_is_none_is_told_and_not_dropped(look: Look):
    found = look({"templates/p.yaml": pod("p", "app:sha256:" + "0" * 64), "templates/q.yaml": pod("q", "app:1")})
    assert references(found) == {"app:1"}
    assert "app/templates/p.yaml, Pod/p, spec.containers[0].image" in found.warnings[0]


def test_an_object_that_cannot_be_read_is_told_and_the_rest_counts(look: Look):
    found = look(
        {"templates/p.yaml": "kind: X\napiVersion: v1\nmetadata: {name: x}\na: !odd b\n", "templates/q.yaml": pod("q", "app:1")}
    )
    assert references(found) == {"app:1"}
    assert any("what it asks for is not known" in warning for warning in found.warnings)


def test_images_of_the_manifest_are_added(look: Look):
    entries = [
        ImageEntry(Reference.parse("busybox:1.36")),
        ImageEntry(Reference.parse("app:1")),
        ImageEntry(Reference.parse("site/x:1"), local=True),
    ]
    found = look({"templates/p.yaml": pod("p", "app:1")}, images=entries)
    assert references(found) == {"app:1", "busybox:1.36", "site/x:1"}
    kinds = {str(item.reference): [origin.kind for origin in item.origins] for item in found.requirements}
    assert kinds["docker.io/library/app:1"] == ["template", "manifest"]
    assert [item.local for item in found.requirements if item.reference.repository == "site/x"] == [True]


def test_a_chart_without_its_dependencies_is_refused(tmp_path: Path, helm: Helm):
    folder = write_chart(tmp_path, {"Chart.yaml": "dependencies: [{name: gone, version: 1.0.0}]\n"})
    with pytest.raises(ConfigurationError, match=r"app-1\.0\.0 lacks charts that it depends on: gone"):
        discover([ChartInput(Chart.load(folder), "r", "n")], helm)


def test_several_charts_are_one_union(tmp_path: Path, helm: Helm):
    first = Chart.load(write_chart(tmp_path / "a", {"templates/p.yaml": pod("p", "app:1")}, "a"))
    second = Chart.load(write_chart(tmp_path / "b", {"templates/p.yaml": pod("p", "app:1")}, "b"))
    said: list[str] = []

    class Listener(Progress):
        def debug(self, message: str) -> None:
            said.append(message)

    found = discover([ChartInput(first, "a", "n"), ChartInput(second, "b", "n")], helm, progress=Listener())
    assert references(found) == {"app:1"}
    assert [origin.chart for origin in found.requirements[0].origins] == ["a-1.0.0", "b-1.0.0"]
    assert said == ["chart a-1.0.0: 1 references", "chart b-1.0.0: 1 references"]


def test_tags_switch_charts_too(look: Look):
    files = {
        "Chart.yaml": "dependencies: [{name: base, version: 1.0.0, tags: [extra]}]\n",
        "values.yaml": "tags: {extra: false}\n",
        "charts/base/Chart.yaml": "apiVersion: v2\nname: base\nversion: 1.0.0\n",
        "charts/base/templates/pod.yaml": pod("b", "base:1"),
        "templates/p.yaml": pod("p", "app:1"),
    }
    found = look(files)
    assert references(found) == {"app:1"}
    assert offered(found) == {"base:1": ("tags.extra",)}
