"""Lease: one install at a time, by a ``coordination.k8s.io`` Lease in the operator's namespace.

Invariants: taken by create, or by replace of exactly the version that was looked at, so two can never both have it; renewed
every RENEWAL seconds while it is held. A lease counts as left behind when the process that held it is of this host and gone
(``kill -9``), or when it has run out *and* is not renewed while we watch: clocks of two hosts may differ (cases.md C5).

::

    with holding(kubectl, "wandb", watch=time.sleep) as lease:
        lease.check()          # raises ClusterError when somebody else has it now
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgap.errors import AirgapError, ClusterError
from airgap.kube.failures import ConflictError
from airgap.kube.objects import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.kube import Kubectl

NAME = "airgap-install"
KIND = "Lease.v1.coordination.k8s.io"
DURATION = 30
"""Seconds that a lease lasts unless renewed."""
RENEWAL = 10.0
"""Seconds between renewals: two may fail."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: ``identity`` is host/pid/start of the process, empty for nobody."""

    identity: str
    renewed: datetime | None
    duration: int
    version: str

    @classmethod
    def of(cls, lease: dict[str, Any]) -> Holder:
        """Read a Lease object."""
        spec = lease.get("spec") or {}
        renewed = parse_time(spec.get("renewTime"))
        version = str((lease.get("metadata") or {}).get("resourceVersion") or "")
        return cls(str(spec.get("holderIdentity") or ""), renewed, int(spec.get("leaseDurationSeconds") or DURATION), version)

    def is_over(self, now: datetime) -> bool:
        """Whether it has run out, by this host's clock."""
        return not self.identity or self.renewed is None or self.renewed + timedelta(seconds=self.duration) < now

    @property
    def is_dead(self) -> bool:
        """Whether its process was one of this host and is gone."""
        host, _, rest = self.identity.partition("/")
        pid, _, begun = rest.partition("/")
        return host == socket.gethostname() and pid.isdecimal() and _begun(int(pid)) != begun.partition(" ")[0]

    def __str__(self) -> str:
        host, _, rest = self.identity.partition("/")
        pid, _, more = rest.partition("/")
        user = more.partition(" ")[2]
        since = f", last sign of life {self.renewed:%H:%M:%S} UTC" if self.renewed else ""
        return f"{user + ' on ' if user else ''}{host} (process {pid}{since})"


@dataclass
class Lease:
    """A lease that is held; ``check`` before each step."""

    kubectl: Kubectl
    namespace: str
    lost: str = ""
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def check(self) -> None:
        """Raise ClusterError when the lease was lost."""
        if self.lost:
            raise ClusterError(f"another install took over: {self.lost}", hint="see airgap status")

    def renew_until_ended(self) -> None:
        """Renew until ``end``; what fails is tried again, and only another holder ends it."""
        while not self._ended.wait(RENEWAL):
            with suppress(AirgapError):
                self.renew()

    def renew(self) -> None:
        """Renew once."""
        lease = self.kubectl.get(KIND, NAME, self.namespace)
        if lease is None:
            return
        holder = Holder.of(lease)
        if holder.identity != identity():
            self.lost = str(holder)
            self._ended.set()
            return
        self.kubectl.replace(document(self.namespace, holder.version))

    def end(self) -> None:
        """Stop renewing and give the lease back, if it is still ours and the cluster answers."""
        self._ended.set()
        with suppress(AirgapError):
            lease = self.kubectl.get(KIND, NAME, self.namespace)
            if lease and Holder.of(lease).identity == identity():
                self.kubectl.delete(KIND, NAME, self.namespace)


def other_holder(kubectl: Kubectl, namespace: str) -> Holder | None:
    """Return who else holds the lease now, or None; nothing is changed."""
    lease = kubectl.get(KIND, NAME, namespace)
    if lease is None:
        return None
    holder = Holder.of(lease)
    free = holder.identity in ("", identity()) or holder.is_dead or holder.is_over(datetime.now(timezone.utc))
    return None if free else holder


@contextmanager
def holding(kubectl: Kubectl, namespace: str) -> Iterator[Lease]:
    """Hold the lease for the length of the block; raises ClusterError if another install runs."""
    _take(kubectl, namespace)
    lease = Lease(kubectl, namespace)
    thread = threading.Thread(target=lease.renew_until_ended, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.end()


def _take(kubectl: Kubectl, namespace: str) -> None:
    live = kubectl.get(KIND, NAME, namespace)
    try:
        if live is None:
            kubectl.create(document(namespace))
            return
        holder = Holder.of(live)
        if holder.identity not in ("", identity()) and not holder.is_dead:
            _watch(kubectl, namespace, holder)
        kubectl.replace(document(namespace, holder.version))
    except ConflictError as error:
        raise ClusterError("another install has just begun in this namespace", hint="wait for it to end") from error


def _watch(kubectl: Kubectl, namespace: str, holder: Holder) -> None:
    """Refuse a lease that is alive; one that has run out by our clock must also keep still for a renewal's time."""
    refusal = ClusterError(
        f"another install is running in namespace {namespace}: {holder}",
        hint=f"wait for it to end; if it was killed, its lease runs out after {holder.duration} s",
    )
    if not holder.is_over(datetime.now(timezone.utc)):
        raise refusal
    time.sleep(RENEWAL + 1)
    again = kubectl.get(KIND, NAME, namespace)
    if again and Holder.of(again).version != holder.version:
        raise refusal


def document(namespace: str, version: str = "") -> dict[str, Any]:
    """Return the Lease as this process holds it; with ``version`` only that one may be replaced."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata = {"name": NAME, "namespace": namespace, **({"resourceVersion": version} if version else {})}
    spec = {"holderIdentity": identity(), "leaseDurationSeconds": DURATION, "acquireTime": now, "renewTime": now}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def identity() -> str:
    """Return this process's name: host/pid/start, and the user."""
    return f"{socket.gethostname()}/{os.getpid()}/{_begun(os.getpid())} {_user()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid, as in many containers
        return f"uid {os.getuid()}"


def _begun(pid: int) -> str:
    """Return when a process of this host started, in clock ticks, or an empty string if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # field 22, starttime; the name in brackets may hold anything (proc(5))
