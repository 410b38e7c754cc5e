"""Kubernetes objects as data: what they are called, and who manages their fields. Pure.

>>> describe({"kind": "Secret", "metadata": {"name": "a", "namespace": "b"}})
'Secret b/a'
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]
"""A Kubernetes object, as its JSON is."""


def identity(document: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return apiVersion, kind, namespace (or empty) and name."""
    metadata = document.get("metadata") or {}
    return (
        str(document.get("apiVersion") or ""),
        str(document.get("kind") or ""),
        str(metadata.get("namespace") or ""),
        str(metadata.get("name") or ""),
    )


def describe(document: Mapping[str, Any]) -> str:
    """Return ``Kind namespace/name``."""
    _, kind, namespace, name = identity(document)
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def is_leaving(document: Mapping[str, Any] | None) -> bool:
    """Whether an object is being deleted: it is there until its finalizers are off, and takes nothing new."""
    return bool(((document or {}).get("metadata") or {}).get("deletionTimestamp"))


def kind_word(api_version: str, kind: str) -> str:
    """Return the kind as kubectl takes it without doubt: ``Kind.version.group``; for the core group the kind alone.

    Plurals would be shorter, but only the cluster knows those of other groups.
    """
    group, slash, version = api_version.rpartition("/")
    return f"{kind}.{version}.{group}" if slash else kind


def managers_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return field manager to the fields that it owns (``f:`` form), applied and updated ones together."""
    found: dict[str, Any] = {}
    for entry in (document.get("metadata") or {}).get("managedFields") or []:
        if not entry.get("subresource"):
            found[str(entry.get("manager"))] = {**found.get(str(entry.get("manager")), {}), **(entry.get("fieldsV1") or {})}
    return found


def managed_at(document: Mapping[str, Any], manager: str) -> datetime | None:
    """Return when ``manager`` last changed the object (seconds, UTC), or None."""
    times = [
        parse_time(entry.get("time"))
        for entry in (document.get("metadata") or {}).get("managedFields") or []
        if entry.get("manager") == manager
    ]
    return max((time for time in times if time), default=None)


def parse_time(text: object) -> datetime | None:
    """Return a Kubernetes time (RFC 3339, perhaps with fractions) in UTC, or None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00").partition(".")[0].partition("+")[0]).replace(
            tzinfo=timezone.utc
        )
    except ValueError:
        return None
