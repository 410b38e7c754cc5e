"""Standing: what is in the cluster already, and what somebody changed there by hand since the last install.

Invariants: ``look`` asks and changes nothing; everything after it is pure. An edit is what differs from *every* state that an
install meant: the new one, the one begun last (perhaps killed half-way) and the one that runs.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError, ConfigurationError
from airgap.intent import CRD
from airgap.kube import FIELD_MANAGER, describe, is_leaving, managers_of
from airgap.oci import Digest
from airgap.receipts import Receipts
from airgap.sources.semver import Version
from airgap.values import format_path, get
from airgap.wandb import API_VERSION, GROUP, KIND, effective

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airgap.intent import Intent, Part
    from airgap.kube import Kubectl
    from airgap.receipt import Receipt
    from airgap.releases import HelmReleases, Release
    from airgap.values import Json, ValuePath
    from airgap.wandb import CustomResource

RESOURCE_KIND = f"{KIND}.{API_VERSION.partition('/')[2]}.{GROUP}"
"""The custom resource as kubectl takes it."""
USER_INPUT = "spec-user"
"""The Secret ``<custom resource>-spec-user``: what administrators set in the System Console (wandb-v1.md section 1)."""
SHOWN = 60
"""Characters of a value that a sentence repeats."""
OTHER_VERSION = (
    "give the changed chart another version, or use --chart-delivery configmap, where each chart has a path of its own"
)
"""What to do about a chart that the operator would not see."""
TAKE_OVER = "take it over into --values (a chart into a bundle), or give --overwrite-edits to lose it"
"""What to do about an edit."""
ABSENT: Any = object()
"""In place of a value that is not there."""

_SERVANTS = frozenset(
    {FIELD_MANAGER, "manager", "wandb-controller-manager", "controller", "operator", "kube-controller-manager"}
)
"""Field managers of ours and of the operator: all others are hands."""


def chart_key(resource: Mapping[str, Any] | None) -> str:
    """Return the key of the chart's ConfigMap that a custom resource uses, or an empty string."""
    path = get(dict(resource or {}), ("spec", "chart", "path"))
    return path.rpartition("/")[2] if isinstance(path, str) else ""


def chart_file(configmap: Mapping[str, Any] | None, key: str) -> bytes | None:
    """Return the archive that the operator reads under ``key``, as it is or as base64 (wandb-v1.md section 2), or None."""
    content = configmap or {}
    binary, text = ((content.get(name) or {}).get(key) for name in ("binaryData", "data"))
    if binary is None and text is None:
        return None
    raw = str(text).encode() if binary is None else base64.b64decode(binary)
    try:
        return base64.b64decode(raw.replace(b"\r", b"").replace(b"\n", b""), validate=True)
    except binascii.Error:
        return raw


def decoded(secret: Mapping[str, Any], key: str) -> Json:
    """Return what one of the operator's Secrets keeps under ``key``: JSON; nothing at all is null (wandb-v1.md section 1).

    Raises LookupError where there is no such key, ValueError and RecursionError for what is no JSON.
    """
    found: Json = json.loads(base64.b64decode((secret.get("data") or {})[key]) or b"null")
    return found


@dataclass(frozen=True, order=True)
class Edit:
    """One thing that is not as it was applied: ``was`` as applied, ``now`` as it is, ``who`` may have done it."""

    object: str
    path: str
    was: str
    now: str
    who: str = ""

    def __str__(self) -> str:
        who = f", by {self.who}" if self.who else ""
        return f"{self.object} {self.path}: {self.was} became {self.now}{who}"


@dataclass(frozen=True)
class Standing:
    """What is there: receipts, the live custom resource, both releases, the operator's values and the ConfigMap of charts."""

    current: Receipt | None = None
    latest: Receipt | None = None
    resource: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    operator: Release | None = None
    server: Release | None = None
    operator_values: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    charts: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)

    @property
    def is_new(self) -> bool:
        """Whether nothing of W&B is there yet."""
        return self.resource is None and self.operator is None

    def receipts(self) -> tuple[Receipt, ...]:
        """Return what installs meant, newest first."""
        found = [receipt for receipt in (self.latest, self.current) if receipt is not None]
        return tuple({receipt.number: receipt for receipt in found}.values())

    def edits(self, intent: Intent) -> tuple[Edit, ...]:
        """Return what was changed by hand and would be overwritten by ``intent``."""
        found: list[Edit] = []
        if self.resource is not None:
            meant = [it.resource.get("spec") or {} for it in self.receipts() if it.resource]
            wanted = intent.resource.to_document()["spec"]
            label = f"{KIND} {intent.resource.namespace}/{intent.resource.name}"
            found += _edits((label, "spec"), wanted, meant, self.resource.get("spec") or {}, _hands(self.resource))
        if self.operator is not None:
            meant = [dict(it.operator_values) for it in self.receipts() if it.operator_version]
            label = f"helm release {self.operator.namespace}/{self.operator.name}"
            found += _edits((label, "values"), dict(intent.operator_values), meant, dict(self.operator_values), "")
        found += self._chart_edits(intent)
        return tuple(sorted(found))

    def _chart_edits(self, intent: Intent) -> Iterator[Edit]:
        """Yield a chart that was put by hand under the path in use: the operator has not looked at it, and it would be lost."""
        key = chart_key(self.resource)
        live = chart_file(self.charts, key)
        meant = {it.chart_digest for it in self.receipts() if it.chart_digest and chart_key(it.resource) == key}
        if live is None or not meant:
            return
        meant.add(intent.server.digest)
        if str(Digest.of(live)) not in meant:
            who = _hands(self.charts or {}, "f:binaryData")
            was = ", ".join(Digest.parse(it).short for it in sorted(meant))
            yield Edit(describe(self.charts or {}), f"binaryData.{key}", f"chart {was}", Digest.of(live).short, who)

    def older(self, intent: Intent) -> tuple[str, ...]:
        """Return a sentence for each part of ``intent`` that is older than what is there."""
        found = []
        for part, release in ((intent.operator, self.operator), (intent.server, self.server)):
            there = (
                release.chart.removeprefix(f"{part.chart}-") if release and release.chart.startswith(f"{part.chart}-") else ""
            )
            if is_older(part.version, there):
                found.append(f"{part.chart} {part.version} is older than {there}, which is installed")
        return tuple(found)

    def unseen(self, intent: Intent) -> str:
        """Return why the operator would not see the chart of ``intent``, or nothing: it compares names and values alone."""
        wanted = intent.resource.to_document()["spec"]
        if self.resource is None or self.resource.get("spec") != wanted:
            return ""
        meant = {it.chart_digest for it in self.receipts() if it.chart_digest and it.resource.get("spec") == wanted}
        if not meant or intent.server.digest in meant:
            return ""
        there, new = (Digest.parse(it).short for it in (min(meant), intent.server.digest))
        return f"chart {intent.server.label} was {there} and is {new}: the operator would see no difference"

    def change(self, part: Part, release: Release | None) -> str:
        """Return ``old -> new`` in words, for people."""
        there = release.chart.removeprefix(f"{part.chart}-") if release else "nothing"
        return part.version if there == part.version else f"{there} -> {part.version}"


def look(kubectl: Kubectl, releases: HelmReleases, intent: Intent) -> Standing:
    """Return what is there now; raises ClusterError."""
    receipts = Receipts(kubectl, intent.operator.namespace)
    operator = releases.newest(intent.operator.release, intent.operator.namespace)
    return Standing(
        current=receipts.current(),
        latest=receipts.latest(),
        resource=kubectl.get(RESOURCE_KIND, intent.resource.name, intent.resource.namespace, managed_fields=True),
        operator=operator,
        server=releases.newest(intent.server.release, intent.server.namespace),
        operator_values=releases.values(operator.name, operator.namespace) if operator else {},
        charts=kubectl.live(intent.chart_configmap) if intent.chart_configmap else None,
    )


@dataclass(frozen=True)
class Console:
    """What administrators set in the System Console: a layer between the custom resource and the release channel.

    ``problem``: why the operator cannot read it, and would do nothing at all.
    """

    values: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    problem: str = ""

    @classmethod
    def of(cls, secret: Mapping[str, Any] | None) -> Console:
        """Read the Secret; None is one that nobody has made yet."""
        if secret is None:
            return cls()
        found = {}
        for key in ("chart", "values"):
            try:
                found[key] = decoded(secret, key)
            except (LookupError, ValueError, RecursionError) as error:
                return cls(problem=f"its key {key} is no JSON ({type(error).__name__}: {error})")
        values = found["values"]
        return cls(values if isinstance(values, dict) else {})

    def clashes(self, resource: CustomResource, operator_namespace: str) -> tuple[str, ...]:
        """Return why the operator could not lay ``resource`` over this, which it would only log."""
        found = [self.problem] if self.problem else []
        try:
            merged = effective(resource.values, dict(self.values), {}, operator_namespace)
            found += [f"{told}, on which the operator panics" for told in merged.panics]
        except ConfigurationError as error:
            found.append(error.message)
        return tuple(found)


def console(kubectl: Kubectl, resource: CustomResource) -> Console:
    """Return what the System Console has set for a custom resource; raises ClusterError."""
    return Console.of(kubectl.get("Secret", f"{resource.name}-{USER_INPUT}", resource.namespace))


def refused_crds(kubectl: Kubectl, documents: Sequence[Mapping[str, Any]]) -> tuple[ClusterError, ...]:
    """Return an error for each CRD that may not be applied: it is being deleted, or a version with stored objects vanishes."""
    found = []
    for document in documents:
        if document.get("kind") != CRD:
            continue
        live = kubectl.live(document) or {}
        name = document["metadata"]["name"]
        if is_leaving(live):
            found.append(ClusterError(f"CRD {name} is being deleted", hint=leaving_crd(kubectl, live)))
        found += [
            ClusterError(
                f"CRD {name} has objects stored as {version}, a version that the bundle's CRD has not",
                hint="the objects stored in that version must be migrated and removed first",
            )
            for version in vanishing(document, live)
        ]
    return tuple(found)


def leaving_crd(kubectl: Kubectl, crd: Mapping[str, Any]) -> str:
    """Return what to do about a CRD that is being deleted: which of its objects still have finalizers, if one may look."""
    spec = crd.get("spec") or {}
    plural = str((spec.get("names") or {}).get("plural") or "")
    version = next((it.get("name") for it in spec.get("versions") or () if it.get("served")), "")
    try:
        objects = kubectl.listed(f"{(spec.get('names') or {}).get('kind')}.{version}.{spec.get('group')}", everywhere=True)
    except ClusterError:
        objects = []
    if not objects:
        return "wait until it has gone, then run the same command again"
    of = ", ".join(describe(it) for it in objects[:3])
    first = objects[0].get("metadata") or {}
    where = f"{plural} {first.get('name')} -n {first.get('namespace')}"
    return (
        f"it waits for the finalizers of {of}: bring their operator up, or, if it is gone for good: "
        f'kubectl patch {where} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\''
    )


def vanishing(document: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the versions in which a live CRD stores objects and that ``document`` no longer has."""
    stored = (live.get("status") or {}).get("storedVersions") or []
    versions = {version.get("name") for version in (document.get("spec") or {}).get("versions") or []}
    return tuple(str(version) for version in stored if version not in versions)


def is_older(version: str, there: str) -> bool:
    """Whether ``version`` comes before ``there`` (semver); what is no version is never older."""
    mine, other = Version.parse(version), Version.parse(there)
    return mine is not None and other is not None and mine < other


def differences(was: Any, now: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any, Any]]:
    """Yield (path, was, now) of each leaf that differs; lists are compared whole.

    What is not there is ABSENT, which null is not: a null in the custom resource can stop the operator for good.
    """
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted({*was, *now}, key=str):
            yield from differences(was.get(key, ABSENT), now.get(key, ABSENT), (*path, str(key)))
    elif was != now:
        yield path, was, now


def shown(value: object) -> str:
    """Return a value as a sentence repeats it."""
    text = "nothing" if value is ABSENT else "null" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _edits(place: tuple[str, str], wanted: Any, meant: list[Any], live: Any, who: str) -> Iterator[Edit]:
    if live == wanted or any(live == it for it in meant):
        return
    label, root = place
    closest = min(meant, key=lambda it: sum(1 for _ in differences(it, live)), default=wanted)
    allowed = {format_path(path): now for path, _, now in differences(closest, wanted)}
    for path, was, now in differences(closest, live):
        name = format_path(path)
        if name not in allowed or allowed[name] != now:
            yield Edit(label, f"{root}.{name}" if name else root, shown(was), shown(now), who)


def _hands(document: Mapping[str, Any], part: str = "f:spec") -> str:
    return ", ".join(sorted(name for name, fields in managers_of(document).items() if name not in _SERVANTS and part in fields))
