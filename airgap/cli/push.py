"""``airgap push``: a bundle into the private registry, straight from the tar."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from airgap import push as stage
from airgap.cli import bundle as bundle_option
from airgap.cli import options
from airgap.cli.output import OutputFile, emit, table, write_whole, written_json
from airgap.cli.pace import duration
from airgap.cli.progress import human
from airgap.push.journal import noted_uploads
from airgap.registry import Registry
from airgap.shard import Shard

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.push import PushResult


@click.command(
    "push",
    epilog="""\b
Examples:
  airgap push wandb.tar --registry reg.lan:5000/mirror
  python3 wandb.tar push wandb.tar --registry harbor.lan/wandb --ca-file ca.pem --dry-run
  cat password | airgap push wandb.tar --registry reg.lan --username robot --password-stdin
  airgap push wandb.tar --registry reg.lan:5000/mirror --shard 2/4""",
)
@bundle_option.argument
@options.registry
@options.jobs
@options.limit_rate
@click.option("--dry-run", is_flag=True, help="Ask the registry what is missing, list it, send nothing.")
@click.option("--probe", is_flag=True, help="With --dry-run: open and cancel an upload in each new repository, as a push does.")
@click.option(
    "--shard",
    "share",
    metavar="NUMBER/COUNT",
    default="1/1",
    envvar="AIRGAP_SHARD",
    help="Do one share of the push, e.g. 2/4 (from 1), while others do theirs; auto/4: by the index of a Kubernetes Job's pod.",
)
@click.option("--include-foreign", is_flag=True, help="Push layers that their publisher wants fetched from elsewhere.")
@click.option("--upload-host", "upload_hosts", multiple=True, help="Another host to which the registry may send uploads.")
@click.option("--receipt", type=OutputFile(), help="Write what is in the registry now, as JSON.")
@options.output
@options.common
def command(
    *,
    bundle: Path,
    jobs: int,
    dry_run: bool,
    probe: bool,
    share: str,
    include_foreign: bool,
    upload_hosts: tuple[str, ...],
    receipt: Path | None,
    limit_rate: int | None,
    output_format: str,
    **flags: Any,
) -> None:
    """Push BUNDLE to --registry, with children before parents and tags last; what is there already is not sent again.

    A push that was broken off goes on where the registry still knows it; a journal beside the bundle says where that was.
    """
    progress = options.progress(flags)
    shard = Shard.parse(share, os.environ)
    target = options.target(flags, jobs=jobs, rate=options.rate(limit_rate))
    with bundle_option.open_bundle(bundle) as reader:
        noted = nullcontext(None) if dry_run else noted_uploads(bundle, reader.digest, target.location, os.environ, shard)
        with noted as sessions:
            registry = Registry(
                target.client, target.location.registry, push=True, upload_hosts=upload_hosts, sessions=sessions
            )
            result = stage.push(
                reader,
                registry,
                target.location,
                jobs=jobs,
                progress=progress,
                dry_run=dry_run,
                probing=probe,
                include_foreign=include_foreign,
                shard=shard,
            )
    for warning in result.warnings:
        progress.warn(warning)
    if receipt and not dry_run:
        write_whole(receipt, written_json(result.receipt()))
    emit(output_format, data=_data(result), table=_table(result), names=[str(item.reference) for item in result.landed])


def _data(result: PushResult) -> dict[str, Any]:
    left = {"blobs": len(result.plan.blobs), "manifests": len(result.plan.manifests), "bytes": result.plan.size}
    return {**result.receipt(), **result.counts(), "dryRun": result.dry_run, "plan": left}


def _table(result: PushResult) -> str:
    rows = [(str(item.reference), item.digest.short, item.note) for item in result.landed]
    if result.dry_run:
        told = (
            f"would send {len(result.plan.blobs) + len(result.plan.manifests)} blobs and manifests, {human(result.plan.size)}"
        )
    else:
        told = _summary(result)
    return f"{table(('REFERENCE', 'DIGEST', 'WHAT HAPPENED'), rows)}\n\n{result.location}: {told}{_rest(result)}"


def _rest(result: PushResult) -> str:
    """Return what a share says of the others."""
    if result.shard.is_whole:
        return ""
    left = (
        f"{len(result.awaiting)} images and charts wait for blobs of other shares" if result.awaiting else "nothing is missing"
    )
    return f"; share {result.shard}: {left}"


def _summary(result: PushResult) -> str:
    """Return what was done in one line: sent, kept, mounted, skipped, retried, time, speed."""
    kept = f", of which the registry kept {human(result.kept_size)} from an earlier run" if result.kept_size else ""
    speed = f", {human(result.sent_size / result.seconds)}/s" if result.sent_size and result.seconds else ""
    return (
        f"sent {result.sent} ({human(result.sent_size + result.kept_size)}{kept}), mounted {result.mounted}, "
        f"already there {result.skipped}, retried {result.retried}, in {duration(result.seconds)}{speed}"
    )
