"""``airgap plan``: what would be bundled, and why."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap.cli import base, options
from airgap.cli.connected import Upstream, look, plan_bundle
from airgap.cli.output import OutputFile, emit, table, write_whole
from airgap.cli.progress import human
from airgap.errors import ConfigurationError
from airgap.inventory import left_out
from airgap.ref import Reference
from airgap.tools import Helm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.cli.connected import Looked, Planned
    from airgap.discover import Discovery, Feature
    from airgap.lock import Lock, LockedImage

LOCK = "airgap.lock"


@click.command(
    "plan",
    epilog="""\b
Examples:
  airgap plan                                       # manifests/wandb.yaml, as it is
  airgap plan -f corp.yaml --values user.yaml
  airgap plan --why quay.io/prometheus/prometheus:v2.47.0
  airgap plan -o name | sort                        # the list, for another tool
  airgap plan --base inventory.json                 # what is left to carry to a registry that holds something already""",
)
@options.manifest
@options.values
@options.platforms
@click.option("--lock", "lock_file", default=LOCK, show_default=True, type=OutputFile())
@click.option("--why", metavar="REFERENCE", help="Print why this image is needed: chart, template, object, value path.")
@base.option
@click.option("--dry-run", is_flag=True, help="Write no lock.")
@options.jobs
@options.helm
@options.output
@options.common
def command(
    *,
    manifest_file: Path | None,
    values_files: tuple[str, ...],
    platforms: tuple[str, ...],
    lock_file: Path,
    why: str | None,
    base_file: Path | None,
    dry_run: bool,
    jobs: int,
    output_format: str,
    **flags: Any,
) -> None:
    """Resolve the manifest to digests and sizes, show the table and what each optional feature would add, write the lock."""
    progress = options.progress(flags)
    chosen = base.base_of(base_file)  # a file that is none is refused before anybody is asked
    helm = Helm.find(flags.pop("helm_path"))
    wanted = Reference.parse(why) if why else None
    with tempfile.TemporaryDirectory(prefix="airgap-plan-") as scratch:
        upstream = Upstream.open(manifest_file, platforms, Path(scratch), jobs)
        looked = look(upstream, values_files, helm, flags.pop("kube_version"), progress)
        if wanted:
            click.echo(_reasons(looked.discovery, wanted))
            return
        planned = plan_bundle(upstream, looked, helm, jobs=jobs, progress=progress, offers=True)
    for warning in planned.warnings:
        progress.warn(warning)
    planned = replace(planned, lock=base.rebased(planned.lock, chosen))
    if not dry_run:
        write_whole(lock_file, planned.lock.to_bytes())
    names = [str(image.reference) for image in planned.lock.images]
    shown = _table(planned, looked, "" if dry_run else str(lock_file))
    emit(output_format, data=_data(planned, looked), table=shown, names=names)


def _reasons(found: Discovery, wanted: Reference) -> str:
    """Return the chain of each origin of ``wanted``; of what is only offered, too."""
    hits = [item for item in (*found.requirements, *found.offered) if item.reference == wanted]
    if not hits:
        raise ConfigurationError(f"nothing asks for {wanted}", hint="airgap plan -o name lists what is asked for")
    lines = [str(wanted)]
    for item in hits:
        state = f"optional: {', '.join(item.features)}" if item.features else "needed by default"
        lines += [f"  {state}", *(f"  {origin}" for origin in item.origins)]
    return "\n".join(lines)


def _data(planned: Planned, looked: Looked) -> dict[str, Any]:
    return {
        "lock": json.loads(planned.lock.to_bytes()),
        "digest": str(planned.lock.digest),
        "bytes": sum(blob.size for blob in planned.lock.blobs().values()),
        "leftOutBytes": sum(blob.size for blob in left_out(planned.lock)),
        "features": [
            {
                "name": feature.name,
                "chart": feature.chart,
                "selected": feature.selected,
                "adds": [str(reference) for reference in feature.adds],
                "addsBytes": planned.extra.get(feature.name),
                "problem": feature.problem,
            }
            for feature in looked.discovery.features
        ],
    }


def _table(planned: Planned, looked: Looked, written: str) -> str:
    lock = planned.lock
    parts = [table(("IMAGE", "SIZE", "DIGEST", "WHY", "NOTE"), [_row(image) for image in lock.images])]
    if looked.discovery.features:
        rows = [_feature(feature, planned.extra) for feature in looked.discovery.features]
        parts.append(table(("FEATURE", "IN", "IMAGES", "BYTES", "WHICH"), rows))
    blobs = lock.blobs()
    total = sum(blob.size for blob in blobs.values())
    told = f"{len(lock.images)} images, {len(lock.artifacts)} artifacts, {len(blobs)} blobs, {human(total)}; lock {lock.digest}"
    if lock.base:
        parts.append(f"builds on {base.told(lock)}: {_saving(lock)}")
    parts.append(f"{told}{f' written to {written}' if written else ''}")
    return "\n\n".join(parts)


def _saving(lock: Lock) -> str:
    """Say what a delta carries, and what everything would be."""
    carried, whole = (sum(blob.size for blob in blobs.values()) for blobs in (lock.blobs(), lock.needed()))
    return f"{human(carried)} to carry instead of {human(whole)}, {100 * carried // max(1, whole)} %"


def _row(image: LockedImage) -> tuple[str, ...]:
    first = image.origins[0] if image.origins else None
    why = f"{first.object or first.kind}" if first else ""
    more = f" and {len(image.origins) - 1} more" if len(image.origins) > 1 else ""
    return str(image.reference), human(image.tree.size), image.digest.short, f"{why}{more}", "; ".join(image.notes)


def _feature(feature: Feature, extra: Mapping[str, int]) -> tuple[str, ...]:
    size = human(extra[feature.name]) if feature.name in extra else "-" if feature.selected else "?"
    which = feature.problem or ", ".join(str(reference) for reference in feature.adds)
    return feature.name, "yes" if feature.selected else "no", str(len(feature.adds)), size, which
