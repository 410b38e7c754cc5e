"""Receipt: what an install did, how far it came, and what it takes to go back to it.

Invariants: pure and frozen. ``facts`` hold no values and may lie in a ConfigMap; ``payload`` (the operator's values and the
custom resource, as applied) is kept in a Secret, because a site's values may hold what should not be read by everybody. One
receipt is one thing to be installed: a run that goes on after a failure writes the same one, a run with something else
(another bundle, other values) the next.

>>> Receipt(1, "wandb", "sha256:0", "reg.lan", "wandb", "wandb", "wandb").after("push").stages
('push',)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.errors import ConfigurationError
from airgap.oci import Digest, canonical_json
from airgap.ref import FLAT, Location, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA_VERSION = 1
KIND = "InstallReceipt"

RUNNING, FAILED, DONE = "running", "failed", "done"
"""States: begun and not ended (or killed); ended with an error; what it describes is running."""

ObjectKey = tuple[str, str, str, str]
"""apiVersion, kind, namespace (or empty), name."""


@dataclass(frozen=True)
class Receipt:
    """One install. ``bundle`` is the bundle's name, ``lock`` its digest; times are RFC 3339 texts that the caller gives.

    ``location`` is where nodes pull, ``pushed_to`` the same place as the install reached it (empty: by the same name) and
    ``layout`` how repositories are named there (empty: not written down); ``pull_secret`` what service accounts were linked
    to; ``node_mirrors``: the nodes had the mirror files.
    ``chart`` is ``spec.chart`` as applied, ``chart_digest`` that of the archive it stands for (empty: not written down);
    ``objects`` what was applied (not what helm or the operator made of it); ``images`` name in the registry to digest;
    ``previous`` the number of the receipt that this one replaced (0: none).
    """

    number: int
    bundle: str
    lock: str
    location: str
    operator_namespace: str
    resource_namespace: str
    resource_name: str
    operator_release: str = "operator"
    operator_version: str = ""
    server_version: str = ""
    chart: Mapping[str, Any] = field(default_factory=dict, hash=False)
    chart_digest: str = ""
    objects: tuple[ObjectKey, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict, hash=False)
    stages: tuple[str, ...] = ()
    state: str = RUNNING
    reason: str = ""
    previous: int = 0
    begun: str = ""
    ended: str = ""
    generator: str = ""
    pushed_to: str = ""
    layout: str = ""
    pull_secret: str = ""
    node_mirrors: bool = False
    operator_values: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    resource: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @property
    def identity(self) -> str:
        """The digest of what is to be installed: two runs with the same one install the same."""
        wanted = [self.lock, self.location, self.operator_namespace, self.operator_values, self.resource]
        return str(Digest.of(canonical_json(wanted)))

    @property
    def place(self) -> Location:
        """Where nodes find the images: FLAT or HOST.

        PATH and HOST need not be told apart: both put charts under ``charts/`` and leave a path below the prefix as it is.
        Where no layout is written down it follows from the images' names: one component below the prefix is FLAT.
        """
        location = Location.parse(self.location)
        if self.layout:
            return Location.parse(self.location, FLAT) if self.layout == FLAT else location
        inner = [location.origin(Reference.parse(name).repository) for name in self.images]
        return Location.parse(self.location, FLAT) if inner and not any("/" in path for path in inner) else location

    @property
    def asked_at(self) -> str:
        """The registry's host as it is asked for the nodes' paths: by the name of the push, unless that has other paths."""
        nodes = Location.parse(self.location)
        pushed = Location.parse(self.pushed_to or self.location)
        return pushed.registry if pushed.prefix == nodes.prefix else nodes.registry

    def reached_as(self, other: Receipt) -> Receipt:
        """Return the receipt with how the registry was reached this time."""
        return replace(
            self,
            pushed_to=other.pushed_to,
            layout=other.layout,
            pull_secret=other.pull_secret,
            node_mirrors=other.node_mirrors,
        )

    @property
    def is_done(self) -> bool:
        """Whether what it describes came to run."""
        return self.state == DONE

    def of_parts(self, *, operator: bool, server: bool, before: Receipt | None) -> Receipt:
        """Return the receipt of an install of one half alone: the other half is as the receipt before says, or not there."""
        old = before or replace(
            self,
            operator_values={},
            operator_version="",
            resource={},
            chart={},
            chart_digest="",
            server_version="",
            images={},
        )
        receipt = self
        if not operator:
            receipt = replace(receipt, operator_values=old.operator_values, operator_version=old.operator_version)
        if not server:
            of_server = ("resource", "chart", "chart_digest", "server_version")
            receipt = replace(receipt, **{name: getattr(old, name) for name in of_server})
        return receipt if operator and server else replace(receipt, images={**old.images, **receipt.images})

    def after(self, *stages: str) -> Receipt:
        """Return the receipt with more stages done."""
        return replace(self, stages=tuple(dict.fromkeys((*self.stages, *stages))))

    @property
    def charts_name(self) -> str:
        """The ConfigMap that the operator mounts at /charts, as it was applied; by the name that W&B documents if none was."""
        listed = [name for _, kind, space, name in self.objects if kind == "ConfigMap" and space == self.operator_namespace]
        return next((name for name in listed if name.endswith("-charts")), "wandb-charts")

    def with_objects(self, keys: Iterable[ObjectKey]) -> Receipt:
        """Return the receipt with more objects applied."""
        return replace(self, objects=tuple(dict.fromkeys((*self.objects, *keys))))

    def finished(self, time: str) -> Receipt:
        """Return the receipt of something that runs."""
        return replace(self, state=DONE, reason="", ended=time)

    def failed(self, reason: str, time: str) -> Receipt:
        """Return the receipt of something that stopped, with the error's sentence."""
        return replace(self, state=FAILED, reason=reason, ended=time)

    def to_json(self) -> dict[str, Any]:
        """Return the facts: everything but values."""
        left_out = ("operator_values", "resource", "objects")
        plain = {_camel(key): value for key, value in vars(self).items() if key not in left_out}
        return {
            "kind": KIND,
            "schemaVersion": SCHEMA_VERSION,
            **plain,
            "identity": self.identity,
            "stages": list(self.stages),
            "chart": dict(self.chart),
            "images": dict(self.images),
            "objects": [dict(zip(_KEY_FIELDS, key, strict=True)) for key in self.objects],
        }

    def facts(self) -> bytes:
        """Return ``to_json`` as canonical JSON."""
        return canonical_json(self.to_json())

    def payload(self) -> bytes:
        """Return the operator's values and the custom resource as canonical JSON."""
        return canonical_json({"operatorValues": dict(self.operator_values), "resource": dict(self.resource)})

    @classmethod
    def from_bytes(cls, facts: bytes | str, payload: bytes | str = b"{}", where: str = "the receipt") -> Receipt:
        """Read a receipt back; raises ConfigurationError for what is none, or of another schema."""
        try:
            data, values = json.loads(facts), json.loads(payload)
            if (data["kind"], data["schemaVersion"]) != (KIND, SCHEMA_VERSION):
                raise ConfigurationError(f"{where} is {data['kind']} of schema {data['schemaVersion']}, not {KIND} of 1")
            plain = {name: data[_camel(name)] for name in cls.__dataclass_fields__ if _camel(name) in data}
            plain["objects"] = tuple(tuple(str(item[key]) for key in _KEY_FIELDS) for item in data["objects"])
            plain["stages"] = tuple(str(stage) for stage in data["stages"])
            return cls(**plain, operator_values=values.get("operatorValues") or {}, resource=values.get("resource") or {})
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"{where} cannot be read ({type(error).__name__}: {error})") from error


_KEY_FIELDS = ("apiVersion", "kind", "namespace", "name")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
