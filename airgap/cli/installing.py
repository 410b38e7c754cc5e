"""What ``preflight`` and ``install`` share: their options, Go's durations, and an intent made ready."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap import standing
from airgap.cli import cluster, inside, options
from airgap.cli.render import rewritten
from airgap.errors import ClusterError, ConfigurationError
from airgap.intent import Intent, Part
from airgap.preflight.registry import Ends
from airgap.registry import Registry
from airgap.releases import HelmReleases
from airgap.scan import parse_rendering
from airgap.standing import Console
from airgap.transport import Client, CredentialStore
from airgap.values import load_yaml_all
from airgap.wandb import effective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airgap.chart import Chart
    from airgap.cli.inside import Site
    from airgap.cli.options import Target
    from airgap.kube import Kubectl
    from airgap.ref import Location
    from airgap.relocate import Relocation
    from airgap.tools import Helm
    from airgap.wandb import CustomResource

Command = TypeVar("Command", bound="Callable[..., Any]")

OPENSHIFT, PRESENT = "openshift", "present"
MIRROR_FILE = "openshift.yaml"
"""The node mirrors that are Kubernetes objects (IDMS and ITMS)."""

PULL_SECRET = "airgap-registry"  # noqa: S105 - the name of a Secret
"""The pull secret that is made from --username when none is named (relocate gives it this name)."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
"""Seconds in each unit of a Go duration (package time, ParseDuration)."""
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|us|µs|ns|s)")


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.3 on
    """A Go duration, as kubectl and helm take it: 10m, 1h30m, 90s."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, (int, float)):
            return float(value)
        seconds = duration(str(value))
        if seconds is None:
            self.fail(f"{value!r} is not a duration such as 10m, 1h30m or 90s", param, ctx)
        return seconds


def duration(text: str) -> float | None:
    """Return the seconds of a Go duration, or None."""
    if text in ("0", "+0"):
        return 0.0
    bare = text.removeprefix("+")
    parts = list(_DURATION.finditer(bare))
    if not parts or "".join(part[0] for part in parts) != bare:
        return None
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)


def common(command: Command) -> Command:
    """Add what ``preflight`` and ``install`` have in common beyond ``layout``."""
    for option in reversed(
        [
            options.pull_registry,
            click.option(
                "--node-mirrors",
                type=click.Choice([OPENSHIFT, PRESENT]),
                help="openshift: apply IDMS and ITMS (nodes restart); present: the nodes have the mirror files of render.",
            ),
            click.option("--allow-older", is_flag=True, help="Let an older version replace a newer one."),
            click.option("--overwrite-edits", is_flag=True, help="Lose what was changed by hand since the last install."),
            click.option(
                "--ignore", "ignored", multiple=True, metavar="CHECK", help="Let what this check would stop only warn."
            ),
        ]
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Prepared:
    """An intent with all that carries it out; ``target`` is where we push, ``ends`` how we and how nodes reach it."""

    site: Site
    relocation: Relocation
    intent: Intent
    kubectl: Kubectl
    releases: HelmReleases
    target: Target
    ends: Ends
    kube_version: str
    server_values: Mapping[str, Any]
    console: Console

    def held(self, image: str) -> str:
        """Return the digest that the registry answers with for an image of a pod, or an empty string."""
        name, _, digest = image.partition("@")
        registry, _, path = name.partition("/")
        repository, _, tag = path.partition(":")
        if registry != self.ends.pull_location.registry:
            return ""
        found = self.ends.registry.head_manifest(repository, digest or tag or "latest")
        return str(found.digest) if found else ""


@contextmanager
def prepared(bundle: Path, values_files: tuple[str, ...], flags: dict[str, Any], jobs: int) -> Iterator[Prepared]:
    """Open BUNDLE and make everything ready that needs no change anywhere; takes its options out of ``flags``.

    Raises ConfigurationError for values that cannot be used; a cluster that cannot be reached is left to preflight.
    """
    client = cluster.kubectl(flags)
    target = options.target(flags, jobs=jobs)
    flags.pop("pull_registry")
    pull_secret = flags["pull_secret"] or (PULL_SECRET if target.credential else "")
    mirrors = flags.pop("node_mirrors")
    with inside.site(bundle, flags.pop("helm_path")) as found:
        version = flags["kube_version"] = inside.kube_version(flags["kube_version"] or _version_of(client))
        relocation = rewritten(found, target, values_files, flags)
        console = _console(client, relocation.resource)
        values = layered(relocation.resource, console, relocation.operator_namespace)
        intent = _intent(found, relocation, target.pull, version, values)
        openshift = load_yaml_all(relocation.mirrors[MIRROR_FILE], MIRROR_FILE) if mirrors == OPENSHIFT else []
        intent = replace(intent, pull_secret=pull_secret, mirrors=tuple(it for it in openshift if isinstance(it, dict)))
        yield Prepared(
            site=found,
            relocation=relocation,
            intent=intent,
            kubectl=client,
            releases=HelmReleases(found.helm, client),
            target=target,
            ends=_ends(target),
            kube_version=version,
            server_values=values,
            console=console,
        )


def _version_of(client: Kubectl) -> str:
    """Return the cluster's version, or nothing if it does not answer: preflight says so, with the other findings."""
    try:
        return replace(client, pauses=()).version()
    except ClusterError:
        return ""


def _ends(target: Target) -> Ends:
    """Return both ends of the registry; what holds for our name of it (CA, plain HTTP) holds for the nodes' name."""
    hosts = {target.location.registry: target.settings, target.pull.registry: target.settings}
    store = CredentialStore.from_environment(os.environ, Path.home())
    if target.credential:
        store = store.with_explicit(target.pull.registry, target.credential)
    pull = Client(hosts=hosts, credentials=store, environ=os.environ)
    anonymous = Client(hosts=hosts, credentials=CredentialStore(()), environ=os.environ)
    registry = Registry(target.client, target.location.registry)
    inside_names = (Registry(pull, target.pull.registry), Registry(anonymous, target.pull.registry))
    return Ends(registry, target.location, inside_names[0], target.pull, inside_names[1])


def _console(client: Kubectl, resource: CustomResource) -> Console:
    """Return what the System Console has set already; what cannot be read is told by preflight, with the other findings."""
    try:
        return standing.console(replace(client, pauses=()), resource)
    except ClusterError:
        return Console()


def layered(resource: CustomResource, console: Console, operator_namespace: str) -> Mapping[str, Any]:
    """Return the values that the operator will give to helm; without the System Console's where it cannot merge them."""
    try:
        return effective(resource.values, dict(console.values), {}, operator_namespace).values
    except ConfigurationError:
        return effective(resource.values, {}, {}, operator_namespace).values


def _intent(found: Site, relocation: Relocation, location: Location, version: str, values: Mapping[str, Any]) -> Intent:
    """Return the intent; ``values`` are what the operator will give to helm for the server."""
    resource = relocation.resource
    operator = (found.operator_chart, relocation.operator_release, relocation.operator_namespace)
    return Intent(
        bundle=found.lock.name,
        lock=found.lock.digest,
        location=location,
        operator=_part(found.helm, version, operator, relocation.operator_values),
        server=_part(found.helm, version, (found.server_chart, resource.name, resource.namespace), values),
        operator_values=relocation.operator_values,
        resource=resource,
        secrets=relocation.secrets,
        others=relocation.others,
        chart_configmap=relocation.chart_configmap,
        images={str(location.relocate(image.reference)): str(image.digest) for image in found.lock.images},
    )


def _part(helm: Helm, version: str, placed: tuple[Chart, str, str], values: Mapping[str, Any]) -> Part:
    """Render a chart as it will be released."""
    chart, release, namespace = placed
    with tempfile.TemporaryDirectory(prefix="airgap-install-") as scratch:
        path = chart.write(Path(scratch))
        text = helm.template(path, release=release, namespace=namespace, values=[values], kube_version=version)
    return Part(chart.name, chart.version, release, namespace, parse_rendering(text, chart.label), str(chart.digest))
