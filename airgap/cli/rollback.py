"""``airgap rollback``: back to what an earlier receipt describes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap import __version__, apply, audit
from airgap import rollback as stage
from airgap.cli import cluster, inside, installing, options
from airgap.cli.audit import allowance
from airgap.cli.output import emit, table
from airgap.errors import ClusterError, ConfigurationError
from airgap.intent import Intent, Part
from airgap.receipt import Receipt
from airgap.receipts import Receipts
from airgap.releases import HelmReleases
from airgap.relocate.outputs import chart_configmap
from airgap.scan import parse_rendering
from airgap.standing import chart_key, console
from airgap.wandb import CustomResource, LocalChart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airgap.chart import Chart
    from airgap.kube import Kubectl
    from airgap.progress import Progress
    from airgap.registry import Registry
    from airgap.tools import Helm


@click.command(
    "rollback",
    epilog="""\b
Examples:
  airgap rollback --list
  airgap rollback --dry-run
  airgap rollback --ca-file ca.pem --timeout 20m
  airgap rollback --to 3""",
)
@cluster.options
@options.reach
@click.option("--to", "number", type=click.IntRange(1), default=None, help="Receipt to go back to; default: the one before.")
@click.option("--list", "is_list", is_flag=True, help="Show the receipts and change nothing.")
@click.option("--overwrite-edits", is_flag=True, help="Lose what was changed by hand since the last install.")
@click.option("--allow", multiple=True, metavar="HOST[=REASON]", help="An outside host that may be; the reason goes on record.")
@click.option("--node-mirrors", is_flag=True, help="The nodes have the mirror files that render wrote.")
@click.option("--wait/--no-wait", "wait", default=True, help="Wait until everything runs; default: wait.")
@click.option("--timeout", type=installing.Duration(), default="10m", show_default=True, help="How long to wait for each half.")
@click.option("--dry-run", is_flag=True, help="Check the registry and audit, but change nothing.")
@options.helm
@options.output
@options.common
def command(*, number: int | None, is_list: bool, dry_run: bool, output_format: str, **flags: Any) -> None:
    """Return to the previous receipt: its charts, its values and its custom resource, if the registry still has every digest.

    After an upgrade that failed or was stopped, that is the one that ran before it.

    What is applied is audited like an install. Secrets stay as they are now; databases are not taken back: ask W&B whether the
    older version reads what the newer one wrote. Exit 6 when there is nothing to go back to, or something is missing.
    """
    progress = options.progress(flags)
    kubectl, namespace = cluster.kubectl(flags), flags.pop("namespace")
    store = Receipts(kubectl, namespace)
    receipts = [receipt for each in store.numbers() if (receipt := store.get(each)) is not None]
    if is_list:
        _list(receipts, store.current(), output_format)
        return
    target = stage.choose(receipts, store.current(), number or 0)
    registry = cluster.opener(flags)(target.asked_at)
    _check(registry, target, progress)
    helm = inside.helm_at_hand(flags.pop("helm_path"))
    version = inside.kube_version(flags.pop("kube_version") or kubectl.version())
    back = _Back(target, registry, helm, version, kubectl)
    verdict = back.audit(tuple(allowance(text) for text in flags.pop("allow")), node_mirrors=flags.pop("node_mirrors"))
    for finding in verdict.open:
        progress.warn(str(finding))
    proved = verdict.proved
    told = f"receipt {target.number}: {target.bundle}, operator {target.operator_version}, server {target.server_version}"
    if dry_run:
        emit(output_format, data={"to": target.to_json()}, table=f"would go back to {told}", names=[str(target.number)])
        return
    chosen = apply.ApplyOptions(
        wait=flags.pop("wait"), timeout=flags.pop("timeout"), allow_older=True, overwrite_edits=flags.pop("overwrite_edits")
    )
    watch = apply.Watch(kubectl, back.intent, progress, back.held)
    tools = apply.Tools(kubectl, HelmReleases(helm, kubectl), back.operator)
    outcome = apply.apply(proved, back.intent, tools, chosen, watch=watch, receipt=back.receipt())
    emit(
        output_format,
        data={
            "to": target.number,
            "receipt": outcome.receipt.to_json(),
            "objects": [{"object": name, "what": what} for name, what in outcome.objects],
        },
        table=f"{table(('OBJECT', 'WHAT HAPPENED'), outcome.objects)}\n\nback at {told}; now receipt {outcome.receipt.number}",
        names=[str(outcome.receipt.number)],
    )


def _list(receipts: Sequence[Receipt], current: Receipt | None, output_format: str) -> None:
    rows = [
        (
            f"{it.number}{' (current)' if current and it.number == current.number else ''}",
            it.bundle,
            it.operator_version,
            it.server_version,
            it.state,
            it.ended or it.begun,
            it.reason,
        )
        for it in receipts
    ]
    emit(
        output_format,
        data={"receipts": [it.to_json() for it in receipts], "current": current.number if current else None},
        table=table(("RECEIPT", "BUNDLE", "OPERATOR", "SERVER", "STATE", "WHEN", "REASON"), rows) if rows else "no receipts",
        names=[str(it.number) for it in receipts],
    )


def _check(registry: Registry, target: Receipt, progress: Progress) -> None:
    """Refuse to go back to what the registry no longer has."""
    missing = stage.absent(registry, target)
    if missing:
        for name in missing:
            progress.warn(f"the registry no longer holds {name}")
        raise ClusterError(
            f"receipt {target.number} cannot be gone back to: the registry lacks {len(missing)} of its {len(target.images)}"
            f" images, the first is {missing[0]}",
            hint="push the bundle again that was installed then; nothing was changed",
        )
    for name in stage.moved(registry, target):
        progress.warn(f"{name} leads to another digest now; what pins no digest would get that one")


class _Back:
    """What an earlier receipt describes, made ready to be audited and applied again."""

    def __init__(self, target: Receipt, registry: Registry, helm: Helm, version: str, kubectl: Kubectl) -> None:
        self.target, self.registry, self.helm, self.version, self.kubectl = target, registry, helm, version, kubectl
        if not target.resource:
            raise ConfigurationError(
                f"receipt {target.number} has no values: its Secret is gone or may not be read",
                hint="install that bundle again",
            )
        self.location = target.place
        self.operator, self.server = stage.charts(registry, target)
        self.resource = CustomResource.from_document(dict(target.resource), f"receipt {target.number}")
        self.lock = stage.as_lock(target, self.location)
        self.console = console(kubectl, self.resource)
        self.intent = self._intent()

    def _intent(self) -> Intent:
        target, resource = self.target, self.resource
        values = installing.layered(resource, self.console, target.operator_namespace)
        operator = self._part(self.operator, target.operator_release, target.operator_namespace, target.operator_values)
        delivered = isinstance(resource.chart, LocalChart)
        name = target.charts_name if delivered else ""
        key = chart_key(target.resource)
        return Intent(
            bundle=target.bundle,
            lock=self.lock.digest,
            location=self.location,
            operator=operator,
            server=self._part(self.server, resource.name, resource.namespace or target.resource_namespace, values),
            operator_values=dict(target.operator_values),
            resource=resource,
            chart_configmap=chart_configmap(name, target.operator_namespace, self.server, key) if delivered else None,
            pull_secret=target.pull_secret,
            images=target.images,
        )

    def _part(self, chart: Chart, release: str, namespace: str, values: Mapping[str, Any]) -> Part:
        with tempfile.TemporaryDirectory(prefix="airgap-rollback-") as scratch:
            path = chart.write(Path(scratch))
            text = self.helm.template(path, release=release, namespace=namespace, values=[values], kube_version=self.version)
        return Part(chart.name, chart.version, release, namespace, parse_rendering(text, chart.label), str(chart.digest))

    def audit(self, allow: tuple[audit.Allowance, ...], *, node_mirrors: bool) -> audit.Verdict:
        """Prove it again, against the registry of now."""
        charts = self.intent.chart_configmap
        return audit.audit(
            self.lock,
            operator_chart=self.operator,
            server_chart=self.server,
            operator_values=self.intent.operator_values,
            resource=self.resource,
            location=self.location,
            registry=self.registry,
            options=audit.AuditOptions(
                operator_release=self.target.operator_release,
                operator_namespace=self.target.operator_namespace,
                kube_version=self.version,
                allow=allow,
                node_mirrors=node_mirrors or self.target.node_mirrors,
                pull_secret=bool(self.target.pull_secret),
                user_input=self.console.values,
                chart_in_configmap=_files(charts) if charts else None,
            ),
            helm=self.helm,
        )

    def receipt(self) -> Receipt:
        """Return the new receipt: what the old one says, to be applied again."""
        it = self.target
        return Receipt(
            number=0,
            bundle=it.bundle,
            lock=it.lock,
            location=it.location,
            pushed_to=it.pushed_to,
            layout=it.layout,
            pull_secret=it.pull_secret,
            node_mirrors=it.node_mirrors,
            operator_namespace=it.operator_namespace,
            resource_namespace=it.resource_namespace,
            resource_name=it.resource_name,
            operator_release=it.operator_release,
            operator_version=it.operator_version,
            server_version=it.server_version,
            chart=it.chart,
            chart_digest=self.intent.server.digest,
            objects=it.objects,
            images=it.images,
            generator=f"airgap {__version__}",
            operator_values=it.operator_values,
            resource=it.resource,
        ).after(stage.ROLLBACK, "audit")

    def held(self, image: str) -> str:
        """Return the digest that the registry answers with for an image of a pod, or an empty string."""
        found = stage.asked(self.registry, self.location, image)
        return found or ""


def _files(configmap: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the charts that a ConfigMap holds."""
    return tuple(configmap.get("binaryData") or ())
