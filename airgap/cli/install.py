"""``airgap install``: preflight, push, render, audit, apply, wait; again with a newer bundle it is the upgrade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from airgap import __version__, apply, audit, preflight, push
from airgap.apply import ALL, OPERATOR, SERVER
from airgap.cli import bundle as bundle_option
from airgap.cli import cluster, installing, options
from airgap.cli.audit import allowance
from airgap.cli.output import OutputFile, emit, table, write_whole, written_json
from airgap.cli.preflight import inquiry, refuse
from airgap.cli.render import layout
from airgap.errors import AirgapError, ClusterError, NotClosedError
from airgap.receipt import Receipt
from airgap.registry import Registry
from airgap.standing import console, look

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.audit import Verdict
    from airgap.cli.installing import Prepared
    from airgap.progress import Progress
    from airgap.push import PushResult

STAGES = ("preflight", "push", "render", "audit", "apply", "wait")
PUSH_CHECK = "pull"


@click.command(
    "install",
    epilog="""\b
Examples:
  airgap install wandb.tar --registry reg.lan/wandb --values user.yaml
  python3 wandb.tar install wandb.tar --registry reg.lan/wandb --values user.yaml --context site --timeout 20m
  airgap install newer.tar --registry reg.lan/wandb --values user.yaml --dry-run      # what the upgrade would change
  airgap install newer.tar --registry reg.lan/wandb --values user.yaml --only operator""",
)
@bundle_option.argument
@options.registry
@options.values
@layout
@installing.common
@cluster.connection
@click.option("--only", type=click.Choice([ALL, OPERATOR, SERVER]), default=ALL, help="Install or upgrade one half alone.")
@click.option("--allow", multiple=True, metavar="HOST[=REASON]", help="An outside host that may be; the reason goes on record.")
@click.option("--wait/--no-wait", "wait", default=True, help="Wait until everything runs; default: wait.")
@click.option("--timeout", type=installing.Duration(), default="10m", show_default=True, help="How long to wait for each half.")
@click.option("--include-foreign", is_flag=True, help="Push layers that their publisher wants fetched from elsewhere.")
@click.option("--dry-run", is_flag=True, help="Change nothing; print every object with its difference to the live one.")
@click.option("--receipt", "receipt_file", type=OutputFile(), help="Write the receipt as JSON.")
@options.jobs
@options.helm
@options.output
@options.common
def command(*, bundle: Path, values_files: tuple[str, ...], output_format: str, **flags: Any) -> None:
    """Install the W&B in BUNDLE, or upgrade to it: preflight, push, render, audit, apply, wait; each skipped if already right.

    Nothing is applied that the audit has not proved closed. What ran before keeps running when a step fails, and the same
    command goes on from there. Exit 5 when not closed, 6 when the cluster refuses or does not come up.
    """
    progress = options.progress(flags)
    run = _Run.of(flags, progress)
    with installing.prepared(bundle, values_files, flags, run.jobs) as ready:
        if run.dry_run:
            _dry_run(run, ready, bundle, output_format)
            return
        try:
            outcome = _install(run, ready, bundle)
        finally:
            run.write_receipt()
    run.receipt = outcome.receipt
    run.write_receipt()
    names = [name for name, what in outcome.objects if what != apply.SAME]
    emit(output_format, data=_data(outcome, run), table=_table(outcome, run), names=names)


@dataclass
class _Run:
    """The options of this verb alone, and what was done so far."""

    progress: Progress
    chosen: dict[str, Any]
    options: apply.ApplyOptions
    allow: tuple[audit.Allowance, ...]
    node_mirrors: bool
    include_foreign: bool
    dry_run: bool
    jobs: int
    receipt_file: Path | None
    receipt: Receipt | None = None
    pushed: PushResult | None = None

    @classmethod
    def of(cls, flags: dict[str, Any], progress: Progress) -> _Run:
        """Take the options out of ``flags``."""
        chosen = {name: flags.pop(name) for name in ("allow_older", "overwrite_edits", "ignored")}
        applied = apply.ApplyOptions(
            only=flags.pop("only"),
            wait=flags.pop("wait"),
            timeout=flags.pop("timeout"),
            allow_older=chosen["allow_older"],
            overwrite_edits=chosen["overwrite_edits"],
        )
        return cls(
            progress=progress,
            chosen=chosen,
            options=applied,
            allow=tuple(allowance(text) for text in flags.pop("allow")),
            node_mirrors=bool(flags["node_mirrors"]),
            include_foreign=flags.pop("include_foreign"),
            dry_run=flags.pop("dry_run"),
            jobs=flags.pop("jobs"),
            receipt_file=flags.pop("receipt_file"),
        )

    def stage(self, name: str, told: str = "") -> None:
        """Tell which stage begins (or, with ``told``, how it ended)."""
        number = STAGES.index(name) + 1
        self.progress.say(f"[{number}/{len(STAGES)}] {name}" + (f": {told}" if told else ""))

    def write_receipt(self) -> None:
        """Write the receipt's file, if one was asked for and there is a receipt."""
        if self.receipt_file and self.receipt:
            write_whole(self.receipt_file, written_json(self.receipt.to_json()))


def _install(run: _Run, ready: Prepared, bundle: Path) -> apply.Outcome:
    """Go through the stages in their order."""
    _preflight(run, ready)
    _push(run, ready, bundle)
    changes = len(ready.relocation.changes)
    run.stage("render", f"{changes} values set, {len(ready.relocation.unmoved)} containers not moved")
    for note in ready.relocation.notes:
        run.progress.warn(note)
    verdict = _audit(run, ready)
    _same_console(ready)
    run.stage("apply", f"{ready.intent.operator.label} and {ready.intent.server.label}")
    run.receipt = _receipt(ready, node_mirrors=run.node_mirrors).after(*STAGES[:4])
    watch = apply.Watch(ready.kubectl, ready.intent, run.progress, ready.held)
    watch.on_wait = lambda: run.stage("wait", f"up to {run.options.timeout:.0f} s")
    watch.on_receipt = lambda receipt: setattr(run, "receipt", receipt)
    tools = apply.Tools(ready.kubectl, ready.releases, ready.site.operator_chart)
    return apply.apply(verdict.proved, ready.intent, tools, run.options, watch=watch, receipt=run.receipt)


def _same_console(ready: Prepared) -> None:
    """Refuse when somebody set something in the System Console since this began (a push may take hours): it was not judged."""
    resource = ready.intent.resource
    if console(ready.kubectl, resource) != ready.console:
        raise ClusterError(
            f"the System Console's settings of {resource.namespace}/{resource.name} changed since this install began",
            hint="run it again: they are part of what is audited",
        )


def _preflight(run: _Run, ready: Prepared) -> None:
    run.stage("preflight")
    report = preflight.preflight(inquiry(ready, run.progress, run.chosen))
    for finding in report.stops:
        run.progress.warn(f"{finding}; remedy: {finding.remedy}")
    for finding in report.warnings:
        run.progress.warn(str(finding))
    refuse(report)


def _push(run: _Run, ready: Prepared, bundle: Path) -> None:
    """Push what is missing, then pull an image back through the name that nodes use."""
    run.stage("push", str(ready.target.location))
    with bundle_option.open_bundle(bundle) as reader:
        registry = Registry(ready.target.client, ready.target.location.registry, push=True)
        location = ready.target.location
        run.pushed = push.push(
            reader,
            registry,
            location,
            jobs=run.jobs,
            progress=run.progress,
            dry_run=run.dry_run,
            include_foreign=run.include_foreign,
        )
    for warning in run.pushed.warnings:
        run.progress.warn(warning)
    if run.dry_run:
        return
    for finding in preflight.registry(ready.ends, ready.site.lock, has_pull_secret=bool(ready.intent.pull_secret)):
        if finding.level == preflight.STOP and PUSH_CHECK not in run.chosen["ignored"]:
            raise ClusterError(f"nodes would not get their images: {finding.message}", hint=finding.remedy)


def _audit(run: _Run, ready: Prepared) -> Verdict:
    """Prove what will be applied; raises NotClosedError with the first open finding, all of them told before."""
    run.stage("audit")
    relocation, found = ready.relocation, ready.site
    end = ready.ends.registry if not ready.ends.has_other_prefix else ready.ends.pull
    verdict = audit.audit(
        found.lock,
        operator_chart=found.operator_chart,
        server_chart=found.server_chart,
        operator_values=relocation.operator_values,
        resource=relocation.resource,
        location=ready.ends.pull_location,
        registry=end,
        options=audit.AuditOptions(
            operator_namespace=relocation.operator_namespace,
            kube_version=ready.kube_version,
            allow=run.allow,
            channel_values=found.spec.values if found.spec else {},
            node_mirrors=run.node_mirrors,
            pull_secret=bool(ready.intent.pull_secret),
            chart_in_configmap=relocation.chart_files,
            others=relocation.others,
            user_input=ready.console.values,
            jobs=run.jobs,
        ),
        helm=found.helm,
    )
    for finding in verdict.open:
        run.progress.warn(str(finding))
    run.progress.say(verdict.summary())
    if not run.dry_run:
        _ = verdict.proved  # raises when it is not closed: nothing below is reached
    return verdict


def _receipt(ready: Prepared, *, node_mirrors: bool) -> Receipt:
    """Return what the receipt says before anything is applied; apply gives it its number."""
    intent = ready.intent
    chart = intent.resource.chart
    return Receipt(
        number=0,
        bundle=intent.bundle,
        lock=str(intent.lock),
        location=str(intent.location),
        pushed_to=str(ready.target.location),
        layout=intent.location.layout,
        pull_secret=intent.pull_secret,
        node_mirrors=node_mirrors,
        operator_namespace=intent.operator.namespace,
        resource_namespace=intent.resource.namespace,
        resource_name=intent.resource.name,
        operator_release=intent.operator.release,
        operator_version=intent.operator.version,
        server_version=intent.server.version,
        chart=chart.to_json() if chart else {},
        chart_digest=intent.server.digest,
        images=dict(intent.images),
        generator=f"airgap {__version__}",
        operator_values=dict(intent.operator_values),
        resource=intent.resource.to_document(),
    )


def _dry_run(run: _Run, ready: Prepared, bundle: Path, output_format: str) -> None:
    """Print what would be pushed, what the audit says, and every object with its difference to the live one."""
    problems: list[AirgapError] = []
    for step in (lambda: _preflight(run, ready), lambda: _push(run, ready, bundle), lambda: _audit(run, ready)):
        try:
            step()
        except (ClusterError, NotClosedError) as error:
            problems.append(error)
            run.progress.warn(error.message)
    standing = look(ready.kubectl, ready.releases, ready.intent)
    found = list(apply.compare(ready.kubectl, ready.intent, standing))
    counts = {what: sum(it.what == what for it in found) for what in dict.fromkeys(it.what for it in found)}
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    left = len(run.pushed.plan.blobs) + len(run.pushed.plan.manifests) if run.pushed else 0
    pushing = f"{left} blobs and manifests to push" if left else "nothing to push"
    shown = [f"{it.what:8}{it.object}" + (f"\n{_indented(it.text)}" if it.text else "") for it in found]
    emit(
        output_format,
        data={"objects": [it.to_json() for it in found], "toPush": left, "problems": [it.message for it in problems]},
        table="\n".join([*shown, "", f"dry run: {told}; {pushing}"]),
        names=[it.object for it in found if it.what != apply.SAME],
    )
    if problems:
        raise problems[0]


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _data(outcome: apply.Outcome, run: _Run) -> dict[str, Any]:
    return {
        "receipt": outcome.receipt.to_json(),
        "objects": [{"object": name, "what": what} for name, what in outcome.objects],
        "pushed": {"sent": run.pushed.sent, "skipped": run.pushed.skipped} if run.pushed else {},
    }


def _table(outcome: apply.Outcome, run: _Run) -> str:
    receipt = outcome.receipt
    stands = "runs" if "wait" in receipt.stages else "is applied"
    told = f"{receipt.bundle} {receipt.server_version} {stands} in namespace {receipt.resource_namespace}"
    pushed = f"{run.pushed.sent} sent" if run.pushed else "nothing pushed"
    end = f"{told}: {outcome.changed} of {len(outcome.objects)} objects changed, {pushed}, receipt {receipt.number}"
    return f"{table(('OBJECT', 'WHAT HAPPENED'), outcome.objects)}\n\n{end}"
