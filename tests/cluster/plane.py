"""A real Kubernetes control plane on loopback: etcd, API server, controllers, scheduler; kwok plays the nodes.

::

    with Cluster.start(tmp_path) as cluster:
        cluster.add_node()
        cluster.kubectl("apply", "-f", "-", text=manifest)
        with cluster.plight({"weave-trace": "image-not-found"}): ...
        kubeconfig = cluster.user("ann", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])

RBAC is on. Ports are free ones; everything is in one folder that nobody else uses. Only processes that were started here are
ended, by their own handles; if pytest itself is killed they are killed with it. With a ``namespace`` (tests/world/netns.py) the
whole plane is in there, where there is no way out; the caller's own commands must then go in as well (``Namespace.run``).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.stages import PLIGHTS, Stages
from tests.world.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.world.netns import Namespace

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
BUILDER = Path(__file__).resolve().parents[2] / "scripts" / "get-cluster"
START_LIMIT = 90.0
"""Seconds until the API server says that it is ready: 2.5 on an idle machine."""
WAIT_LIMIT = 120.0
"""Seconds that a test waits for something to come true in the cluster: a busy machine is five times slower than an idle one."""
STEP = 0.1
"""Seconds between two looks."""
COMMAND_LIMIT = 180.0
GRACE = "1h"
"""How long a node may be silent before its pods count as lost: a busy machine is no dead node, and kwok brings none back."""
USERS = ("admin", "controllers", "scheduler", "nodes")
"""Members of system:masters, each with a token of its own; all but ``admin`` are the plane's own parts."""
PEOPLE = "people"
"""The namespace of the service accounts that ``user`` makes."""
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "users": [*USERS[1:], "system:apiserver"]},
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}
"""What the API server writes down: who asked for what, the plane's own parts left out."""


@cache
def programs() -> Path:
    """Return the folder of the programs, or skip: they are built by scripts/get-cluster."""
    where = Path(
        subprocess.run([sys.executable, BUILDER, "--where"], check=True, capture_output=True, text=True).stdout.strip()
    )
    if missing := [name for name in PROGRAMS if not (where / name).is_file()]:
        pytest.skip(f"no Kubernetes control plane: {', '.join(missing)} not built; scripts/get-cluster builds it")
    return where


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for it in sockets:
        it.bind(("127.0.0.1", 0))
    ports = [int(it.getsockname()[1]) for it in sockets]
    for it in sockets:
        it.close()
    return ports


@dataclass
class Cluster(AbstractContextManager["Cluster"]):
    """A running control plane."""

    folder: Path
    bin: Path
    namespace: Namespace | None
    ports: Mapping[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)
    plights: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, folder: Path, namespace: Namespace | None = None) -> Cluster:
        """Start one in a folder that is empty or not there yet."""
        found = programs()
        folder.mkdir(parents=True, exist_ok=True)
        names = ("etcd", "peer", "api", "controllers", "scheduler", "nodes")
        made = cls(folder, found, namespace, dict(zip(names, free_ports(len(names)), strict=True)))
        with ExitStack() as undo:
            undo.callback(made.stop)
            made._prepare()
            made._start_etcd()
            made.start_api()
            made._start_rest()
            undo.pop_all()
        return made

    @property
    def kubeconfig(self) -> Path:
        """The configuration of an administrator."""
        return self.folder / "admin.kubeconfig"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self.ports['api']}"

    @property
    def ca_file(self) -> Path:
        """What a client of the API server must trust."""
        return self.folder / "authority" / "root.pem"

    def log(self, name: str) -> str:
        """What a part of the plane has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # -- using it

    def run(self, *argv: str | Path, text: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command where the plane is; its environment is ours and ``env``."""
        command = self.namespace.command(argv, self.folder) if self.namespace else [*map(str, argv)]
        environ = {**os.environ, "KUBECACHEDIR": str(self.folder / "kube-cache"), **(env or {})}
        return subprocess.run(
            command, input=text, env=environ, capture_output=True, text=True, check=False, timeout=COMMAND_LIMIT
        )

    def kubectl(self, *argv: str | Path, text: str = "", kubeconfig: Path | None = None) -> str:
        """Run kubectl as an administrator, or with another configuration; return what it prints, fail if it fails."""
        done = self.run(self.bin / "kubectl", f"--kubeconfig={kubeconfig or self.kubeconfig}", *argv, text=text)
        if done.returncode:
            raise AssertionError(f"kubectl {' '.join(map(str, argv))}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply objects, server-side (nulls are kept)."""
        items = {"apiVersion": "v1", "kind": "List", "items": documents}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=test", "-f", "-", text=json.dumps(items))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return an object, or an empty one if it is not there."""
        said = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(said) if said else {}
        return found

    def objects(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind, of one namespace or of all."""
        where = ("-n", namespace) if namespace else ("-A",)
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, *where, "-l", selector, "-o", "json"))["items"]
        return found

    def until(self, true: Callable[[], object], what: str = "", limit: float = WAIT_LIMIT) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + limit
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"after {limit:.0f} s still not so: {what or true}")
            time.sleep(STEP)

    def requests(self) -> list[dict[str, Any]]:
        """What was asked of the API server (audit events), but for the plane's own parts."""
        return [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]

    def add_node(self, name: str = "node-0", labels: Mapping[str, str] | None = None) -> None:
        """Add a node that kwok plays, and wait until pods can go there."""
        metadata = {"name": name, "labels": labels or {}, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        self.until(lambda: self._schedulable(name), f"node {name} is ready")

    def _schedulable(self, name: str) -> bool:
        node = self.get("node", name)
        ready = {it["type"]: it["status"] for it in node["status"].get("conditions", ())}.get("Ready")
        return ready == "True" and not node["spec"].get("taints")

    def add_volume(self, name: str, size: str = "10Gi") -> None:
        """Add a volume for the first claim that names no class."""
        spec = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": f"/nowhere/{name}"}}
        self.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})

    def user(self, name: str, rules: Sequence[Mapping[str, Any]], namespaces: Sequence[str] = ()) -> Path:
        """Make a user who may do what the rules say, in these namespaces or everywhere; return the kubeconfig."""
        rbac = "rbac.authorization.k8s.io"
        account: dict[str, Any] = {"kind": "ServiceAccount", "name": name, "namespace": PEOPLE}
        role: dict[str, Any] = {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"test-{name}"},
            "rules": rules,
        }
        refers = {"apiGroup": rbac, "kind": "ClusterRole", "name": f"test-{name}"}
        bound: dict[str, Any] = {"apiVersion": f"{rbac}/v1", "roleRef": refers, "subjects": [account]}
        metadata: dict[str, Any] = {"name": f"test-{name}"}
        bindings = [{**bound, "kind": "RoleBinding", "metadata": {**metadata, "namespace": it}} for it in namespaces]
        self.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PEOPLE}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": PEOPLE}},
            role,
            *(bindings or [{**bound, "kind": "ClusterRoleBinding", "metadata": metadata}]),
        )
        token = self.kubectl("create", "token", name, "-n", PEOPLE, "--duration=8h").strip()
        return self._write_kubeconfig(f"user-{name}", token)

    @contextmanager
    def plight(self, rules: Mapping[str, str]) -> Iterator[None]:
        """Let pods be in a plight: a regular expression on an image of theirs -> the plight (see stages.py)."""
        assert set(rules.values()) <= set(PLIGHTS), f"plights are {PLIGHTS}"
        before = dict(self.plights)
        self.plights.update(rules)
        self.restart_nodes()
        try:
            yield
        finally:
            self.plights = before
            self.restart_nodes()

    # -- breaking it

    def stop_api(self) -> None:
        """Let the API server go away, without a farewell."""
        self._end("kube-apiserver")

    def restart_api(self) -> None:
        """Let it go away and come back, ready."""
        self.stop_api()
        self.start_api()

    def restart_nodes(self) -> None:
        """Start kwok again with the plights and digests of now."""
        self._end("kwok")
        self._start_kwok()

    def stop(self) -> None:
        """End everything. Nothing is to be saved, so nobody is asked to."""
        for name in reversed(list(self.processes)):
            self._end(name)

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- starting it

    def _prepare(self) -> None:
        authority = Authority.create(self.folder)
        self._pair = authority.issue("127.0.0.1", "10.0.0.1", "localhost", "kubernetes.default.svc")
        self._signer = authority.issue("service accounts", rsa=True)
        (self.folder / "audit.yaml").write_text(json.dumps(AUDIT))
        (self.folder / "audit.log").touch()
        lines = [f'{name}-token,{name},{name},"system:masters"' for name in USERS]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        for name in USERS:
            self._write_kubeconfig(name, f"{name}-token")

    def _write_kubeconfig(self, name: str, token: str) -> Path:
        server = {"server": self.server, "certificate-authority": str(self.ca_file)}
        parts: dict[str, Any] = {
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "test", **parts}))
        path.chmod(0o600)
        return path

    def _start(self, name: str, *arguments: str) -> None:
        argv = [str(self.bin / name), *arguments]
        if setpriv := shutil.which("setpriv"):
            argv = [setpriv, "--pdeathsig", "KILL", "--", *argv]
        if self.namespace:
            argv = self.namespace.command(argv, self.folder)
        home = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=home, cwd=self.folder
            )

    def _end(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process:
            process.kill()
            process.wait()

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "peer"))
        self._start(
            "etcd",
            *(f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync", "--log-level=warn"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
        )

    def start_api(self) -> None:
        """Start the API server and wait until it is ready."""
        self._start(
            "kube-apiserver",
            *(f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}", "--service-cluster-ip-range=10.0.0.0/24"),
            *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.ports['api']}"),
            *(f"--tls-cert-file={self._pair.certificate}", f"--tls-private-key-file={self._pair.key}"),
            *(f"--client-ca-file={self.ca_file}", f"--token-auth-file={self.folder}/tokens.csv"),
            *(
                "--authorization-mode=RBAC",
                "--allow-privileged=true",
                "--service-account-issuer=https://kubernetes.default.svc",
            ),
            *(f"--service-account-key-file={self._signer.key}", f"--service-account-signing-key-file={self._signer.key}"),
            *("--endpoint-reconciler-type=none", "--enable-priority-and-fairness=false", "--profiling=false"),
            "--kubelet-preferred-address-types=InternalIP",
            *(f"--audit-policy-file={self.folder}/audit.yaml", f"--audit-log-path={self.folder}/audit.log"),
        )
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self.processes["kube-apiserver"].poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the API server did not start: {self.log('kube-apiserver')[-2000:]}")
            time.sleep(STEP)

    def _answers(self) -> bool:
        kubectl = (self.bin / "kubectl", f"--kubeconfig={self.kubeconfig}", "--request-timeout=5s")
        return self.run(*kubectl, "get", "--raw=/readyz").returncode == 0

    def _start_rest(self) -> None:
        for program, who, more in (
            (
                "kube-controller-manager",
                "controllers",
                (
                    f"--service-account-private-key-file={self._signer.key}",
                    f"--root-ca-file={self.ca_file}",
                    "--controllers=*,-nodeipam",
                    f"--node-monitor-grace-period={GRACE}",
                ),
            ),
            ("kube-scheduler", "scheduler", ()),
        ):
            kubeconfig = self.folder / f"{who}.kubeconfig"
            same = (f"--{it}kubeconfig={kubeconfig}" for it in ("", "authentication-", "authorization-"))
            self._start(
                *(program, *same, *more),
                *("--bind-address=127.0.0.1", f"--secure-port={self.ports[who]}", "--leader-elect=false"),
            )
        self._start_kwok()

    def _start_kwok(self) -> None:
        (self.folder / "stages.yaml").write_text(str(Stages(self.plights, self.digests)))
        self._start(
            "kwok",
            *(f"--kubeconfig={self.folder}/nodes.kubeconfig", f"--config={self.folder}/stages.yaml", "--node-ip=127.0.0.1"),
            *("--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"),
            *(f"--server-address=127.0.0.1:{self.ports['nodes']}", "--node-lease-duration-seconds=0"),
        )
