"""``airgap console``: where the System Console is, its password, and a way to it when the ingress has none."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from airgap.cli import cluster, options
from airgap.cli.output import emit
from airgap.errors import AirgapError, ClusterError
from airgap.receipts import Receipts
from airgap.standing import RESOURCE_KIND
from airgap.transport import Client, CredentialStore, RetryPolicy
from airgap.values import get

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.kube import Kubectl

PASSWORD_SECRET, PASSWORD_KEY = "wandb-password", "password"
"""Where the System Console's password is (wandb-v1.md section 6)."""
PORT = 8082
"""The System Console's port in its Service."""
PATH = "/console"


@click.command(
    "console",
    epilog="""\b
Examples:
  airgap console
  airgap console --show-password -o json
  airgap console --port-forward""",
)
@cluster.options
@cluster.subject
@click.option(
    "--ca-file", type=click.Path(exists=True, dir_okay=False), help="PEM file of the CA that signed the host's certificate."
)
@click.option("--show-password", is_flag=True, help="Print the password though the output is no terminal.")
@click.option(
    "--port-forward/--no-port-forward", "forward", default=None, help="Default: on a terminal, when the URL does not answer."
)
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Local port of --port-forward.")
@options.output
@options.common
def command(*, show_password: bool, forward: bool | None, port: int, output_format: str, **flags: Any) -> None:
    """Print the System Console's URL, and its password on a terminal (or with --show-password); forward a port if need be."""
    progress = options.progress(flags)
    kubectl, subject = cluster.kubectl(flags), cluster.subject_of(flags)
    receipt = Receipts(kubectl, subject.operator_namespace).current()
    name = receipt.resource_name if receipt else subject.name
    namespace = receipt.resource_namespace if receipt else subject.namespace or subject.operator_namespace
    host = host_of(kubectl, name, namespace)
    ca_file: Path | None = flags.pop("ca_file")
    problem = _problem(f"{host}{PATH}", str(ca_file or "")) if host and forward is None else ""
    is_terminal = sys.stdout.isatty()
    shown = _password(kubectl, namespace) if show_password or is_terminal else ""
    url = f"{host}{PATH}" if host else ""
    data = {"url": url, "answers": bool(url) and not problem, **({"password": shown} if shown else {})}
    lines = [f"URL       {url or '(the custom resource names no global.host)'}"]
    lines.append(f"password  {shown or f'in Secret {namespace}/{PASSWORD_SECRET}; --show-password prints it'}")
    emit(output_format, data=data, table="\n".join(lines), names=[url])
    if problem:
        progress.warn(f"the URL does not answer: {problem}")
    if forward or (forward is None and is_terminal and (problem or not url)):
        _forward(kubectl, f"{name}-console", namespace, port)
    elif problem or not url:
        progress.warn("--port-forward leads to it without the ingress")


def host_of(kubectl: Kubectl, name: str, namespace: str) -> str:
    """Return ``global.host`` of the custom resource, without a slash at its end."""
    resource = kubectl.get(RESOURCE_KIND, name, namespace)
    if resource is None:
        raise ClusterError(f"there is no custom resource {namespace}/{name}", hint="airgap install, or name it with --name")
    host = get(resource, ("spec", "values", "global", "host"))
    return host.rstrip("/") if isinstance(host, str) else ""


def _password(kubectl: Kubectl, namespace: str) -> str:
    secret = kubectl.get("Secret", PASSWORD_SECRET, namespace)
    if secret is None:
        raise ClusterError(
            f"Secret {namespace}/{PASSWORD_SECRET} is not there: the System Console makes it when it first starts",
            hint="is it up? airgap status",
        )
    encoded = get(secret, ("data", PASSWORD_KEY))
    return base64.b64decode(encoded).decode("utf-8", "replace") if isinstance(encoded, str) else ""


def _problem(url: str, ca_file: str) -> str:
    """Return why a URL does not answer, or nothing."""
    environ = {**os.environ, **({"REQUESTS_CA_BUNDLE": ca_file} if ca_file else {})}
    client = Client(credentials=CredentialStore(), environ=environ, retry=RetryPolicy(attempts=1))
    try:
        with client.request("GET", url, ok=range(200, 500), auth=False, follow=False):
            return ""
    except AirgapError as error:
        return error.message


def _forward(kubectl: Kubectl, service: str, namespace: str, port: int) -> None:
    """Forward a port until the user ends it; raises ClusterError when kubectl cannot."""
    click.echo(f"http://localhost:{port}{PATH} leads to it until Ctrl-C", err=True)
    arguments = [str(kubectl.path), *kubectl.flags, "port-forward", f"svc/{service}", f"{port}:{PORT}", "-n", namespace]
    done = subprocess.run(arguments, check=False, stdout=sys.stderr)
    if done.returncode:
        raise ClusterError(
            f"kubectl port-forward ended with code {done.returncode}", hint="airgap status says whether the console is up"
        )
