"""``airgap audit``: proof, by rendering again, that nothing points outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from airgap import audit as stage
from airgap.cli import bundle as bundle_option
from airgap.cli import inside, options
from airgap.cli.output import emit
from airgap.cli.render import layout, rewritten
from airgap.errors import ConfigurationError, NotClosedError
from airgap.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.audit import Verdict
    from airgap.cli.inside import Site
    from airgap.cli.options import Target
    from airgap.progress import Progress


class _Audit(click.Command):
    """The command that judges a configuration; with --live, another one with options of its own, which judges what runs."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to ``audit --live`` when that is asked for."""
        if "--live" in args:
            from airgap.cli.audit_live import command as live  # noqa: PLC0415 - only then

            return live.make_context(info_name, args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    "audit",
    cls=_Audit,
    epilog="""\b
Examples:
  airgap audit wandb.tar --registry reg.lan/wandb --values user.yaml       # what render would write
  airgap audit site --registry reg.lan/wandb                               # what render wrote, hand edits included
  airgap audit wandb.tar --registry reg.lan/wandb --values cr.yaml --as-written      # somebody else's custom resource
  airgap audit site --registry reg.lan/wandb --allow smtp.relay.example -o json
  airgap audit --live                                                      # what runs; airgap audit --live --help""",
)
@bundle_option.or_folder
@options.registry
@options.pull_registry
@options.values
@layout
@click.option("--as-written", is_flag=True, help="Judge the values as they are, without rewriting them.")
@click.option("--allow", multiple=True, metavar="HOST[=REASON]", help="An outside host that may be; the reason goes on record.")
@click.option("--node-mirrors", is_flag=True, help="The nodes have the mirror files that render wrote.")
@click.option("--all", "show_all", is_flag=True, help="Show allowed findings too.")
@options.jobs
@options.helm
@options.output
@options.common
def command(
    *, bundle: Path, values_files: tuple[str, ...], as_written: bool, show_all: bool, output_format: str, **flags: Any
) -> None:
    """Render both charts of BUNDLE (or of the DIR that render wrote) with the final values and judge every image and host.

    Every image must be in --registry by digest; every other outside host is allowed, inert or open, with the reason.
    Exit 5 when anything is open.
    """
    progress = options.progress(flags)
    if bundle.is_dir():
        inside.remember(bundle, flags)
    target = options.target(flags)
    allowances = tuple(allowance(text) for text in flags.pop("allow"))
    with inside.site(bundle, flags.pop("helm_path")) as found:
        kube_version = inside.kube_version(flags["kube_version"])
        namespace = flags["namespace"]
        judged = _configuration(bundle, found, target, values_files, flags, as_written=as_written)
        verdict = stage.audit(
            found.lock,
            operator_chart=found.operator_chart,
            server_chart=found.server_chart,
            operator_values=judged.operator_values,
            resource=judged.resource,
            location=target.pull,
            registry=_answers(target, progress),
            options=stage.AuditOptions(
                operator_namespace=namespace,
                kube_version=kube_version,
                allow=allowances,
                channel_values=found.spec.values if found.spec else {},
                node_mirrors=flags.pop("node_mirrors"),
                chart_in_configmap=judged.charts,
                others=judged.others,
                jobs=flags.pop("jobs"),
            ),
            helm=found.helm,
        )
    for warning in verdict.warnings:
        progress.warn(warning)
    shown = [finding for finding in verdict.findings if show_all or finding.verdict != stage.ALLOWED]
    emit(output_format, data=verdict.to_json(), table=_table(verdict, shown), names=[finding.text for finding in verdict.open])
    if not verdict:
        raise NotClosedError(
            f"not closed: {len(verdict.open)} open, pointing outside or unreadable", hint="each open line above says what to do"
        )


def _answers(target: Target, progress: Progress) -> stage.Answers:
    """Return who is asked for digests: the registry by the name that nodes use, or, out of reach from here, by ours."""
    ours = Registry(target.client, target.location.registry)
    if target.pull == target.location:
        return ours
    chosen, told = stage.answering(Registry(target.client, target.pull.registry), target.pull, ours, target.location)
    if told:
        progress.warn(told)
    return chosen


def _configuration(
    path: Path, found: Site, target: Target, values_files: tuple[str, ...], flags: dict[str, Any], *, as_written: bool
) -> stage.Applied:
    """Return what will be applied: read from a folder, as the user wrote it, or as ``render`` would rewrite it."""
    if path.is_dir():
        if values_files:
            raise ConfigurationError(
                f"{path} holds its values already: --values belongs to a bundle", hint="leave --values out, or name the bundle"
            )
        return stage.read_directory(path)
    if as_written:
        user = inside.user_values(values_files)
        if user.resource is None:
            raise ConfigurationError(
                "--as-written judges a whole custom resource, and --values holds none",
                hint="give the WeightsAndBiases object, or leave --as-written out",
            )
        operator = inside.user_values([str(file) for file in flags["operator_values"]]).values
        return stage.Applied(operator, user.resource.with_values(user.values), None, user.others)
    made = rewritten(found, target, values_files, flags)
    return stage.Applied(dict(made.operator_values), made.resource, made.chart_files, made.others)


def allowance(text: str) -> stage.Allowance:
    """Read one --allow."""
    host, _, reason = text.partition("=")
    return stage.Allowance(host.strip().lower(), reason.strip())


def _table(verdict: Verdict, shown: list[stage.Finding]) -> str:
    """Lay out the findings, open ones first: what, why, what to do, and then every place where it stands."""
    groups: dict[tuple[str, str, str, str], list[stage.Finding]] = {}
    for finding in sorted(shown, key=lambda finding: (finding.verdict != stage.OPEN, finding)):
        groups.setdefault((finding.verdict, finding.text, finding.reason, finding.fix), []).append(finding)
    lines = []
    for (judged, text, reason, fix), findings in groups.items():
        lines += [f"{judged:<8}{text}", f"        {reason}", *([f"        fix: {fix}"] if fix else [])]
        lines += [f"          {finding.template or finding.chart}: {finding.object} {finding.path}" for finding in findings]
    return "\n".join([*lines, *([""] if lines else []), verdict.summary()])
