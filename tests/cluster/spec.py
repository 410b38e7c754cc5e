"""What the W&B operator (v1) makes of a custom resource, a System Console's input and a release channel: pure.

Written from what the operator was seen to do and says it does, independently of airgap/wandb.py, so that each can be
held against the other. Numbers are one kind here, as they are after Go's JSON.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CREDENTIAL_KEYS = {"usernameKey": "HELM_USERNAME", "passwordKey": "HELM_PASSWORD"}
HOUR = 3600.0
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h))")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": HOUR}


class MergeError(Exception):
    """Two layers have different kinds of value under one key: logged, retried, nothing else."""


class NilPanicError(Exception):
    """A null met another value: the operator's code dereferences nil, and the panic is recovered."""


@dataclass(frozen=True)
class Chart:
    """Where a chart comes from: ``kind`` is local, oci or repo; ``fields`` as the operator writes them."""

    kind: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """One layer, or the merged whole."""

    chart: Chart | None = None
    values: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    def merge(self, lower: Spec | None) -> Spec:
        """Return this over ``lower``; chart and metadata are taken whole."""
        if lower is None:
            return self
        values = self.values
        if lower.values is not None:
            values = copy.deepcopy(lower.values) if values is None else merge(values, lower.values)
        return Spec(self.chart or lower.chart, values, self.metadata if self.metadata is not None else lower.metadata)

    def data(self) -> dict[str, str]:
        """Return the data of the Secret that keeps it."""
        parts = {"chart": self.chart.fields if self.chart else None, "values": self.values, "metadata": self.metadata}
        return {key: json.dumps(part) for key, part in parts.items()}

    @classmethod
    def from_data(cls, data: dict[str, str]) -> Spec:
        """Read the data of a Secret; KeyError if ``values`` or ``chart`` is missing, ValueError if it is not JSON."""
        values, metadata = json.loads(data["values"]), json.loads(data.get("metadata", "null"))
        return cls(chart_of(json.loads(data["chart"])), values, metadata)

    @property
    def delay(self) -> float:
        """Seconds until the operator looks again by itself."""
        text = str((self.values or {}).get("reconcileFrequency") or "")
        if not text or _DURATION.sub("", text):
            return HOUR
        return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    kinds: dict[type, str] = {str: "string", list: "list", dict: "map"}
    return kinds[type(value)]


def merge(high: Any, low: Any) -> Any:
    """Return ``high`` over ``low``: maps key by key, lists one after the other, of anything else the higher."""
    if high is None or low is None:
        raise NilPanicError
    if _kind(high) != _kind(low):
        raise MergeError("type not match")
    if isinstance(high, dict):
        only_low = {key: copy.deepcopy(value) for key, value in low.items() if key not in high}
        return {key: merge(value, low[key]) if key in low else value for key, value in high.items()} | only_low
    return [*high, *low] if isinstance(high, list) else high


def chart_of(data: Any) -> Chart | None:
    """Return the first of local, oci and repo that these data are, or None (which is no error)."""
    if not isinstance(data, dict) or any(isinstance(data.get(key), (dict, list, bool, int)) for key in _TEXTS):
        return None
    for kind, keys, valid in _CHARTS:
        if valid(data):
            fields = {key: data.get(key) or _DEFAULTS.get(key, "") for key in keys}
            return Chart(kind, {key: value for key, value in fields.items() if value is not None})
    return None


def _credentials(data: dict[str, Any]) -> dict[str, Any]:
    return {key: data.get(key) or "" for key in ("name", *CREDENTIAL_KEYS)}


def _is_oci(data: dict[str, Any]) -> bool:
    url = data.get("url") or ""
    tagged = ":" in url.rsplit("/", 1)[-1] or "@" in url
    return url.startswith("oci://") and bool(data.get("version") or tagged)


def _is_repo(data: dict[str, Any]) -> bool:
    parts = urlsplit(data.get("url") or "")
    return bool(parts.scheme and parts.netloc and parts.scheme != "oci" and data.get("name"))


_TEXTS = ("path", "url", "name", "version", "repoName", "username", "password")
_DEFAULTS: dict[str, Any] = {"debug": False, "plainHTTP": None, "credentialSecret": None, "repoName": None}
_CHARTS = (
    ("local", ("path",), lambda data: bool(data.get("path"))),
    ("oci", ("url", "version", "credentialSecret", "password", "username", "plainHTTP", "debug"), _is_oci),
    ("repo", ("url", "name", "version", "repoName", "credentialSecret", "password", "username", "debug"), _is_repo),
)


def equal(active: Spec, desired: Spec) -> bool:
    """Whether the operator finds nothing to do."""
    return (_whole(active.chart), active.values, active.metadata) == (_whole(desired.chart), desired.values, desired.metadata)


def _whole(chart: Chart | None) -> Chart | None:
    """Return the chart with what its credentials leave out written as the operator's structure has it."""
    if chart is None or "credentialSecret" not in chart.fields:
        return chart
    return Chart(chart.kind, {**chart.fields, "credentialSecret": _credentials(chart.fields["credentialSecret"])})


def used(chart: Chart) -> Chart:
    """Return the chart as it is after use: the names of the credentials' keys are filled in, and kept so in spec-active."""
    if "credentialSecret" not in chart.fields:
        return chart
    given = _credentials(chart.fields["credentialSecret"])
    filled = {key: given[key] or default for key, default in CREDENTIAL_KEYS.items()}
    return Chart(chart.kind, {**chart.fields, "credentialSecret": {**given, **filled}})
