"""``airgap render``: operator values, custom resource, Secrets and node mirrors for a site."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap.cli import bundle as bundle_option
from airgap.cli import inside, options
from airgap.cli.output import emit, table
from airgap.relocate import Options, Style, relocate
from airgap.relocate.gitops import APART
from airgap.relocate.outputs import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airgap.cli.inside import Site
    from airgap.cli.options import Target
    from airgap.relocate import Relocation


def layout(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how the inside is laid out; ``audit`` of a bundle takes them too."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        [
            click.option("--operator-values", multiple=True, type=file, help="Values of the operator chart; several as helm."),
            click.option("-n", "--namespace", default="wandb", show_default=True, help="Namespace of the operator."),
            click.option("--resource-namespace", default="", help="Namespace of the custom resource; default: the operator's."),
            click.option("--pull-secret", default="", help="Name of the pull secret; made when --username is given."),
            click.option(
                "--chart-delivery",
                type=click.Choice(["auto", "configmap", "oci"]),
                default="auto",
                show_default=True,
                help="How the chart reaches the operator: mounted, or pulled from the registry (operator 1.22 or later).",
            ),
            click.option("--node-ca-file", default="", help="Path of the registry's CA on the nodes, for the mirror files."),
        ]
    ):
        command = option(command)
    return command


@click.command(
    "render",
    epilog="""\b
Examples:
  airgap render wandb.tar --registry reg.lan/wandb --values user.yaml --dir site
  python3 wandb.tar render wandb.tar --registry reg.lan/wandb --values user.yaml --dir site --explain
  cat password | airgap render wandb.tar --registry reg.lan/wandb --values user.yaml --dir site \\
      --username robot --password-stdin --ca-file ca.pem
  airgap render wandb.tar --registry reg.lan/wandb --values user.yaml --dir site \\
      --secrets external:vault --git 'https://git.lan/site.git//wandb?ref=main'      # kustomize, Argo CD and Flux""",
)
@bundle_option.or_folder
@options.registry
@options.pull_registry
@options.values
@layout
@click.option("--dir", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
@click.option(
    "--secrets",
    default=APART,
    show_default=True,
    metavar="apart|plain|sealed|external:[KIND/]STORE",
    help="What the kustomization has for Secrets: nothing (they stay apart), themselves, or SealedSecrets or ExternalSecrets.",
)
@click.option(
    "--git",
    default="",
    metavar="URL[//PATH][?ref=BRANCH]",
    help="Where DIR will lie in git: writes what Argo CD and Flux sync.",
)
@click.option("--explain", is_flag=True, help="Show each value that changes: old, new, and which containers it moves.")
@click.option("--dry-run", is_flag=True, help="Rewrite and explain, but write nothing.")
@options.helm
@options.output
@options.common
def command(
    *, bundle: Path, values_files: tuple[str, ...], folder: Path, explain: bool, dry_run: bool, output_format: str, **flags: Any
) -> None:
    """Write to --dir what makes the operator take everything from --registry, found by probing the charts in BUNDLE."""
    progress = options.progress(flags)
    style = Style.parse(flags.pop("secrets"), flags.pop("git"))
    target = options.target(flags)
    with inside.site(bundle, flags.pop("helm_path")) as found:
        relocation = rewritten(found, target, values_files, flags)
        written = [] if dry_run else _write(relocation, found, target, folder, style)
    for note in (*relocation.notes, *relocation.remarks(style)):
        progress.warn(note)
    emit(
        output_format,
        data=_data(relocation, written),
        table=_table(relocation, written, folder, explain=explain or dry_run),
        names=written,
    )


def rewritten(found: Site, target: Target, values_files: tuple[str, ...], flags: dict[str, Any]) -> Relocation:
    """Relocate what ``found`` brings, as the options of ``layout`` (taken out of ``flags``) say."""
    credential = target.credential
    chosen = Options(
        operator_namespace=flags.pop("namespace"),
        resource_namespace=flags.pop("resource_namespace"),
        pull_secret=flags.pop("pull_secret"),
        username=credential.username or "" if credential else "",
        password=credential.password or "" if credential else "",
        ca_certificates=(target.ca_text,) if target.ca_text else (),
        node_ca_file=flags.pop("node_ca_file"),
        chart_delivery=flags.pop("chart_delivery"),
        plain_http=target.plain_http,
        kube_version=inside.kube_version(flags.pop("kube_version")),
        operator_values=inside.user_values([str(path) for path in flags.pop("operator_values")]).values,
    )
    return relocate(
        found.lock,
        operator_chart=found.operator_chart,
        server_chart=found.server_chart,
        spec=found.spec,
        user=inside.user_values(values_files),
        location=target.pull,
        options=chosen,
        helm=found.helm,
    )


def _write(relocation: Relocation, found: Site, target: Target, folder: Path, style: Style) -> list[str]:
    """Write the relocation and, beside it, what it was made from: the folder can then be audited by itself."""
    carried: dict[str, str | bytes] = {f"{inside.CARRIED}/{name}": data for name, data in found.contents.items()}
    carried[f"{inside.CARRIED}/{inside.PLACE}"] = inside.place(target)
    return [*relocation.write(folder, style), *write(carried, folder)]


def _data(relocation: Relocation, written: list[str]) -> dict[str, Any]:
    return {
        "changes": [
            {**vars(change), "moves": list(change.moves), "by_products": list(change.by_products)}
            for change in relocation.changes
        ],
        "unmoved": [{**vars(item), "remedies": list(item.remedies)} for item in relocation.unmoved],
        "notes": list(relocation.notes),
        "written": written,
    }


def _table(relocation: Relocation, written: list[str], folder: Path, *, explain: bool) -> str:
    parts = [_explained(relocation)] if explain else []
    if relocation.unmoved:
        left = [(item.reference, item.object, item.reason, "; ".join(item.remedies)) for item in relocation.unmoved]
        parts.append(table(("NOT MOVED", "OBJECT", "WHY", "REMEDY"), left))
    moved = {container for change in relocation.changes for container in change.moves}
    told = f"{folder}: {len(written)} files written, " if written else f"{folder}: nothing new to write, "
    counts = f"{len(relocation.changes)} values set, {len(moved)} containers moved, {len(relocation.unmoved)} not moved"
    parts.append(told + counts)
    return "\n\n".join(parts)


def _explained(relocation: Relocation) -> str:
    """Lay out the changes by chart: each value with old and new, then, once for a group, what moves and what changes along."""
    lines: list[str] = []
    for (chart, moves, by_products), group in groupby(
        relocation.changes, key=lambda change: (change.chart, change.moves, change.by_products)
    ):
        if chart not in lines:
            lines += [*([""] if lines else []), chart]
        changes = list(group)
        lines += [f"  {change.path}: {_short(change.old)} -> {_short(change.new)}" for change in changes]
        lines += [f"      moves {', '.join(moves)}"] if moves else [f"      {changes[0].reason}"]
        lines += [f"      changes along: {_condensed(by_products)}"] if by_products else []
    return "\n".join(lines)


def _condensed(places: Sequence[str]) -> str:
    """Return the places as ``what (n objects)``, grouped by the part of the object that changes."""
    ends = Counter(place.partition(" ")[2] for place in places)
    return ", ".join(f"{end} ({count} object{'s' if count > 1 else ''})" for end, count in sorted(ends.items()))


def _short(value: object) -> str:
    return "(not set)" if value in (None, "") else str(value)
