"""Options that several verbs share, and what they build: one spelling, one meaning, everywhere."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.cli.progress import Told, progress_for
from airgap.cli.sizes import Size
from airgap.errors import ConfigurationError
from airgap.ref import HOST, LAYOUTS, Location
from airgap.transport import Client, Credential, CredentialStore, HostSettings, Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from airgap.progress import Progress

Command = TypeVar("Command", bound="Callable[..., Any]")

JOBS = 6
"""Transfers at a time; the prototype's figure (issue on the transfer engine), and what zarf and skopeo use."""


@dataclass(frozen=True)
class Target:
    """The private registry as the flags describe it: where, and the one client that reaches it.

    ``credential`` is what the flags (or AIRGAP_USERNAME and AIRGAP_PASSWORD) gave, never what a login on this host left: only
    the former may go into a pull secret. ``ca_text`` is the PEM text of --ca-file. ``pull``: the same place as nodes and the
    operator know it (--pull-registry), else ``location``; the client reaches both.
    """

    location: Location
    client: Client
    credential: Credential | None
    settings: HostSettings
    ca_text: str
    pull: Location

    @property
    def plain_http(self) -> bool:
        """Whether HTTP is spoken to the registry."""
        return self.settings.plain_http


def _apply(command: Command, options: list[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def common(command: Command) -> Command:
    """Add -v, -q, --no-progress and --log-format."""
    return _apply(
        command,
        [
            click.option("-v", "--verbose", count=True, help="Say more; twice: tracebacks too."),
            click.option("-q", "--quiet", is_flag=True, help="Say nothing but data and errors."),
            click.option("--no-progress", is_flag=True, help="No bars; one line per finished item."),
            click.option(
                "--log-format",
                type=click.Choice(["text", "json"]),
                default="text",
                envvar="AIRGAP_LOG_FORMAT",
                help="Form of what is told on stderr; json: one object a line.",
            ),
        ],
    )


def output(command: Command) -> Command:
    """Add -o/--output."""
    kinds = click.Choice(["table", "json", "yaml", "name"])
    return click.option("-o", "--output", "output_format", type=kinds, default="table", help="Form of the data on stdout.")(
        command
    )


def jobs(command: Command) -> Command:
    """Add --jobs."""
    return click.option("--jobs", type=click.IntRange(1, 64), default=JOBS, show_default=True, help="Transfers at a time.")(
        command
    )


def limit_rate(command: Command) -> Command:
    """Add --limit-rate."""
    return click.option(
        "--limit-rate",
        type=Size(),
        metavar="SIZE",
        help="Bytes per second for everything together, e.g. 20M.",
    )(command)


def rate(limit: int | None) -> Rate | None:
    """Return what --limit-rate asks for; raises ConfigurationError for nothing at all."""
    if limit is not None and limit < 1:
        raise ConfigurationError("--limit-rate 0 lets nothing through", hint="give bytes per second, e.g. 20M, or leave it out")
    return Rate(limit) if limit else None


def values(command: Command) -> Command:
    """Add --values, repeatable."""
    return click.option(
        "--values",
        "values_files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True),
        help="Helm values or a whole WeightsAndBiases custom resource; several as helm does.",
    )(command)


def manifest(command: Command) -> Command:
    """Add -f/--file, the manifest."""
    return click.option(
        "-f",
        "--file",
        "manifest_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The bundle manifest; default: the one for W&B that ships with airgap.",
    )(command)


def platforms(command: Command) -> Command:
    """Add --platform, repeatable."""
    return click.option(
        "--platform",
        "platforms",
        multiple=True,
        metavar="OS/ARCH[/VARIANT]|all",
        help="Instead of the manifest's platforms; several or all keep whole indexes.",
    )(command)


def helm(command: Command) -> Command:
    """Add --helm and --kube-version."""
    return _apply(
        command,
        [
            click.option(
                "--helm",
                "helm_path",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                envvar="AIRGAP_HELM",
                help="The helm to use; default: PATH, then the bundle's own.",
            ),
            click.option("--kube-version", default="", help="Kubernetes version to render for, e.g. 1.34.4."),
        ],
    )


def reach(command: Command) -> Command:
    """Add what it takes to reach a registry: the credential, and how TLS is spoken."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return _apply(
        command,
        [
            click.option("--username", envvar="AIRGAP_USERNAME", help="User of the registry; with --password-stdin."),
            click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
            click.option("--ca-file", type=file, help="PEM file of the CA that signed the registry's certificate."),
            click.option("--cert", type=file, help="Client certificate (PEM)."),
            click.option("--key", type=file, help="Key of the client certificate (PEM)."),
            click.option("--plain-http", is_flag=True, help="Speak HTTP to the registry."),
            click.option("--insecure-skip-tls-verify", is_flag=True, help="Do not check the registry's certificate."),
        ],
    )


def registry(command: Command) -> Command:
    """Add --registry, given once, and what it takes to reach it."""
    told = "The private registry, with a path prefix if it has one."
    return _registry("registry_name", told, command, callback=_only)


def registries(command: Command) -> Command:
    """Add --registry, repeatable, and what it takes to reach them."""
    told = "The private registry, with a path prefix if it has one; several get the same one after the other."
    return _registry("registry_names", told, command)


def _only(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str:
    """Return the one registry; the last of several would win silently otherwise."""
    if len(value) != 1:
        raise click.BadParameter(f"given {len(value)} times ({', '.join(value)}); {ctx.info_name} takes one.", ctx, param)
    return value[0]


def _registry(name: str, told: str, command: Command, callback: Callable[..., Any] | None = None) -> Command:
    return _apply(
        command,
        [
            click.option(
                "--registry",
                name,
                metavar="REGISTRY[/PREFIX]",
                required=True,
                multiple=True,
                envvar="AIRGAP_REGISTRY",
                callback=callback,
                help=told,
            ),
            click.option(
                "--layout",
                "place_layout",
                type=click.Choice(LAYOUTS),
                default=HOST,
                show_default=True,
                envvar="AIRGAP_LAYOUT",
                help="Repositories as quay.io/a/b, a/b or quay.io--a--b; the same for every command of a site.",
            ),
            reach,
        ],
    )


def pull_registry(command: Command) -> Command:
    """Add --pull-registry."""
    return click.option(
        "--pull-registry",
        metavar="REGISTRY[/PREFIX]",
        default="",
        envvar="AIRGAP_PULL_REGISTRY",
        help="The name by which nodes and the operator pull, if it is another than we push to.",
    )(command)


def target(options: dict[str, Any], *, jobs: int = JOBS, rate: Rate | None = None) -> Target:
    """Take the options of ``registry`` out of ``options`` and build the target, for ``jobs`` connections at a time.

    ``rate``: how fast all of them may be together.
    Raises ConfigurationError.
    """
    location = Location.parse(options.pop("registry_name"), options.pop("place_layout"))
    other = options.get("pull_registry") or ""
    pull = Location.parse(other, location.layout) if other else location
    settings = settings_of(options)
    store = CredentialStore.from_environment(os.environ, Path.home())
    credential = explicit_credential(options.pop("username"), from_stdin=options.pop("password_stdin"))
    if credential:
        store = store.with_explicit(location.registry, credential).with_explicit(pull.registry, credential)
    hosts = {pull.registry: settings, location.registry: settings}
    client = Client(hosts=hosts, credentials=store, environ=os.environ, connections=jobs, rate=rate)
    ca_text = settings.ca_file.read_text() if settings.ca_file else ""
    return Target(location, client, credential, settings, ca_text, pull)


def settings_of(options: dict[str, Any]) -> HostSettings:
    """Take what says how TLS is spoken out of the options of ``reach``."""
    names = ("plain_http", "ca_file", "cert", "key", "insecure_skip_tls_verify")
    return HostSettings(**{name: options.pop(name) for name in names})


def targets(options: dict[str, Any], *, jobs: int = JOBS, rate: Rate | None = None) -> tuple[Target, ...]:
    """Build the targets of ``registries``, each once: the same flags for all, credentials from where logins keep them.

    Raises ConfigurationError.
    """
    names = tuple(dict.fromkeys(options.pop("registry_names")))
    if len(names) > 1 and (options["username"] or options["password_stdin"]):
        raise ConfigurationError(
            f"one user and password cannot be meant for {len(names)} registries ({', '.join(names)})",
            hint="log in to each (docker login, REGISTRY_AUTH_FILE), or push to one after the other",
        )
    return tuple(target({**options, "registry_name": name}, jobs=jobs, rate=rate) for name in names)


def explicit_credential(username: str | None, *, from_stdin: bool) -> Credential | None:
    """Return the explicit credential: --username with --password-stdin, or AIRGAP_USERNAME with AIRGAP_PASSWORD."""
    password = sys.stdin.readline().rstrip("\r\n") if from_stdin else os.environ.get("AIRGAP_PASSWORD", "")
    if bool(username) != bool(password):
        raise ConfigurationError(
            "a user needs a password and a password a user",
            hint="give --username together with --password-stdin (or AIRGAP_USERNAME with AIRGAP_PASSWORD)",
        )
    return Credential(username=username, password=password) if username else None


def progress(options: dict[str, Any]) -> Progress:
    """Take the options of ``common`` out of ``options`` and return the progress they ask for.

    What the layers below log (transport, registry: which credential file was used, what was retried) is told through it too.
    """
    verbose = options.pop("verbose")
    quiet, bars, events = options.pop("quiet"), not options.pop("no_progress"), options.pop("log_format") == "json"
    found = progress_for(verbose=verbose, quiet=quiet, bars=bars, events=events)
    logger = logging.getLogger("airgap")
    logger.handlers = [Told(found)]
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False
    return found
