"""A real kubelet with a real containerd and no way out: pods of a mirrored chart, pulled from the private registry.

Once by the references that render wrote into the chart's own objects, once by the names of outside and the node mirror files.
The images are real programs: crane's registry with the libraries that it is linked against, which is a web server as well.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airgap.demo.run import connected, upstream
from airgap.demo.steps import MANIFEST
from airgap.values import dump_yaml, load_yaml, load_yaml_all
from tests.cluster.node import NAME, Node, kubelet
from tests.cluster.plane import Cluster, free_ports
from tests.world.fixtures import DEMO, Inside, build_inside
from tests.world.images import TYPES, Drawn, Pusher, digest
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.netns, pytest.mark.registry, pytest.mark.slow]

CONSOLE, PROMETHEUS = "docker.io/wandb/console", "quay.io/prometheus/prometheus"
PAUSE = "registry.k8s.io/pause"
PORT, QUIET_PORT = 8082, 61_999
"""Where the console listens, and where the same program does when it is the pause image: they share a pod's addresses
and its user, who may open no low port."""
NAMESPACE = "wandb"
DOCKER_CONFIG = ".dockerconfigjson"
WAIT = 180.0


def program() -> bytes:
    """A tar with a web server and all that it needs: no image with a base could be pulled here."""
    crane = Path(find_binary("crane")).resolve()
    linked = subprocess.run(["ldd", crane], capture_output=True, text=True, check=False).stdout
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted({it.strip() for it in re.findall(r"(/\S+\.so\S*)", linked)}):
            tar.add(Path(path).resolve(), path.lstrip("/"))
        tar.add(crane, "crane")
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(tmp)
    return out.getvalue()


def draw(layer: bytes, name: str, tag: str) -> Drawn:
    """An image of the program; its label makes it another one than any other."""
    drawn = Drawn()
    _, manifest_type, config_type, layer_type = TYPES["oci"]
    packed = drawn.blob(layer_type, gzip.compress(layer, compresslevel=1, mtime=0))
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {
            "Entrypoint": ["/crane", "registry", "serve", "--address", f"0.0.0.0:{QUIET_PORT if name == PAUSE else PORT}"],
            "Labels": {"name": f"{name}:{tag}"},
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    made = drawn.manifest(manifest_type, {"config": drawn.blob(config_type, json.dumps(config).encode()), "layers": [packed]})
    drawn.tags[tag] = made["digest"]
    return drawn


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration, mirrored from an upstream in which three images are programs."""
    kubelet()  # skips before anything is built
    folder = tmp_path_factory.mktemp("runnable")
    environ = connected(os.environ)
    layer = program()
    tags = {str(it["name"]): str(it["tags"][0]) for it in json.loads((DEMO / "images.json").read_text())["images"]}
    with upstream(folder, environ):
        manifest: Any = load_yaml((folder / MANIFEST).read_bytes(), MANIFEST)
        played = manifest["registries"]["quay.io"]["mirror"].partition("/")[0]
        manifest["registries"]["registry.k8s.io"] = {"mirror": f"{played}/registry.k8s.io", "plainHTTP": True}
        manifest["images"] = [*manifest["images"], f"{PAUSE}:3.9"]
        for name, tag in ((CONSOLE, tags[CONSOLE]), (PROMETHEUS, tags[PROMETHEUS]), (PAUSE, "3.9")):
            Pusher(f"http://{played}").push(draw(layer, name, tag), name)
        (folder / "node.yaml").write_text(dump_yaml(manifest))
        command = [sys.executable, "-m", "airgap", "mirror", "node.tar", "-f", "node.yaml"]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stderr
    return folder / "node.tar"


@dataclass(frozen=True)
class Place:
    """A site with one real node; ``site`` is what render wrote, ``digests`` what the lock pins."""

    inside: Inside
    cluster: Cluster
    node: Node
    site: Path
    certs: Path
    digests: dict[str, str]

    def documents(self) -> list[dict[str, Any]]:
        """Every object of the rendered folder."""
        files = sorted(it for it in self.site.rglob("*.yaml") if "bundle" not in it.relative_to(self.site).parts)
        found = [document for it in files for document in load_yaml_all(it.read_bytes(), str(it))]
        return [it for it in found if isinstance(it, dict) and it.get("kind")]

    def pod(self, name: str) -> dict[str, Any]:
        """Wait until a pod runs (its name begins so), and return it."""
        try:
            self.cluster.until(lambda: self._phase(name) == "Running", f"{name} runs", WAIT)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._told(name)}") from error
        return self._pods(name)[0]

    def _pods(self, name: str) -> list[dict[str, Any]]:
        return [it for it in self.cluster.objects("pods", NAMESPACE) if it["metadata"]["name"].startswith(name)]

    def _phase(self, name: str) -> str:
        statuses = [status for it in self._pods(name) for status in it["status"].get("containerStatuses", ())]
        return "Running" if statuses and all(it.get("ready") for it in statuses) else ""

    def _told(self, name: str) -> object:
        events = self.cluster.kubectl("get", "events", "-n", NAMESPACE)
        return [it["status"].get("containerStatuses") for it in self._pods(name)], events

    def pulled(self, repository: str) -> int:
        """How often the private registry has handed out a manifest of a repository."""
        log = (self.inside.folder / "registry-0" / "registry.log").read_text(errors="replace")
        return len(re.findall(rf'"(?:GET|HEAD) /v2/{re.escape(repository)}/manifests/[^"]*" 200 [^\n]*containerd', log))


@pytest.fixture(scope="module")
def place(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Push, render, and a node that has the mirror files; nothing here has a route."""
    folder = tmp_path_factory.mktemp("place")
    with build_inside(folder / "inside") as inside:
        host = ("--registry", f"{inside.registry}/{NAMESPACE}", "--ca-file", inside.ca_file)
        user = ("--username", inside.username, "--password-stdin")
        password = inside.password + "\n"
        ran(inside.run("airgap", "push", bundle, *host, *user, text=password))
        values = DEMO / "values.yaml"
        told = inside.run(
            *("airgap", "render", bundle, *host, *user, "--values", values, "--dir", folder / "site"),
            *("--node-ca-file", inside.ca_file),
            env={"AIRGAP_HELM": find_binary("helm")},
            text=password,
        )
        ran(told)
        shown = json.loads(ran(inside.run("airgap", "inspect", bundle, "-o", "json")).stdout)
        digests = {it["reference"]: it["digest"] for it in shown["images"]}
        certs = next(folder.glob("site/**/containerd"))
        sandbox = f"{inside.registry}/{NAMESPACE}/{PAUSE}:3.9"
        with (
            Cluster.start(folder / "plane", inside.namespace) as cluster,
            Node.start(cluster, certs=certs, sandbox=sandbox, user=(inside.username, inside.password)) as node,
        ):
            made = Place(inside, cluster, node, folder / "site", certs, digests)
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            cluster.apply(*(it for it in made.documents() if it["kind"] == "Secret"))
            cluster.until(lambda: cluster.get("serviceaccount", "default", NAMESPACE), "the namespace has its account")
            yield made


def ran(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: {done.stdout}{done.stderr}"
    return done


def console(place: Place) -> list[dict[str, Any]]:
    """What helm makes of the mirrored chart with the rewritten values, of it the console and the ConfigMaps that pods mount."""
    resource = next(it for it in place.documents() if it["kind"] == "WeightsAndBiases")
    chart = next(place.site.glob("bundle/operator-wandb-*.tgz"))
    helm = (find_binary("helm"), "template", "wandb", chart, "-n", NAMESPACE, "--kube-version", "1.34.4", "--values", "-")
    done = place.inside.run(*helm, text=json.dumps(resource["spec"]["values"]))
    made: list[Any] = [it for it in load_yaml_all(ran(done).stdout, "helm") if isinstance(it, dict)]
    wanted = [it for it in made if it["kind"] == "ConfigMap" or it["metadata"]["name"] == "wandb-console"]
    return [{**it, "metadata": {"namespace": NAMESPACE, **it["metadata"]}} for it in wanted]


def test_pods_of_the_rewritten_chart_are_pulled_from_the_private_registry(place: Place) -> None:
    place.cluster.apply(*console(place))
    pod = place.pod("wandb-console")
    assert pod["spec"]["nodeName"] == NAME
    (container,), (status,) = pod["spec"]["containers"], pod["status"]["containerStatuses"]
    wanted = next(it for name, it in place.digests.items() if name.startswith(f"{CONSOLE}:"))
    assert container["image"].startswith(f"{place.inside.registry}/{NAMESPACE}/{CONSOLE}")
    assert status["imageID"].endswith(f"@{wanted}")
    assert place.pulled(f"{NAMESPACE}/{CONSOLE}")


def test_names_of_outside_lead_inside_by_the_node_mirror_files(place: Place) -> None:
    """A kubelet looks for credentials by the name in the pod: the pull secret has the registry's under the outside name too."""
    reference = next(name for name in place.digests if name.startswith(f"{PROMETHEUS}:"))
    before = place.pulled(f"{NAMESPACE}/{PROMETHEUS}")
    place.cluster.apply(pod("unnamed", reference))
    place.cluster.until(lambda: waiting(place, "unnamed") in {"ErrImagePull", "ImagePullBackOff"}, "it is refused", WAIT)
    known = json.loads(base64.b64decode(place.cluster.get("secret", "airgap-registry", NAMESPACE)["data"][DOCKER_CONFIG]))
    auths = {"auths": {PROMETHEUS.partition("/")[0]: known["auths"][place.inside.registry]}}
    secret = {"type": "kubernetes.io/dockerconfigjson", "stringData": {DOCKER_CONFIG: json.dumps(auths)}}
    metadata = {"name": "outside-names", "namespace": NAMESPACE}
    place.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **secret})
    place.cluster.apply(pod("by-mirror", reference, secret="outside-names"))
    (status,) = place.pod("by-mirror")["status"]["containerStatuses"]
    assert status["image"] == reference
    assert status["imageID"] == f"{PROMETHEUS}@{place.digests[reference]}"
    assert place.pulled(f"{NAMESPACE}/{PROMETHEUS}") > before


def test_without_the_mirror_files_the_same_name_leads_nowhere(place: Place) -> None:
    reference = next(name for name in place.digests if name.startswith(f"{CONSOLE}:"))
    with without(place.certs / "docker.io"), without(place.certs / "_default"):
        place.cluster.apply(pod("astray", reference))
        place.cluster.until(lambda: waiting(place, "astray") in {"ErrImagePull", "ImagePullBackOff"}, "it is not found", WAIT)


def test_without_the_pull_secret_the_registry_lets_nobody_in(place: Place) -> None:
    reference = next(name for name in place.digests if name.startswith("docker.io/wandb/weave-python:"))
    inside = f"{place.inside.registry}/{NAMESPACE}/{reference}"
    place.cluster.apply(pod("stranger", inside, secret=""))
    place.cluster.until(lambda: waiting(place, "stranger") in {"ErrImagePull", "ImagePullBackOff"}, "it is refused", WAIT)
    told = place.cluster.kubectl("get", "events", "-n", NAMESPACE, "--field-selector", "involvedObject.name=stranger")
    assert "authorization failed" in told or "401" in told


def test_the_console_is_reached_through_a_port_that_is_forwarded(place: Place) -> None:
    objects = place.documents()
    place.cluster.apply(*(it for it in objects if it["kind"] == "CustomResourceDefinition"))
    place.cluster.until(lambda: place.cluster.kubectl("get", "weightsandbiases", "-A") is not None, "the kind is known")
    place.cluster.apply(*(it for it in objects if it["kind"] == "WeightsAndBiases"))
    place.cluster.apply(*console(place))
    place.pod("wandb-console")
    (port,) = free_ports(1)
    reached = (f"--kubeconfig={place.cluster.kubeconfig}", f"--kubectl={place.cluster.bin / 'kubectl'}")
    command = (sys.executable, "-m", "airgap", "console", "--port-forward", "--port", str(port), *reached)
    with (place.site.parent / "console.log").open("w") as log:
        forward = subprocess.Popen(
            place.inside.namespace.command(command), env={**place.inside.environ}, stdout=log, stderr=log
        )
    try:
        look = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/v2/")
        place.cluster.until(lambda: place.inside.run(*look).stdout == "200", "the console answers", WAIT)
    finally:
        forward.send_signal(signal.SIGINT)
        forward.wait(30)


def pod(name: str, image: str, secret: str = "airgap-registry") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "only", "image": image}], "terminationGracePeriodSeconds": 0}
    if secret:
        spec["imagePullSecrets"] = [{"name": secret}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def waiting(place: Place, name: str) -> str:
    statuses = place.cluster.get("pod", name, NAMESPACE)["status"].get("containerStatuses", ())
    return str(next((it["state"].get("waiting", {}).get("reason", "") for it in statuses), ""))


@contextmanager
def without(folder: Path) -> Iterator[None]:
    """Take a folder away for the length of a block."""
    away = folder.with_name(f"{folder.name}.away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)
