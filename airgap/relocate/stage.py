"""Relocate: from a lock, two charts and the user's values to everything that is applied inside.

::

    relocation = relocate(lock, operator_chart=..., server_chart=..., spec=spec, user=user,
                          location=Location.parse("reg.lan/team"), options=Options(), helm=helm)
    relocation.write(Path("out"))

Steps: merge the values as the operator will; refuse what it would choke on; rewrite the images of both charts by probing; move
secrets into Secrets; choose how the chart reaches the operator; write the node mirrors for what no value moves.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.intent import placed
from airgap.plan import CHARTS, wanted
from airgap.pods import pods, without_pull_secret
from airgap.ref import FLAT
from airgap.relocate import outputs
from airgap.relocate.credentials import Separated, separate
from airgap.relocate.gitops import PLAIN, STYLE, Parts, Release, Style, folder, notes
from airgap.relocate.mirrors import MirrorOptions, mirror_files
from airgap.relocate.probe import Values, apply
from airgap.relocate.rendering import Renderer
from airgap.relocate.rewrite import Change, Rewrite, Unmoved, rewrite
from airgap.tools import KUBE_VERSION
from airgap.values import Layer, coalesce, dump_yaml, format_path, get, operator_merge
from airgap.wandb import (
    CHANNEL_LAYER,
    USER_LAYER,
    CredentialSecret,
    CustomResource,
    LocalChart,
    OciChart,
    UserInput,
    effective,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.chart import Chart
    from airgap.lock import Lock
    from airgap.ref import Location
    from airgap.scan import Document
    from airgap.tools import Helm
    from airgap.values import Json, ValuePath
    from airgap.wandb import ChartSource, Spec

AUTO, CONFIGMAP, OCI = "auto", "configmap", "oci"

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Options:
    """How the inside is laid out.

    ``resource_name`` and ``resource_namespace`` count only where the user's own custom resource says nothing. ``pull_secret``
    names the Secret with which images are pulled; with ``username`` it is made, without it must be there already; empty means
    none. ``ca_certificates`` are PEM texts that the operator and the platform shall trust; ``node_ca_file`` is the CA's path
    on the nodes, for the mirror files. ``chart_delivery``: auto | configmap | oci. ``operator_values`` are the user's own
    for the operator chart.
    """

    operator_release: str = "operator"
    operator_namespace: str = "wandb"
    resource_name: str = "wandb"
    resource_namespace: str = ""
    pull_secret: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_certificates: tuple[str, ...] = ()
    node_ca_file: str = ""
    chart_delivery: str = AUTO
    plain_http: bool = False
    kube_version: str = KUBE_VERSION
    operator_values: Mapping[str, Json] = field(default_factory=dict, hash=False, repr=False)

    @property
    def mirrors(self) -> MirrorOptions:
        """How nodes reach the registry."""
        return MirrorOptions(self.plain_http, self.node_ca_file)

    @property
    def pull_secret_name(self) -> str:
        """The pull secret's name; credentials without a name get one."""
        return self.pull_secret or ("airgap-registry" if self.username else "")


@dataclass(frozen=True)
class Relocation:
    """Everything that is applied inside, and why. ``notes`` are things the user should know; nothing here is half."""

    operator_values: Values = field(repr=False)
    resource: CustomResource = field(repr=False)
    secrets: tuple[dict[str, Json], ...] = field(repr=False)
    others: tuple[dict[str, Json], ...] = field(repr=False)
    chart_configmap: dict[str, Json] | None = field(repr=False)
    mirrors: Mapping[str, str] = field(repr=False)
    changes: tuple[Change, ...]
    unmoved: tuple[Unmoved, ...]
    notes: tuple[str, ...]
    release: Release = field(repr=False)
    renders: int = 0

    @property
    def operator_release(self) -> str:
        """The name of the operator's helm release."""
        return self.release.name

    @property
    def operator_namespace(self) -> str:
        """The operator's namespace."""
        return self.release.namespace

    @property
    def chart_files(self) -> tuple[str, ...]:
        """The file names under which the chart ConfigMap holds charts; none without one."""
        held = get(self.chart_configmap, ("binaryData",)) if self.chart_configmap else None
        return tuple(held) if isinstance(held, dict) else ()

    def files(self, style: Style = STYLE) -> dict[str, str | bytes]:
        """Return the files of DIR: relative path to text; a GitOps folder in ``style``."""
        namespace = self.resource.namespace
        files: dict[str, str | bytes] = {
            outputs.OPERATOR_VALUES: dump_yaml(
                self.operator_values,
                header=f"helm upgrade --install {self.operator_release} OPERATOR_CHART"
                f" -n {self.operator_namespace} --create-namespace -f {outputs.OPERATOR_VALUES}",
            ),
            outputs.RESOURCE: dump_yaml(
                self.resource.to_document(), header="kubectl apply --server-side -f this, after the operator is up"
            ),
            **{f"{outputs.MIRRORS}/{name}": text for name, text in self.mirrors.items()},
        }
        if self.secrets:
            files[outputs.SECRETS] = outputs.dump_all(
                [placed(it, namespace) for it in self.secrets], "Holds credentials: keep it out of version control."
            )
        if self.others:
            files[outputs.OTHERS] = outputs.dump_all(
                [placed(it, namespace) for it in self.others], "Other objects of the values files."
            )
        if self.chart_configmap:
            files[outputs.CHART] = outputs.dump_all(
                [self.chart_configmap],
                "kubectl apply --server-side -f this, before the custom resource: client-side apply copies the chart into an\n"
                "annotation that is too small for it, and without the chart the operator waits an hour.",
            )
        if style.secrets == PLAIN:
            files.pop(outputs.SECRETS, None)  # they stand in the folder that a kustomization lists
        return {**files, **folder(self.release, self._parts(files), style)}

    def remarks(self, style: Style) -> tuple[str, ...]:
        """Return what is to be done by hand for a GitOps folder in ``style``."""
        return notes(self.release, self._parts(()), style)

    def _parts(self, names: Iterable[str]) -> Parts:
        return Parts(frozenset(names), self.secrets, self.others, self.resource.namespace)

    def write(self, directory: Path, style: Style = STYLE) -> list[str]:
        """Write the files; return the names of those that changed. Raises DiskError."""
        return outputs.write(self.files(style), directory)


def relocate(
    lock: Lock,
    *,
    operator_chart: Chart,
    server_chart: Chart,
    spec: Spec | None,
    user: UserInput,
    location: Location,
    options: Options,
    helm: Helm,
) -> Relocation:
    """Return the relocation of a bundle to ``location``; nothing is written.

    Raises ConfigurationError: values that the operator would choke on (kinds that differ, also from the chart's), a chart
    that does not render, a delivery that cannot hold the chart.
    """
    wanted(lock, location)  # a layout in which two images meet is refused before anything is written
    site = _Site(lock, location, options, _resource(user, options))
    merged = operator_merge([Layer(USER_LAYER, user.values), Layer(CHANNEL_LAYER, spec.values if spec else {})])
    check_kinds(merged.values, server_chart.defaults(), "values", server_chart.label)
    check_kinds(dict(options.operator_values), operator_chart.defaults(), "operator values", operator_chart.label)
    operator_values = _operator_values(operator_chart, options)
    with tempfile.TemporaryDirectory(prefix="airgap-relocate-") as scratch, ThreadPoolExecutor(1) as beside:
        operator = Renderer.of(helm, operator_chart, Path(scratch), options.operator_release, options.operator_namespace)
        server = Renderer.of(helm, server_chart, Path(scratch), site.resource.name, site.resource.namespace)
        operator.kube_version = server.kube_version = options.kube_version
        running = beside.submit(rewrite, operator, operator_values, lock, location)
        of_server, separated = _server(server, merged.values, site)
        of_operator = running.result()
    delivery = _delivery(server_chart, charts_configmap(of_operator.after.documents), site)
    return Relocation(
        operator_values=of_operator.values,
        resource=replace(site.resource, chart=delivery.source, values=separated.values),
        secrets=(*_secrets(site, separated, delivery.source), *user.secrets),
        others=tuple(document for document in user.others if document.get("kind") != "Secret"),
        chart_configmap=delivery.configmap,
        mirrors=mirror_files((it.reference for it in lock.images), location, options.mirrors),
        changes=(*of_operator.changes, *of_server.changes, *_moves(server_chart.label, separated)),
        unmoved=(*of_operator.unmoved, *of_server.unmoved),
        notes=(
            *(*merged.warnings, *of_operator.notes, *of_server.notes, *separated.left),
            *(*delivery.notes, *_replaced(user), *_pullless(of_server, options), *_flat(location)),
            *_random(of_operator),
        ),
        release=_release(operator_chart, of_operator, site),
        renders=operator.renders + server.renders,
    )


@dataclass(frozen=True)
class _Site:
    """What every step needs to know of the inside."""

    lock: Lock
    location: Location
    options: Options
    resource: CustomResource

    def effective(self, values: Values) -> Values:
        """Return what the operator gives to Helm for a custom resource with ``values``."""
        return effective(values, {}, {}, self.options.operator_namespace).values


@dataclass(frozen=True)
class _Delivery:
    """How the chart reaches the operator."""

    source: ChartSource
    configmap: dict[str, Json] | None = None
    notes: tuple[str, ...] = ()


def check_kinds(values: Json, defaults: Json, what: str, chart: str, path: ValuePath = ()) -> None:
    """Refuse a scalar or list where the chart has a map, and a map where it has a list; raises ConfigurationError."""
    if isinstance(values, dict) and isinstance(defaults, dict):
        for key, value in values.items():
            check_kinds(value, defaults.get(key), what, chart, (*path, key))
        return
    wrong = (isinstance(defaults, dict) and defaults and not isinstance(values, dict) and values is not None) or (
        isinstance(defaults, list) and isinstance(values, dict)
    )
    if wrong:
        given, needed = (
            "a map" if isinstance(it, dict) else "a list" if isinstance(it, list) else "a text or number"
            for it in (values, defaults)
        )
        raise ConfigurationError(
            f"{what}: {format_path(path)} is {given}, but chart {chart} has {needed} there",
            hint=f"write {format_path(path)} as {needed}",
        )


def _resource(user: UserInput, options: Options) -> CustomResource:
    """Return the custom resource as the user named it, else as the options do, without its chart and values."""
    given = user.resource
    name = given.name if given else options.resource_name
    namespace = (given.namespace if given else "") or options.resource_namespace or options.operator_namespace
    return CustomResource(name, namespace, None, {}, given.labels if given else {}, given.annotations if given else {})


def _operator_values(chart: Chart, options: Options) -> Values:
    """Return the operator chart's values before its image is moved: the user's, air-gapped, with pull secret and CAs."""
    values = dict(options.operator_values)
    settings: dict[ValuePath, Json] = {("airgapped",): True}
    if options.pull_secret_name:
        settings["image", "pullSecrets"] = _added(get(values, ("image", "pullSecrets")), [options.pull_secret_name])
    if options.ca_certificates:
        settings[("customCACerts",)] = _added(get(values, ("customCACerts",)), _pems(options.ca_certificates))
    for path in settings:
        if get(chart.values, path) is None:
            raise ConfigurationError(f"chart {chart.label} has no value {format_path(path)}, so it is not W&B's operator (v1)")
    return apply(values, values, settings)


def _server(server: Renderer, values: Values, site: _Site) -> tuple[Rewrite, Separated]:
    """Rewrite the images of the server chart, then move secrets out of its values."""
    wanted = _with_pull_secret(server, _with_certificates(values, site.options), site)
    result = rewrite(server, site.effective(wanted), site.lock, site.location)
    computed = server.computed(site.effective(wanted))
    final = apply(wanted, computed, result.settings)
    prefix = f"{site.resource.name}-site"
    return result, separate(server, final, prefix, extra=site.effective({}), computed=computed, noise=result.noise)


def _with_certificates(values: Values, options: Options) -> Values:
    if not options.ca_certificates:
        return values
    path = ("global", "customCACerts")
    return apply(values, values, {path: _added(get(values, path), _pems(options.ca_certificates))})


def _with_pull_secret(server: Renderer, values: Values, site: _Site) -> Values:
    """Name the pull secret globally, and by the subchart's own value for pods that the global does not reach."""
    if not site.options.pull_secret_name:
        return values
    entry: list[Json] = [{"name": site.options.pull_secret_name}]
    path = ("global", "imagePullSecrets")
    values = apply(values, values, {path: _added(_named(get(values, path)), entry)})
    rendered = site.effective(values)
    missing = without_pull_secret(server.render(rendered).documents)
    known = coalesce([server.chart.defaults(), values])
    for prefix in sorted({_subchart(pod.document.template) for pod in missing}):
        own = (*prefix, "imagePullSecrets")
        if isinstance(get(known, own), list):
            values = apply(values, known, {own: _added(get(values, own), entry)})
    return values


def _subchart(template: str) -> tuple[str, ...]:
    """Return the value path of the subchart that a template belongs to: ``a/charts/b/charts/c/templates/x`` is b.c."""
    parts = template.split("/")
    return tuple(name for folder, name in zip(parts[1::2], parts[2::2], strict=False) if folder == "charts")


def _added(present: Json, more: Sequence[Json]) -> list[Json]:
    listed = list(present) if isinstance(present, list) else []
    return [*listed, *(item for item in more if item not in listed)]


def _named(present: Json) -> list[Json]:
    """Return pull secrets as ``[{name: x}]``; bare names are understood by some of the charts only."""
    listed = present if isinstance(present, list) else []
    return [{"name": item} if isinstance(item, str) else item for item in listed]


def _pems(texts: Sequence[str]) -> list[Json]:
    """Return one entry per certificate: the charts make one file of each entry, and OpenSSL reads the first of a file only."""
    found: list[Json] = []
    for text in texts:
        certificates = _PEM.findall(text)
        if not certificates:
            raise ConfigurationError(
                "a CA file holds no certificate in PEM form", hint="it must hold -----BEGIN CERTIFICATE-----"
            )
        found += [certificate + "\n" for certificate in certificates]
    return found


def _delivery(chart: Chart, configmap: str, site: _Site) -> _Delivery:
    """Choose how the chart reaches the operator: the ConfigMap that it mounts at /charts, or the registry."""
    wanted = site.options.chart_delivery
    if wanted not in (AUTO, CONFIGMAP, OCI):
        raise ConfigurationError(f"chart delivery {wanted!r} is none of {AUTO}, {CONFIGMAP}, {OCI}")
    if wanted == CONFIGMAP and not configmap:
        raise ConfigurationError("the operator chart mounts no ConfigMap at /charts", hint="use --chart-delivery oci")
    if wanted == CONFIGMAP or (wanted == AUTO and configmap and outputs.fits(chart)):
        document = outputs.chart_configmap(configmap, site.options.operator_namespace, chart)
        return _Delivery(LocalChart(f"/charts/{outputs.chart_key(chart)}"), document)
    source = OciChart(
        url=f"oci://{site.location.registry}/{site.location.repository(f'{CHARTS}/{chart.name}')}",
        version=chart.version,
        plain_http=site.options.plain_http,
        credential_secret=CredentialSecret(_chart_secret(site)) if site.options.username else None,
    )
    return _Delivery(source, None, ("the chart comes from the registry, which needs operator 1.22.0 or later",))


def charts_configmap(documents: Iterable[Document]) -> str:
    """Return the ConfigMap that the operator's pod mounts at /charts, or an empty string."""
    for pod in pods(documents):
        mounted = {
            get(it, ("name",))
            for container in _maps(pod.spec.get("containers"))
            for it in _maps(container.get("volumeMounts"))
            if it.get("mountPath") == "/charts"
        }
        for volume in _maps(pod.spec.get("volumes")):
            name = get(volume, ("configMap", "name"))
            if volume.get("name") in mounted and isinstance(name, str):
                return name
    return ""


def _maps(items: Json) -> list[dict[str, Json]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _chart_secret(site: _Site) -> str:
    return f"{site.resource.name}-chart"


def _secrets(site: _Site, separated: Separated, chart: ChartSource) -> list[dict[str, Json]]:
    """Return every Secret of ours: pull secrets in both namespaces, the chart's credentials, the site's own."""
    options, resource = site.options, site.resource
    found: list[dict[str, Json]] = []
    if options.username:
        for namespace in sorted({options.operator_namespace, resource.namespace}):
            login = (site.location.registry, options.username, options.password)
            found.append(outputs.pull_secret(options.pull_secret_name, namespace, *login))
        if isinstance(chart, OciChart):
            login = (_chart_secret(site), resource.namespace, options.username)
            found.append(outputs.chart_credentials(*login, options.password))
    return found + [
        outputs.secret(f"{resource.name}-site-{suffix}", resource.namespace, data)
        for suffix, data in sorted(separated.secrets.items())
    ]


def _release(chart: Chart, result: Rewrite, site: _Site) -> Release:
    """Return the operator as it is released, for a GitOps folder."""
    options = site.options
    return Release(
        name=options.operator_release,
        namespace=options.operator_namespace,
        chart=chart.name,
        version=chart.version,
        location=site.location,
        plain_http=options.plain_http,
        pull_secret=options.pull_secret_name,
        documents=result.after.documents,
        values=result.values,
    )


def _random(operator: Rewrite) -> list[str]:
    """Say where the operator's chart makes up something at each render: a folder in git changes with it."""
    places = sorted({f"{template} ({kind})" for (template, kind, _), _ in operator.noise})
    return (
        [f"operator/operator.yaml differs with every render, its chart makes up values in {', '.join(places)}"]
        if places
        else []
    )


def _replaced(user: UserInput) -> list[str]:
    given = user.resource.chart if user.resource else None
    return [f"spec.chart of your custom resource ({given.to_json()}) gives way to the chart of the bundle"] if given else []


def _flat(location: Location) -> list[str]:
    told = "layout flat: containerd cannot flatten names, so there are node mirrors for CRI-O, OpenShift, rke2 and k3s alone"
    return [told] if location.layout == FLAT else []


def _moves(chart: str, separated: Separated) -> list[Change]:
    return [
        Change(
            chart, path, "(secret)", f"Secret {name}", reason="secrets stand in Secrets; a render proved that pods get the same"
        )
        for path, name in separated.moved
    ]


def _pullless(result: Rewrite, options: Options) -> list[str]:
    """Say which pods still pull without a secret, and how to help them (cases.md C1)."""
    if not options.pull_secret_name:
        return []
    patch = f'{{"imagePullSecrets":[{{"name":"{options.pull_secret_name}"}}]}}'
    return [
        f"{pod.document.label} names no pull secret and no value of the chart gives it one; after the install:"
        f" kubectl patch serviceaccount {pod.service_account} -p '{patch}'"
        for pod in without_pull_secret(result.after.documents)
    ]
