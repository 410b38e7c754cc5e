"""``airgap push``: a bundle into the private registry, straight from the tar."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from airgap import push as stage
from airgap.cli import bundle as bundle_option
from airgap.cli import job, options, pushing
from airgap.cli.output import OutputFile, emit, write_whole, written_json
from airgap.push.journal import noted_uploads
from airgap.push_job import CLAIM
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
  airgap push wandb.tar --registry reg.lan:5000/mirror --registry other.lan/mirror
  airgap push wandb.tar --registry reg.lan:5000/mirror --shard 2/4
  python3 wandb.tar push wandb.tar --registry reg.lan:5000/mirror --job 4 > push-job.yaml""",
)
@bundle_option.argument
@options.registries
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
@click.option(
    "--job",
    "pods",
    type=click.IntRange(1, 1000),
    metavar="COUNT",
    help="Print a Kubernetes Job whose COUNT pods make this push, each its share; send nothing.",
)
@click.option("--job-image", default="", metavar="REFERENCE", help="With --job: an image with python3, 3.10 or newer.")
@click.option("--job-claim", default=CLAIM, metavar="NAME", show_default=True, help="With --job: the claim with the bundle.")
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
    pods: int | None,
    job_image: str,
    job_claim: str,
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
    rate = options.rate(limit_rate)
    if pods:
        told = job.rest(jobs=jobs, rate=limit_rate, count=pods, include_foreign=include_foreign, upload_hosts=upload_hosts)
        with bundle_option.open_bundle(bundle) as reader:
            digest = reader.digest
        click.echo(job.text(bundle, digest, flags, count=pods, image=job_image, claim=job_claim, rest=told), nl=False)
        return
    targets = options.targets(flags, jobs=jobs, rate=rate)
    with bundle_option.open_bundle(bundle) as reader:

        def push(target: options.Target) -> PushResult:
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
            return result

        endings = pushing.each(targets, push, progress)
    if receipt and not dry_run:
        write_whole(receipt, written_json(pushing.receipt(endings)))
    emit(output_format, data=pushing.data(endings), table=pushing.text(endings), names=pushing.names(endings))
    pushing.refuse_failures(endings)
