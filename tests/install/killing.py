"""``kill -9`` at a moment of an install, and what stands afterwards in a form that two sites can be compared in."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import os
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from tests.cluster.plane import Cluster
    from tests.install.conftest import Site

LIMIT = 240.0
KINDS = (
    *("configmaps", "secrets", "serviceaccounts", "services", "persistentvolumeclaims", "leases.coordination.k8s.io"),
    *("deployments.apps", "statefulsets.apps", "daemonsets.apps", "ingresses.networking.k8s.io"),
    *("networkpolicies.networking.k8s.io", "horizontalpodautoscalers.autoscaling", "cronjobs.batch"),
    *("roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "weightsandbiases.v1.apps.wandb.com"),
)
CLUSTER_KINDS = ("clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io")
_OF_ITS_OWN = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
"""Metadata that tells of the way, not of the result."""
_REVISION = "deployment.kubernetes.io/revision"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


@dataclass(frozen=True)
class Kill:
    """One kill: after how many seconds, of the whole process group or of airgap alone, in which stage, and the run after it."""

    after: float
    group: bool
    code: int = 0
    said: str = ""
    again: float = 0.0

    @property
    def stage(self) -> str:
        """The last stage that was begun, and the last line."""
        stages = re.findall(r"\[\d/\d\] (\w+)", self.said)
        lines = self.said.strip().splitlines()
        return f"{stages[-1] if stages else 'before the first stage'} ({lines[-1].strip()[:70] if lines else 'nothing said'})"

    def __str__(self) -> str:
        whom = "airgap, helm and kubectl" if self.group else "airgap alone"
        ended = "killed" if self.code == -signal.SIGKILL else f"ended with {self.code}"
        return f"{whom} {ended} after {self.after:.1f} s in {self.stage}; the same command took {self.again:.1f} s"


def kill(site: Site, bundle: Path, planned: Kill) -> Kill:
    """Run install and kill it at the planned moment; return what happened."""
    with (site.folder / "said").open("wb") as said:
        command = site.command("install", bundle, "--timeout", "120s")
        process = subprocess.Popen(
            command,
            env=site.environ,
            cwd=site.folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    timer = threading.Timer(planned.after, _strike, (process, planned.group))
    timer.start()
    try:
        code = process.wait(LIMIT)
    finally:
        timer.cancel()
        timer.join()
    return replace(planned, code=code, said=(site.folder / "said").read_text(errors="replace"))


def _strike(process: subprocess.Popen[bytes], group: bool) -> None:
    with suppress(ProcessLookupError):
        if group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGKILL)


def timed(site: Site, bundle: Path) -> float:
    """Install undisturbed, and return the seconds that it took."""
    began = time.monotonic()
    site.install(bundle, "--timeout", "120s")
    return time.monotonic() - began


def moments(random: Random, count: int, whole: float) -> list[Kill]:
    """Plan kills: one in each of ``count`` equal parts of an undisturbed run; every other one of all processes."""
    part = whole / count
    return [Kill(max(0.2, part * (number + random.random())), bool(number % 2)) for number in range(count)]


def outcome(site: Site) -> dict[str, Any]:
    """Return what an install has made: every object without its history, the receipts, and both releases."""
    cluster = site.cluster
    items = [it for kind in KINDS for it in cluster.objects(kind, site.namespace)]
    items += [it for kind in CLUSTER_KINDS for it in cluster.objects(kind, selector="app.kubernetes.io/managed-by=Helm")]
    items += [cluster.get("crd", "weightsandbiases.apps.wandb.com")]
    scaled = {it["spec"]["scaleTargetRef"]["name"] for it in items if it["kind"] == "HorizontalPodAutoscaler"}
    objects = {f"{it['kind']}/{it['metadata']['name']}": _bare(it) for it in items if not _is_record(it)}
    for name in scaled:
        del objects[f"Deployment/{name}"]["spec"]["replicas"]
    text = json.dumps(objects, sort_keys=True).replace(site.namespace, "NAMESPACE").replace(site.prefix, "PREFIX")
    found: dict[str, Any] = json.loads(_TIME.sub("TIME", text))
    return {**found, "releases": {name: release(site, name) for name in ("operator", "wandb")}}


def release(site: Site, name: str) -> str:
    """Return the chart of the newest revision, which must be deployed, and no other in the middle of anything."""
    helm = (find_binary("helm"), "--kubeconfig", str(site.cluster.kubeconfig), "-n", site.namespace)
    done = site.cluster.run(*helm, "history", name, "-o", "json")
    assert done.returncode == 0, done.stderr
    history = [(it["revision"], it["status"], it["chart"]) for it in json.loads(done.stdout)]
    assert {status for _, status, _ in history[:-1]} <= {"superseded", "failed"}, history
    assert history[-1][1] == "deployed", history
    return str(history[-1][2])


def make_pending(cluster: Cluster, namespace: str, name: str, status: str) -> None:
    """Turn the record of a release's first revision into what a helm leaves that is killed in the middle."""
    record = f"sh.helm.release.v1.{name}.v1"
    packed = base64.b64decode(cluster.get("secret", record, namespace)["data"]["release"])
    release = json.loads(gzip.decompress(base64.b64decode(packed)))
    release["info"]["status"] = status
    again = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    change = {"data": {"release": again}, "metadata": {"labels": {"status": status}}}
    cluster.kubectl(
        "patch", "secret", record, "-n", namespace, "--type=merge", "--patch-file=/dev/stdin", text=json.dumps(change)
    )


def _is_record(item: dict[str, Any]) -> bool:
    """Whether it is helm's record, of which there are as many as there were tries, or what every namespace has."""
    return item.get("type") == "helm.sh/release.v1" or item["metadata"]["name"] == "kube-root-ca.crt"


def _bare(item: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in item["metadata"].items() if key not in _OF_ITS_OWN}
    owners = [{key: value for key, value in it.items() if key != "uid"} for it in metadata.pop("ownerReferences", [])]
    annotations = {key: text for key, text in metadata.pop("annotations", {}).items() if key != _REVISION}
    kept = {key: value for key, value in item.items() if key not in ("metadata", "status", "data")}
    if item["kind"] == "Service":
        kept["spec"] = {key: value for key, value in item["spec"].items() if key not in ("clusterIP", "clusterIPs")}
    data = {key: _plain(text) if item["kind"] == "Secret" else _facts(text) for key, text in (item.get("data") or {}).items()}
    return {**kept, "metadata": {**metadata, "annotations": annotations, "owners": owners}, "data": data}


def _plain(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return text


def _facts(text: str) -> Any:
    """Return a ConfigMap's text; of a receipt not its identity, a digest of what is compared as it stands."""
    try:
        facts = json.loads(text)
    except ValueError:
        return text
    return {key: value for key, value in facts.items() if key != "identity"} if isinstance(facts, dict) else facts
