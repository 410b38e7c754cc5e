"""A real node: containerd and kubelet beside a real control plane, in a network namespace without a way out.

::

    with Node.start(cluster, certs=folder, sandbox="reg.test/registry.k8s.io/pause:3.9", user=user) as node:
        cluster.apply(pod)

Everything that it starts, shims and containers included, is in a process namespace of its own and ends with its first
process; what it mounts is in a mount namespace of its own. cgroups that it left behind are removed. Root only. Sources of the
settings: Kubernetes' reference of KubeletConfiguration v1beta1, containerd's docs/cri (config_path of the registry).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.plane import free_ports, programs
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cluster.plane import Cluster

NAME = "real-0"
ADDRESS = "10.88.77.1"
"""The bridge's own: pods reach the node there, and the API server the kubelet (a loopback address is none of a node's)."""
SUBNET = "10.88.77.0/24"
CNI_PROGRAMS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
LIMIT = 120.0
CGROUPS = Path("/sys/fs/cgroup")

_RUN = """
containerd --config "$1/containerd.toml" >"$1/containerd.log" 2>&1 &
while [ ! -S "$1/run/containerd.sock" ]; do sleep 0.1; done
exec "$2" --config="$1/kubelet.json" --kubeconfig="$3" --root-dir="$1/kubelet" --cert-dir="$1/pki" \
    --hostname-override="$4" --node-ip="$5" --node-labels=airgap.test/node=real >"$1/kubelet.log" 2>&1
"""


def kubelet() -> Path:
    """Return the kubelet's program, or skip with what is missing for a node."""
    if os.geteuid() != 0:
        pytest.skip("a kubelet runs as root")
    if platform.machine() != "x86_64":
        pytest.skip("the images of this test are for linux/amd64")
    for name in ("containerd", "runc", "ctr", "unshare", "ip"):
        find_binary(name)
    if not (CNI_PROGRAMS / "bridge").is_file() or not (CNI_PROGRAMS / "host-local").is_file():
        pytest.skip("none of the programs bridge (containernetworking-plugins) is installed")
    found = programs() / "kubelet"
    if not found.is_file():
        pytest.skip("no kubelet was built; scripts/get-cluster --kubelet builds it")
    return found


@dataclass
class Node(AbstractContextManager["Node"]):
    """A running node; its files are in ``folder``, whose path is short because sockets are in it."""

    cluster: Cluster
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def start(cls, cluster: Cluster, *, certs: Path, sandbox: str, user: tuple[str, str]) -> Node:
        """Start it and wait until it is Ready.

        ``certs``: what containerd reads as its config_path (a folder of hosts.toml). ``sandbox``: the pause image, which the
        node holds before it gets any pod, as nodes do; ``user`` may pull it.
        """
        program = kubelet()
        made = cls(cluster, Path(tempfile.mkdtemp(prefix="node-")))
        with ExitStack() as undo:
            undo.callback(made.stop)
            made._prepare(certs, sandbox)
            made._start(program)
            made._wait()
            made.ctr("images", "pull", "--user", ":".join(user), "--hosts-dir", str(certs), sandbox)
            undo.pop_all()
        return made

    def log(self, name: str) -> str:
        """What ``containerd`` or ``kubelet`` has said."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own command in the namespace of Kubernetes' images and containers."""
        socket = self.folder / "run" / "containerd.sock"
        done = self.cluster.run(find_binary("ctr"), "--address", socket, "--namespace", "k8s.io", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """End everything that runs on it, and take away what it left."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        for left in self._cgroups():
            _remove(left)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _cgroups(self) -> Iterator[Path]:
        """Yield this node's cgroups, of each controller (v1) or of all (v2)."""
        for base in (CGROUPS, *CGROUPS.iterdir()):
            if (base / self.folder.name).is_dir():
                yield base / self.folder.name

    def _prepare(self, certs: Path, sandbox: str) -> None:
        bases = (
            [CGROUPS] if (CGROUPS / "cgroup.controllers").exists() else [it for it in CGROUPS.iterdir() if not it.is_symlink()]
        )
        for base in bases:
            (base / self.folder.name).mkdir(exist_ok=True)
            if (base / "cpuset.cpus").exists():  # an empty set of a new cgroup (v1) takes no process
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (base / self.folder.name / name).write_text((base / name).read_text())
        for name in ("run", "cni", "kubelet", "pki"):
            (self.folder / name).mkdir()
        (self.folder / "containerd.toml").write_text(_containerd(self.folder, certs, sandbox))
        (self.folder / "cni" / "10-bridge.conflist").write_text(json.dumps(_network(self.folder)))
        port, health = free_ports(2)
        (self.folder / "kubelet.json").write_text(json.dumps(_kubelet(self.folder, port, health)))

    def _start(self, program: Path) -> None:
        for words in ("link add cni0 type bridge", f"addr add {ADDRESS}/24 dev cni0", "link set cni0 up"):
            done = self.cluster.run(find_binary("ip"), *words.split())
            assert done.returncode == 0, done.stderr
        apart = (find_binary("unshare"), "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
        files = (self.folder, program, self.cluster.folder / "nodes.kubeconfig", NAME, ADDRESS)
        argv: Sequence[str | Path] = (*apart, "sh", "-c", _RUN, "sh", *files)
        assert self.cluster.namespace
        environ = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(self.folder)}
        self.process = subprocess.Popen(
            self.cluster.namespace.command(argv, self.folder), stdin=subprocess.DEVNULL, env=environ, cwd=self.folder
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + LIMIT
        while not self._ready():
            assert self.process
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no node: {self.log('kubelet')[-3000:]} {self.log('containerd')[-2000:]}")
            time.sleep(0.2)

    def _ready(self) -> bool:
        status = self.cluster.get("node", NAME).get("status", {})
        return any(it["type"] == "Ready" and it["status"] == "True" for it in status.get("conditions", ()))


def _remove(cgroup: Path) -> None:
    """Remove a cgroup and those in it, from the inside out; the kernel needs a moment after its last process."""
    deadline = time.monotonic() + 10
    while cgroup.is_dir() and time.monotonic() < deadline:
        for folder in sorted((it for it in cgroup.rglob("*") if it.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            cgroup.rmdir()
        time.sleep(0.05)


def _containerd(folder: Path, certs: Path, sandbox: str) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{folder}/images"
state = "{folder}/run"
[grpc]
  address = "{folder}/run/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[{cri}]
  sandbox_image = "{sandbox}"
  restrict_oom_score_adj = true
[{cri}.registry]
  config_path = "{certs}"
[{cri}.cni]
  bin_dir = "{CNI_PROGRAMS}"
  conf_dir = "{folder}/cni"
"""


def _network(folder: Path) -> dict[str, object]:
    addresses = {"type": "host-local", "dataDir": f"{folder}/addresses", "ranges": [[{"subnet": SUBNET, "gateway": ADDRESS}]]}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet(folder: Path, port: int, health: int) -> dict[str, object]:
    """Return the kubelet's settings: whoever reaches it may ask, which in this namespace is nobody but the API server."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{folder}/run/containerd.sock",
        "address": ADDRESS,
        "port": port,
        "healthzPort": health,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{folder.name}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        "evictionHard": {
            "imagefs.available": "0%",
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "",
        "volumePluginDir": f"{folder}/plugins",
        "staticPodPath": "",
        "registerNode": True,
    }
