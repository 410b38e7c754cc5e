"""``airgap config``: schema, validation and explanation of what the user writes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from airgap import manifest as bundle_manifest
from airgap.manifest import BundleManifest


@click.group("config")
def command() -> None:
    """Print the schema of the bundle manifest, or check one."""


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
