"""A folder is audited by what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airgap.audit import files, read_directory
from airgap.errors import ConfigurationError
from airgap.relocate import outputs
from airgap.wandb import LocalChart

if TYPE_CHECKING:
    from pathlib import Path

RESOURCE = """
apiVersion: apps.wandb.com/v1
kind: WeightsAndBiases
metadata: {name: wandb, namespace: wandb}
spec: {chart: {path: /charts/x-1.0.0.tgz}, values: {a: 1}}
"""


def test_the_names_are_those_that_render_writes() -> None:
    ours = (files.OPERATOR_VALUES, files.RESOURCE, files.CHART, files.OTHERS)
    assert ours == (outputs.OPERATOR_VALUES, outputs.RESOURCE, outputs.CHART, outputs.OTHERS)


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "operator-values.yaml").write_text("airgapped: true\n")
    (tmp_path / "wandb.yaml").write_text(RESOURCE)
    assert read_directory(tmp_path).charts is None
    (tmp_path / "chart.yaml").write_text("kind: ConfigMap\nbinaryData: {x-1.0.0.tgz: eA==}\ndata: {old: eA==}\n")
    found = read_directory(tmp_path)
    assert (found.operator_values, found.resource.chart) == ({"airgapped": True}, LocalChart("/charts/x-1.0.0.tgz"))
    assert found.charts == ("old", "x-1.0.0.tgz")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("operator-values.yaml", None, "operator-values.yaml cannot be read"),
        ("operator-values.yaml", "- a\n", "is no map of values"),
        ("wandb.yaml", None, "wandb.yaml cannot be read"),
        ("wandb.yaml", f"{RESOURCE}---{RESOURCE}", "holds 2 objects, not one custom resource"),
        ("wandb.yaml", "kind: Secret\napiVersion: v1\n", "is not a WeightsAndBiases"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_by_file(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    whole = {"operator-values.yaml": "{}\n", "wandb.yaml": RESOURCE, name: text}
    for file, content in whole.items():
        if content is not None:
            (tmp_path / file).write_text(content)
    with pytest.raises(ConfigurationError, match=told):
        read_directory(tmp_path)


def test_the_users_other_objects_are_read_and_must_be_objects(tmp_path: Path) -> None:
    (tmp_path / files.OPERATOR_VALUES).write_text("airgapped: true\n")
    (tmp_path / files.RESOURCE).write_text(RESOURCE)
    (tmp_path / files.OTHERS).write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: side}\n---\n")
    assert [it["kind"] for it in read_directory(tmp_path).others] == ["Pod"]
    (tmp_path / files.OTHERS).write_text("just text\n")
    with pytest.raises(ConfigurationError, match="no Kubernetes object"):
        read_directory(tmp_path)
