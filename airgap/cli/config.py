"""``airgap config``: schema, validation and explanation of what the user writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap import manifest as bundle_manifest
from airgap.cli import bundle as bundle_option
from airgap.cli import inside, options
from airgap.cli.output import emit, table
from airgap.manifest import BundleManifest
from airgap.relocate.credentials import suspects
from airgap.values import format_path, leaves
from airgap.wandb import effective

if TYPE_CHECKING:
    from airgap.values import Json, Merged

MASK = "(secret)"


@click.group("config")
def command() -> None:
    """Print the schema of the bundle manifest, check one, or explain what the operator will give to Helm."""


@command.command("schema")
def schema() -> None:
    """Print the JSON schema of the bundle manifest (point an editor at it)."""
    click.echo(json.dumps(bundle_manifest.schema(), indent=2))


@command.command(
    "validate",
    epilog="""\b
Example:
  airgap config validate manifests/wandb.yaml""",
)
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def validate(manifest: Path) -> None:
    """Check MANIFEST against its schema; every fault at once, exit 2 if there is any."""
    parsed = BundleManifest.load(manifest)
    click.echo(f"{manifest}: valid ({len(parsed.charts)} charts, {len(parsed.images)} images named by hand)")


@command.command(
    "explain",
    epilog="""\b
Examples:
  airgap config explain wandb.tar --values user.yaml
  airgap config explain wandb.tar --values user.yaml --user-input console.yaml -o json""",
)
@bundle_option.or_folder
@options.values
@click.option(
    "--user-input",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the System Console keeps: values that outrank the channel's.",
)
@click.option("-n", "--namespace", default="wandb", show_default=True, help="Namespace of the operator.")
@options.helm
@options.output
@options.common
def explain(
    *, bundle: Path, values_files: tuple[str, ...], user_input: Path | None, namespace: str, output_format: str, **flags: Any
) -> None:
    """Show each value that the operator gives to Helm, and the layer it comes from, merged as the operator merges.

    Layers, highest first: the custom resource (--values), the user input, the release channel in BUNDLE, the operator's own.
    What looks like a secret is not shown.
    """
    progress = options.progress(flags)
    with inside.site(bundle, flags.pop("helm_path")) as found:
        channel = found.spec.values if found.spec else {}
    user = inside.user_values(values_files)
    console = inside.user_values([str(user_input)]).values if user_input else {}
    merged = effective(user.values, console, channel, namespace)
    for warning in merged.warnings:
        progress.warn(warning)
    rows = _rows(merged)
    data = {"values": [{"path": path, "value": value, "layer": layer} for path, value, layer in rows]}
    shown = table(("PATH", "VALUE", "LAYER"), [(path, json.dumps(value), layer) for path, value, layer in rows])
    emit(output_format, data=data, table=shown, names=[path for path, _, _ in rows])


def _rows(merged: Merged) -> list[tuple[str, Json, str]]:
    """Return path, value and layer of each leaf, sorted by path; secrets are masked."""
    secret = set(suspects(merged.values))
    rows = [(format_path(path), value, merged.origin(path)) for path, value in leaves(merged.values)]
    return sorted((path, MASK if path in secret else value, layer) for path, value, layer in rows)
