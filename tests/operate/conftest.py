"""A site as for an install, and one that stands for the tests that only look."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.sweep import sweep
from tests.install.conftest import Site, bundles, registry, site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.fixtures import Operator
    from tests.cluster.plane import Cluster
    from tests.install.conftest import Bundles
    from tests.world.registries import RunningRegistry

__all__ = ["bundles", "registry", "site"]

LIMIT = 240
_NUMBERS = iter(range(10**6))


def airgap(site: Site, verb: str, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a verb that looks after the site."""
    reached = (f"--kubeconfig={site.kubeconfig or site.cluster.kubeconfig}", f"--kubectl={site.cluster.bin / 'kubectl'}")
    command = [sys.executable, "-m", "airgap", verb, "-n", site.namespace, *reached, *more]
    return subprocess.run(
        command, env={**site.environ, **env}, cwd=site.folder, capture_output=True, text=True, check=False, timeout=LIMIT
    )


def digests(site: Site) -> dict[str, str]:
    """What a node says of each image: the digest that the registry has."""
    images = site.receipt(1)["images"]
    return {name: f"{name.partition('@')[0].rpartition(':')[0]}@{digest}" for name, digest in images.items()}


@pytest.fixture(scope="module")
def standing(
    cluster: Cluster, operator: Operator, registry: RunningRegistry, bundles: Bundles, tmp_path_factory: Any
) -> Iterator[Site]:
    """A site on which the new bundle was installed; whoever changes something changes it back."""
    folder = tmp_path_factory.mktemp("standing") / "home"
    folder.mkdir()
    operator.ensure()
    sweep(cluster)
    made = Site(cluster, registry, folder, f"wandb-standing-{next(_NUMBERS)}")
    try:
        made.install(bundles.new)
        made.bundle = bundles.new  # type: ignore[attr-defined]
        yield made
    finally:
        made.remove()
