"""``airgap demo``: the whole loop on loopback, each command printed as a user types it and run as a process of its own.

Invariants: between the two halves the upstream ends, so whatever the inside half would ask of it fails. Inside, helm comes out
of the bundle: it is not on PATH there. The code of the first command that fails is the result, else the verdict's. Every
process that was started is ended, whatever happens.

::

    upstream (registry, charts, channel)      private registry
        |   plan, mirror, verify, inspect         |   push, push, render, audit
        +--------------- wandb.tar ---------------+
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.demo.servers import free_host, registry
from airgap.demo.shipped import read
from airgap.demo.site import pages
from airgap.demo.steps import MANIFEST, VALUES, Step, inside, outside, store
from airgap.demo.upstream import IntoRegistry, bundle_manifest, fill
from airgap.demo.web import LOOPBACK, serving
from airgap.registry import Registry
from airgap.transport import Client, HostSettings
from airgap.values import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Say = Callable[[str], None]

_KEPT = ("AIRGAP_HELM", "AIRGAP_TOOLS")
"""The only settings of the user's that take part: where helm is."""


def demo(directory: Path, say: Say) -> int:
    """Play both halves in ``directory`` (made if need be) and return the exit code; ``say`` prints one line."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / VALUES).write_bytes(read(VALUES))
    environment = connected(os.environ)
    say("# Outside: a connected host. The upstream is played on loopback, under its own names.")
    with upstream(directory, environment):
        code = _run(outside(), directory, environment, say)
    if code:
        return code
    say("")
    say("# The medium crosses the gap: from here on the upstream is gone.")
    return _inside(directory, disconnected(os.environ, directory), say)


def _inside(directory: Path, environment: Mapping[str, str], say: Say) -> int:
    host = free_host()
    step = store("registry", host, inside=True)
    _tell(step, say, " &")
    with registry(step.command, directory, host, environment):
        code = _run(inside(host), directory, environment, say)
    say("")
    say("# Verdict: closed." if code == 0 else f"# The last command ended with exit code {code}.")
    return code


@contextmanager
def upstream(directory: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Play registries, charts and channel for the length of the block, and write the manifest that leads there."""
    host = free_host()
    command = store("upstream", host, inside=False).command
    with registry(command, directory, host, environment), serving(pages()) as web:
        client = Client(hosts={host: HostSettings(plain_http=True)})
        fill(IntoRegistry(Registry(client, host)))
        (directory / MANIFEST).write_text(dump_yaml(bundle_manifest(web, host)))
        yield


def connected(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment outside: the user's, without settings that would change the commands shown."""
    kept = {name: value for name, value in environ.items() if not name.startswith("AIRGAP_") or name in _KEPT}
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [kept.get("PYTHONPATH", "")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}


def disconnected(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the environment inside: no airgap but the bundle's, no helm on PATH, no proxy, a cache of its own."""
    kept = {name: value for name, value in environ.items() if not _leads_out(name)}
    return {**kept, "PATH": os.defpath, "XDG_CACHE_HOME": str(directory / "cache")}


def _leads_out(name: str) -> bool:
    return name.startswith("AIRGAP_") or name == "PYTHONPATH" or name.lower().endswith("_proxy")


def _run(steps: Sequence[Step], directory: Path, environment: Mapping[str, str], say: Say) -> int:
    """Run the steps in their order until one fails; return its exit code."""
    for step in steps:
        _tell(step, say)
        code = subprocess.run(step.command, cwd=directory, env=environment, check=False).returncode
        if code:
            return code
    return 0


def _tell(step: Step, say: Say, end: str = "") -> None:
    say("")
    say(f"# {step.why}")
    say(f"$ {step.shown}{end}")
