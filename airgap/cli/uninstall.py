"""``airgap uninstall``: take away what the receipts list."""

from __future__ import annotations

from typing import Any

import click

from airgap import remove as stage
from airgap.cli import cluster, inside, installing, options
from airgap.cli.output import emit, table
from airgap.errors import ConfigurationError
from airgap.receipts import Receipts
from airgap.releases import HelmReleases


@click.command(
    "uninstall",
    epilog="""\b
Examples:
  airgap uninstall                        # what would go and what would stay
  airgap uninstall --yes
  airgap uninstall --yes --purge          # data, CRDs and namespaces too""",
)
@cluster.options
@click.option("--yes", is_flag=True, help="Do it; without, only what would happen is shown.")
@click.option("--purge", is_flag=True, help="Delete data too: claims, kept Secrets, CRDs, the namespaces that airgap made.")
@click.option("--without-operator", is_flag=True, help="Do the operator's part from here: it is gone, or stuck.")
@click.option(
    "--timeout", type=installing.Duration(), default="5m", show_default=True, help="How long to wait for the operator."
)
@options.helm
@options.output
@options.common
def command(*, yes: bool, output_format: str, **flags: Any) -> None:
    """Remove what the receipts list: the custom resource first, then the operator, then everything that was applied.

    Data stays unless --purge: volume claims, Secrets that the charts tell helm to keep, the CRD, namespaces. The bucket and
    external databases are never touched.
    """
    progress = options.progress(flags)
    kubectl, namespace = cluster.kubectl(flags), flags.pop("namespace")
    chosen = stage.RemoveOptions(flags.pop("purge"), flags.pop("without_operator"), flags.pop("timeout"))
    receipts = Receipts(kubectl, namespace)
    plan = stage.look(kubectl, receipts)
    if plan is None:
        emit(
            output_format,
            data={"objects": [], "kept": []},
            table=f"namespace {namespace} has no receipt of airgap: nothing to do",
            names=[],
        )
        return
    if not yes:
        steps = plan.steps(chosen)
        data = {"planned": [{"object": name, "what": what} for name, what in steps]}
        emit(output_format, data=data, table=table(("OBJECT", "WOULD BE"), steps), names=[name for name, _ in steps])
        raise ConfigurationError("nothing was removed", hint="give --yes to remove what is listed above")
    releases = HelmReleases(inside.helm_at_hand(flags.pop("helm_path")), kubectl)
    removal = stage.remove(releases, receipts, plan, chosen, progress)
    kept = f"\n\nStays:\n{table(('OBJECT', 'WHY'), removal.kept)}" if removal.kept else ""
    emit(
        output_format,
        data=removal.to_json(),
        table=f"{table(('OBJECT', 'WHAT HAPPENED'), removal.done)}{kept}\n\nremoved",
        names=[name for name, what in removal.done if what == stage.DELETED],
    )
