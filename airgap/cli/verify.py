"""``airgap verify``: every byte of a bundle, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from airgap import verify as stage
from airgap.bundle.volumes import bring_hint, ranges, split_name
from airgap.cli import bundle as bundle_option
from airgap.cli import options
from airgap.cli.output import emit, table
from airgap.cli.progress import human
from airgap.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle import Verification


@click.command(
    "verify",
    epilog="""\b
Examples:
  airgap verify wandb.tar                  # one file, or all volumes of a split bundle
  airgap verify wandb.tar.007              # this volume, with nothing but its bytes
  airgap verify wandb.tar --volumes /media/a --volumes /media/b
  airgap verify wandb.tar --verify-key release.pub     # and wandb.tar.sig beside it
  python3 wandb.tar verify wandb.tar -o json""",
)
@bundle_option.argument
@options.output
@options.common
def command(bundle: Path, output_format: str, **flags: Any) -> None:
    """Check every byte of BUNDLE against its lock and report all faults at once; exit 4 if there is any.

    A volume of a split bundle is checked by itself; the name without a number means all of them.
    """
    progress = options.progress(flags)
    signed = bundle_option.signed_by(bundle)
    verification = stage.verify(bundle, progress=progress, folders=bundle_option.folders())
    faults = verification.faults
    rows = [(fault.member, str(fault.offset), fault.message) for fault in faults]
    emit(
        output_format,
        data={
            "bundle": str(bundle),
            "blobs": verification.blobs,
            "bytes": verification.size,
            "whole": bool(verification),
            "faults": [vars(fault) for fault in faults],
            "volumes": verification.count,
            "bring": list(verification.bring),
            "signedBy": signed,
            **({"volume": verification.volume.to_json()} if verification.volume else {}),
        },
        table=table(("MEMBER", "OFFSET", "FAULT"), rows)
        if faults
        else f"{bundle}: whole, {_told(verification)}{f', signed by {signed}' if signed else ''}",
        names=[fault.member for fault in faults],
    )
    if faults:
        raise _damaged(bundle, verification)


def _told(verification: Verification) -> str:
    """Say what was checked."""
    if volume := verification.volume:
        return f"{volume} of bundle {volume.identity.bundle}, {human(verification.size)}"
    many = f"{verification.count} volumes, " if verification.count else ""
    return f"{many}{verification.blobs} blobs, {human(verification.size)}"


def _damaged(bundle: Path, verification: Verification) -> BundleError:
    """Say what to bring again: the volumes that are missing or damaged, or the one file."""
    if verification.bring:
        base, _ = split_name(bundle)
        of = f" of {verification.count}" if verification.count else ""
        what = "volume" if len(verification.bring) == 1 else "volumes"
        return BundleError(
            f"bundle {bundle}: bring {what} {ranges(verification.bring)}{of} again",
            hint=bring_hint(base, verification.bring[0]),
        )
    count = len(verification.faults)
    return BundleError(
        f"bundle {bundle} has {count} fault{'s' if count > 1 else ''}", hint="copy it again from where it was made"
    )
