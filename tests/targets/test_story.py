"""The bundle inside, under other layouts and another name for pulling: pushed, rendered, and proved closed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Bare, refused, well

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]


def applied(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "operator-values.yaml", folder / "wandb.yaml"))


@pytest.mark.parametrize("layout", ["path", "flat"])
def test_a_layout_is_pushed_rendered_and_closed(bare: Bare, layout: str) -> None:
    chosen = ("--layout", layout)
    prefix = f"in-{layout}"
    receipt = json.loads(well(bare.signed_in("push", "wandb.tar", *chosen, "-o", "json", prefix=prefix)).stdout)
    assert receipt["layout"] == layout
    well(bare.signed_in("render", "wandb.tar", *chosen, "--values", "user.yaml", "--dir", f"site-{layout}", prefix=prefix))
    text = applied(bare.bundle.parent / f"site-{layout}")
    assert f"{prefix}/{'wandb/local' if layout == 'path' else 'docker.io--wandb--local'}" in text
    well(bare.signed_in("audit", f"site-{layout}", *chosen, prefix=prefix))
    well(bare.signed_in("audit", f"site-{layout}", prefix=prefix))  # the folder knows its layout
    refused(bare.signed_in("audit", f"site-{layout}", "--layout", "host", prefix=prefix), 2, f"rendered with --layout {layout}")
    well(bare.signed_in("audit", "wandb.tar", *chosen, "--values", "user.yaml", prefix=prefix))


def test_nodes_may_pull_by_another_name_that_is_not_reached_from_here(bare: Bare) -> None:
    chosen = ("--pull-registry", "pull.corp.example/nodes")
    well(bare.signed_in("push", "wandb.tar"))
    well(bare.signed_in("render", "wandb.tar", *chosen, "--values", "user.yaml", "--dir", "pulled"))
    folder = bare.bundle.parent / "pulled"
    assert bare.half.registry not in applied(folder)
    assert "pull.corp.example/nodes/docker.io/wandb/local" in applied(folder)
    assert "pull.corp.example" in (folder / "node-mirrors" / "openshift.yaml").read_text()
    done = well(bare.signed_in("audit", "pulled", *chosen))
    assert "pull.corp.example/nodes cannot be reached from here" in done.stderr
    told = refused(bare.signed_in("audit", "pulled"), 5)
    assert "not closed" in told
