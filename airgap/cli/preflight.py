"""``airgap preflight``: everything that would stop an install, before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from airgap import preflight as stage
from airgap.cli import bundle as bundle_option
from airgap.cli import cluster, installing, options
from airgap.cli.output import emit, table
from airgap.cli.render import layout
from airgap.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.cli.installing import Prepared
    from airgap.preflight import Report
    from airgap.progress import Progress


@click.command(
    "preflight",
    epilog="""\b
Examples:
  airgap preflight wandb.tar --registry reg.lan/wandb --values user.yaml
  python3 wandb.tar preflight wandb.tar --registry reg.lan/wandb --values user.yaml --context site -o json
  airgap preflight wandb.tar --registry push.lan/wandb --pull-registry reg.lan/wandb --values user.yaml""",
)
@bundle_option.argument
@options.registry
@options.values
@layout
@installing.common
@cluster.connection
@options.helm
@options.output
@options.common
def command(*, bundle: Path, values_files: tuple[str, ...], output_format: str, **flags: Any) -> None:
    """Find everything that would stop `airgap install` with the same options; each finding has its remedy.

    Nothing is changed and nothing is left behind. Exit 6 when the install would fail.
    """
    progress = options.progress(flags)
    chosen = {name: flags.pop(name) for name in ("allow_older", "overwrite_edits", "ignored")}
    with installing.prepared(bundle, values_files, flags, options.JOBS) as ready:
        report = stage.preflight(inquiry(ready, progress, chosen))
    emit(output_format, data=data(report), table=shown(report), names=[str(it) for it in report.stops])
    refuse(report)


def inquiry(ready: Prepared, progress: Progress, chosen: dict[str, Any]) -> stage.Inquiry:
    """Return what preflight asks; ``install`` asks the same."""
    return stage.Inquiry(
        intent=ready.intent,
        lock=ready.site.lock,
        kubectl=ready.kubectl,
        releases=ready.releases,
        ends=ready.ends,
        operator_chart=ready.site.operator_chart,
        server_chart=ready.site.server_chart,
        server_values=ready.server_values,
        progress=progress,
        **chosen,
    )


def refuse(report: Report) -> None:
    """Raise ClusterError when something stops the install."""
    if not report:
        first = report.stops[0]
        more = f", and {len(report.stops) - 1} more" if len(report.stops) > 1 else ""
        raise ClusterError(f"the install would fail: {first}{more}", hint=first.remedy or "see airgap preflight")


def data(report: Report) -> dict[str, Any]:
    """Return the report for -o json."""
    return {"ok": bool(report), "findings": [it.to_json() for it in report.findings]}


def shown(report: Report) -> str:
    """Return the report for people."""
    rows = [(it.level, it.check, it.message + (f"; remedy: {it.remedy}" if it.remedy else "")) for it in report.findings]
    told = f"{len(report.stops)} would stop the install, {len(report.warnings)} to know of" if rows else "nothing was checked"
    return f"{table(('LEVEL', 'CHECK', 'FINDING'), rows)}\n\n{told}"
