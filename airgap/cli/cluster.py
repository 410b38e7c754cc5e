"""Options of the verbs that look at a cluster, and what they build: kubectl, and the private registry if it can be asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.cli.options import explicit_credential
from airgap.kube import Kubectl
from airgap.registry import Registry
from airgap.status import Subject
from airgap.transport import Client, CredentialStore, HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")


def options(command: Command) -> Command:
    """Add --kubeconfig, --context, --kubectl and -n/--namespace."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        [
            click.option("--kubeconfig", default="", help="Kubeconfig; default: as kubectl finds it."),
            click.option("--context", default="", help="Context of the kubeconfig; default: its current one."),
            click.option(
                "--kubectl", "kubectl_path", type=file, envvar="AIRGAP_KUBECTL", help="The kubectl to use; default: PATH."
            ),
            click.option("-n", "--namespace", default="wandb", show_default=True, help="Namespace of the operator."),
        ]
    ):
        command = option(command)
    return command


def subject(command: Command) -> Command:
    """Add what names an installation that no receipt tells of."""
    for option in reversed(
        [
            click.option("--name", default="wandb", show_default=True, help="Custom resource, where no receipt names it."),
            click.option("--resource-namespace", default="", help="Its namespace, where no receipt names it."),
        ]
    ):
        command = option(command)
    return command


def registry(command: Command) -> Command:
    """Add how the private registry is reached that the receipts name; its host need not be given."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        [
            click.option("--username", envvar="AIRGAP_USERNAME", help="User of the registry; with --password-stdin."),
            click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
            click.option("--ca-file", type=file, help="PEM file of the CA that signed the registry's certificate."),
            click.option("--plain-http", is_flag=True, help="Speak HTTP to the registry."),
            click.option("--insecure-skip-tls-verify", is_flag=True, help="Do not check the registry's certificate."),
        ]
    ):
        command = option(command)
    return command


def kubectl(flags: dict[str, Any]) -> Kubectl:
    """Take the options of ``options`` (but the namespace) out of ``flags``; raises ToolError."""
    return Kubectl.find(flags.pop("kubectl_path"), kubeconfig=flags.pop("kubeconfig"), context=flags.pop("context"))


def subject_of(flags: dict[str, Any]) -> Subject:
    """Take name and namespaces out of ``flags``."""
    return Subject(flags.pop("name"), flags.pop("resource_namespace"), flags.pop("namespace"))


def opener(flags: dict[str, Any]) -> Callable[[str], Registry]:
    """Take the options of ``registry`` out of ``flags``; return what opens a registry by its host."""
    settings = HostSettings(
        plain_http=flags.pop("plain_http"),
        ca_file=flags.pop("ca_file"),
        insecure_skip_tls_verify=flags.pop("insecure_skip_tls_verify"),
    )
    store = CredentialStore.from_environment(os.environ, Path.home())
    credential = explicit_credential(flags.pop("username"), from_stdin=flags.pop("password_stdin"))

    def opened(host: str) -> Registry:
        known = store.with_explicit(host, credential) if credential else store
        return Registry(Client(hosts={host: settings}, credentials=known, environ=os.environ), host)

    return opened
