"""Helm as a subprocess: found, bounded, and its complaints made readable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airgap import tools
from airgap.errors import ConfigurationError, ToolError
from airgap.tools import Helm, RenderError
from tests.world.registries import find_binary

CHART = "apiVersion: v2\nname: t\nversion: 1.0.0\n"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def chart(folder: Path, template: str = "x: {{ .Values.a }}\n", **more: str) -> Path:
    files = {"Chart.yaml": CHART, "values.yaml": "a: 1\n", "templates/a.yaml": template, **more}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def helm() -> Helm:
    return Helm.at(Path(find_binary("helm")))


def test_helm_is_looked_for_where_it_was_named_then_on_path_then_in_the_bundle(tmp_path: Path):
    named = script(tmp_path / "named", "echo v4.1.0")
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "helm", "echo v4.2.0")
    bundled = script(tmp_path / "bundled", "echo v4.3.0")
    on_path = {"PATH": str(tmp_path / "bin")}
    assert Helm.find(named, on_path, bundled).version == "4.1.0"
    assert Helm.find(None, {**on_path, "AIRGAP_HELM": str(named)}, bundled).version == "4.1.0"
    assert Helm.find(None, on_path, bundled).version == "4.2.0"
    assert Helm.find(None, {"PATH": str(tmp_path)}, bundled).version == "4.3.0"


def test_no_helm_at_all_says_where_one_comes_from(tmp_path: Path):
    with pytest.raises(ToolError) as caught:
        Helm.find(None, {"PATH": str(tmp_path)})
    assert "scripts/get-tools" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo v2.17.0", "is helm v2.17.0, at least 3.12 is needed"),
        ("echo hello", "does not answer as helm but says 'hello'"),
        ("echo broken >&2; exit 1", "does not answer as helm: broken"),
    ],
)
def test_a_helm_that_was_named_must_be_one(tmp_path: Path, text: str, told: str):
    with pytest.raises(ToolError, match=told):
        Helm.find(script(tmp_path / "helm", text))


def test_a_helm_that_cannot_be_run_is_told(tmp_path: Path):
    with pytest.raises(ToolError, match="no program that can be run"):
        Helm.at(tmp_path / "none")
    broken = tmp_path / "helm"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    with pytest.raises(ToolError, match="cannot be run"):
        Helm.at(broken)


@pytest.mark.helm
def test_a_chart_is_rendered_with_values_later_ones_winning(helm: Helm, tmp_path: Path):
    text = helm.template(chart(tmp_path), release="r", namespace="n", values=[{"a": 2}, {"a": 3}])
    assert "# Source: t/templates/a.yaml" in text
    assert "x: 3" in text


@pytest.mark.helm
def test_the_cluster_that_charts_see_is_the_one_that_was_asked_for(helm: Helm, tmp_path: Path):
    template = 'v: {{ .Capabilities.KubeVersion.Version }}\nm: {{ .Capabilities.APIVersions.Has "x.y/v1" }}\n'
    folder = chart(tmp_path, template)
    assert "v: v1.34.4\nm: false" in helm.template(folder, release="r", namespace="n")
    assert "v: v1.30.0\nm: true" in helm.template(
        folder, release="r", namespace="n", kube_version="1.30.0", api_versions=["x.y/v1"]
    )


@pytest.mark.helm
def test_one_template_of_a_chart_can_be_shown(helm: Helm, tmp_path: Path):
    folder = chart(tmp_path, **{"templates/b.yaml": "y: 1\n"})
    text = helm.template(folder, release="r", namespace="n", show_only="templates/b.yaml", include_crds=False)
    assert "templates/a.yaml" not in text
    assert "y: 1" in text


@pytest.mark.helm
def test_the_same_question_is_asked_once(helm: Helm, tmp_path: Path):
    folder = chart(tmp_path, "x: {{ uuidv4 }}\n")
    first = helm.template(folder, release="r", namespace="n")
    assert helm.template(folder, release="r", namespace="n") == first
    assert helm.template(folder, release="other", namespace="n") != first
    chart(tmp_path, "x: {{ uuidv4 }} changed\n")
    assert "changed" in helm.template(folder, release="r", namespace="n")


@pytest.mark.helm
def test_an_error_is_remembered_too(helm: Helm, tmp_path: Path):
    folder = chart(tmp_path, "{{ fail `x` }}")
    for _ in range(2):
        with pytest.raises(RenderError):
            helm.template(folder, release="r", namespace="n")


@pytest.mark.helm
@pytest.mark.parametrize(
    ("template", "reason", "line"),
    [
        ("a: 1\nx: {{ .Values.b.c.d }}\n", "nil pointer evaluating interface {}.c (at .Values.b.c.d)", 2),
        ('{{ required ".Values.host must be set" .Values.host }}\n', ".Values.host must be set", 1),
        ("\n{{ foo }}\n", 'function "foo" not defined', 2),
        ("x: [\n", "did not find expected node content", 1),
        ('{{ include "no.such" . }}\n', 'no template "no.such"', 1),
    ],
)
def test_helms_complaint_becomes_one_sentence_with_the_place(helm: Helm, tmp_path: Path, template: str, reason: str, line: int):
    with pytest.raises(RenderError) as caught:
        helm.template(chart(tmp_path, template), release="r", namespace="n")
    error = caught.value
    assert reason in error.reason
    assert (error.template, error.line) == ("t/templates/a.yaml", line)
    assert error.message.startswith(f"chart {tmp_path.name} does not render at t/templates/a.yaml line {line}: ")


@pytest.mark.helm
def test_the_innermost_named_template_is_the_place(helm: Helm, tmp_path: Path):
    helpers = '{{- define "x" -}}\n{{ .Values.b.c.d }}\n{{- end -}}\n'
    folder = chart(tmp_path, '{{ include "x" . }}', **{"templates/_h.tpl": helpers})
    with pytest.raises(RenderError) as caught:
        helm.template(folder, release="r", namespace="n")
    assert (caught.value.template, caught.value.line) == ("t/templates/_h.tpl", 2)


@pytest.mark.helm
def test_control_characters_of_a_chart_do_not_reach_the_terminal(helm: Helm, tmp_path: Path):
    with pytest.raises(RenderError) as caught:
        helm.template(chart(tmp_path, '{{ fail "\\x1b[2Jgone" }}'), release="r", namespace="n")
    assert "\\x1b[2Jgone" in caught.value.message
    assert "\x1b" not in caught.value.message


@pytest.mark.helm
def test_a_long_complaint_is_cut(helm: Helm, tmp_path: Path):
    with pytest.raises(RenderError) as caught:
        helm.template(chart(tmp_path, '{{ fail (repeat 1000 "word ") }}'), release="r", namespace="n")
    assert len(caught.value.reason) == tools.REASON_LIMIT + 3


@pytest.mark.helm
def test_a_chart_that_is_not_there_or_is_no_chart_is_told(helm: Helm, tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        helm.template(tmp_path / "none.tgz", release="r", namespace="n")
    (tmp_path / "x.tgz").write_bytes(b"nothing")
    with pytest.raises(RenderError, match=r"x\.tgz does not render"):
        helm.template(tmp_path / "x.tgz", release="r", namespace="n")


@pytest.mark.helm
def test_a_template_that_never_ends_is_ended(helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "TIME_LIMIT", 0.5)
    endless = "{{ range until 30000 }}{{ range until 30000 }}{{ end }}{{ end }}"
    with pytest.raises(RenderError, match="longer than"):
        helm.template(chart(tmp_path, endless), release="r", namespace="n")


@pytest.mark.helm
def test_a_template_that_eats_memory_is_ended(helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "MEMORY_LIMIT", 512 * 1024**2)
    hungry = '{{ range until 100000 }}{{ repeat 1000000 "abcdefghij" }}{{ end }}'
    with pytest.raises(RenderError, match="of memory"):
        helm.template(chart(tmp_path, hungry), release="r", namespace="n")


@pytest.mark.helm
def test_a_template_that_writes_without_end_is_ended(helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "OUTPUT_LIMIT", 1024**2)
    with pytest.raises(RenderError) as caught:
        helm.template(chart(tmp_path, 'x: {{ repeat 3000000 "ab" }}'), release="r", namespace="n")
    assert caught.value.reason == "output limit"


@pytest.mark.helm
def test_what_the_user_has_set_for_helm_takes_no_part(helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HELM_NAMESPACE", "HELM_PLUGINS", "HELM_DEBUG", "HELM_KUBECONTEXT"):
        monkeypatch.setenv(name, "nonsense")
    template = "n: {{ .Release.Namespace }}\n"
    assert "n: mine" in helm.template(chart(tmp_path, template), release="r", namespace="mine")
    assert os.environ["HELM_NAMESPACE"] == "nonsense"


@pytest.mark.helm
def test_a_release_name_cannot_become_a_flag(helm: Helm, tmp_path: Path):
    with pytest.raises(RenderError):
        helm.template(chart(tmp_path), release="--post-renderer=x", namespace="n")
