"""``airgap audit --live``: what runs, held against the receipts."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap import rollback
from airgap.audit import ALLOWED
from airgap.audit.judge import Subject
from airgap.audit.live import Live, LiveOptions, audit_live, read
from airgap.chart import Chart
from airgap.cli import cluster, inside, options
from airgap.cli.audit import allowance
from airgap.cli.output import emit, table
from airgap.errors import AirgapError, ConfigurationError, NotClosedError
from airgap.kube import UnreachableError
from airgap.receipts import Receipts
from airgap.scan import parse_rendering
from airgap.standing import RESOURCE_KIND, chart_file
from airgap.wandb import CustomResource, LocalChart, OciChart, effective

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airgap.kube import Kubectl
    from airgap.receipt import Receipt
    from airgap.registry import Registry
    from airgap.wandb import ChartSource


@click.command(
    "audit",
    epilog="""\b
Examples:
  airgap audit --live
  airgap audit --live -n wandb --context prod --all -o json""",
)
@click.option("--live", is_flag=True, required=True, help="Judge what runs instead of what would.")
@cluster.options
@options.reach
@click.option("--render/--no-render", "again", default=True, help="Judge what the operator would make next too; default: do.")
@click.option("--allow", multiple=True, metavar="HOST[=REASON]", help="An outside host that may be; the reason goes on record.")
@click.option("--all", "show_all", is_flag=True, help="Show allowed findings too.")
@options.helm
@options.output
@options.common
def command(*, live: bool, show_all: bool, again: bool, output_format: str, **flags: Any) -> None:
    """Judge what runs: the image of every running and past pod by the digest that its node reports, against the receipts.

    The System Console's settings, the operator's environment, and the NetworkPolicies in force are judged too, and what the
    operator would make of the custom resource and the System Console next: its chart is rendered again. Exit 5 when anything
    is open.
    """
    del live
    progress = options.progress(flags)
    allowances = tuple(allowance(text) for text in flags.pop("allow"))
    kubectl, namespace = cluster.kubectl(flags), flags.pop("namespace")
    store = Receipts(kubectl, namespace)
    receipts = [receipt for number in store.numbers() if (receipt := store.get(number)) is not None]
    if not receipts:
        raise ConfigurationError(
            f"namespace {namespace} has no receipt of airgap, so nobody knows what was installed",
            hint="name the operator's namespace with -n; what airgap install did not install is audited with a bundle",
        )
    seen = read(kubectl, receipts, receipts[-1].place, RESOURCE_KIND)
    seen = _rendered(seen, kubectl, receipts, flags) if again else seen
    verdict = audit_live(seen, LiveOptions(allowances))
    for warning in verdict.warnings:
        progress.warn(warning)
    shown = [it for it in verdict.findings if show_all or it.verdict != ALLOWED]
    rows = [
        (
            it.verdict,
            it.text,
            f"{it.template}/{it.object}".lstrip("/"),
            it.path,
            f"{it.reason}; fix: {it.fix}" if it.fix else it.reason,
        )
        for it in sorted(shown, key=lambda it: (it.verdict != "open", it))
    ]
    told = [table(("VERDICT", "WHAT", "OBJECT", "WHERE", "WHY"), rows)] if rows else []
    emit(
        output_format,
        data=verdict.to_json(),
        table="\n\n".join([*told, verdict.summary()]),
        names=[finding.text for finding in verdict.open],
    )
    if not verdict:
        raise NotClosedError(f"not closed: {len(verdict.open)} open in what runs", hint="each open line above says what to do")


def _rendered(seen: Live, kubectl: Kubectl, receipts: Sequence[Receipt], flags: dict[str, Any]) -> Live:
    """Return what was read with what the operator would make of it next; what keeps it from being rendered is open."""
    receipt = receipts[-1]
    try:
        resource = CustomResource.from_document(dict(seen.resource), "the live custom resource")
        chart = _chart(resource.chart, kubectl, receipt, cluster.opener(flags))
        user = (seen.user or {}).get("values")
        merged = effective(resource.values, user if isinstance(user, dict) else {}, {}, receipt.operator_namespace)
        if merged.panics:
            raise ConfigurationError(f"the operator panics on its layers at every reconcile: {merged.panics[0]}")
        helm = inside.helm_at_hand(flags.pop("helm_path"))
        version = inside.kube_version(flags.pop("kube_version") or kubectl.version())
        with tempfile.TemporaryDirectory(prefix="airgap-audit-") as scratch:
            path = chart.write(Path(scratch))
            namespace = receipt.resource_namespace
            text = helm.template(path, release=resource.name, namespace=namespace, values=[merged.values], kube_version=version)
        known = {it.chart_digest for it in receipts if it.chart_digest}
        replaced = str(chart.digest) if known and str(chart.digest) not in known else ""
        return replace(seen, rendered=Subject(chart.label, parse_rendering(text, chart.label)), replaced=replaced)
    except UnreachableError:
        raise
    except AirgapError as error:
        return replace(seen, stuck=error.message)


def _chart(source: ChartSource | None, kubectl: Kubectl, receipt: Receipt, opened: Callable[[str], Registry]) -> Chart:
    """Return the chart that the operator would load; raises AirgapError."""
    if isinstance(source, LocalChart):
        found = kubectl.get("ConfigMap", receipt.charts_name, receipt.operator_namespace)
        packed = chart_file(found, source.path.rpartition("/")[2])
        if packed is None:
            raise ConfigurationError(f"no ConfigMap of the operator holds {source.path}, so it has no chart to install")
        return Chart.from_bytes(packed, source.path)
    if isinstance(source, OciChart):
        version = source.version or receipt.server_version
        return rollback.chart(opened(receipt.asked_at), receipt.place, rollback.SERVER, version)
    raise ConfigurationError("the custom resource names a chart of a Helm repository, which is not looked into")
