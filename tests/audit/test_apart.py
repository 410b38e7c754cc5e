"""A template that only a cluster can answer is open; the rest of its chart is rewritten and judged all the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airgap.audit import OPEN
from tests.audit.site import Site, lock_of
from tests.relocate.shapes import OPERATOR, OPERATOR_VALUES, chart
from tests.world.registries import start_docker_registry

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.helm, pytest.mark.registry]

TEXT = 'kind: Secret\napiVersion: v1\nmetadata: {name: s}\ndata:\n  a: {{ (lookup "v1" "Secret" "a" .Values.own).data.b.c }}\n'


def test_the_one_is_open_with_its_line_and_the_rest_is_rewritten_and_judged(tmp_path: Path) -> None:
    with start_docker_registry(tmp_path / "registry") as running:
        whole = Site(running, tmp_path)
        held = lock_of(whole.found)
        whole.fill(held)
        extra = {"templates/asks.yaml": TEXT.encode()}
        site = replace(whole, operator=chart("operator", OPERATOR, OPERATOR_VALUES, more=extra))
        relocation = site.relocated(held)
        verdict = site.audit(held, relocation)
    (unread,) = [it for it in verdict.findings if it.template == "operator/templates/asks.yaml"]
    assert unread.verdict == OPEN
    assert "line 5" in unread.text
    assert "lookup" in unread.reason
    assert "own" in unread.fix
    assert [it for it in verdict.open if "operator" in it.chart] == [unread]
    assert verdict.objects[site.operator.label] > 0
    assert any("asks.yaml" in note and "not rewritten" in note for note in relocation.notes)
