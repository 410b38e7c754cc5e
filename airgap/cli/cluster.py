"""Options of the verbs that look at a cluster, and what they build: kubectl, and the private registry if it can be asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.cli.options import explicit_credential, settings_of
from airgap.kube import Kubectl
from airgap.registry import Registry
from airgap.status import Subject
from airgap.transport import Client, CredentialStore

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")


def connection(command: Command) -> Command:
    """Add --kubeconfig, --context and --kubectl."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        [
            click.option("--kubeconfig", default="", help="Kubeconfig; default: kubectl's own choice ($KUBECONFIG, ~/.kube)."),
            click.option("--context", default="", help="Context of the kubeconfig; default: its current one."),
            click.option(
                "--kubectl", "kubectl_path", type=file, envvar="AIRGAP_KUBECTL", help="The kubectl to use; default: PATH."
            ),
        ]
    ):
        command = option(command)
    return command


def options(command: Command) -> Command:
    """Add what ``connection`` adds, and -n/--namespace."""
    namespace = click.option("-n", "--namespace", default="wandb", show_default=True, help="Namespace of the operator.")
    return connection(namespace(command))


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


def kubectl(flags: dict[str, Any]) -> Kubectl:
    """Take the options of ``connection`` out of ``flags``; raises ToolError."""
    return Kubectl.find(flags.pop("kubectl_path"), kubeconfig=flags.pop("kubeconfig"), context=flags.pop("context"))


def subject_of(flags: dict[str, Any]) -> Subject:
    """Take name and namespaces out of ``flags``."""
    return Subject(flags.pop("name"), flags.pop("resource_namespace"), flags.pop("namespace"))


def opener(flags: dict[str, Any]) -> Callable[[str], Registry]:
    """Take the options of ``reach`` out of ``flags``; return what opens the registry that a receipt names, by its host."""
    settings = settings_of(flags)
    store = CredentialStore.from_environment(os.environ, Path.home())
    credential = explicit_credential(flags.pop("username"), from_stdin=flags.pop("password_stdin"))

    def opened(host: str) -> Registry:
        known = store.with_explicit(host, credential) if credential else store
        return Registry(Client(hosts={host: settings}, credentials=known, environ=os.environ), host)

    return opened
