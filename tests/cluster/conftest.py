"""What the tests of the cluster and the operator share."""

from __future__ import annotations

import subprocess
from http.server import ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.cluster.api import WANDB, Api
from tests.cluster.fixtures import DEMO
from tests.cluster.site import Site, Web
from tests.cluster.sweep import release
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.fixtures import Operator
    from tests.cluster.plane import Cluster


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


@pytest.fixture
def site(cluster: Cluster, installed: Operator, namespace: str) -> Iterator[Site]:
    installed.ensure()
    yield Site(cluster, namespace, installed)
    api = Api(cluster.server, cluster.ca_file, "admin-token")
    release(api, f"{WANDB}/namespaces/{namespace}/weightsandbiases/wandb")


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
