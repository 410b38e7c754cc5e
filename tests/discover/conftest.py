"""Small charts, made in the tests in the shapes that real ones have."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airgap.chart import Chart
from airgap.discover import ChartInput, Discovery, discover
from airgap.tools import Helm
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def pod(name: str, image: str, gate: str = "", kind: str = "container") -> str:
    """Write a template with one Pod; ``gate`` is the condition of an ``if`` around it."""
    containers = {
        "container": f"  containers: [{{name: c, image: {image}}}]",
        "init": f"  initContainers: [{{name: c, image: {image}}}]\n  containers: []",
    }[kind]
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{containers}\n"
    return f"{{{{- if {gate} }}}}\n{text}{{{{- end }}}}\n" if gate else text


def write_chart(folder: Path, files: Mapping[str, str], name: str = "app", version: str = "1.0.0") -> Path:
    """Write a chart folder; Chart.yaml is added to ``files``, whose Chart.yaml (if any) is what follows the first lines."""
    head = f"apiVersion: v2\nname: {name}\nversion: {version}\n"
    for path, text in {"Chart.yaml": "", **files}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        body = textwrap.dedent(text)
        target.write_text(head + body if path == "Chart.yaml" else body)
    return folder


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm.at(Path(find_binary("helm")))


class Look:
    """Discovery over one chart folder, in few words."""

    def __init__(self, folder: Path, helm: Helm) -> None:
        self.folder, self.helm = folder, helm

    def __call__(
        self,
        files: Mapping[str, str],
        features: str | Sequence[str] = "default",
        values: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Discovery:
        chart = Chart.load(write_chart(self.folder, files))
        profiles = more.pop("profiles", {"default": values or {}})
        return discover([ChartInput(chart, "site", "apps", profiles)], self.helm, features=features, **more)


@pytest.fixture
def look(tmp_path: Path, helm: Helm) -> Look:
    return Look(tmp_path / "app", helm)


def references(found: Discovery) -> set[str]:
    """Return what is to be bundled, Docker Hub's long names shortened."""
    return {_short(str(item.reference)) for item in found.requirements}


def offered(found: Discovery) -> dict[str, tuple[str, ...]]:
    """Return what is not bundled, with the features that would bring it."""
    return {_short(str(item.reference)): item.features for item in found.offered}


def _short(text: str) -> str:
    return text.removeprefix("docker.io/library/").removeprefix("docker.io/")
