"""Releases: helm as the installer of a chart, against a cluster.

Invariants: the same limits and bare settings as in ``tools`` (no HELM_* of the user's, no plugins), but the user's own
environment for everything else, because kubeconfigs call programs for credentials. Helm 4 gets ``--server-side=false``: its own
default fails after an HPA has scaled what the chart sets (cluster-and-helm.md section 3). CRDs are not helm's business here:
they are applied before. Nothing is waited for: whoever calls looks at the cluster itself.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError
from airgap.kube.running import insist, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.chart import Chart
    from airgap.kube import Kubectl
    from airgap.tools import Helm

PENDING = ("pending-install", "pending-upgrade", "pending-rollback", "uninstalling")
"""States that a helm leaves behind when it is killed, and that keep the next one from starting."""
ORPHAN_PATIENCE = 15.0
"""Seconds that somebody else's helm gets to finish before a pending record counts as left behind; airgap's own takes one."""
HELM_LIMIT = 180.0
"""Seconds for one run of helm that waits for nothing."""
HISTORY = 10


@dataclass(frozen=True)
class Release:
    """The newest revision of a release, as ``helm history`` tells it: ``chart`` is name-version."""

    name: str
    namespace: str
    revision: int
    status: str
    chart: str
    description: str = ""


@dataclass(frozen=True)
class HelmReleases:
    """Helm, pointed at the cluster that ``kubectl`` is pointed at."""

    helm: Helm
    kubectl: Kubectl

    def newest(self, name: str, namespace: str) -> Release | None:
        """Return the newest revision of a release, or None."""
        revisions = self.history(name, namespace)
        return revisions[-1] if revisions else None

    def history(self, name: str, namespace: str) -> list[Release]:
        """Return all revisions of a release, oldest first."""
        try:
            text = self._run("history", name, "--max", "256", "--output", "json", namespace=namespace, doing=f"history {name}")
        except ClusterError as error:
            if "release: not found" in error.message:
                return []
            raise
        return [
            Release(name, namespace, int(it["revision"]), str(it["status"]), str(it["chart"]), str(it.get("description") or ""))
            for it in json.loads(text)
        ]

    def values(self, name: str, namespace: str) -> dict[str, Any]:
        """Return the values that a release was installed with."""
        text = self._run("get", "values", name, "--output", "json", namespace=namespace, doing=f"get values {name}")
        values = json.loads(text)
        return values if isinstance(values, dict) else {}

    def manifest(self, name: str, namespace: str) -> str:
        """Return what the newest revision rendered."""
        return self._run("get", "manifest", name, namespace=namespace, doing=f"get manifest {name}")

    def upgrade_install(self, name: str, chart: Chart, namespace: str, values: Mapping[str, Any]) -> Release:
        """Install or upgrade a release and return it; a record that a killed helm left is put away first."""
        self.put_away_pending(name, namespace)
        with tempfile.TemporaryDirectory(prefix="airgap-helm-") as scratch:
            file = Path(scratch, "values.json")
            file.touch(mode=0o600)
            file.write_text(json.dumps(values))
            arguments = ["upgrade", name, str(chart.write(Path(scratch)).absolute()), "--install", "--values", str(file)]
            arguments += ["--skip-crds", "--history-max", str(HISTORY), "--output", "json", *self._client_side()]
            self._run(*arguments, namespace=namespace, doing=f"install {chart.label} as {name}", change=True)
        release = self.newest(name, namespace)
        if release is None:  # pragma: no cover - helm has just said that it is there
            raise ClusterError(f"helm release {namespace}/{name} has vanished")
        return release

    def rollback(self, name: str, namespace: str, revision: int) -> None:
        """Return a release to an older revision."""
        self.put_away_pending(name, namespace)
        arguments = ["rollback", name, str(revision), "--history-max", str(HISTORY), *self._client_side()]
        self._run(*arguments, namespace=namespace, doing=f"roll {name} back", change=True)

    def uninstall(self, name: str, namespace: str) -> None:
        """Remove a release if it is there; what its chart marks as to be kept stays."""
        arguments = ["uninstall", name, "--ignore-not-found"]
        self._run(*arguments, namespace=namespace, doing=f"uninstall {name}", change=True)

    def put_away_pending(self, name: str, namespace: str, patience: float = ORPHAN_PATIENCE) -> bool:
        """Delete the record of an operation whose helm was killed; whether there was one.

        The objects stay as they are: they bear the release's name, so the next operation takes them over. A helm that still
        runs gets ``patience`` seconds to end first.
        """
        deadline = time.monotonic() + patience
        while True:
            release = self.newest(name, namespace)
            if release is None or release.status not in PENDING:
                return False
            if time.monotonic() >= deadline:
                self.kubectl.delete("Secret", f"sh.helm.release.v1.{name}.v{release.revision}", namespace)
                return True
            time.sleep(1)

    def _client_side(self) -> list[str]:
        return ["--server-side=false"] if int(self.helm.version.partition(".")[0]) >= 4 else []  # noqa: PLR2004 - Helm 4

    def _run(self, *arguments: str, namespace: str, doing: str, change: bool = False) -> str:
        with tempfile.TemporaryDirectory(prefix="airgap-helm-") as scratch:
            command = [str(self.helm.path), *arguments, "--namespace", namespace, *self._cluster()]
            environ = _environment(Path(scratch))
            told = f"helm {doing}"
            pauses = () if change else self.kubectl.pauses  # a change that broke off is looked at before it is tried again
            return insist(lambda: run(command, doing=told, limit=HELM_LIMIT, environ=environ), told, pauses)

    def _cluster(self) -> list[str]:
        return [
            *(["--kubeconfig", self.kubectl.kubeconfig] if self.kubectl.kubeconfig else []),
            *(["--kube-context", self.kubectl.context] if self.kubectl.context else []),
        ]


def _environment(scratch: Path) -> dict[str, str]:
    """Return the user's environment without helm's settings; helm's folders are in ``scratch`` (F55)."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HELM_")}
    folders = {f"HELM_{name}_HOME": str(scratch / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    return {**kept, **folders, "HELM_NO_PLUGINS": "1", "HELM_PLUGINS": str(scratch / "plugins"), "HELM_DRIVER": "secret"}
