"""``airgap verify``: every byte of a bundle, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from airgap import verify as stage
from airgap.cli import options
from airgap.cli.output import emit, table
from airgap.cli.progress import human
from airgap.errors import BundleError


@click.command(
    "verify",
    epilog="""\b
Examples:
  airgap verify wandb.tar
  python3 wandb.tar verify wandb.tar -o json""",
)
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.output
@options.common
def command(bundle: Path, output_format: str, **flags: Any) -> None:
    """Check every byte of BUNDLE against its lock and report all faults at once; exit 4 if there is any."""
    progress = options.progress(flags)
    verification = stage.verify(bundle, progress=progress)
    faults = verification.faults
    rows = [(fault.member, str(fault.offset), fault.message) for fault in faults]
    whole = f"{bundle}: whole, {verification.blobs} blobs, {human(verification.size)}"
    emit(
        output_format,
        data={
            "bundle": str(bundle),
            "blobs": verification.blobs,
            "bytes": verification.size,
            "whole": bool(verification),
            "faults": [vars(fault) for fault in faults],
        },
        table=table(("MEMBER", "OFFSET", "FAULT"), rows) if faults else whole,
        names=[fault.member for fault in faults],
    )
    if faults:
        raise BundleError(
            f"bundle {bundle} has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
            hint="copy it again from where it was made",
        )
