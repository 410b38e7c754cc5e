"""``airgap diff``: what changed between two bundles or locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from airgap.chart import Chart
from airgap.cli import options
from airgap.cli.base import is_json, lock_of
from airgap.cli.bundle import BundlePath, open_bundle, with_volumes
from airgap.cli.output import emit, table
from airgap.cli.progress import human
from airgap.difference import CRD, Side, compare
from airgap.values import get, load_yaml_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airgap.bundle import BundleReader
    from airgap.difference import Change, Difference
    from airgap.values import Json

DIFFERENT = 1
"""Exit code of --exit-code when something changed, as git and kubectl have it."""


@click.command(
    "diff",
    epilog="""\b
Examples:
  airgap diff old.tar new.tar
  airgap diff old.lock airgap.lock -o json         # before anything is mirrored
  airgap diff old.tar new.tar --exit-code          # exit 1 when something changed""",
)
@click.argument("old", type=BundlePath())
@click.argument("new", type=BundlePath())
@with_volumes
@click.option("--exit-code", is_flag=True, help="Exit 1 when something changed, 0 when nothing did.")
@options.output
def command(*, old: Path, new: Path, exit_code: bool, output_format: str) -> int:
    """Show images, charts, channel values and CRDs that changed from OLD to NEW, and the bytes to carry.

    Either may be a bundle or a lock; CRDs are known of bundles only, because they lie in the charts.
    """
    found = compare(_side(old), _side(new))
    changes = (*found.images, *found.charts, *found.others, *found.values, *(found.crds or ()))
    emit(output_format, data=found.to_json(), table=_table(found), names=[change.name for change in changes])
    return DIFFERENT if exit_code and found else 0


def _side(path: Path) -> Side:
    if is_json(path):
        return Side(lock_of(path))
    with open_bundle(path) as bundle:
        return Side(bundle.lock, dict(_crds(bundle)))


def _crds(bundle: BundleReader) -> Iterator[tuple[str, Json]]:
    """Yield the CRDs in the charts' crds folders, subcharts' too, as ``chart: name``."""
    for artifact in bundle.lock.artifacts:
        if artifact.kind != "chart":
            continue
        chart = Chart.from_bytes(bundle.read(artifact.content), f"{bundle.path}: {artifact.name}")
        for node in chart.tree():
            for name, data in sorted(node.chart.files.items()):
                if name.startswith("crds/") and name.endswith((".yaml", ".yml", ".json")):
                    for document in load_yaml_all(data, f"{chart.label}: {name}"):
                        if isinstance(document, dict) and document.get("kind") == CRD:
                            yield f"{'.'.join((chart.name, *node.path))}: {get(document, ('metadata', 'name'))}", document


def _table(found: Difference) -> str:
    kinds = (("IMAGE", found.images), ("CHART", found.charts), ("ARTIFACT", found.others), ("VALUE", found.values))
    parts = [table((head, "HOW", "OLD", "NEW"), [_row(it) for it in changes]) for head, changes in kinds if changes]
    if found.crds:
        parts.append(table(("CRD", "HOW", "OLD", "NEW"), [_row(it) for it in found.crds]))
    told = "nothing changed" if not found else f"{human(found.carry)} to carry over what the old one holds"
    unknown = "; CRDs are not known of a lock: name the bundles" if found.crds is None else ""
    return "\n\n".join([*parts, told + unknown])


def _row(change: Change) -> tuple[str, ...]:
    return change.name, change.how, _short(change.old), _short(change.new)


def _short(value: Json) -> str:
    """Shorten digests to twelve digits, as tables do."""
    text = "" if value is None else str(value)
    head, colon, digest = text.rpartition("sha256:")
    return f"{head}{digest[:12]}" if colon else text
