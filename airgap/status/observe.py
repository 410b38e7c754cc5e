"""Look at an installation: everything that a status is made of, read once, nothing changed.

Invariants: what must be readable (the custom resource, pods) raises ClusterError when it is not; what only explains (Secrets,
events, service accounts, Helm's records) is noted in ``unread`` instead, so a user with few rights gets what he may see.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import AirgapError, ClusterError
from airgap.kube import UnreachableError
from airgap.oci import Digest
from airgap.pulled import named
from airgap.receipts import Receipts
from airgap.ref import Reference
from airgap.standing import RESOURCE_KIND, USER_INPUT, chart_file, chart_key, decoded
from airgap.trouble import FAILING, Surroundings, hosts_of, state
from airgap.trouble.words import items, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airgap.kube import Kubectl
    from airgap.receipt import Receipt
    from airgap.registry import Registry
    from airgap.values import Json

PODS = ("Pod",)
WORKLOADS = ("Deployment.v1.apps", "StatefulSet.v1.apps", "DaemonSet.v1.apps", "ReplicaSet.v1.apps", "Job.v1.batch")
EXTRAS = ("Event", "PersistentVolumeClaim", "ServiceAccount")
RECORD_LIMIT = 64 * 1024 * 1024
"""Bytes of a release record after unpacking: Helm's own are at most 1 MiB packed."""

Object = dict[str, Any]


@dataclass(frozen=True)
class HelmRecord:
    """The newest revision of a release, as Helm's Secret has it; ``chart`` is name-version, empty if it cannot be read."""

    name: str
    namespace: str
    revision: int
    status: str
    chart: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class Kept:
    """One of the operator's Secrets: the spec that it applied last, or what the System Console wrote."""

    chart: Json
    values: dict[str, Json] = field(repr=False)


@dataclass(frozen=True)
class Observation:
    """What was seen. ``objects`` are pods, workloads, events and claims of the namespaces; None where nothing is there.

    ``is_blind``: the operator's Secrets may not be read, so that nobody knows what it applied last. ``chart``: the digest of
    the archive that the operator finds in its ConfigMap of charts, empty if there is none, None if it is not to find it there.
    ``receipt`` is of what runs, ``unfinished`` of what was begun after that and did not come to run.
    """

    receipt: Receipt | None
    name: str
    namespace: str
    operator_namespace: str
    operator_release: str = "operator"
    resource: Object | None = field(default=None, repr=False)
    active: Kept | None = field(default=None, repr=False)
    user: Kept | None = field(default=None, repr=False)
    cached: Kept | None = field(default=None, repr=False)
    releases: tuple[HelmRecord, ...] = ()
    objects: tuple[Object, ...] = field(default=(), repr=False)
    around: Surroundings = field(default_factory=Surroundings, repr=False)
    unread: tuple[str, ...] = ()
    is_blind: bool = False
    chart: str | None = None
    unfinished: Receipt | None = None

    @property
    def meant(self) -> Receipt | None:
        """The receipt whose custom resource was applied last."""
        return self.unfinished if self.unfinished and "resource" in self.unfinished.stages else self.receipt

    def of(self, *kinds: str) -> list[Object]:
        """Return the objects of these kinds."""
        return [it for it in self.objects if text(it, "kind") in kinds]


@dataclass(frozen=True)
class Subject:
    """What is looked at where no receipt says it."""

    name: str = "wandb"
    namespace: str = ""
    operator_namespace: str = "wandb"
    operator_release: str = "operator"


@dataclass(frozen=True)
class _Look:
    """How things are looked at, and what could not be (``unread``, sentences)."""

    kubectl: Kubectl
    registry: Callable[[str], Registry] | None
    unread: list[str]


def observe(kubectl: Kubectl, subject: Subject, registry: Callable[[str], Registry] | None = None) -> Observation:
    """Look at the installation that the current receipt tells of, or else at ``subject``.

    ``registry`` opens the private registry by its host, to see what it holds when a pull fails. Raises ClusterError.
    """
    look = _Look(kubectl, registry, [])
    receipt, unfinished = _receipts(look, subject.operator_namespace)
    name = receipt.resource_name if receipt else subject.name
    namespace = receipt.resource_namespace if receipt else subject.namespace or subject.operator_namespace
    operator = receipt.operator_release if receipt else subject.operator_release
    namespaces = tuple(dict.fromkeys((subject.operator_namespace, namespace)))
    kept = {part: _kept(look, f"{name}-{part}", namespace) for part in ("spec-active", USER_INPUT, "latest-cached-release")}
    objects = tuple(item for place in namespaces for item in _objects(look, place))
    resource = kubectl.get(RESOURCE_KIND, name, namespace, managed_fields=True)
    return Observation(
        receipt=receipt,
        name=name,
        namespace=namespace,
        operator_namespace=subject.operator_namespace,
        operator_release=operator,
        resource=resource,
        chart=_chart(look, (receipt, unfinished), resource),
        unfinished=unfinished,
        active=kept["spec-active"],
        user=kept[USER_INPUT],
        cached=kept["latest-cached-release"],
        releases=tuple(
            record
            for release, place in ((operator, subject.operator_namespace), (name, namespace))
            for record in _releases(look, release, place)
        ),
        objects=objects,
        around=_surroundings(look, receipt, objects, namespaces),
        unread=tuple(dict.fromkeys(look.unread)),
        is_blind=any("spec-active" in sentence for sentence in look.unread),
    )


def _receipts(look: _Look, namespace: str) -> tuple[Receipt | None, Receipt | None]:
    """Return the receipt of what runs (or else was begun), and that of what was begun after it, if it does not run."""
    try:
        receipts = Receipts(look.kubectl, namespace)
        current, latest = receipts.current(), receipts.latest()
    except UnreachableError:
        raise
    except AirgapError as error:
        look.unread.append(f"receipts: {error.message}")
        return None, None
    return current or latest, latest if current and latest and latest.number > current.number else None


def _objects(look: _Look, namespace: str) -> list[Object]:
    """Return pods (which must be readable), workloads and what explains; in one request when all may be read."""
    everything = [*PODS, *WORKLOADS, *EXTRAS]
    try:
        return look.kubectl.listed(",".join(everything), namespace)
    except UnreachableError:
        raise
    except ClusterError:
        found = look.kubectl.listed(PODS[0], namespace)
    for kind in everything[1:]:
        try:
            found += look.kubectl.listed(kind, namespace)
        except UnreachableError:
            raise
        except ClusterError as error:
            look.unread.append(f"{kind.partition('.')[0]}s of namespace {namespace}: {error.message}")
    return found


def _kept(look: _Look, name: str, namespace: str) -> Kept | None:
    secret = _got(look, "Secret", name, namespace)
    return parse_kept(secret) if secret else None


def _got(look: _Look, kind: str, name: str, namespace: str) -> Object | None:
    """Return an object, empty if there is none; None: it could not be read, which is noted."""
    try:
        return look.kubectl.get(kind, name, namespace) or {}
    except UnreachableError:
        raise
    except ClusterError as error:
        look.unread.append(f"{kind} {namespace}/{name}: {error.message}")
        return None


def parse_kept(secret: Mapping[str, Any]) -> Kept | None:
    """Read one of the operator's Secrets: ``chart``, ``values`` and ``metadata``, each JSON; None for anything else."""
    parts: dict[str, Json] = {}
    for key in ("chart", "values"):
        try:
            parts[key] = decoded(secret, key)
        except LookupError:
            parts[key] = None
        except (ValueError, RecursionError):
            return None
    values = parts["values"]
    return Kept(parts["chart"], values if isinstance(values, dict) else {})


def _chart(look: _Look, receipts: Iterable[Receipt | None], resource: Object | None) -> str | None:
    """Return the digest of what lies under the chart's path, if that is a path that a receipt has."""
    key = chart_key(resource)
    receipt = next((it for it in receipts if it and key and key == chart_key(it.resource)), None)
    if receipt is None:
        return None
    found = _got(look, "ConfigMap", receipt.charts_name, receipt.operator_namespace)
    if found is None:
        return None
    archive = chart_file(found, key)
    return str(Digest.of(archive)) if archive is not None else ""


def _releases(look: _Look, name: str, namespace: str) -> list[HelmRecord]:
    """Return the newest record of a release: Helm keeps each revision in a Secret of its own."""
    try:
        secrets = look.kubectl.listed("Secret", namespace, f"owner=helm,name={name}")
    except UnreachableError:
        raise
    except ClusterError as error:
        look.unread.append(f"Helm's records in namespace {namespace}: {error.message}")
        return []
    newest = max(secrets, key=lambda it: int(text(it, "metadata", "labels", "version") or 0), default=None)
    return [_record(newest, name, namespace)] if newest else []


def _record(secret: Object, name: str, namespace: str) -> HelmRecord:
    """Read Helm's record: base64 of base64 of gzip of JSON (helm pkg/storage/driver/util.go)."""
    labels = ("metadata", "labels")
    revision, status = text(secret, *labels, "version"), text(secret, *labels, "status")
    chart = ""
    try:
        packed = base64.b64decode(base64.b64decode(text(secret, "data", "release")))
        unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, RECORD_LIMIT)
        metadata = json.loads(unpacked)["chart"]["metadata"]
        chart = f"{metadata['name']}-{metadata['version']}"
    except (ValueError, LookupError, TypeError, binascii.Error, zlib.error, gzip.BadGzipFile):
        pass
    return HelmRecord(name, namespace, int(revision or 0), status, chart)


def _surroundings(look: _Look, receipt: Receipt | None, objects: Sequence[Object], namespaces: Iterable[str]) -> Surroundings:
    """Ask what explains failing pulls, only when a pod fails."""
    host = receipt.place.registry if receipt else ""
    failing = [it for it in objects if text(it, "kind") == "Pod" and state(it) == FAILING]
    if not failing:
        return Surroundings(host)
    accounts = {
        text(it, "metadata", "name"): tuple(text(secret, "name") for secret in items(it, "imagePullSecrets"))
        for it in objects
        if text(it, "kind") == "ServiceAccount"
    }
    secrets: dict[str, frozenset[str]] | None = {}
    for namespace in namespaces:
        try:
            for secret in look.kubectl.listed("Secret", namespace):
                hosts = hosts_of(secret)
                if hosts is not None and secrets is not None:
                    secrets[text(secret, "metadata", "name")] = hosts
        except UnreachableError:
            raise
        except ClusterError as error:
            look.unread.append(f"pull secrets of namespace {namespace}: {error.message}")
            secrets = None
            break
    held = _held(look, failing, host, receipt.asked_at) if look.registry and receipt else None
    return Surroundings(host, held, secrets, accounts or None)


def _held(look: _Look, failing: Sequence[Object], host: str, asked_at: str) -> dict[str, str] | None:
    """Ask the private registry (``host``, reached as ``asked_at``) for images of pods that fail; None: it cannot be asked."""
    found: dict[str, str] = {}
    if look.registry is None:
        return None
    try:
        registry = look.registry(asked_at)
        for image in sorted(named(failing)):
            reference = Reference.parse(image)
            if reference.registry == host:
                answer = registry.head_manifest(reference.repository, reference.locator)
                found[image] = str(answer.digest) if answer else ""
    except AirgapError as error:
        look.unread.append(f"the registry {asked_at}: {error.message}")
        return found or None
    return found


def restarts(pod: Json) -> int:
    """Return how often a pod's containers were started again."""
    return sum(number(it, "restartCount") for it in items(pod, "status", "containerStatuses"))
