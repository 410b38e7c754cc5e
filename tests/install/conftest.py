"""A site to install into: a real control plane, a real registry, two bundles of the demonstration's W&B, one newer.

The operator's ClusterRole has one name in a cluster, so there is one site at a time; the fixture leaves the cluster as it was.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airgap.demo.run import connected, upstream
from airgap.demo.site import spec
from airgap.demo.steps import MANIFEST
from airgap.values import dump_yaml, load_yaml
from tests.cluster.sweep import sweep
from tests.world.registries import RunningRegistry, find_binary, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.fixtures import Operator
    from tests.cluster.plane import Cluster

ROOT = Path(__file__).resolve().parents[2]
USER = ("robot", "throwaway")
NEW_SERVER, OLD_SERVER = "0.43.0", "0.42.0"
NEW_OPERATOR, OLD_OPERATOR = "1.4.0", "1.3.0"
COMMAND_LIMIT = 240


def token(expires: int) -> str:
    """A licence's shape, with nobody's signature."""
    parts = (json.dumps({"alg": "none"}), json.dumps({"exp": expires}), "x")
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


LICENCE = token(4_000_000_000)
VALUES: dict[str, Any] = {
    "global": {
        "host": "https://wandb.datacenter.example",
        "license": LICENCE,
        "email": {"smtp": {"host": "smtp.datacenter.example", "port": 587, "mailFrom": "wandb@datacenter.example"}},
    },
    "ingress": {"class": "nginx"},
}


@dataclass(frozen=True)
class Bundles:
    """Two bundles of the same images: ``new`` is what the channel says, ``old`` has both charts a version before."""

    old: Path
    new: Path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Mirror the demonstration's upstream twice."""
    find_binary("helm")
    folder = tmp_path_factory.mktemp("bundles")
    environ = connected(os.environ)
    with upstream(folder, environ):
        manifest: Any = load_yaml((folder / MANIFEST).read_bytes(), MANIFEST)
        answer = spec()
        (folder / "old.json").write_text(json.dumps({**answer, "chart": {**answer["chart"], "version": OLD_SERVER}}))
        charts = [{**it, "version": OLD_OPERATOR} if it["name"] == "operator" else it for it in manifest["charts"]]
        (folder / "old.yaml").write_text(dump_yaml({**manifest, "charts": charts, "channel": {"path": "old.json"}}))
        (folder / "values.yaml").write_text(dump_yaml(VALUES))
        for name, source in (("new", MANIFEST), ("old", "old.yaml")):
            command = ("mirror", f"{name}.tar", "-f", source, "--values", "values.yaml")
            done = subprocess.run(
                [sys.executable, "-m", "airgap", *command],
                cwd=folder,
                env=environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_LIMIT,
            )
            assert done.returncode == 0, done.stderr
    return Bundles(folder / "old.tar", folder / "new.tar")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry that wants a user."""
    with start_docker_registry(tmp_path_factory.mktemp("registry"), htpasswd=dict([USER])) as running:
        yield running


@dataclass
class Site:
    """What a user of airgap has: a kubeconfig, a registry, values; ``namespace`` is for operator and server."""

    cluster: Cluster
    registry: RunningRegistry
    folder: Path
    namespace: str
    prefix: str = "mirror"
    kubeconfig: Path | None = None
    values: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(VALUES)))

    @property
    def location(self) -> str:
        return f"{self.registry.host}/{self.prefix}"

    def command(self, verb: str, bundle: Path, *more: str) -> list[str]:
        (self.folder / "values.yaml").write_text(dump_yaml(self.values))
        values = ("--values", str(self.folder / "values.yaml"), "-n", self.namespace)
        registry = ("--registry", self.location, "--plain-http")
        reached = (f"--kubeconfig={self.kubeconfig or self.cluster.kubeconfig}", f"--kubectl={self.cluster.bin / 'kubectl'}")
        return [sys.executable, "-m", "airgap", verb, str(bundle), *registry, *values, *reached, *more]

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        secret = {"AIRGAP_USERNAME": USER[0], "AIRGAP_PASSWORD": USER[1]}
        cache = {"XDG_CACHE_HOME": str(self.folder.parent / "cache"), "HOME": str(self.folder)}
        return {**kept, **secret, **cache, "PYTHONPATH": str(ROOT), "AIRGAP_HELM": find_binary("helm")}

    @property
    def admin(self) -> dict[str, str]:
        """The environment of somebody who types kubectl."""
        return {"KUBECONFIG": str(self.cluster.kubeconfig)}

    def run(self, verb: str, bundle: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, bundle, *more),
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_LIMIT,
        )

    def install(self, bundle: Path, *more: str) -> dict[str, Any]:
        """Install and return what it says."""
        done = self.run("install", bundle, "--timeout", "60s", "-o", "json", *more)
        assert done.returncode == 0, done.stderr[-4000:]
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def refused(self, bundle: Path, *more: str, code: int = 6, verb: str = "install") -> str:
        """Run and return what it says on standard error; it must fail with ``code``, in sentences."""
        done = self.run(verb, bundle, *more)
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
        assert "Traceback" not in done.stderr
        return done.stderr

    def changes(self, answer: dict[str, Any]) -> dict[str, str]:
        """What was not already right."""
        return {it["object"]: it["what"] for it in answer["objects"] if it["what"] != "already right"}

    def resource(self) -> dict[str, Any]:
        return self.cluster.get("weightsandbiases", "wandb", self.namespace)

    def receipt(self, number: int) -> dict[str, Any]:
        found = self.cluster.get("configmap", f"airgap-receipt-{number}", self.namespace)
        facts: dict[str, Any] = json.loads(found["data"]["receipt.json"]) if found else {}
        return facts

    def revisions(self, release: str) -> list[str]:
        """The chart of each revision of a helm release, oldest first."""
        helm = (find_binary("helm"), "--kubeconfig", str(self.cluster.kubeconfig), "-n", self.namespace)
        done = subprocess.run([*helm, "history", release, "-o", "json"], capture_output=True, text=True, check=False)
        return [it["chart"] for it in json.loads(done.stdout)] if done.returncode == 0 else []

    def versions(self) -> dict[str, str]:
        """resourceVersion of everything that an install applies."""
        kinds = "secrets,configmaps,serviceaccounts,deployments,weightsandbiases,clusterroles,customresourcedefinitions"
        found = json.loads(self.cluster.kubectl("get", kinds, "-n", self.namespace, "-o", "json"))["items"]
        named = {f"{it['kind']}/{it['metadata']['name']}": it["metadata"]["resourceVersion"] for it in found}
        foreign = ("kube-root-ca", "system:", "Deployment/wandb-weave")  # the last is scaled by its autoscaler
        return {key: version for key, version in named.items() if not any(name in key for name in foreign)}

    def remove(self) -> None:
        """Take everything away again, whatever state it is in: what is in the namespace goes with it, the rest is swept."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")
        sweep(self.cluster)


def charts_of(site: Site) -> dict[str, str]:
    """What lies in the ConfigMap of charts, base64 by key."""
    found: dict[str, str] = site.cluster.get("configmap", "wandb-charts", site.namespace).get("binaryData") or {}
    return found


def replace_chart(site: Site, key: str, content: str) -> None:
    """Put something else (base64) under the path of a chart, as somebody does by hand who wants an upgrade."""
    patch = json.dumps({"binaryData": {key: content}})
    site.cluster.kubectl("patch", "configmap", "wandb-charts", "-n", site.namespace, "--type=merge", "-p", patch)


_NUMBERS = iter(range(10**6))


@pytest.fixture
def site(cluster: Cluster, operator: Operator, registry: RunningRegistry, tmp_path: Path) -> Iterator[Site]:
    """An empty cluster with whatever plays the operator's container, and a registry; emptied again afterwards."""
    folder = tmp_path / "home"
    folder.mkdir()
    operator.ensure()
    sweep(cluster)
    made = Site(cluster, registry, folder, f"wandb-{next(_NUMBERS)}")
    yield made
    made.remove()
