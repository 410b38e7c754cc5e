"""``airgap load``: images of a bundle into a local Docker engine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from airgap import load as stage
from airgap.cli import bundle as bundle_option
from airgap.cli import options
from airgap.cli.output import emit, table
from airgap.ref import Reference

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "load",
    epilog="""\b
Examples:
  airgap load wandb.tar --image docker.io/wandb/local:0.79.1
  DOCKER_HOST=unix:///run/user/1000/docker.sock airgap load wandb.tar""",
)
@bundle_option.argument
@click.option("--image", "images", multiple=True, metavar="REFERENCE", help="Only this image; repeatable.")
@options.output
@options.common
def command(*, bundle: Path, images: tuple[str, ...], output_format: str, **flags: Any) -> None:
    """Load the images of BUNDLE into the local Docker engine, straight from the tar; what it has already is not sent.

    An engine knows loaded images by tag alone: for charts that pin digests, push to a registry.
    """
    progress = options.progress(flags)
    wanted = tuple(Reference.parse(text) for text in images)
    with bundle_option.open_bundle(bundle) as reader:
        loaded = stage.load(reader, only=wanted, environ=os.environ, progress=progress)
    rows = [(item.name, item.image_id[:19], item.note) for item in loaded]
    emit(
        output_format,
        data={"images": [{"name": item.name, "id": item.image_id, "note": item.note} for item in loaded]},
        table=table(("NAME", "ID", "WHAT HAPPENED"), rows),
        names=[item.name for item in loaded],
    )
