"""A template that only a cluster can answer does not cost its chart the rest (cases.md H4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airgap.chart import Chart
from airgap.discover import ChartInput, discover
from airgap.tools import RenderError
from tests.discover.conftest import Look, pod, references, write_chart

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.tools import Helm

pytestmark = pytest.mark.helm

LOOKUP = '{{ (lookup "v1" "Secret" "apps" .Values.existing.name).data.password.hidden }}'
FILES = {
    "values.yaml": """\
        existing: {name: x}
        image: {repository: site/web, tag: "1"}
        job: {image: {repository: site/job, tag: "2"}}
        """,
    "templates/web.yaml": pod("web", "{{ .Values.image.repository }}:{{ .Values.image.tag }}"),
    "templates/job.yaml": pod("job", "{{ .Values.job.image.repository }}:{{ .Values.job.image.tag }}")
    + f"---\nkind: ConfigMap\napiVersion: v1\nmetadata: {{name: c}}\ndata: {{a: {LOOKUP}}}\n",
}


def _told(found: list[str]) -> str:
    (told,) = [it for it in found if "lookup" in it]
    return told


def test_the_rest_counts_and_what_the_template_spells_too(look: Look):
    files = {**FILES, "templates/job.yaml": FILES["templates/job.yaml"] + "---\n" + pod("more", "literal:3")}
    found = look(files)
    assert references(found) == {"site/web:1", "site/job:2", "literal:3"}
    told = _told(list(found.warnings))
    assert "app/templates/job.yaml line 10 does not render" in told
    assert "set what it would look up (existing.name)" in told


def test_a_lookup_behind_a_named_template_of_a_subchart_is_followed(look: Look):
    files = {
        "Chart.yaml": "dependencies: [{name: db, version: 1.0.0, alias: store}]\n",
        "templates/web.yaml": pod("web", "plain:1"),
        "charts/db/Chart.yaml": "apiVersion: v2\nname: db\nversion: 1.0.0\n",
        "charts/db/templates/_helpers.tpl": '{{ define "db.secret" }}\n' + LOOKUP + "{{ end }}",
        "charts/db/values.yaml": "existing: {name: x}\n",
        "charts/db/templates/secret.yaml": "kind: Secret\napiVersion: v1\nmetadata: {name: "
        '{{ include "db.secret" . | quote }}}\n',
        "charts/db/templates/pod.yaml": pod("db", "db:2"),
    }
    found = look(files)
    assert references(found) == {"plain:1", "db:2"}
    assert "app/charts/store/templates/secret.yaml" in _told(list(found.warnings))


def test_several_templates_are_set_apart_one_after_the_other(look: Look):
    files = {**FILES, "templates/a.yaml": f"a: {LOOKUP}\n", "templates/b.yaml": f"a: {LOOKUP}\n"}
    found = look(files)
    assert sum("lookup" in it for it in found.warnings) == 3
    assert "site/web:1" in references(found)


@pytest.mark.parametrize(
    "text",
    [
        "\n{{ .Values.a.b.c }}\n",
        '{{/* lookup "v1" */}}\n{{ .Values.a.b.c }}\n',
        "{{ include `app.check` . }}\n",
    ],
)
def test_what_misses_a_value_is_an_error_as_ever(look: Look, text: str):
    helper = (
        '{{ define "app.check" }}{{ $_ := lookup "v1" "Secret" "a" "b" }}{{ required "give a name" .Values.name }}{{ end }}'
    )
    with pytest.raises(RenderError):
        look({**FILES, "templates/job.yaml": text, "templates/_helpers.tpl": helper})


def test_a_template_that_itself_fails_for_want_of_an_answer_is_set_apart(look: Look):
    asked = '{{ if not (lookup "v1" "Secret" "apps" "x") }}{{ fail "make Secret x first" }}{{ end }}\n'
    found = look({**FILES, "templates/job.yaml": asked})
    assert references(found) == {"site/web:1"}
    assert "make Secret x first" in _told(list(found.warnings))


def test_the_chart_itself_stays_as_it_is(tmp_path: Path, helm: Helm):
    chart = Chart.load(write_chart(tmp_path / "app", FILES))
    before = chart.digest
    discover([ChartInput(chart, "site", "apps")], helm)
    assert (chart.digest, "templates/job.yaml" in chart.files) == (before, True)
