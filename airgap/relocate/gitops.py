"""The rendered folder as kustomize, Argo CD and Flux take it: for a site that never runs ``airgap install``.

Invariants: names are stable, nothing is dated, the same relocation gives the same bytes; no Secret stands in what a
kustomization lists, unless that was asked for. What is applied comes in two steps, because the API server knows no custom
resource before its definition, and a client that builds both at once refuses the second: ``operator/`` (namespaces,
definitions, the operator), then the folder itself (chart, custom resource, other objects). Pure.

::

    kubectl apply --server-side -k DIR/operator
    kubectl apply --server-side -f DIR/secrets.yaml
    kubectl apply --server-side -k DIR
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.intent import CRD, placed
from airgap.kube.objects import identity
from airgap.plan import CHARTS, chart_tag
from airgap.relocate import outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.ref import Location
    from airgap.scan import Document
    from airgap.values import Json

APART, PLAIN, SEALED, EXTERNAL = "apart", "plain", "sealed", "external"

KUSTOMIZATION = "kustomization.yaml"
OPERATOR, NAMESPACES, ARGOCD, FLUX = "operator", "namespaces", "argocd", "flux"
HELD = "secrets"
"""The folder with what makes the Secrets, where git may hold that: of the first step, as nodes and Flux pull by them."""

ACCOUNTS, EXTERNAL_SECRETS, SEALED_SECRETS, IGNORED = (
    "accounts.yaml",
    "external-secrets.yaml",
    "sealed-secrets.yaml",
    ".gitignore",
)

UNMADE = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})
"""Namespaces that every cluster has: listed, a pruning controller would try to delete them."""

REVISION = "main"
"""The branch where --git names none: git's own choice for a new repository when asked by the hosting products."""
ARGOCD_NAMESPACE, FLUX_NAMESPACE = "argocd", "flux-system"
"""Where the controllers look for what drives them, as both are installed by their own instructions."""
INTERVAL = "10m"
"""How often Flux compares; the value of its own examples."""


@dataclass(frozen=True)
class Git:
    """The git repository in which the folder will lie: ``URL[//PATH][?ref=BRANCH]``, as kustomize writes it."""

    url: str
    path: str = "."
    revision: str = REVISION

    @classmethod
    def parse(cls, text: str) -> Git:
        """Read --git; raises ConfigurationError, also for a URL with a password: it would stand in files."""
        bare, _, query = text.partition("?")
        scheme, colon, rest = bare.partition("://")
        head, _, path = (rest if colon else scheme).partition("//")
        key, _, revision = query.partition("=")
        if not head or (query and (key != "ref" or not revision)):
            raise ConfigurationError(
                f"--git {text!r} is no URL[//PATH][?ref=BRANCH]", hint="e.g. https://git.lan/site.git//wandb"
            )
        if colon and ":" in head.partition("/")[0].rpartition("@")[0]:
            raise ConfigurationError(
                "--git names a password", hint="leave it out: Argo CD and Flux keep credentials themselves"
            )
        return cls(f"{scheme}{colon}{head}" if colon else head, path.strip("/") or ".", revision or REVISION)

    def at(self, folder: str) -> str:
        """Return a folder's path in the repository."""
        return folder if self.path == "." else self.path if folder == "." else f"{self.path}/{folder}"


@dataclass(frozen=True)
class Style:
    """How secrets are handled (apart | plain | sealed | external, with the ``store``), and where the folder will lie."""

    secrets: str = APART
    store: str = ""
    git: Git | None = None

    @classmethod
    def parse(cls, secrets: str, git: str) -> Style:
        """Read --secrets and --git; raises ConfigurationError."""
        kind, colon, store = secrets.partition(":")
        if kind not in (APART, PLAIN, SEALED, EXTERNAL) or bool(colon and store) != (kind == EXTERNAL):
            raise ConfigurationError(
                f"--secrets {secrets!r} is none of {APART}, {PLAIN}, {SEALED}, {EXTERNAL}:[KIND/]STORE",
                hint="e.g. external:vault, or external:SecretStore/vault for a store of the namespace",
            )
        return cls(kind, store, Git.parse(git) if git else None)


STYLE = Style()


@dataclass(frozen=True)
class Release:
    """The operator as it is released, and where from. ``documents`` are its chart's objects, rendered with the final values."""

    name: str
    namespace: str
    chart: str
    version: str
    location: Location
    plain_http: bool
    pull_secret: str
    documents: tuple[Document, ...]
    values: Mapping[str, Json]

    @property
    def repository(self) -> str:
        """The chart's folder in the private registry, without a scheme."""
        return f"{self.location.registry}/{self.location.repository(CHARTS)}"


@dataclass(frozen=True)
class Parts:
    """What else the folder holds: the names of its files, the objects of the values files, the custom resource's namespace."""

    names: frozenset[str]
    secrets: Sequence[Mapping[str, Json]]
    others: Sequence[Mapping[str, Json]]
    namespace: str


def folder(release: Release, parts: Parts, style: Style) -> dict[str, str]:
    """Return the files that make the rendered folder a site of its own: relative path to text."""
    held = bool(_listed(parts, style))
    files = {**_operator(release, _namespaces(release, parts), held=held), **_secrets(parts, style)}
    if release.pull_secret:
        files[ACCOUNTS] = outputs.dump_all(
            [_account(name, release.pull_secret) for name in dict.fromkeys((release.namespace, parts.namespace))],
            "Pods that name no service account pull by these.",
        )
    own = [name for name in (outputs.CHART, outputs.OTHERS, outputs.RESOURCE) if name in parts.names]
    files[KUSTOMIZATION] = _kustomization(
        [*([ACCOUNTS] if release.pull_secret else []), *own],
        "The second step: kubectl apply --server-side -k . (client-side apply has no room for the chart).\n"
        "The first is operator/; Secrets that are kept apart come between them.",
    )
    if style.git:
        files[f"{ARGOCD}/applications.yaml"] = _argocd(release, parts, style.git, held=held)
        files |= _flux(release, style.git, held=held)
    return files


def notes(release: Release, parts: Parts, style: Style) -> tuple[str, ...]:
    """Return what is to be done by hand for ``style``."""
    hooks = [it.label for it in release.documents if it.hooks and not it.is_test]
    told = [f"operator/operator.yaml has helm's hooks as plain objects: {', '.join(hooks)}"] if hooks else []
    if parts.secrets and style.secrets == SEALED:
        told.append(f"seal them: kubeseal --cert CERTIFICATE --format yaml < {outputs.SECRETS} > {HELD}/{SEALED_SECRETS}")
    if parts.secrets and style.secrets == EXTERNAL:
        told.append(
            f"put what {outputs.SECRETS} holds into {style.store}: each Secret under NAMESPACE/NAME, each key a property"
        )
    return tuple(told)


def _namespaces(release: Release, parts: Parts) -> tuple[str, ...]:
    """Return every namespace that something goes to and that nothing else makes."""
    used = [identity(placed(dict(it), parts.namespace))[2] for it in (*parts.secrets, *parts.others)]
    brought = {identity(it)[3] for it in parts.others if it.get("kind") == "Namespace"}
    wanted = dict.fromkeys((release.namespace, parts.namespace, *used))
    return tuple(name for name in wanted if name and name not in UNMADE and name not in brought)


def _operator(release: Release, namespaces: Iterable[str], *, held: bool) -> dict[str, str]:
    """Return the first step: namespaces, definitions, and the operator's objects."""
    objects = [placed(dict(it.object), release.namespace) for it in release.documents if not it.is_test]
    definitions = [it for it in objects if it.get("kind") == CRD]
    made: list[Mapping[str, Json]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces
    ]
    files = {
        f"{OPERATOR}/{NAMESPACES}/{NAMESPACES}.yaml": outputs.dump_all(made, "The namespaces of operator and server."),
        f"{OPERATOR}/{NAMESPACES}/{KUSTOMIZATION}": _kustomization([f"{NAMESPACES}.yaml"] if made else [], "By themselves."),
        f"{OPERATOR}/operator.yaml": outputs.dump_all(
            [it for it in objects if it.get("kind") != CRD],
            f"Chart {release.chart} {release.version}, rendered with ../{outputs.OPERATOR_VALUES}.",
        ),
    }
    if definitions:
        files[f"{OPERATOR}/crds.yaml"] = outputs.dump_all(definitions, "What a WeightsAndBiases is.")
    listed = [NAMESPACES, *([f"../{HELD}"] if held else []), *(["crds.yaml"] if definitions else []), "operator.yaml"]
    files[f"{OPERATOR}/{KUSTOMIZATION}"] = _kustomization(listed, "The first step: kubectl apply --server-side -k operator")
    return files


def _kustomization(resources: Iterable[str], header: str) -> str:
    document: dict[str, Json] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(resources),
    }
    return outputs.dump_all([document], header)


def _account(namespace: str, secret: str) -> dict[str, Json]:
    metadata: dict[str, Json] = {"name": "default", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "imagePullSecrets": [{"name": secret}]}


# -- secrets -----------------------------------------------------------------------------------------------------------


def _listed(parts: Parts, style: Style) -> str:
    """Return the file of secrets that a kustomization lists; empty where they stay apart."""
    names = {PLAIN: outputs.SECRETS, SEALED: SEALED_SECRETS, EXTERNAL: EXTERNAL_SECRETS}
    return names.get(style.secrets, "") if parts.secrets else ""


def _secrets(parts: Parts, style: Style) -> dict[str, str]:
    """Return what makes the Secrets; what ``kubeseal`` makes is listed before it is there, and nothing builds without it."""
    files = {IGNORED: f"# holds credentials\n/{outputs.SECRETS}\n"}
    listed = _listed(parts, style)
    secrets = [placed(dict(it), parts.namespace) for it in parts.secrets]
    if listed:
        files[f"{HELD}/{KUSTOMIZATION}"] = _kustomization([listed], "Comes with the first step.")
    if listed == outputs.SECRETS:
        files[f"{HELD}/{listed}"] = outputs.dump_all(secrets, "Holds credentials, as --secrets plain has it.")
    if listed == EXTERNAL_SECRETS:
        kind, slash, name = style.store.rpartition("/")
        store: dict[str, Json] = {"kind": kind if slash else "ClusterSecretStore", "name": name}
        found = [_external(it, store) for it in secrets]
        files[f"{HELD}/{listed}"] = outputs.dump_all(found, "For the External Secrets Operator: names, no values.")
    return files


def _external(secret: Mapping[str, Json], store: dict[str, Json]) -> dict[str, Json]:
    """Return the ExternalSecret (external-secrets.io/v1) that makes ``secret`` out of a store."""
    _, _, namespace, name = identity(secret)
    keys: set[str] = set()
    for part in ("data", "stringData"):
        held = secret.get(part)
        keys |= set(held) if isinstance(held, dict) else set()
    data: list[Json] = [
        {"secretKey": key, "remoteRef": {"key": f"{namespace}/{name}", "property": key}} for key in sorted(keys)
    ]
    target: dict[str, Json] = {"name": name, "template": {"type": secret.get("type") or "Opaque"}}
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"secretStoreRef": dict(store), "target": target, "data": data},
    }


# -- controllers -------------------------------------------------------------------------------------------------------


def _argocd(release: Release, parts: Parts, git: Git, *, held: bool) -> str:
    """Return the Applications: the Secrets, the operator's chart from the private registry, and this folder from git."""
    chart: dict[str, Json] = {
        "repoURL": release.repository,
        "chart": release.chart,
        "targetRevision": chart_tag(release.version),
        "helm": {"releaseName": release.name, "valuesObject": dict(release.values)},
    }
    site: dict[str, Json] = {"repoURL": git.url, "path": git.path, "targetRevision": git.revision}
    first = _application("wandb-secrets", release.namespace, {**site, "path": git.at(HELD)}, wave="-1")
    return outputs.dump_all(
        [
            *([first] if held else []),
            _application("wandb-operator", release.namespace, chart, wave="0"),
            _application("wandb", parts.namespace, site, wave="1"),
        ],
        "For Argo CD; each waits, by its retries, for what the others define. The registry must be known to it:\n"
        f"argocd repo add {release.repository} --type helm --enable-oci --name wandb-charts",
    )


def _application(name: str, namespace: str, source: dict[str, Json], *, wave: str) -> dict[str, Json]:
    """Return an Application; server-side apply, because client-side has no room for the chart's ConfigMap."""
    metadata: dict[str, Json] = {
        "name": name,
        "namespace": ARGOCD_NAMESPACE,
        "annotations": {"argocd.argoproj.io/sync-wave": wave},
    }
    policy: dict[str, Json] = {
        "automated": {"selfHeal": True, "prune": False},
        "syncOptions": ["CreateNamespace=true", "ServerSideApply=true"],
        "retry": {"limit": 10, "backoff": {"duration": "10s", "factor": 2, "maxDuration": "3m"}},
    }
    spec: dict[str, Json] = {
        "project": "default",
        "source": source,
        "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
        "syncPolicy": policy,
    }
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": metadata, "spec": spec}


def _flux(release: Release, git: Git, *, held: bool) -> dict[str, str]:
    """Return what Flux syncs (one file, applied once), and the operator as a HelmRelease from the private registry."""
    source: dict[str, Json] = {"kind": "GitRepository", "name": "wandb"}
    repository: dict[str, Json] = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": "wandb", "namespace": FLUX_NAMESPACE},
        "spec": {"interval": INTERVAL, "url": git.url, "ref": {"branch": git.revision}},
    }
    first = _sync("wandb-operator", git.at(f"{FLUX}/{OPERATOR}"), source, {"wait": True})
    second = _sync("wandb", git.at("."), source, {"dependsOn": [{"name": "wandb-operator"}]})
    return {
        f"{FLUX}/sync.yaml": outputs.dump_all([repository, first, second], "For Flux: kubectl apply -f this, once."),
        f"{FLUX}/{OPERATOR}/helm.yaml": outputs.dump_all(_helm_release(release), "The operator, from the private registry."),
        f"{FLUX}/{OPERATOR}/{KUSTOMIZATION}": _kustomization(
            [f"../../{OPERATOR}/{NAMESPACES}", *([f"../../{HELD}"] if held else []), "helm.yaml"],
            "What ../sync.yaml syncs first.",
        ),
    }


def _sync(name: str, path: str, source: dict[str, Json], more: dict[str, Json]) -> dict[str, Json]:
    spec: dict[str, Json] = {
        "interval": INTERVAL,
        "path": "./" if path == "." else f"./{path}",
        "prune": False,
        "sourceRef": dict(source),
        **more,
    }
    metadata: dict[str, Json] = {"name": name, "namespace": FLUX_NAMESPACE}
    return {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": metadata, "spec": spec}


def _helm_release(release: Release) -> list[Mapping[str, Json]]:
    """Return the HelmRepository (OCI, with the pull secret, which lies in its namespace) and the HelmRelease."""
    repository: dict[str, Json] = {"interval": INTERVAL, "type": "oci", "url": f"oci://{release.repository}"}
    if release.plain_http:
        repository["insecure"] = True
    if release.pull_secret:
        repository["secretRef"] = {"name": release.pull_secret}
    chart: dict[str, Json] = {
        "chart": release.chart,
        "version": release.version,
        "sourceRef": {"kind": "HelmRepository", "name": "wandb-charts"},
    }
    spec: dict[str, Json] = {
        "interval": INTERVAL,
        "releaseName": release.name,
        "chart": {"spec": chart},
        "install": {"crds": "CreateReplace"},
        "upgrade": {"crds": "CreateReplace"},
        "values": dict(release.values),
    }
    return [
        {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "HelmRepository",
            "metadata": {"name": "wandb-charts", "namespace": release.namespace},
            "spec": repository,
        },
        {
            "apiVersion": "helm.toolkit.fluxcd.io/v2",
            "kind": "HelmRelease",
            "metadata": {"name": release.name, "namespace": release.namespace},
            "spec": spec,
        },
    ]
