"""``airgap status``: what runs, what is wrong and why, and what was changed since the install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from airgap import status as stage
from airgap.cli import cluster, options
from airgap.cli.output import emit, table
from airgap.errors import ClusterError
from airgap.pulled import KNOWN, MIRRORED

if TYPE_CHECKING:
    from airgap.status import PodRow, Status


@click.command(
    "status",
    epilog="""\b
Examples:
  airgap status
  airgap status -n wandb --context prod -o json
  airgap status --images                       # every container's image by digest, against the receipt""",
)
@cluster.options
@cluster.subject
@options.reach
@click.option("--images", is_flag=True, help="Show each container's image by digest, against the receipt.")
@options.output
@options.common
def command(*, images: bool, output_format: str, **flags: Any) -> None:
    """Show phase, versions, every pod with what it is for, images against the receipt, what is wrong and why, and changes.

    Exit 6 when it is not healthy.
    """
    options.progress(flags)
    kubectl = cluster.kubectl(flags)
    found = stage.judge(stage.observe(kubectl, cluster.subject_of(flags), cluster.opener(flags)))
    emit(output_format, data=found.to_json(), table=_table(found, images=images), names=[pod.name for pod in found.pods])
    if not found:
        first = found.problems[0]
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise ClusterError(f"not healthy: {first.about}: {first.sentence}{more}", hint=first.fix)


def _table(found: Status, *, images: bool) -> str:
    parts = [_head(found)]
    if found.pods:
        parts.append(
            table(("ROLE", "POD", "STATE", "READY", "RESTARTS", "IMAGES", "WHAT IT DOES"), [_row(pod) for pod in found.pods])
        )
    if images:
        rows = [
            (image.object.partition("/")[2], image.container, image.image, image.digest or "-", image.verdict, image.reason)
            for pod in found.pods
            for image in pod.images
        ]
        parts.append(table(("POD", "CONTAINER", "IMAGE", "DIGEST", "VERDICT", "WHY"), rows) if rows else "no images to compare")
    if found.problems:
        lines = [f"  {it.about}: {it.sentence}" + (f"\n      -> {it.fix}" if it.fix else "") for it in found.problems]
        parts.append("\n".join(["Problems:", *lines]))
    if found.drift:
        parts.append("\n".join(["Changed since the install:", *(f"  {it}" for it in found.drift)]))
    if found.warnings:
        parts.append("\n".join(["Not looked at, or not known:", *(f"  {it}" for it in found.warnings)]))
    parts.append("healthy" if found else f"NOT healthy: {len(found.problems)} problem{'s' if len(found.problems) > 1 else ''}")
    return "\n\n".join(parts)


def _head(found: Status) -> str:
    receipt = found.receipt
    lines = [
        ("W&B", f"{found.namespace}/{found.name}"),
        ("phase", found.phase or "(none)"),
        ("version", found.app_version or "(unknown)"),
    ]
    lines += [
        (f"release {it.name}", f"{it.chart or '(chart unknown)'}, revision {it.revision}, {it.status}") for it in found.releases
    ]
    if receipt:
        which = f"{receipt['number']}, bundle {receipt['bundle']} ({receipt['lock'][:19]}...)"
        lines += [("receipt", f"{which}, {receipt['state']} {receipt['ended']}"), ("registry", str(receipt["location"]))]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {value}".rstrip() for name, value in lines)


def _row(pod: PodRow) -> tuple[str, ...]:
    good = sum(image.verdict in (KNOWN, MIRRORED) for image in pod.images)
    images = f"{good}/{len(pod.images)} known" if pod.images else "-"
    return pod.role.name, pod.name, pod.state, pod.ready, str(pod.restarts), images, pod.role.words
