"""``airgap mirror``: everything into one file, or into volumes."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap import fetch as stage
from airgap.bundle import interrupted
from airgap.cli import base, options, signatures, splitting
from airgap.cli.connected import Planned, Upstream, look, plan_bundle, planned_from
from airgap.cli.output import OutputFile, emit
from airgap.cli.pace import duration
from airgap.cli.progress import human
from airgap.errors import ConfigurationError
from airgap.inventory import left_out
from airgap.lock import Lock
from airgap.tools import Helm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.fetch import MirrorResult
    from airgap.inventory import Base


@click.command(
    "mirror",
    epilog="""\b
Examples:
  airgap mirror wandb.tar                            # the manifest that ships with airgap
  airgap mirror wandb.tar -f corp.yaml --values user.yaml --platform linux/amd64
  airgap mirror wandb.tar --lock airgap.lock         # exactly what was planned, byte for byte
  airgap mirror delta.tar --base inventory.json      # only what the registry inside does not hold yet
  airgap mirror wandb.tar --sign-key release.pem     # and wandb.tar.sig, for verify and push --verify-key release.pub
  airgap mirror wandb.tar --split 4000M              # volumes wandb.tar.001, ... for FAT32 media
  airgap mirror wandb.tar --volume 7 --lock airgap.lock --split 4000M    # that one again, byte for byte""",
)
@click.argument("bundle", type=OutputFile())
@options.manifest
@options.values
@options.platforms
@click.option(
    "--lock",
    "lock_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Carry exactly what this lock lists.",
)
@base.option
@splitting.options
@signatures.sign_option
@click.option("--include-foreign", is_flag=True, help="Carry layers that their publisher wants fetched from elsewhere.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, write nothing.")
@options.jobs
@options.limit_rate
@options.helm
@options.output
@options.common
def command(
    *,
    bundle: Path,
    manifest_file: Path | None,
    values_files: tuple[str, ...],
    platforms: tuple[str, ...],
    lock_file: Path | None,
    base_file: Path | None,
    split: int | None,
    volume: int | None,
    include_foreign: bool,
    dry_run: bool,
    jobs: int,
    output_format: str,
    **flags: Any,
) -> None:
    """Write the release channel's spec, the charts, every image, helm and airgap itself into BUNDLE.

    An interrupted run is finished by the same command: what was fetched is not fetched again, inside a blob either.
    """
    progress = options.progress(flags)
    signing = signatures.signer(flags.pop("sign_key"))
    chosen = base.base_of(base_file)  # a file that is none is refused before anybody is asked
    helm = Helm.find(flags.pop("helm_path"))
    with _scratch(bundle) as scratch:
        upstream = Upstream.open(manifest_file, platforms, scratch, jobs, options.rate(flags.pop("limit_rate")))
        lock = Lock.from_bytes(lock_file.read_bytes(), str(lock_file)) if lock_file else interrupted(bundle)
        if volume:
            lock, split = splitting.split_of(bundle, base.rebased(lock, chosen) if lock_file and lock else None, split)
            planned = splitting.planned_volume(upstream, lock, helm, bundle, split=split, volume=volume)
        elif lock is not None:
            if lock_file is None:
                progress.warn(
                    f"{bundle} was begun before and is finished now; to begin anew delete what begins with {bundle}.partial"
                )
                _same_base(bundle, lock, chosen)
            planned = planned_from(upstream, lock, helm, progress)
        else:
            looked = look(upstream, values_files, helm, flags.pop("kube_version"), progress)
            planned = plan_bundle(upstream, looked, helm, jobs=jobs, progress=progress)
            for warning in planned.warnings:
                progress.warn(warning)
        planned = planned if volume else replace(planned, lock=base.rebased(planned.lock, chosen))
        splitting.warn_of_fat(split, progress)
        if dry_run:
            _dry(planned, bundle, output_format)
            return
        result = stage.mirror(
            planned.lock,
            planned.sources,
            bundle,
            jobs=jobs,
            progress=progress,
            include_foreign=include_foreign,
            split=split,
            volume=volume,
        )
    what = splitting.told(result, split, volume)
    signature = signatures.sign(signing, bundle, planned.lock.to_bytes())
    _emit(result, planned.lock, what, upstream.client.tally.retried, output_format, signature=signature)


def _emit(result: MirrorResult, lock: Lock, what: str, retried: int, output_format: str, *, signature: str) -> None:
    """Say what was done; ``what`` names the files, ``signature`` that of theirs."""
    emit(
        output_format,
        data={
            "bundle": str(result.path),
            "digest": str(result.digest),
            "bytes": result.size,
            "fetched": result.fetched,
            "fetchedBytes": result.fetched_size,
            "held": result.held,
            "resumedBytes": result.resumed_size,
            "retried": retried,
            "seconds": round(result.seconds, 3),
            "files": [str(path) for path in result.files],
            "signature": signature,
            **_base_data(lock),
        },
        table=f"{what}: {human(result.size)}, {len(lock.images)} images, "
        f"{_summary(result, retried)}; lock {result.digest}{_builds_on(lock)}{f'; signed, {signature}' if signature else ''}",
        names=[str(path) for path in result.files],
    )


def _summary(result: MirrorResult, retried: int) -> str:
    """Return what was done in a few words: fetched, kept, retried, time, speed."""
    if result.already:
        return "was whole already"
    parts = [f"{result.held} were there"] if result.held else []
    parts += [f"{human(result.resumed_size)} of others too"] if result.resumed_size else []
    kept = f" ({', '.join(parts)})" if parts else ""
    speed = f", {human(result.fetched_size / result.seconds)}/s" if result.fetched_size and result.seconds else ""
    again = f", retried {retried}" if retried else ""
    return f"fetched {result.fetched} blobs, {human(result.fetched_size)}{kept} in {duration(result.seconds)}{speed}{again}"


def _dry(planned: Planned, bundle: Path, output_format: str) -> None:
    """Say what a run would fetch."""
    blobs = planned.lock.blobs()
    size = sum(blob.size for blob in blobs.values())
    emit(
        output_format,
        data={"bundle": str(bundle), "digest": str(planned.lock.digest), "blobs": len(blobs), "bytes": size}
        | _base_data(planned.lock),
        table=f"{bundle}: would hold {len(planned.lock.images)} images, {len(blobs)} blobs, {human(size)}"
        f"{_builds_on(planned.lock)}",
        names=[str(image.reference) for image in planned.lock.images],
    )


def _same_base(bundle: Path, begun: Lock, chosen: Base | None) -> None:
    """Refuse to finish on another base what was begun on one."""
    if base.rebased(begun, chosen).digest != begun.digest:
        raise ConfigurationError(
            f"{bundle} was begun before, and not on {chosen.name if chosen else 'nothing'}",
            hint=f"leave --base out to finish it as it was begun, or delete what begins with {bundle}.partial to begin anew",
        )


def _base_data(lock: Lock) -> dict[str, Any]:
    """Return what a delta builds on and what that saves; nothing for a bundle that holds everything."""
    if lock.base is None:
        return {}
    gone = left_out(lock)
    saved = {"blobs": len(gone), "bytes": sum(blob.size for blob in gone)}
    return {"base": {"kind": lock.base.kind, "name": lock.base.name, "digest": str(lock.base.digest), **saved}}


def _builds_on(lock: Lock) -> str:
    return f"; builds on {base.told(lock)}" if lock.base else ""


@contextmanager
def _scratch(bundle: Path) -> Iterator[Path]:
    """Give a folder beside the bundle for what must be a file first; a run that was killed leaves it to the next one."""
    folder = bundle.absolute().with_name(f".{bundle.name}.scratch")
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
