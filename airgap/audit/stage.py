"""Audit: render the final values again and judge every reference and host (design.md decision 4).

::

    verdict = audit(lock, operator_chart=..., server_chart=..., operator_values=..., resource=..., location=...,
                    registry=Registry(client, "reg.lan"), options=AuditOptions(), helm=helm)
    apply_all(verdict.proved)          # raises NotClosedError unless closed

The values are taken as they will be applied: the custom resource may come from ``render``, from a file, or as somebody wrote
it. The registry may have been filled by other tools; what counts is the digest that it answers with.

Invariants: what cannot be rendered or read is an open finding; errors of the registry itself (unreachable, unauthorized) are
raised, so they can never pass for a verdict.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.audit.judge import Allowance, Bench, Subject, configured_hosts, host_only, true_variables
from airgap.audit.knowledge import DELIVERY_FIX
from airgap.chart.apart import Copy
from airgap.errors import ConfigurationError
from airgap.plan import CHARTS, chart_tag
from airgap.pods import without_pull_secret
from airgap.ref import Reference
from airgap.scan import Document, Hit, parse_rendering, scan
from airgap.tools import KUBE_VERSION
from airgap.values import format_path, get, leaves
from airgap.verdict import ALLOWED, CHART, OPEN, SETTING, UNREAD, URL, Finding, Verdict, prove
from airgap.wandb import KIND, LocalChart, OciChart, effective

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.audit.names import Answers
    from airgap.chart import Chart
    from airgap.chart.apart import Apart
    from airgap.lock import Lock
    from airgap.oci import Digest
    from airgap.ref import Location
    from airgap.tools import Helm
    from airgap.values import Json
    from airgap.wandb import CustomResource, RepoChart

JOBS = 8
"""Questions to the registry at a time; each is one HEAD."""

VALUES_DOCUMENT = "operator values"
RESOURCE_DOCUMENT = "custom resource"
OTHERS_DOCUMENT = "other objects"
AIRGAPPED, CHANNEL_URL = "AIRGAPPED", "DEPLOYER_CHANNEL_URL"
"""Environment of the operator (wandb-v1.md sections 1 and 2)."""


@dataclass(frozen=True)
class AuditOptions:
    """How the configuration will be applied, and what the user lets be.

    ``channel_values`` are the release channel's (from the bundle): hosts that only they name are not the user's.
    ``node_mirrors``: the nodes have the mirror files. ``pull_secret``: warn of pods that name no pull secret.
    ``chart_in_configmap``: the file names that the chart ConfigMap holds; None if that is not known. ``others``: objects that
    are applied beside the charts, as they are. ``user_input`` is what the System Console has set in the cluster already.
    """

    operator_release: str = "operator"
    operator_namespace: str = "wandb"
    kube_version: str = KUBE_VERSION
    allow: tuple[Allowance, ...] = ()
    channel_values: Mapping[str, Json] = field(default_factory=dict, hash=False)
    node_mirrors: bool = False
    pull_secret: bool = True
    chart_in_configmap: tuple[str, ...] | None = None
    others: tuple[Mapping[str, Json], ...] = field(default=(), hash=False, repr=False)
    user_input: Mapping[str, Json] = field(default_factory=dict, hash=False, repr=False)
    jobs: int = JOBS


def audit(
    lock: Lock,
    *,
    operator_chart: Chart,
    server_chart: Chart,
    operator_values: Mapping[str, Json],
    resource: CustomResource,
    location: Location,
    registry: Answers,
    options: AuditOptions,
    helm: Helm,
) -> Verdict:
    """Judge a configuration as it will be applied; raises only for the registry's own errors and for a missing helm."""
    subjects, unread = _rendered(
        operator_chart=operator_chart,
        server_chart=server_chart,
        operator_values=operator_values,
        resource=resource,
        options=options,
        helm=helm,
    )
    rendered = [document for subject in subjects for document in subject.documents]
    files = _files(operator_values, resource, options.others)
    hits = [(subject, hit) for subject in (*subjects, *files) for hit in scan(subject.documents).hits]
    source = _chart_reference(resource)
    bench = Bench(
        lock=lock,
        location=location,
        held=_ask(registry, location, [hit for _, hit in hits], source, options),
        configured={
            **configured_hosts(dict(operator_values), {}),
            **configured_hosts(resource.values, dict(options.channel_values)),
        },
        allowances=options.allow,
        true_variables=true_variables(rendered),
        node_mirrors=options.node_mirrors,
    )
    findings = [bench.judge(subject, hit) for subject, hit in hits]
    findings += [*unread, *_airgapped(subjects, operator_chart.label)]
    findings += [_chart_source(resource, source, bench, options), *_chart_version(resource, source, server_chart)]
    ordered = tuple(sorted(set(findings)))
    is_open = any(finding.verdict == OPEN for finding in ordered)
    return Verdict(
        findings=ordered,
        warnings=tuple(_warnings(subjects, options)),
        objects={subject.chart: len(subject.documents) for subject in subjects},
        proof=None if is_open else prove(operator_values, resource, location, lock.digest),
    )


def _rendered(
    *,
    operator_chart: Chart,
    server_chart: Chart,
    operator_values: Mapping[str, Json],
    resource: CustomResource,
    options: AuditOptions,
    helm: Helm,
) -> tuple[list[Subject], list[Finding]]:
    """Render both charts; what does not render is an open finding."""
    subjects: list[Subject] = []
    unread: list[Finding] = []
    plans: tuple[tuple[Chart, str, str, bool], ...] = (
        (operator_chart, options.operator_release, options.operator_namespace, False),
        (server_chart, resource.name, resource.namespace or options.operator_namespace, True),
    )
    for chart, release, namespace, is_server in plans:
        try:
            merged = effective(resource.values, dict(options.user_input), {}, options.operator_namespace) if is_server else None
            values = merged.values if merged else operator_values
            with tempfile.TemporaryDirectory(prefix="airgap-audit-") as scratch:
                copy = Copy(chart, Path(scratch))
                text = copy.bear(
                    partial(
                        helm.template,
                        release=release,
                        namespace=namespace,
                        values=[values],
                        kube_version=options.kube_version,
                    )
                )
            subjects.append(Subject(chart.label, parse_rendering(text, chart.label)))
            unread += [_unanswered(chart, it) for it in copy.apart]
        except ConfigurationError as error:
            unread.append(
                Finding(
                    OPEN, UNREAD, chart.label, "", "", "", chart.label, f"it could not be read: {error.message}", error.hint
                )
            )
    return subjects, unread


def _unanswered(chart: Chart, item: Apart) -> Finding:
    """Say that a template could not be looked into; the rest of its chart is judged all the same (cases.md H4)."""
    return Finding(
        OPEN, UNREAD, chart.label, item.template, "", "", item.place, f"it could not be read: {item.reason}", item.remedy
    )


def _files(
    operator_values: Mapping[str, Json], resource: CustomResource, others: Sequence[Mapping[str, Json]]
) -> tuple[Subject, ...]:
    """Return the operator's values, the custom resource and the user's other objects as documents of their own."""
    values = Document("", {"kind": "Values", "metadata": {"name": VALUES_DOCUMENT}, "values": dict(operator_values)})
    return (
        Subject(VALUES_DOCUMENT, (values,), is_file=True),
        Subject(RESOURCE_DOCUMENT, (Document("", _without_chart(resource)),), is_file=True),
        Subject(OTHERS_DOCUMENT, tuple(Document("", dict(item)) for item in others)),
    )


def _without_chart(resource: CustomResource) -> dict[str, Json]:
    """Return the custom resource without its chart source, which is judged by itself."""
    document = resource.to_document()
    spec = document["spec"]
    return {
        **document,
        "spec": {key: value for key, value in spec.items() if key != "chart"} if isinstance(spec, dict) else spec,
    }


# -- the registry ------------------------------------------------------------------------------------------------------


def _ask(
    registry: Answers, location: Location, hits: Sequence[Hit], chart: Reference | None, options: AuditOptions
) -> dict[tuple[str, str], Digest | None]:
    """Ask the registry for every reference that lies in it, each once."""
    wanted: set[tuple[str, str]] = set()
    for reference in [*(hit.reference for hit in hits), chart]:
        if reference is None:
            continue
        if reference.registry == location.registry:
            wanted.add((reference.repository, reference.locator))
        elif options.node_mirrors:
            place = location.relocate(reference)
            wanted.add((place.repository, place.locator))
    asked = sorted(wanted)
    with ThreadPoolExecutor(max_workers=max(1, options.jobs)) as pool:
        answers = pool.map(lambda it: registry.head_manifest(*it), asked)
        return {place: answer.digest if answer else None for place, answer in zip(asked, answers, strict=True)}


def _chart_reference(resource: CustomResource) -> Reference | None:
    """Return the reference of an OCI chart source, or None."""
    chart = resource.chart
    if not isinstance(chart, OciChart):
        return None
    bare = chart.url.removeprefix("oci://")
    try:
        return Reference.parse(f"{bare}:{chart_tag(chart.version)}" if chart.version else bare)
    except ConfigurationError:
        return None


# -- settings ----------------------------------------------------------------------------------------------------------


def _chart_source(resource: CustomResource, reference: Reference | None, bench: Bench, options: AuditOptions) -> Finding:
    """Judge spec.chart: where the operator takes the chart from."""
    chart = resource.chart
    verdict, text, reason, fix = OPEN, "(none)", "spec.chart is missing, so the operator has nothing to install", DELIVERY_FIX
    if isinstance(chart, LocalChart):
        verdict, text, reason, fix = _local_chart(chart, options)
    elif isinstance(chart, OciChart):
        verdict, text, reason, fix = _oci_chart(chart, reference, bench)
    elif chart is not None:
        verdict, text, reason, fix = _repo_chart(chart, bench)
    label = f"{KIND}/{resource.name}"
    return Finding(verdict, CHART, RESOURCE_DOCUMENT, "", label, "spec.chart", text, reason, fix)


def _local_chart(chart: LocalChart, options: AuditOptions) -> tuple[str, str, str, str]:
    folder, _, name = chart.path.rpartition("/")
    if folder != "/charts":
        return OPEN, chart.path, "the operator mounts its charts at /charts and has no other", DELIVERY_FIX
    if options.chart_in_configmap is not None and name not in options.chart_in_configmap:
        held = ", ".join(options.chart_in_configmap) or "nothing"
        return OPEN, chart.path, f"the chart ConfigMap holds {held}", "apply chart.yaml of the same render"
    return ALLOWED, chart.path, "from the ConfigMap that the operator mounts", ""


def _oci_chart(chart: OciChart, reference: Reference | None, bench: Bench) -> tuple[str, str, str, str]:
    if reference is None or reference.registry != bench.location.registry:
        return OPEN, chart.url, "the operator would pull the chart from outside", DELIVERY_FIX
    found = bench.held.get((reference.repository, reference.locator))
    if found is None:
        return OPEN, chart.url, f"the registry does not hold {reference}", "run airgap push"
    for artifact in bench.lock.artifacts:
        own = bench.location.repository(f"{CHARTS}/{artifact.name}")
        same = artifact.kind == "chart" and own == reference.repository and chart_tag(artifact.version) == reference.tag
        if same and artifact.tree.root.digest != found:
            return (
                OPEN,
                chart.url,
                f"the registry holds {found} there, the bundle {artifact.tree.root.digest}",
                "run airgap push",
            )
    return ALLOWED, chart.url, "in the private registry", ""


def _repo_chart(chart: RepoChart, bench: Bench) -> tuple[str, str, str, str]:
    """Judge a Helm repository: it is one that the user named, unless its host is known to be outside."""
    host = host_only(chart.url.partition("://")[2].partition("/")[0].rpartition("@")[2]).lower()
    document = Document("", {"kind": KIND, "metadata": {"name": "spec.chart"}})
    asked = replace(bench, configured={**bench.configured, host: "spec.chart.url"})
    hit = Hit(document, "spec.chart.url", chart.url, URL, None, host)
    judged = asked.judge(Subject(RESOURCE_DOCUMENT, (document,), is_file=True), hit)
    return judged.verdict, chart.url, judged.reason, judged.fix and DELIVERY_FIX


def _chart_version(resource: CustomResource, reference: Reference | None, server_chart: Chart) -> list[Finding]:
    """Refuse a chart source that would bring another chart than the one that was rendered here: nothing is known of that."""
    chart = resource.chart
    named = {"": ""}
    if isinstance(chart, LocalChart):
        own = f"-{server_chart.digest.short}"  # that of another content stays in the version, and is refused
        name = chart.path.removesuffix(".tgz").removesuffix(own)
        told = re.search(r"-(\d+\.\d+\.\d+[^/]*)$", name)
        named = {told[1]: chart.path} if told else {server_chart.version: chart.path}
    elif isinstance(chart, OciChart):
        named = {reference.tag if reference else "": chart.url}
    elif chart is not None:
        named = {chart.version: f"{chart.url} {chart.name}"}
    ((version, text),) = named.items()
    if chart is None or chart_tag(version) == chart_tag(server_chart.version):
        return []
    reason = (
        f"the operator would take {version or 'the latest version'}, but what was rendered and judged is {server_chart.label}"
    )
    label = f"{KIND}/{resource.name}"
    fix = f"set spec.chart.version: {server_chart.version}, or audit with the bundle that holds the other"
    return [Finding(OPEN, CHART, RESOURCE_DOCUMENT, "", label, "spec.chart.version", text, reason, fix)]


def _airgapped(subjects: Iterable[Subject], chart: str) -> list[Finding]:
    """Judge whether the operator asks the release channel: AIRGAPPED is true, or the channel's URL is set (cases.md C6)."""
    found: list[Finding] = []
    for document in next((it.documents for it in subjects if it.chart == chart), ()):
        for path, value in leaves(document.object):
            if path[-1:] == ("value",) and _name_beside(document, path) == AIRGAPPED:
                verdict = (ALLOWED, "the operator does not ask the release channel", "")
                if str(value) != "true" and not _has_channel(document):
                    verdict = (
                        OPEN,
                        "the operator asks its built-in release channel, https://deploy.wandb.ai, every hour",
                        "set airgapped: true in the operator's values",
                    )
                elif str(value) != "true":
                    verdict = (ALLOWED, f"the release channel is the one in {CHANNEL_URL}, which is judged by itself", "")
                text = f"{AIRGAPPED}={value}"
                found.append(
                    Finding(
                        verdict[0], SETTING, chart, document.template, document.label, format_path(path), text, *verdict[1:]
                    )
                )
    return found


def _has_channel(document: Document) -> bool:
    return any(value == CHANNEL_URL and path[-1] == "name" for path, value in leaves(document.object))


def _name_beside(document: Document, path: tuple[str | int, ...]) -> Json:
    return get(document.object, (*path[:-1], "name"))


def _warnings(subjects: Iterable[Subject], options: AuditOptions) -> list[str]:
    if not options.pull_secret:
        return []
    told = []
    for subject in subjects:
        pods = [
            f"{pod.document.label} (service account {pod.service_account})" for pod in without_pull_secret(subject.documents)
        ]
        if pods:
            told.append(
                f"{subject.chart}: no pull secret is named, so images are pulled without credentials, by {', '.join(pods)}"
            )
    return told
