"""``airgap demo``: the whole loop on loopback."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from airgap.demo.run import demo


@click.command(
    "demo",
    epilog="""\b
Examples:
  airgap demo
  airgap demo --keep demo        # and look at the bundle and the rendered files afterwards""",
)
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Work in this folder and leave it.")
def command(keep: Path | None) -> int:
    """Mirror a small W&B, cross the gap, push, rewrite and prove it: on loopback, each command printed as you would type it."""
    if keep:
        return demo(keep.absolute(), click.echo)
    with tempfile.TemporaryDirectory(prefix="airgap-demo-") as folder:
        return demo(Path(folder), click.echo)
