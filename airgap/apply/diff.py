"""What an apply would change, object by object: the server's own dry run beside what is live.

Invariants: nothing is changed; what Secrets hold is told as a length and a short digest, never as text.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airgap.apply.steps import chart_configmap, namespace, steps
from airgap.errors import ClusterError
from airgap.kube import describe
from airgap.standing import chart_key
from airgap.values import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airgap.intent import Intent
    from airgap.kube import Kubectl
    from airgap.standing import Standing

CREATE, CHANGE, SAME, REFUSED = "create", "change", "same", "refused"

_SERVERS_OWN = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
LONG = 400
"""Characters above which a text (a chart in a ConfigMap) is told by its length and digest."""


@dataclass(frozen=True)
class Difference:
    """One object: ``what`` happens to it, the lines of the unified difference, or why the server refuses it."""

    object: str
    what: str
    text: str = ""

    def to_json(self) -> dict[str, str]:
        """Return all fields."""
        return dict(vars(self))


def compare(kubectl: Kubectl, intent: Intent, standing: Standing) -> Iterator[Difference]:
    """Yield every object of ``intent`` in the order of an install with its difference to the live one."""
    absent = [name for name in intent.namespaces if kubectl.get("Namespace", name) is None]
    for name in absent:
        yield _difference(namespace(name), None, namespace(name))
    for step in steps(intent):
        for document in step.objects:
            yield _planned(kubectl, document, absent, force=step.force)
    if intent.chart_configmap is not None:
        live = kubectl.live(intent.chart_configmap)
        yield _difference(
            intent.chart_configmap, live, chart_configmap(intent.chart_configmap, live, chart_key(standing.resource))[0]
        )
    for part in (intent.operator,):
        for item in part.installed:
            document = {**item.object, "metadata": {**dict(item.object.get("metadata") or {})}}  # type: ignore[arg-type]
            document["metadata"].setdefault("namespace", part.namespace)
            live = kubectl.live(document)
            yield _difference(document, live, document, loosely=True)
    yield _planned(kubectl, intent.resource.to_document(), absent, force=True)


def _planned(kubectl: Kubectl, document: dict[str, Any], absent: Sequence[str], *, force: bool) -> Difference:
    live = kubectl.live(document)
    if live is None:
        return _difference(document, None, document)
    if document["metadata"].get("namespace") in absent:
        return _difference(document, None, document)
    try:
        return _difference(document, live, kubectl.apply(document, force=force, dry_run=True))
    except ClusterError as error:
        return Difference(describe(document), REFUSED, error.message)


def _difference(
    document: Mapping[str, Any], live: Mapping[str, Any] | None, planned: Mapping[str, Any], *, loosely: bool = False
) -> Difference:
    """Compare; ``loosely``: only what ``planned`` sets, because the server's defaults are not in it."""
    name = describe(document)
    there = _plain(live) if live else {}
    will = _plain(planned)
    if loosely and live:
        there = _only(there, will)
    before, after = (dump_yaml(it).splitlines() if it else [] for it in (there, will))
    lines = list(difflib.unified_diff(before, after, "live", "applied", lineterm="", n=1))
    what = CREATE if live is None else CHANGE if lines else SAME
    return Difference(name, what, "\n".join(lines[2:]))


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in (document.get("metadata") or {}).items() if key not in _SERVERS_OWN}
    plain = {key: value for key, value in document.items() if key not in ("status", "metadata")}
    if document.get("kind") == "Secret":
        for key in ("data", "stringData"):
            if key in plain:
                plain[key] = {name: _digested(str(text)) for name, text in (plain[key] or {}).items()}
    shortened = _shortened({**plain, "metadata": metadata})
    return shortened if isinstance(shortened, dict) else {}


def _only(there: Any, like: Any) -> Any:
    """Return what of ``there`` stands in ``like`` too."""
    if isinstance(there, dict) and isinstance(like, dict):
        return {key: _only(value, like[key]) for key, value in there.items() if key in like}
    if isinstance(there, list) and isinstance(like, list) and len(there) == len(like):
        return [_only(one, other) for one, other in zip(there, like, strict=True)]
    return there


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    return _digested(value) if isinstance(value, str) and len(value) > LONG else value


def _digested(text: str) -> str:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = text.encode()
    return f"({len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:12]})"
