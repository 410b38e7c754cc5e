"""The words of Weights & Biases: chart sources, the release channel's spec, the custom resource, the licence.

Invariants: pure and frozen; every shape and rule here is the operator's own, v1.22 (wandb-v1.md, sections 1 and 2).
What the operator would swallow in silence (a chart that is none of its three kinds) raises ConfigurationError here.

>>> parse_chart({"path": "/charts/operator-wandb"}, "cr.yaml")
LocalChart(path='/charts/operator-wandb')
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from airgap.errors import ConfigurationError
from airgap.values import Json, Layer, Merged, coalesce, load_yaml, operator_merge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GROUP = "apps.wandb.com"
API_VERSION = f"{GROUP}/v1"
KIND = "WeightsAndBiases"
DEFAULT_CHANNEL = "https://deploy.wandb.ai"
CHANNEL_PATH = "/api/v1/operator/channel"
"""Of the latest spec; ``/release/ID`` after it for a pinned one."""

LICENSE_USER = "license"
"""The user name, literally, with which the licence is sent to the channel (HTTP Basic)."""

USERNAME_KEY, PASSWORD_KEY = "HELM_USERNAME", "HELM_PASSWORD"
"""Keys that the operator reads from a credential Secret unless it is told others."""

RESOURCE_LAYER, USER_LAYER, CHANNEL_LAYER, DEFAULTS_LAYER = (
    "the custom resource",
    "the user input",
    "the release channel",
    "the operator's defaults",
)
"""The layers of values as messages and origins name them, highest first."""

_JWT_PARTS = 3


@dataclass(frozen=True)
class CredentialSecret:
    """A Secret in the custom resource's namespace with the credentials of a chart source (operator v1.20 and later)."""

    name: str
    username_key: str = USERNAME_KEY
    password_key: str = PASSWORD_KEY

    def to_json(self) -> dict[str, Json]:
        """Return the object as ``spec.chart.credentialSecret`` has it."""
        return {"name": self.name, "usernameKey": self.username_key, "passwordKey": self.password_key}


@dataclass(frozen=True)
class LocalChart:
    """A chart that the operator finds in its own file system: a packed chart, or one as base64 text, never a folder."""

    path: str

    def to_json(self) -> dict[str, Json]:
        """Return the object as ``spec.chart`` has it."""
        return {"path": self.path}


@dataclass(frozen=True)
class OciChart:
    """A chart in an OCI registry (operator v1.22 and later): ``url`` is ``oci://REGISTRY/PATH/NAME``, perhaps with a tag."""

    url: str
    version: str = ""
    plain_http: bool = False
    credential_secret: CredentialSecret | None = None
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Json]:
        """Return the object as ``spec.chart`` has it."""
        out: dict[str, Json] = {"url": self.url}
        if self.version:
            out["version"] = self.version
        if self.plain_http:
            out["plainHTTP"] = True
        return out | _credentials(self)


@dataclass(frozen=True)
class RepoChart:
    """A chart in a Helm repository; no version means the latest."""

    url: str
    name: str
    version: str = ""
    repo_name: str = ""
    credential_secret: CredentialSecret | None = None
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Json]:
        """Return the object as ``spec.chart`` has it."""
        out: dict[str, Json] = {"url": self.url, "name": self.name}
        if self.version:
            out["version"] = self.version
        if self.repo_name:
            out["repoName"] = self.repo_name
        return out | _credentials(self)


ChartSource: TypeAlias = "LocalChart | OciChart | RepoChart"


@dataclass(frozen=True)
class Spec:
    """What the release channel answers, with the bytes it was parsed from."""

    chart: ChartSource | None
    values: dict[str, Json]
    metadata: dict[str, Json]
    raw: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Spec:
        """Parse a spec, as JSON or (a saved one) as YAML; raises ConfigurationError."""
        data = _json_or_yaml(raw, where)
        if not isinstance(data, dict) or not ("chart" in data or "values" in data):
            raise ConfigurationError(
                f"{where}: not a release channel spec; one is an object with chart and values",
                hint=f"save what {DEFAULT_CHANNEL}{CHANNEL_PATH} answers",
            )
        values, metadata = (_map(data, key, where) for key in ("values", "metadata"))
        return cls(parse_chart(data.get("chart"), where), values, metadata, raw)


@dataclass(frozen=True)
class CustomResource:
    """A WeightsAndBiases object of the operator's first generation."""

    name: str
    namespace: str = ""
    chart: ChartSource | None = None
    values: dict[str, Json] = field(default_factory=dict)
    labels: dict[str, Json] = field(default_factory=dict)
    annotations: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Json, where: str) -> CustomResource:
        """Read the object; raises ConfigurationError for another kind and for the second generation's v2."""
        data = document if isinstance(document, dict) else {}
        found = f"{data.get('apiVersion')} {data.get('kind')}"
        if data.get("kind") != KIND or str(data.get("apiVersion")).partition("/")[0] != GROUP:
            raise ConfigurationError(f"{where}: {found} is not a {KIND} of {API_VERSION}")
        if data.get("apiVersion") != API_VERSION:
            raise ConfigurationError(
                f"{where}: {found} belongs to another generation of the operator; airgap carries {API_VERSION}",
                hint=f"write it for {API_VERSION}, with spec.chart and spec.values",
            )
        metadata, spec = _map(data, "metadata", where), _map(data, "spec", where)
        name, namespace = metadata.get("name"), metadata.get("namespace") or ""
        if not isinstance(name, str) or not name or not isinstance(namespace, str):
            raise ConfigurationError(f"{where}: a {KIND} needs metadata.name, a word")
        return cls(
            name=name,
            namespace=namespace,
            chart=parse_chart(spec.get("chart"), f"{where}: spec.chart"),
            values=_map(spec, "values", where),
            labels=_map(metadata, "labels", where),
            annotations=_map(metadata, "annotations", where),
        )

    def with_values(self, values: dict[str, Json]) -> CustomResource:
        """Return the same object with other values."""
        return replace(self, values=values)

    def to_document(self) -> dict[str, Json]:
        """Return the object as it is applied; empty parts are left out."""
        metadata: dict[str, Json] = {"name": self.name}
        if self.namespace:
            metadata["namespace"] = self.namespace
        if self.labels:
            metadata["labels"] = self.labels
        if self.annotations:
            metadata["annotations"] = self.annotations
        spec: dict[str, Json] = {"values": self.values}
        if self.chart:
            spec = {"chart": self.chart.to_json(), **spec}
        return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}


@dataclass(frozen=True)
class UserInput:
    """What ``--values`` holds.

    ``values``: Helm values files and the custom resource's ``spec.values``, laid over each other in the order given, as helm
    does (a later null stays in it). ``resource``: the custom resource as it was written, if there is one. ``others``: the other
    Kubernetes objects of the files (Secrets, ...), to be applied as they are.
    """

    values: dict[str, Json]
    resource: CustomResource | None = None
    others: tuple[dict[str, Json], ...] = ()

    @property
    def secrets(self) -> tuple[dict[str, Json], ...]:
        """The Secrets among the other objects."""
        return tuple(document for document in self.others if document.get("kind") == "Secret")


@dataclass(frozen=True)
class LicenseInfo:
    """What an offline licence says of itself; nobody has checked its signature. ``expires`` is in UTC."""

    expires: datetime | None

    @classmethod
    def parse(cls, text: str) -> LicenseInfo:
        """Read the licence, a JSON web token; raises ConfigurationError, whose sentence never holds the licence."""
        parts = text.strip().split(".")
        if len(parts) != _JWT_PARTS:
            raise ConfigurationError(
                f"the licence is no JSON web token: it has {len(parts)} parts between dots, not {_JWT_PARTS}",
                hint="copy the licence whole, without line breaks",
            )
        try:
            claims = json.loads(base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True))
        except (ValueError, RecursionError, binascii.Error) as error:
            raise ConfigurationError(
                "the licence is no JSON web token: its middle part cannot be decoded", hint="copy the licence whole"
            ) from error
        expiry = claims.get("exp") if isinstance(claims, dict) else None
        if isinstance(expiry, bool) or not isinstance(expiry, (int, float)):
            return cls(None)
        try:
            return cls(datetime.fromtimestamp(expiry, tz=timezone.utc))
        except (OverflowError, ValueError, OSError):
            return cls(None)


def parse_chart(data: Json, where: str) -> ChartSource | None:
    """Return the chart source that the operator would take ``data`` for: local, then OCI, then repository.

    None for no chart at all. Raises ConfigurationError where the operator would find none of the three and say nothing.
    """
    if data is None or data == {}:
        return None
    chart = (_local_chart(data) or _oci_chart(data) or _repo_chart(data)) if isinstance(data, dict) else None
    if chart is None:
        given = ", ".join(sorted(data)) if isinstance(data, dict) else type(data).__name__
        raise ConfigurationError(
            f"{where}: the operator takes this for no chart at all (given: {given})",
            hint="give path, or url (oci://...) and version, or url and name",
        )
    return chart


def read_user_values(documents: Sequence[tuple[str, Json]]) -> UserInput:
    """Sort the documents of the ``--values`` files, given as (file, document); raises ConfigurationError."""
    layers: list[dict[str, Json]] = []
    resource: CustomResource | None = None
    others: list[dict[str, Json]] = []
    for where, document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ConfigurationError(f"{where}: values must be a map, not a {type(document).__name__}")
        if not _is_object(document):
            layers.append(document)
        elif document["kind"] != KIND:
            others.append(document)
        elif resource:
            raise ConfigurationError(f"{where}: a second {KIND} ({resource.name} came first); airgap installs one")
        else:
            resource = CustomResource.from_document(document, where)
            layers.append(resource.values)
    return UserInput(coalesce(layers), resource, tuple(others))


def effective(
    resource_values: dict[str, Json],
    user_input: dict[str, Json],
    channel_values: dict[str, Json],
    operator_namespace: str = "wandb",
) -> Merged:
    """Return what the operator gives to Helm: custom resource over user input over channel over its own defaults.

    ``user_input`` is what the System Console keeps. Raises ConfigurationError (see ``operator_merge``).
    """
    defaults: dict[str, Json] = {"global": {"operator": {"apiVersion": API_VERSION, "namespace": operator_namespace}}}
    return operator_merge(
        [
            Layer(RESOURCE_LAYER, resource_values),
            Layer(USER_LAYER, user_input),
            Layer(CHANNEL_LAYER, channel_values),
            Layer(DEFAULTS_LAYER, defaults),
        ]
    )


def _is_object(document: Mapping[str, Json]) -> bool:
    return isinstance(document.get("apiVersion"), str) and isinstance(document.get("kind"), str)


def _local_chart(data: dict[str, Json]) -> LocalChart | None:
    path = data.get("path")
    return LocalChart(path) if isinstance(path, str) and path else None


def _oci_chart(data: dict[str, Json]) -> OciChart | None:
    texts = _texts(data, "url", "version", "username", "password")
    if texts is None or not texts["url"].startswith("oci://"):
        return None
    has_tag = ":" in texts["url"].rpartition("/")[2]
    if not (texts["version"] or has_tag) or bool(texts["username"]) != bool(texts["password"]):
        return None
    return OciChart(plain_http=data.get("plainHTTP") is True, credential_secret=_credential_secret(data), **texts)


def _repo_chart(data: dict[str, Json]) -> RepoChart | None:
    texts = _texts(data, "url", "name", "version", "repoName", "username", "password")
    if texts is None or not texts["name"] or texts["url"].startswith("oci://"):
        return None
    parts = urlsplit(texts["url"])
    if not parts.scheme or not parts.netloc or bool(texts["username"]) != bool(texts["password"]):
        return None
    repo_name = texts.pop("repoName")
    return RepoChart(repo_name=repo_name, credential_secret=_credential_secret(data), **texts)


def _texts(data: dict[str, Json], *keys: str) -> dict[str, str] | None:
    """Return the fields, absent ones empty; None when one is no string: Go's decoder refuses the whole then."""
    out = {}
    for key in keys:
        value = data.get(key)
        if value is not None and not isinstance(value, str):
            return None
        out[key] = value or ""
    return out


def _credential_secret(data: dict[str, Json]) -> CredentialSecret | None:
    given = data.get("credentialSecret")
    if not isinstance(given, dict) or not given.get("name"):
        return None
    keys = (str(given.get("usernameKey") or USERNAME_KEY), str(given.get("passwordKey") or PASSWORD_KEY))
    return CredentialSecret(str(given["name"]), *keys)


def _credentials(chart: OciChart | RepoChart) -> dict[str, Json]:
    out: dict[str, Json] = {}
    if chart.credential_secret:
        out["credentialSecret"] = chart.credential_secret.to_json()
    if chart.username:
        out |= {"username": chart.username, "password": chart.password}
    return out


def _map(data: Mapping[str, Json], key: str, where: str) -> dict[str, Json]:
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: {key} must be a map, not a {type(value).__name__}")
    return value


def _json_or_yaml(raw: bytes, where: str) -> Json:
    try:
        data: Json = json.loads(raw)
    except (ValueError, RecursionError):
        return load_yaml(raw, where)
    return data
