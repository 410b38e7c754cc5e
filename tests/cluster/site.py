"""A site's custom resource and what stands around it, for tests of the operator."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tests.cluster.fixtures import OPERATOR_NAMESPACE, Operator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.plane import Cluster

PATH = "/charts/operator-wandb"


@dataclass
class Site:
    """A custom resource ``wandb`` in a namespace of its own."""

    cluster: Cluster
    namespace: str
    operator: Operator

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

    @property
    def revisions(self) -> int:
        return len(self.cluster.objects("secrets", self.namespace, "owner=helm,name=wandb"))

    def delete(self) -> None:
        self.cluster.kubectl("delete", "wandb", "wandb", "-n", self.namespace, "--wait=false")


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


def repository(web: type[Web], charts: dict[str, Path]) -> None:
    entries = [{"name": "operator-wandb", "version": it, "urls": [path.name]} for it, path in charts.items()]
    web.files["/index.yaml"] = json.dumps({"apiVersion": "v1", "entries": {"operator-wandb": entries}}).encode()
    web.files.update({f"/{path.name}": path.read_bytes() for path in charts.values()})
