"""The commands of the demonstration, as data: what a user types outside, and what inside.

Invariants: pure. Paths are relative to the demonstration's folder; what is printed is what runs.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

BUNDLE = "wandb.tar"
MANIFEST = "demo.yaml"
VALUES = "values.yaml"
LOCK = "airgap.lock"
OUTPUT = "site"
PREFIX = "mirror"
"""The path in the private registry under which everything is put."""


@dataclass(frozen=True)
class Step:
    """One command: ``why`` is told before it; ``inside`` means that the bundle runs itself."""

    why: str
    arguments: tuple[str, ...]
    inside: bool = False

    @property
    def shown(self) -> str:
        """The command line as a user types it."""
        return shlex.join((*(("python3", BUNDLE) if self.inside else ("airgap",)), *self.arguments))

    @property
    def command(self) -> tuple[str, ...]:
        """The same for a process, with this very Python."""
        return (sys.executable, *((BUNDLE,) if self.inside else ("-m", "airgap")), *self.arguments)


def store(folder: str, host: str, *, inside: bool) -> Step:
    """Return the registry that listens on ``host`` and keeps what is pushed in ``folder``."""
    return Step("A registry, where a site has none", ("serve", "--store", folder, "--address", host), inside=inside)


def outside() -> tuple[Step, ...]:
    """Return the connected half: from nothing to a verified bundle."""
    return (
        Step("What would be bundled, and why", ("plan", "-f", MANIFEST, "--values", VALUES)),
        Step("Where one of them comes from", ("plan", "-f", MANIFEST, "--why", "quay.io/prometheus/prometheus:v2.47.0")),
        Step("Everything into one file", ("mirror", BUNDLE, "-f", MANIFEST, "--lock", LOCK)),
        Step("Every byte against the lock", ("verify", BUNDLE)),
        Step("What is inside", ("inspect", BUNDLE)),
    )


def inside(host: str) -> tuple[Step, ...]:
    """Return the disconnected half, with the private registry at ``host``: from the bundle to the verdict."""
    registry = ("--registry", f"{host}/{PREFIX}", "--plain-http")
    values = ("--values", VALUES)
    return (
        Step("The bundle pushes itself", ("push", BUNDLE, *registry), inside=True),
        Step("Once more: nothing is left to send", ("push", BUNDLE, *registry), inside=True),
        Step(
            "The operator's configuration, rewritten by probing",
            ("render", BUNDLE, *registry, *values, "--dir", OUTPUT, "--explain"),
            inside=True,
        ),
        Step("The proof", ("audit", BUNDLE, *registry, *values), inside=True),
    )
