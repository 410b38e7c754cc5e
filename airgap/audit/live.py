"""Audit of what runs: images that nodes pulled, settings of administrators, the operator's environment, policies in force.

::

    verdict = audit_live(read(kubectl, receipts, namespaces), LiveOptions())

``read`` asks the cluster and changes nothing; ``audit_live`` is pure. Where an audit before the install judges what would be,
this one judges what is and was: every container of every pod (also completed and failed ones, and pods that only events tell
of), by the digest that its node reports, against every receipt.

Invariants: what could not be read is open, never skipped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.audit.judge import Allowance, Bench, Subject, configured_hosts, true_variables
from airgap.audit.stage import AIRGAPPED, CHANNEL_URL
from airgap.errors import AirgapError, ClusterError
from airgap.kube import UnreachableError
from airgap.lock import Lock
from airgap.pulled import KNOWN, MIRRORED, PENDING, Known, Pulled, of_events, pulled, together
from airgap.scan import Document, scan, scan_values
from airgap.standing import USER_INPUT, decoded
from airgap.trouble.words import items, text
from airgap.values import get, parse_path
from airgap.verdict import ALLOWED, CHART, CONTAINER, IMAGE, INERT, OPEN, SETTING, UNREAD, URL, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airgap.kube import Kubectl
    from airgap.receipt import Receipt
    from airgap.ref import Location
    from airgap.scan import Hit
    from airgap.values import Json, ValuePath

Object = dict[str, Any]

CLUSTER = "cluster"
CONSOLE = "System Console"
"""What findings of the live audit call the place where a chart's name stands in others."""

PODS = "Pod"
WORKLOADS = ("Deployment.v1.apps", "StatefulSet.v1.apps", "DaemonSet.v1.apps", "CronJob.v1.batch", "Job.v1.batch")
OTHERS = ("Event", "NetworkPolicy.v1.networking.k8s.io")

EVERYWHERE = frozenset({"0.0.0.0/0", "::/0"})


@dataclass(frozen=True)
class LiveOptions:
    """What the user lets be; ``node_mirrors`` is told by the nodes themselves: outside names with the receipt's digests."""

    allow: tuple[Allowance, ...] = ()


@dataclass(frozen=True)
class Live:
    """What was read. ``user`` is what the System Console wrote, None for nothing; ``unread`` is (what, why).

    ``rendered``: what the operator would make of the layers as they are now, None if that was not asked for; ``replaced``: the
    digest of the chart that it would take, if that is none that was installed; ``stuck``: why it would make nothing at all.
    """

    location: Location
    images: Mapping[str, str] = field(hash=False)
    resource: Mapping[str, Json] = field(hash=False, repr=False)
    applied: Mapping[str, Json] = field(hash=False, repr=False)
    operator_release: str
    operator_namespace: str
    objects: tuple[Object, ...] = field(repr=False)
    user: Mapping[str, Json] | None = field(default=None, hash=False, repr=False)
    unread: tuple[tuple[str, str], ...] = ()
    node_mirrors: bool = False
    rendered: Subject | None = field(default=None, repr=False)
    replaced: str = ""
    stuck: str = ""

    def of(self, *kinds: str) -> list[Object]:
        """Return the objects of these kinds."""
        return [it for it in self.objects if text(it, "kind") in kinds]


def read(kubectl: Kubectl, receipts: Sequence[Receipt], location: Location, resource_kind: str) -> Live:
    """Read what runs where the receipts (newest last, at least one) say; raises ClusterError only when nothing answers."""
    newest = receipts[-1]
    namespaces = dict.fromkeys(space for it in receipts for space in (it.operator_namespace, it.resource_namespace))
    unread: list[tuple[str, str]] = []
    objects = [
        item
        for namespace in namespaces
        for kind in (PODS, *WORKLOADS, *OTHERS)
        for item in _listed(kubectl, kind, namespace, unread)
    ]
    name, namespace = newest.resource_name, newest.resource_namespace
    user = _found(kubectl, ("Secret", f"{name}-{USER_INPUT}", namespace), unread)
    return Live(
        location=location,
        images=together(it.images for it in receipts),
        resource=_found(kubectl, (resource_kind, name, namespace), unread) or {},
        applied=newest.resource,
        operator_release=newest.operator_release,
        operator_namespace=newest.operator_namespace,
        objects=tuple(objects),
        user=_spec(user, unread) if user else None,
        node_mirrors=newest.node_mirrors,
        unread=tuple(unread),
    )


def _listed(kubectl: Kubectl, kind: str, namespace: str, unread: list[tuple[str, str]]) -> list[Object]:
    try:
        return kubectl.listed(kind, namespace)
    except UnreachableError:
        raise
    except ClusterError as error:
        unread.append((f"{kind.partition('.')[0]}s of namespace {namespace}", error.message))
        return []


def _found(kubectl: Kubectl, key: tuple[str, str, str], unread: list[tuple[str, str]]) -> Object | None:
    kind, name, namespace = key
    try:
        return kubectl.get(kind, name, namespace)
    except UnreachableError:
        raise
    except ClusterError as error:
        unread.append((f"{kind.partition('.')[0]} {namespace}/{name}", error.message))
        return None


def _spec(secret: Object, unread: list[tuple[str, str]]) -> dict[str, Json]:
    """Return chart and values of the System Console's Secret."""
    found: dict[str, Json] = {}
    for key in ("chart", "values"):
        try:
            found[key] = decoded(secret, key)
        except LookupError:
            found[key] = None
        except (ValueError, RecursionError) as error:
            unread.append((f"Secret {text(secret, 'metadata', 'name')}, key {key}", f"it is no JSON ({type(error).__name__})"))
    return found


def audit_live(live: Live, options: LiveOptions) -> Verdict:
    """Judge what runs; the verdict proves nothing that could be applied."""
    known = Known(live.location, live.images)
    bench = Bench(
        lock=Lock("live", (), (), ()),
        location=live.location,
        held={},
        configured=configured_hosts(dict(live.applied), {}),
        allowances=options.allow,
    )
    findings = {
        *_images(live, known),
        *_workloads(live, bench),
        *_user_input(live, bench),
        *_rendered(live, bench),
        *_environment(live),
        *_policies(live),
        *(
            _finding(OPEN, UNREAD, what, what, f"it could not be read: {why}", "ask for the right to read it")
            for what, why in live.unread
        ),
    }
    counted = {f"{kind}s": len(live.of(kind)) for kind in ("Pod", "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job")}
    return Verdict(
        findings=tuple(sorted(findings)),
        warnings=() if live.images else ("the receipts list no images: digests cannot be held against anything",),
        objects=counted,
        proof=None,
    )


# -- images ------------------------------------------------------------------------------------------------------------


def _images(live: Live, known: Known) -> Iterator[Finding]:
    """Yield every container that runs or ran; events tell of pods that are gone."""
    there = {text(it, "metadata", "name") for it in live.of("Pod")}
    for pod in live.of("Pod"):
        for image in pulled(pod, known):
            yield _image(image, f"spec {image.container}")
    for image in set(of_events(live.of("Event"), known)):
        if image.object.partition("/")[2] not in there:
            yield _image(replace(image, reason=image.reason or "it was pulled; its pod is gone"), "event")


def _image(image: Pulled, path: str) -> Finding:
    verdict = {KNOWN: ALLOWED, MIRRORED: ALLOWED, PENDING: ALLOWED}.get(image.verdict, OPEN)
    reason = image.reason or f"in the registry, by the digest that was installed{f': {image.digest}' if image.digest else ''}"
    fix = "install again: the operator then sets what was audited; delete the pod if nobody owns it" if verdict == OPEN else ""
    return Finding(verdict, CONTAINER, CLUSTER, image.namespace, image.object, path, image.image, reason, fix)


# -- settings ----------------------------------------------------------------------------------------------------------


def _workloads(live: Live, bench: Bench) -> Iterator[Finding]:
    """Yield hosts in the pod templates of what runs: environment and arguments as they are, hand edits included."""
    for item in live.of("Deployment", "StatefulSet", "DaemonSet", "CronJob"):
        namespace = text(item, "metadata", "namespace")
        metadata: dict[str, Json] = {"name": text(item, "metadata", "name"), "namespace": namespace}
        document = Document("", {"kind": item["kind"], "metadata": metadata, "spec": _template(item)})
        subject = Subject(CLUSTER, (document,))
        for hit in scan((document,)).urls:
            yield replace(bench.judge(subject, hit), template=namespace)


def _rendered(live: Live, bench: Bench) -> Iterator[Finding]:
    """Yield what the next reconcile would pull and ask for: it may be more than what runs (a switch, a CronJob, a hook)."""
    subject = live.rendered
    if live.stuck:
        told = "what the operator would make next"
        yield _finding(OPEN, UNREAD, told, told, live.stuck, "correct the custom resource or the System Console's settings")
    if subject is None:
        return
    if live.replaced:
        yield _finding(
            OPEN,
            CHART,
            f"chart {subject.chart}",
            live.replaced,
            "the chart was replaced under its path: the operator does not see that, and would take this one at its next change",
            "mirror that chart and install the bundle; airgap install --overwrite-edits puts the installed one back",
        )
    seen = replace(bench, true_variables=true_variables(subject.documents))
    for hit in scan(subject.documents).hits:
        judged = seen.judge(subject, hit)
        if hit.reference is None or hit.kind == URL or hit.document.is_test or judged.verdict == INERT:
            yield judged
            continue
        reference = hit.reference
        place = live.location.relocate(reference) if reference.registry != live.location.registry else reference
        wanted = Known(live.location, live.images).wanted(place)
        is_known = str(reference.digest) in wanted if reference.digest else str(place) in live.images
        if is_known and (place == reference or live.node_mirrors):
            yield replace(judged, verdict=ALLOWED, reason="it was installed by airgap", fix="")
        elif place == reference:
            told = f"the operator would pull it next, and no receipt has {place}"
            fix = "switch off what asks for it, or install a bundle that has it"
            yield replace(judged, verdict=OPEN, reason=told, fix=fix)
        else:
            yield judged


def _template(item: Object) -> Json:
    found = get(item, ("spec", "jobTemplate", "spec", "template", "spec"))
    return found if found is not None else get(item, ("spec", "template", "spec"))


def _user_input(live: Live, bench: Bench) -> Iterator[Finding]:
    """Yield what administrators set in the System Console and the custom resource does not outrank."""
    if live.user is None:
        return
    values = live.user.get("values")
    mine = get(dict(live.resource), ("spec", "values"))
    document = Document("", {"kind": "Values", "metadata": {"name": CONSOLE}, "values": values})
    subject = Subject(CONSOLE, (document,), is_file=True)
    for hit in scan((document,)).urls:
        yield _outranked(bench.judge(subject, hit), hit.path, mine)
    for hit in scan_values(values):
        yield _outranked(_console_image(hit, live.location), f"values.{hit.path}", mine)
    if live.user.get("chart") is not None:
        outranked = bool(get(dict(live.resource), ("spec", "chart")))
        yield _finding(
            INERT if outranked else OPEN,
            CHART,
            CONSOLE,
            json.dumps(live.user["chart"]),
            "the custom resource names a chart, which outranks it" if outranked else "the operator would take this chart",
            "" if outranked else "name the chart in the custom resource: airgap install",
            path="chart",
        )


def _console_image(hit: Hit, location: Location) -> Finding:
    if hit.reference is None:
        return _finding(
            OPEN, IMAGE, CONSOLE, hit.text, f"it cannot be read as a reference: {hit.problem}", "correct it", path=hit.path
        )
    if hit.reference.registry == location.registry:
        return _finding(ALLOWED, IMAGE, CONSOLE, hit.text, "names the private registry", path=hit.path)
    return _finding(
        OPEN,
        IMAGE,
        CONSOLE,
        hit.text,
        f"it would be pulled from {hit.host}, which is outside",
        "take it out of the System Console",
        path=hit.path,
    )


def _outranked(finding: Finding, path: str, mine: Json) -> Finding:
    """Return an open finding as inert when the custom resource sets the same value: it outranks the System Console."""
    bare = _path(path)
    if finding.verdict == OPEN and any(isinstance(get(mine, bare[:end]), (str, int, bool)) for end in range(1, len(bare) + 1)):
        return replace(
            finding, verdict=INERT, reason="the custom resource sets it too, and outranks the System Console", fix=""
        )
    return finding


def _path(path: str) -> ValuePath:
    try:
        parsed = parse_path(path.partition("!")[0])
    except AirgapError:
        return ()
    return parsed[1:] if parsed[:1] == ("values",) else parsed


def _environment(live: Live) -> Iterator[Finding]:
    """Yield whether the operator asks a release channel; an operator that is not found is open."""
    operators = [it for it in live.of("Deployment") if _is_operator(it, live)]
    for item in operators:
        for index, container in enumerate(items(item, "spec", "template", "spec", "containers")):
            settings = {text(it, "name"): text(it, "value") for it in items(container, "env")}
            if AIRGAPPED in settings:
                yield _airgapped(settings, item, f"spec.template.spec.containers[{index}].env")
                return
    label = f"release {live.operator_namespace}/{live.operator_release}"
    reason = f"no operator with the variable {AIRGAPPED} was found, so nobody knows whether it asks the release channel"
    yield _finding(OPEN, SETTING, label, AIRGAPPED, reason, "install again")


def _airgapped(settings: Mapping[str, str], item: Object, path: str) -> Finding:
    label = f"Deployment/{text(item, 'metadata', 'name')}"
    told = f"{AIRGAPPED}={settings[AIRGAPPED]}"
    if settings[AIRGAPPED] == "true":
        return _finding(ALLOWED, SETTING, label, told, "the operator does not ask the release channel", path=path)
    if settings.get(CHANNEL_URL):
        return _finding(ALLOWED, SETTING, label, told, f"its channel is {CHANNEL_URL}, which is judged by itself", path=path)
    reason = "the operator asks its built-in release channel, https://deploy.wandb.ai, every hour"
    return _finding(
        OPEN, SETTING, label, told, reason, "set airgapped: true in the operator's values: airgap install", path=path
    )


def _is_operator(item: Object, live: Live) -> bool:
    is_there = text(item, "metadata", "namespace") == live.operator_namespace
    released = text(item, "metadata", "annotations", "meta.helm.sh/release-name") == live.operator_release
    return is_there and (released or text(item, "metadata", "labels", "control-plane") == "controller-manager")


# -- policies ----------------------------------------------------------------------------------------------------------


def _policies(live: Live) -> Iterator[Finding]:
    """Yield, per namespace, whether NetworkPolicies in force keep its pods from reaching the outside."""
    for namespace in sorted({text(it, "metadata", "namespace") for it in live.of("Pod")}):
        policies = [
            it for it in live.of("NetworkPolicy") if text(it, "metadata", "namespace") == namespace and _limits_egress(it)
        ]
        pods = [it for it in live.of("Pod") if text(it, "metadata", "namespace") == namespace]
        free = [it for it in pods if not any(_selects(policy, it) for policy in policies)]
        wide = [text(it, "metadata", "name") for it in policies if _is_wide(it)]
        label = f"Namespace/{namespace}"
        if free:
            reason = (
                f"no NetworkPolicy limits where {len(free)} of {len(pods)} pods may connect to: only the network itself does"
            )
            yield _finding(INERT, SETTING, label, "NetworkPolicy", reason)
        elif wide:
            reason = f"NetworkPolicy {', '.join(wide)} lets pods connect to everywhere"
            yield _finding(INERT, SETTING, label, "NetworkPolicy", reason)
        else:
            names = ", ".join(text(it, "metadata", "name") for it in policies)
            yield _finding(
                ALLOWED, SETTING, label, "NetworkPolicy", f"{names} limits where all {len(pods)} pods may connect to"
            )


def _limits_egress(policy: Object) -> bool:
    types = get(policy, ("spec", "policyTypes"))
    return "Egress" in types if isinstance(types, list) else get(policy, ("spec", "egress")) is not None


def _selects(policy: Object, pod: Object) -> bool:
    """Whether a policy is in force for a pod: matchLabels and matchExpressions of its podSelector."""
    labels = get(pod, ("metadata", "labels"))
    have = labels if isinstance(labels, dict) else {}
    wanted = get(policy, ("spec", "podSelector", "matchLabels"))
    if isinstance(wanted, dict) and any(have.get(key) != value for key, value in wanted.items()):
        return False
    return all(_matches(it, have) for it in items(policy, "spec", "podSelector", "matchExpressions"))


def _matches(expression: Mapping[str, Json], have: Mapping[str, Json]) -> bool:
    key, values = text(dict(expression), "key"), expression.get("values")
    listed = values if isinstance(values, list) else []
    return {
        "In": have.get(key) in listed,
        "NotIn": have.get(key) not in listed,
        "Exists": key in have,
        "DoesNotExist": key not in have,
    }.get(text(dict(expression), "operator"), False)


def _is_wide(policy: Object) -> bool:
    """Whether an egress rule leads everywhere: no ``to`` at all, or the block of all addresses without exceptions."""
    for rule in items(policy, "spec", "egress"):
        peers = items(rule, "to")
        if not peers:
            return not rule.get("ports") or not _is_dns(items(rule, "ports"))
        if any(text(it, "ipBlock", "cidr") in EVERYWHERE for it in peers):
            return True
    return False


def _is_dns(ports: Iterable[Mapping[str, Json]]) -> bool:
    return all(it.get("port") == 53 for it in ports)  # noqa: PLR2004 - the port of DNS


def _finding(verdict: str, kind: str, label: str, told: str, reason: str, fix: str = "", *, path: str = "") -> Finding:  # noqa: PLR0917 - a finding's own order
    return Finding(verdict, kind, CLUSTER, "", label, path, told, reason, fix)


__all__ = ["Live", "LiveOptions", "audit_live", "read"]
