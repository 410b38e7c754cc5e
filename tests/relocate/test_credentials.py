"""Values in clear move into Secrets only where a render proves that every pod gets the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airgap.relocate import credentials
from airgap.relocate.credentials import Item, Move, Separated, separate
from airgap.values import parse_path
from tests.relocate.shapes import at, chart, renderer

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.chart import Chart

pytestmark = pytest.mark.helm

REDIS = """
{{- if not .Values.redis.secret.name }}
apiVersion: v1
kind: Secret
metadata: {name: redis-own}
data: {PASSWORD: {{ .Values.redis.password | b64enc | quote }}, CA: {{ .Values.redis.ca | b64enc | quote }}}
{{- end }}
---
apiVersion: v1
kind: Pod
metadata:
  name: a
  annotations: {checksum: {{ .Values.redis | toJson | sha256sum }}}
spec:
  containers:
    - name: a
      image: x:1
      env:
        - name: PASSWORD
          valueFrom:
            secretKeyRef:
              name: {{ .Values.redis.secret.name | default "redis-own" }}
              key: {{ .Values.redis.secret.key }}
        %s
  volumes:
    - name: v
      secret: {secretName: {{ .Values.redis.secret.name | default "redis-own" }}}
"""
VALUES = {"redis": {"password": "", "ca": "", "secret": {"name": "", "key": "PASSWORD"}}}
NAME, KEY = ("redis", "secret", "name"), ("redis", "secret", "key")
MOVE = Move("redis", (Item(("redis", "password"), KEY, "PASSWORD"),), NAME, (("CA", ("redis", "ca")),))


def separated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: Move = MOVE, extra: str = "") -> Separated:
    monkeypatch.setattr(credentials, "MOVES", (move,))
    subject = chart("redis", REDIS % extra, VALUES)
    return apart(subject, tmp_path, {"redis": {"password": "pw", "ca": "pem"}})


def apart(subject: Chart, tmp_path: Path, values: dict[str, Any]) -> Separated:
    tool = renderer(subject, tmp_path)
    return separate(tool, values, "site", extra={}, computed=tool.computed(values), noise=frozenset())


def test_a_password_moves_with_all_keys_that_the_charts_own_secret_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = separated(tmp_path, monkeypatch)
    assert found.secrets == {"redis": {"CA": "pem", "PASSWORD": "pw"}}
    assert found.values == {"redis": {"ca": "pem", "secret": {"name": "site-redis", "key": "PASSWORD"}}}
    assert (found.moved, found.left) == ((("redis.password", "site-redis"),), ())


def test_a_move_that_would_take_a_file_from_a_pod_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The volume has every key of the chart's own Secret; a Secret without CA would lose one."""
    found = separated(tmp_path, monkeypatch, Move("redis", MOVE.items, NAME))
    assert (found.secrets, at(found.values, "redis.password")) == ({}, "pw")
    assert "redis.password stays in clear" in found.left[0]
    assert "would not get the same bytes" in found.left[0]


def test_a_move_that_changes_anything_else_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = '- {name: LENGTH, value: "{{ len .Values.redis.password }}"}'
    found = separated(tmp_path, monkeypatch, extra=extra)
    assert found.secrets == {}
    assert "Pod/a spec.containers[0].env[1].value would change too" in found.left[0]


def test_a_move_that_the_chart_refuses_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = '{{ if not .Values.redis.password }}{{ fail "a password is needed" }}{{ end }}'
    assert "a password is needed" in separated(tmp_path, monkeypatch, extra=extra).left[0]


def test_what_looks_like_a_secret_and_has_no_way_out_is_named(tmp_path: Path) -> None:
    subject = chart("plain", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", {"a": 1})
    values: dict[str, Any] = {
        "env": {"API_KEY": "k", "LEVEL": "x"},
        "auth": {"clientSecret": "c"},
        "ref": {"passwordSecret": {"name": "n"}},
    }
    found = apart(subject, tmp_path, values)
    assert [note.partition(" ")[0] for note in found.left] == ["env.API_KEY", "auth.clientSecret"]
    assert not {"k", "c"} & {word for note in found.left for word in note.split()}, "a secret is never told"


def test_every_move_of_the_table_names_the_paths_of_the_real_chart() -> None:
    paths = {".".join(map(str, item.clear)) for move in credentials.MOVES for item in move.items}
    assert {"global.license", "global.mysql.password", "global.bucket.secretKey", "global.email.smtp.password"} <= paths
    assert all(parse_path(path) for path in paths)
