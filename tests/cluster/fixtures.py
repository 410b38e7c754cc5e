"""The cluster and the operator as fixtures.

::

    def test_something(cluster, operator, namespace):
        cluster.kubectl("create", "configmap", "x", "-n", namespace)

``cluster``: a control plane with one node, made once per worker. ``operator``: plays the container of whatever W&B operator is
installed in it (see kubelet.py); nothing is, unless ``operator.install`` or the test's own doing puts its chart there.
A test leaves the cluster as it found it: its namespaces are deleted, the operator's release with them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.plane import Cluster
from tests.cluster.sweep import sweep
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "airgap" / "demo" / "data"
OPERATOR_NAMESPACE = "wandb-operator"
CHANNEL_RETRY = 0.1
"""Seconds between two tries at the channel; 2 in reality."""


@dataclass
class Operator(AbstractContextManager["Operator"]):
    """The process that plays the operator's container; everything it did stands in ``log``."""

    cluster: Cluster
    folder: Path
    mount_delay: float = 0.0
    hook: str = "30s"
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "operator.log").read_text(errors="replace")

    def start(self) -> Operator:
        """Start it; it waits for an operator to be installed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "server": self.cluster.server,
            "ca_file": str(self.cluster.ca_file),
            "token": "nodes-token",
            "retry": CHANNEL_RETRY,
            "hook": self.hook,
            "mount_delay": self.mount_delay,
        }
        (self.folder / "operator.json").write_text(json.dumps(settings))
        argv: list[str] = [sys.executable, "-m", "tests.cluster.controller", str(self.folder)]
        if setpriv := shutil.which("setpriv"):
            argv = [setpriv, "--pdeathsig", "KILL", "--", *argv]
        if self.cluster.namespace:
            argv = self.cluster.namespace.command(argv, self.folder)
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder)}
        with (self.folder / "operator.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder)
        return self

    def ensure(self) -> None:
        """Start it again if it is not there: a test ended it and went wrong, or it broke."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    @contextmanager
    def playing(self, **differently: Any) -> Iterator[None]:
        """Let it be played differently until the end of the block (``mount_delay``, ``hook``)."""
        before = {name: getattr(self, name) for name in differently}
        try:
            self._again(differently)
            yield
        finally:
            self._again(before)

    def _again(self, settings: Mapping[str, Any]) -> None:
        self.kill()
        for name, value in settings.items():
            setattr(self, name, value)
        self.start()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __exit__(self, *_: object) -> None:
        self.kill()

    @contextmanager
    def install(self, namespace: str = OPERATOR_NAMESPACE, **values: Any) -> Iterator[None]:
        """Have the demo's operator chart in the cluster until the end of the block."""
        helm = (find_binary("helm"), "--kubeconfig", self.cluster.kubeconfig, "--namespace", namespace)
        sweep(self.cluster)
        text = json.dumps({"airgapped": True, **values})
        chart = DEMO / "charts" / "operator"
        install = (
            "upgrade",
            "--install",
            "operator",
            chart,
            "--create-namespace",
            "--values",
            "-",
            "--server-side=false",
            "--wait",
        )
        done = self.cluster.run(*helm, *install, text=text)
        assert done.returncode == 0, done.stderr
        try:
            yield
        finally:
            done = self.cluster.run(*helm, "uninstall", "operator", "--wait")
            self.cluster.kubectl("delete", "namespace", namespace, "--wait=false")
            sweep(self.cluster)
            assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with one node."""
    with Cluster.start(tmp_path_factory.mktemp("cluster") / "plane") as made:
        made.add_node()
        yield made


@pytest.fixture(scope="session")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """What plays the container of an installed operator."""
    find_binary("helm")
    with Operator(cluster, tmp_path_factory.mktemp("operator")).start() as made:
        yield made


_NUMBERS = iter(range(10**6))


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{next(_NUMBERS)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
