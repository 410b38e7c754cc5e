"""Helm's output, taken apart into Kubernetes objects."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.values import Json, get, load_yaml_all

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKER = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_SOURCE = re.compile(r"^# Source: (?P<template>\S.*?)\s*$", re.MULTILINE)
_CONTENT = re.compile(r"^\s*[^\s#]", re.MULTILINE)
_TESTS = frozenset({"test", "test-success", "test-failure"})
"""Hooks that only ``helm test`` runs; the last two are Helm 2's names, which Helm still takes."""
_LIST_KEYS = frozenset({"apiVersion", "kind", "metadata", "items"})
_CACHED_DOCUMENTS = 4096
"""Renderings of one chart with other values are mostly the same documents: each is parsed once."""


@dataclass(frozen=True)
class Document:
    """One Kubernetes object and the template that made it (``chart/templates/x.yaml``, empty when unknown).

    ``object`` may be shared with other documents of the same text: it is never to be changed.
    """

    template: str
    object: dict[str, Json] = field(repr=False)

    @property
    def kind(self) -> str:
        """The object's kind."""
        return _word(self.object.get("kind"))

    @property
    def name(self) -> str:
        """The object's name."""
        return _word(get(self.object, ("metadata", "name")))

    @property
    def namespace(self) -> str:
        """The object's namespace, empty when it names none."""
        return _word(get(self.object, ("metadata", "namespace")))

    @property
    def label(self) -> str:
        """``Kind/name``, for people."""
        return f"{self.kind}/{self.name}"

    @property
    def hooks(self) -> tuple[str, ...]:
        """The Helm hooks that the object belongs to; empty for an ordinary one."""
        written = _word(get(self.object, ("metadata", "annotations", "helm.sh/hook")))
        return tuple(name for name in re.split(r"[\s,]+", written) if name)

    @property
    def is_test(self) -> bool:
        """Whether only ``helm test`` would ever make this object (the operator never runs tests)."""
        return bool(self.hooks) and _TESTS.issuperset(self.hooks)


def parse_rendering(text: str, where: str) -> tuple[Document, ...]:
    """Take the output of ``helm template`` apart, Lists unwrapped, documents without content left out.

    Helm names a file's source once, before its text: of a CRD file that has several documents, or that begins with ``---`` as
    the W&B operator's does, the ones after the first marker are of that file too.

    Raises ConfigurationError that names the template (or ``where`` and the line) of what cannot be read as an object.
    """
    found: list[Document] = []
    template = ""
    for line, part in _parts(text):
        source = _SOURCE.search(part)
        template = source["template"] if source else template
        if not _CONTENT.search(part):
            continue
        place = f"{where}: {template}" if template else where
        for data in _parse(part, place, 0 if template else line):
            if data is not None:
                found += (Document(template, item) for item in _objects(data, place))
    return tuple(found)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of lines before it, text) of each document: a --- at the start of a line always ends one."""
    start = 0
    for match in _MARKER.finditer(text):
        yield text.count("\n", 0, start), text[start : match.start()]
        start = match.end()
    yield text.count("\n", 0, start), text[start:]


@lru_cache(maxsize=_CACHED_DOCUMENTS)
def _parse(part: str, place: str, line: int) -> tuple[Json, ...]:
    return tuple(load_yaml_all(part, place, duplicates=True, line=line))


def _objects(data: Json, place: str) -> Iterator[dict[str, Json]]:
    """Yield the object, or those of a List of any kind."""
    if not isinstance(data, dict):
        raise ConfigurationError(f"{place}: renders a {type(data).__name__}, which is no Kubernetes object")
    kind, items = _word(data.get("kind")), data.get("items")
    if not (kind.endswith("List") and isinstance(items, list) and _LIST_KEYS.issuperset(data)):
        yield data
        return
    for item in items:
        if isinstance(item, dict) and "kind" not in item:
            yield from _objects({"apiVersion": data.get("apiVersion"), "kind": kind.removesuffix("List"), **item}, place)
        else:
            yield from _objects(item, place)


def _word(value: Json) -> str:
    return value if isinstance(value, str) else ""
