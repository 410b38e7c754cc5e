"""The demonstration's charts, rendered by the real helm as a site would have them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import airgap.demo
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Callable

    Render = Callable[..., list[dict[str, Any]]]

DATA = Path(airgap.demo.__file__).parent / "data"


@pytest.fixture(scope="session")
def helm() -> str:
    return find_binary("helm")


@pytest.fixture
def render(helm: str, tmp_path: Path) -> Render:
    """Render a chart with the channel's values, the site's, and the given ``--set`` texts."""

    def rendered(name: str, *settings: str, site: bool = True) -> list[dict[str, Any]]:
        command = [helm, "template", "wandb", str(DATA / "charts" / name), "--kube-version", "1.34.4", "--include-crds"]
        if name == "operator-wandb":
            channel = tmp_path / "channel.yaml"
            channel.write_text(json.dumps(json.loads((DATA / "channel.json").read_text())["values"]))
            command += ["--values", str(channel)]
            command += ["--values", str(DATA / "values.yaml")] if site else []
        for setting in settings:
            command += ["--set", setting]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise ValueError(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return rendered
