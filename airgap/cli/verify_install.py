"""``airgap verify-install``: the checks that tell whether it works for those who use it."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from airgap.acceptance import Server, accept
from airgap.cli import cluster, options
from airgap.cli.console import host_of
from airgap.cli.output import emit, table
from airgap.errors import ClusterError
from airgap.receipts import Receipts
from airgap.transport import Client, CredentialStore

KEY_VARIABLE = "WANDB_API_KEY"


@click.command(
    "verify-install",
    epilog="""\b
Examples:
  WANDB_API_KEY=... airgap verify-install --ca-file ca.pem
  cat key | airgap verify-install --host https://wandb.corp.lan --api-key-stdin
  airgap verify-install -o json                # without a key: host and certificate only""",
)
@cluster.options
@cluster.subject
@click.option("--host", default="", metavar="URL", help="Of the server; default: global.host of the custom resource.")
@click.option(
    "--ca-file", type=click.Path(exists=True, dir_okay=False), help="PEM file of the CA that signed the certificates."
)
@click.option("--api-key-stdin", is_flag=True, help=f"Read the API key from standard input; default: ${KEY_VARIABLE}.")
@options.output
@options.common
def command(*, host: str, ca_file: str | None, api_key_stdin: bool, output_format: str, **flags: Any) -> None:
    """Make the checks of ``wandb verify`` from here: host, HTTPS, login, version, large payload, bucket by signed URL, CORS.

    What the checks make on the server they remove. Exit 6 when one fails.
    """
    progress = options.progress(flags)
    url = host.rstrip("/") or _from_cluster(flags)
    key = sys.stdin.readline().strip() if api_key_stdin else os.environ.get(KEY_VARIABLE, "")
    environ = {**os.environ, **({"REQUESTS_CA_BUNDLE": ca_file} if ca_file else {})}
    with Client(credentials=CredentialStore(), environ=environ) as client:
        report = accept(Server(client, url if "://" in url else f"https://{url}", key), progress)
    rows = [(it.verdict, it.name, it.sentence + (f"; {it.fix}" if it.fix else "")) for it in report.checks]
    emit(
        output_format,
        data=report.to_json(),
        table=table(("VERDICT", "CHECK", "WHAT WAS SEEN"), rows),
        names=[it.name for it in report.failed],
    )
    if not report:
        first = report.failed[0]
        raise ClusterError(f"{report.host} does not work as it should: {first.name}: {first.sentence}", hint=first.fix)


def _from_cluster(flags: dict[str, Any]) -> str:
    """Return ``global.host`` of the custom resource in the cluster."""
    kubectl, subject = cluster.kubectl(flags), cluster.subject_of(flags)
    receipt = Receipts(kubectl, subject.operator_namespace).current()
    name = receipt.resource_name if receipt else subject.name
    namespace = receipt.resource_namespace if receipt else subject.namespace or subject.operator_namespace
    host = host_of(kubectl, name, namespace)
    if not host:
        raise ClusterError(f"custom resource {namespace}/{name} names no global.host", hint="give --host")
    return host
