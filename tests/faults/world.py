"""What is carried in the tests of faults, from where to where, and one run of it.

Invariants: estates are the same in every run (bytes from a seed), so bundles are written once per worker and only read. A run
uses the real stages with the real client; only its pauses are short, and those are given to it as arguments.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.bundle import BundleReader
from airgap.errors import AirgapError
from airgap.fetch import mirror
from airgap.oci import HELM_CHART
from airgap.plan import wanted
from airgap.push import push
from airgap.ref import Location
from airgap.registry import Registry
from airgap.registry.sessions import SavedSessions
from airgap.registry.ways import Way, Ways
from airgap.sources.images import ImageSources
from airgap.sources.places import Mirror, Places
from airgap.transport import Client, Credential, CredentialStore, HostSettings, RetryPolicy, Timeouts
from airgap.transport.stall import Watch
from airgap.transport.tls import Trust
from tests.bundle.estate import AMD64, ARM64, Estate
from tests.faults.guards import PASSWORD, USER

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.fetch import MirrorResult
    from airgap.plan import Wanted
    from airgap.push import PushResult

PIECE = 128 * 1024
"""Bytes of a piece of an upload here; more than airgap.registry's GAIN."""
BIG = 5 * PIECE + 1000
"""Bytes of the blob that goes in pieces."""
LARGE = 5 * 512 * 1024
"""Bytes of the blob for what only happens above 1 MiB."""
QUICK = RetryPolicy(attempts=4, base=0.02, cap=0.1, retry_after_cap=5.0)
SHORT, LONG = Timeouts(connect=2.0, read=2.0), Timeouts(connect=20.0, read=60.0)
"""Where a row waits for nothing to come, and where it does not: a busy machine must not look like a silent registry."""
TRUST = Trust({})
"""Reading the system's authorities takes longer than a run here, which needs none."""
HURRY = 50.0
"""How much faster the stall watch's clock goes in rows that stall: its 64 seconds are 1.3."""
SOURCE = "src.example"
"""The host in references; the source registry stands in for it."""


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311  # contents, not secrets


def estate(size: int = BIG) -> Estate:
    """Three images (one is an index, two share a layer), a chart, a signature; one blob of ``size`` bytes."""
    made = Estate()
    shared = noise(30_000, 1)
    first = made.image(f"{SOURCE}/team/app:1.0", shared, noise(size, 2))
    made.image(f"{SOURCE}/team/side:1.0", shared, noise(9_000, 3))
    made.multi(
        f"{SOURCE}/team/multi:2",
        {AMD64: made.picture("amd64", noise(5_000, 4)), ARM64: made.picture("arm64", noise(4_000, 5))},
    )
    made.sign(first)
    return made


def charted(made: Estate) -> Estate:
    """The same with a chart, for the target side."""
    made.chart("operator", "1.2.3", noise(2_000, 6))
    assert made.artifacts[0].content.media_type == HELM_CHART
    return made


def older(size: int = BIG) -> Estate:
    """An estate with the tags of ``estate`` on other images."""
    made = Estate()
    for name in ("app:1.0", "side:1.0", "multi:2"):
        made.image(f"{SOURCE}/team/{name}", noise(500, size % 1000))
    return made


@dataclass
class Outcome:
    """How a run ended: in which error, or with which result, after how many seconds."""

    error: AirgapError | None = None
    pushed: PushResult | None = None
    mirrored: MirrorResult | None = None
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """Everything that was said."""
        parts = [self.error.message, self.error.hint] if self.error else []
        return "\n".join([*parts, *(self.pushed.warnings if self.pushed else ())])


@dataclass
class Run:
    """One side of a crossing through the proxy at ``host``; each call is a process of its own (nothing is remembered)."""

    host: str
    prefix: str
    path: Path
    estate: Estate
    piece: int | None = PIECE
    jobs: int = 1
    hasty: bool = False
    clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        started = time.monotonic()
        made = Client(
            hosts={self.host: HostSettings(plain_http=True)},
            credentials=CredentialStore().with_explicit(self.host, Credential(USER, PASSWORD)),
            environ={},
            retry=QUICK,
            watch=Watch(0.05, lambda: (time.monotonic() - started) * HURRY) if self.hasty else None,
            timeouts=SHORT if self.hasty else LONG,
            trust=TRUST,
        )
        self.clients.append(made)
        return made

    def location(self, host: str = "") -> Location:
        return Location.parse(f"{host or self.host}/{self.prefix}")

    def wanted(self) -> tuple[Wanted, ...]:
        return wanted(self.estate.lock, self.location())

    def push(self) -> Outcome:
        """Push the bundle at ``path``."""
        begun, outcome = time.monotonic(), Outcome()
        ways = Ways(Way(), self.piece) if self.piece else None
        journal = self.path.with_name(f"{self.path.name}.{self.prefix}.push.journal")
        try:
            with self.client() as client, BundleReader.open(self.path) as reader, SavedSessions(journal) as sessions:
                registry = Registry(client, self.host, push=True, sessions=sessions, ways=ways)
                outcome.pushed = push(reader, registry, self.location(), jobs=self.jobs)
        except AirgapError as error:
            outcome.error = error
        outcome.seconds = time.monotonic() - begun
        return outcome

    def mirror(self) -> Outcome:
        """Write the bundle to ``path``, the images out of the registry behind the proxy."""
        begun, outcome = time.monotonic(), Outcome()
        try:
            with self.client() as client:
                source = ImageSources(client, Places({SOURCE: Mirror(self.host, self.prefix, plain_http=True)}))
                outcome.mirrored = mirror(self.estate.lock, source, self.path, jobs=self.jobs)
        except AirgapError as error:
            outcome.error = error
        outcome.seconds = time.monotonic() - begun
        return outcome
