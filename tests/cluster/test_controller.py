"""The small operator does what the real one was seen to do (upstream's 1.22.0 on the same control plane)."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.fixtures import DEMO, OPERATOR_NAMESPACE, Operator
from tests.world.registries import find_binary, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.plane import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.helm]

PATH = "/charts/operator-wandb"


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's chart in two versions, packed."""
    folder = tmp_path_factory.mktemp("charts")
    for version in ("0.43.0", "0.44.0"):
        command = [find_binary("helm"), "package", DEMO / "charts" / "operator-wandb", "--version", version, "-d", folder]
        subprocess.run([*map(str, command)], check=True, capture_output=True)
    return {path.stem.rsplit("-", 1)[1]: path for path in folder.glob("*.tgz")}


@pytest.fixture(scope="module")
def installed(operator: Operator) -> Iterator[Operator]:
    """The operator, installed as for an air gap."""
    with operator.install():
        yield operator


@dataclass
class Site:
    """A custom resource ``wandb`` in a namespace of its own."""

    cluster: Cluster
    namespace: str
    operator: Operator
    values: dict[str, Any] = field(default_factory=dict)

    def apply(self, chart: dict[str, Any] | None, **values: Any) -> None:
        metadata = {"name": "wandb", "namespace": self.namespace}
        spec = {"values": values, **({"chart": chart} if chart else {})}
        before = self.log
        self.cluster.apply({"apiVersion": "apps.wandb.com/v1", "kind": "WeightsAndBiases", "metadata": metadata, "spec": spec})
        self.cluster.until(lambda: "=== Reconciling" in self.log[len(before) :], "the operator looks at it")

    def charts(self, **files: Path) -> None:
        """Put archives into the ConfigMap that the operator sees at /charts, as base64 texts."""
        data = {name.replace("_", "-"): base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
        self._charts(data=data)

    def _charts(self, **content: Any) -> None:
        metadata = {"name": "wandb-charts", "namespace": OPERATOR_NAMESPACE}
        self.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **content})

    def secret(self, part: str) -> dict[str, Any]:
        data = self.cluster.get("secret", f"wandb-{part}", self.namespace).get("data", {})
        return {key: json.loads(base64.b64decode(text)) for key, text in data.items()}

    def user_input(self, values: dict[str, Any]) -> None:
        data = {"chart": "null", "metadata": "null", "values": json.dumps(values)}
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        patch = json.dumps({"data": encoded})
        self.cluster.kubectl("patch", "secret", "wandb-spec-user", "-n", self.namespace, "--type=merge", "-p", patch)

    @property
    def log(self) -> str:
        return self.operator.log

    @property
    def phase(self) -> str:
        found = self.cluster.get("wandb", "wandb", self.namespace)
        return str(found.get("status", {}).get("phase", "")) if found else "gone"

    def becomes(self, phase: str) -> None:
        self.cluster.until(lambda: self.phase == phase, f"{phase}, it is {self.phase}; {self.log[-3000:]}")

    def settles(self) -> None:
        """Wait until what was applied is looked at once more, and nothing found to do."""
        self.becomes("Completed")

    @property
    def revisions(self) -> int:
        return len(self.cluster.objects("secrets", self.namespace, "owner=helm,name=wandb"))

    def delete(self) -> None:
        self.cluster.kubectl("delete", "wandb", "wandb", "-n", self.namespace, "--wait=false")


@pytest.fixture
def site(cluster: Cluster, installed: Operator, namespace: str) -> Iterator[Site]:
    made = Site(cluster, namespace, installed)
    yield made
    if made.phase != "gone":
        patch = '{"metadata": {"finalizers": []}}'
        cluster.kubectl("patch", "wandb", "wandb", "-n", namespace, "--type=merge", "-p", patch)
        cluster.kubectl("delete", "wandb", "wandb", "-n", namespace, "--ignore-not-found")


def test_a_chart_from_the_config_map_is_installed_and_kept_in_mind(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH}, app={"replicas": 1})
    site.becomes("Completed")
    helm = [find_binary("helm"), "--kubeconfig", str(site.cluster.kubeconfig), "-n", site.namespace, "list", "-o", "json"]
    (release,) = json.loads(site.cluster.run(*helm).stdout)
    assert (release["name"], release["chart"], release["status"]) == ("wandb", "operator-wandb-0.43.0", "deployed")
    active = site.secret("spec-active")
    assert active["chart"] == {"path": PATH}
    operator = {"apiVersion": "apps.wandb.com/v1", "namespace": OPERATOR_NAMESPACE}
    assert active["values"] == {"app": {"replicas": 1}, "global": {"operator": operator}}
    assert site.secret("spec-user") == {"chart": None, "metadata": None, "values": {}}
    assert not site.secret("latest-cached-release")
    assert site.cluster.get("wandb", "wandb", site.namespace)["metadata"]["finalizers"] == ["finalizer.app.wandb.com"]
    site.cluster.until(lambda: "No changes found" in site.log)
    assert site.revisions == 1
    reasons = {it["reason"] for it in site.cluster.objects("events", site.namespace)}
    assert {"Reconciling", "LoadingConfig", "Completed"} <= reasons


def test_a_raw_archive_works_as_well(site: Site, charts: dict[str, Path]):
    site._charts(binaryData={"operator-wandb": base64.b64encode(charts["0.43.0"].read_bytes()).decode()})
    site.apply({"path": PATH})
    site.becomes("Completed")


def test_the_consoles_lists_are_joined_to_the_resources(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH}, console={"tolerations": [{"key": "cr"}]}, app={"replicas": 1})
    site.becomes("Completed")
    site.user_input({"console": {"tolerations": [{"key": "user"}]}, "app": {"replicas": 2, "more": True}})
    site.cluster.until(lambda: site.secret("spec-active")["values"].get("app") == {"replicas": 1, "more": True})
    assert site.secret("spec-active")["values"]["console"] == {"tolerations": [{"key": "cr"}, {"key": "user"}]}


def test_a_chart_replaced_under_its_path_is_not_seen_but_under_a_new_path_it_is(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.charts(operator_wandb=charts["0.44.0"], newer=charts["0.44.0"])
    site.user_input({})
    before = site.log.count("No changes found")
    site.user_input({"_releaseId": "x"})
    site.cluster.until(lambda: site.revisions == 2, "a changed value is a change")
    site.user_input({"_releaseId": "x", "more": 1})
    site.cluster.until(lambda: site.revisions == 3)
    assert site.log.count("No changes found") > before
    site.apply({"path": "/charts/newer"})
    site.cluster.until(lambda: site.secret("spec-active")["chart"] == {"path": "/charts/newer"})
    assert site.revisions == 4


def test_a_null_stops_everything_and_nobody_says_so(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.user_input({"app": {"extra": "x"}})
    site.cluster.until(lambda: site.revisions == 2)
    site.apply({"path": PATH}, app={"extra": None})
    site.cluster.until(lambda: site.log.count("nil pointer") > 2, "it is tried again and again")
    assert (site.phase, site.revisions) == ("Completed", 2)
    site.delete()
    site.cluster.until(lambda: site.cluster.get("wandb", "wandb", site.namespace)["metadata"].get("deletionTimestamp"))
    assert site.phase == "Completed"
    site.apply({"path": PATH}, app={"extra": "y"})
    site.becomes("gone")


def test_different_kinds_stop_it_as_well(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.user_input({"app": {"extra": "x"}})
    site.cluster.until(lambda: site.revisions == 2)
    site.apply({"path": PATH}, app="oops")
    site.cluster.until(lambda: site.log.count(f"Reconciler error {site.namespace}/wandb: type not match") > 2)
    assert (site.phase, site.revisions) == ("Completed", 2)


def test_without_a_chart_the_config_is_invalid(site: Site):
    site.apply(None, app={"replicas": 1})
    site.becomes("Invalid Config")
    assert "No release type was found in the spec" in site.log


def test_a_chart_that_is_not_there_is_not_tried_again_for_an_hour(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": "/charts/late"})
    site.becomes("Invalid Config")
    assert "open /charts/late: no such file or directory" in site.log
    site.charts(operator_wandb=charts["0.43.0"], late=charts["0.43.0"])
    site.apply({"path": "/charts/late"}, now="look again")
    site.becomes("Completed")


def test_what_the_api_server_refuses_is_an_invalid_config(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH}, app={"image": {"tag": "1@sha256:" + "0" * 64}, "replicas": "many"})
    site.becomes("Invalid Config")
    assert "Failed to apply config changes" in site.log


def test_deleting_the_resource_uninstalls_the_release(site: Site, charts: dict[str, Path]):
    site.charts(operator_wandb=charts["0.43.0"])
    site.apply({"path": PATH})
    site.becomes("Completed")
    site.delete()
    site.becomes("gone")
    assert site.revisions == 0
    site.cluster.until(lambda: not site.cluster.objects("deployments", site.namespace))


def test_the_operator_has_the_rights_of_its_service_account_and_no_more(site: Site, charts: dict[str, Path]):
    role = site.cluster.get("clusterrole", "wandb-manager")
    less = {**role, "rules": [it for it in role["rules"] if "deployments" not in it["resources"]]}
    kept = {key: {it: value[it] for it in ("name",)} if key == "metadata" else value for key, value in less.items()}
    site.charts(operator_wandb=charts["0.43.0"])
    site.cluster.apply(kept)
    try:
        site.apply({"path": PATH})
        site.becomes("Invalid Config")
        assert "is forbidden" in site.log
    finally:
        site.cluster.apply({**kept, "rules": role["rules"]})


@pytest.mark.registry
@pytest.mark.parametrize("login", [False, True], ids=["open", "with a credentialSecret"])
def test_a_chart_comes_from_a_registry(site: Site, charts: dict[str, Path], tmp_path: Path, login: bool):
    helm = partial(subprocess.run, check=True, capture_output=True, text=True)
    with start_docker_registry(tmp_path, htpasswd={"robot": "secret"} if login else None) as registry:
        repository = f"oci://{registry.host}/air/charts"
        user = ["--username", "robot", "--password", "secret"] if login else []
        helm([find_binary("helm"), "push", str(charts["0.43.0"]), repository, "--plain-http", *user])
        chart: dict[str, Any] = {"url": f"{repository}/operator-wandb", "version": "0.43.0", "plainHTTP": True}
        if login:
            keys = {"HELM_USERNAME": "robot", "HELM_PASSWORD": "secret"}
            metadata = {"name": "chart-login", "namespace": site.namespace}
            site.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})
            chart["credentialSecret"] = {"name": "chart-login"}
        site.apply(chart)
        site.becomes("Completed")
    assert site.secret("spec-active")["chart"]["url"] == f"{repository}/operator-wandb"
    site.delete()
    site.becomes("gone")  # the registry is not asked for that


class Web(BaseHTTPRequestHandler):
    """Serves a chart repository and a release channel from a dictionary of paths; keeps the Authorization of each request."""

    files: dict[str, bytes]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        content = self.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[tuple[str, type[Web]]]:
    """A web server: its URL, and what it serves and was asked."""
    handler = type("Handler", (Web,), {"files": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    thread.join()
    server.server_close()


def repository(web: type[Web], charts: dict[str, Path]) -> None:
    entries = [{"name": "operator-wandb", "version": it, "urls": [path.name]} for it, path in charts.items()]
    web.files["/index.yaml"] = json.dumps({"apiVersion": "v1", "entries": {"operator-wandb": entries}}).encode()
    web.files.update({f"/{path.name}": path.read_bytes() for path in charts.values()})


def test_a_chart_of_a_repository_must_be_there_for_removal_too(site: Site, charts: dict[str, Path], web: tuple[str, type[Web]]):
    url, served = web
    repository(served, charts)
    site.apply({"url": url, "name": "operator-wandb", "version": "0.43.0"})
    site.becomes("Completed")
    files = dict(served.files)
    served.files.clear()
    site.delete()
    site.cluster.until(lambda: "Failed to cleanup deployment" in site.log)
    assert site.phase == "Completed"
    served.files.update(files)


def test_the_release_channel_is_the_lowest_layer_and_outlives_its_server(
    cluster: Cluster, operator: Operator, namespace: str, charts: dict[str, Path], web: tuple[str, type[Web]]
):
    url, served = web
    repository(served, charts)
    chart = {"url": url, "name": "operator-wandb", "version": "0.43.0"}
    said = {
        "metadata": {"channel": "x"},
        "chart": chart,
        "values": {"console": {"tolerations": [{"key": "chan"}]}, "a": "chan"},
    }
    served.files["/api/v1/operator/channel"] = json.dumps(said).encode()
    extra = [{"name": "DEPLOYER_CHANNEL_URL", "value": url}]
    with operator.install("wandb-connected", airgapped=False, extraEnv=extra):
        site = Site(cluster, namespace, operator)
        site.apply(None, console={"tolerations": [{"key": "cr"}]}, **{"global": {"license": "abc"}})
        site.becomes("Completed")
        active = site.secret("spec-active")
        assert (active["metadata"], active["chart"]["url"]) == ({"channel": "x"}, url)
        assert active["values"]["console"]["tolerations"] == [{"key": "cr"}, {"key": "chan"}]
        basic = "Basic " + base64.b64encode(b"license:abc").decode()
        assert ("/api/v1/operator/channel", basic) in served.asked
        assert site.secret("latest-cached-release")["values"] == said["values"]
        del served.files["/api/v1/operator/channel"]
        site.apply(None, a="cr", **{"global": {"license": "abc"}})
        cluster.until(lambda: site.secret("spec-active")["values"]["a"] == "cr", "the cached release serves")
        site.delete()
        site.becomes("gone")


def test_nothing_happens_without_an_operator(cluster: Cluster, operator: Operator, namespace: str, charts: dict[str, Path]):
    with operator.install("wandb-unready"):
        cluster.kubectl("scale", "deployment", "wandb-controller-manager", "-n", "wandb-unready", "--replicas=0")
        cluster.until(lambda: not cluster.objects("pods", "wandb-unready"))
        metadata = {"name": "wandb", "namespace": namespace}
        resource = {"apiVersion": "apps.wandb.com/v1", "kind": "WeightsAndBiases", "metadata": metadata, "spec": {"values": {}}}
        cluster.apply(resource)
        before = operator.log
        cluster.until(lambda: "is no more" in operator.log)
        assert "Reconciling" not in operator.log[len(before) :]
        cluster.kubectl("delete", "wandb", "wandb", "-n", namespace)
