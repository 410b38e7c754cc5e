"""Trouble and Surroundings, and reading objects of the API server without trusting their shape."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.values import Json

TELL_LIMIT = 300
"""Characters of somebody else's message that a sentence repeats: containerd's may hold a whole stack of wrapped errors."""

IMAGE, CRASH, CONFIG, MOUNT, SCHEDULE, QUOTA, POLICY, PROBE, NODE, JOB, WAIT = (
    "image",
    "crash",
    "configuration",
    "mount",
    "schedule",
    "quota",
    "policy",
    "probe",
    "node",
    "job",
    "wait",
)
"""Kinds of trouble: what has to be looked after."""


@dataclass(frozen=True, order=True)
class Trouble:
    """What is wrong with one object, as one sentence without a full stop, and the next step.

    ``object`` is ``Kind/name``; ``container`` and ``image`` are empty where the trouble is not of one; ``waiting``: it may pass
    by itself, so that only time tells.
    """

    object: str
    container: str
    kind: str
    sentence: str
    fix: str = ""
    image: str = ""
    waiting: bool = False

    def to_json(self) -> dict[str, str | bool]:
        """Return all fields."""
        return dict(vars(self))

    def __str__(self) -> str:
        where = f"{self.object} {self.container}".strip()
        return f"{where}: {self.sentence}"


@dataclass(frozen=True)
class Surroundings:
    """What else is known around a pod; None means that nobody looked (or was not allowed to).

    ``registry``: host of the private registry. ``held``: image as the pod names it to the digest that the registry answers
    with, empty when it is not there. ``secrets``: pull secrets of the pod's namespace, name to the registry hosts that each has
    credentials for. ``accounts``: service accounts of the namespace, name to the pull secrets that each names.
    ``outside_allowed``: the nodes have mirror files, so that an outside name is no fault by itself.
    """

    registry: str = ""
    held: Mapping[str, str] | None = field(default=None, hash=False)
    secrets: Mapping[str, frozenset[str]] | None = field(default=None, hash=False)
    accounts: Mapping[str, tuple[str, ...]] | None = field(default=None, hash=False)
    outside_allowed: bool = False


def distinct(troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
    """Return the troubles, each sentence once: of a ReplicaSet's ten pods with the same fault, the first is told."""
    seen: dict[tuple[str, str, str], Trouble] = {}
    for trouble in troubles:
        key = (re.sub(r"(?:-[a-z0-9]{4,10}){1,2}$", "", trouble.object), trouble.container, trouble.sentence)
        seen.setdefault(key, trouble)
    return tuple(seen.values())


def with_hint(trouble: Trouble, fix: str) -> Trouble:
    """Return the trouble with ``fix`` unless it has one."""
    return trouble if trouble.fix else replace(trouble, fix=fix)


def text(node: Json, *path: str | int) -> str:
    """Return the string at ``path``, or nothing."""
    value = get(node, path)
    return value if isinstance(value, str) else ""


def number(node: Json, *path: str | int) -> int:
    """Return the whole number at ``path``, or 0."""
    value = get(node, path)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def items(node: Json, *path: str | int) -> list[dict[str, Json]]:
    """Return the maps of the list at ``path``."""
    value = get(node, path)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def label(node: Json) -> str:
    """Return ``Kind/name`` of an object."""
    return f"{text(node, 'kind') or 'Pod'}/{text(node, 'metadata', 'name')}"


def told(message: str) -> str:
    """Return somebody else's message on one line, cut, without the full stop."""
    line = " ".join(message.split()).rstrip(".")
    return line if len(line) <= TELL_LIMIT else f"{line[:TELL_LIMIT]}..."
