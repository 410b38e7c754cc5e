"""Rendering: a chart's objects with their leaves, and what differs between two of them.

Invariants: objects are paired by template, kind and order, so a changed name does not hide a changed image. Nothing is
compared as text: Helm 3 and Helm 4 write the same objects differently (cluster-and-helm.md section 2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airgap.chart.apart import Copy
from airgap.scan import parse_rendering
from airgap.tools import KUBE_VERSION
from airgap.values import leaves

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from airgap.chart import Chart
    from airgap.scan import Document
    from airgap.tools import Helm
    from airgap.values import Json, ValuePath

Key = tuple[str, str, int]
"""Template, kind and number among those of one template and kind: what an object is called across renderings."""
Place = tuple[Key, "ValuePath"]

LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
"""A label value that the API server takes (Kubernetes, "Labels and Selectors", syntax and character set)."""


@dataclass(frozen=True)
class Difference:
    """A leaf that two renderings hold differently; None where one has none."""

    key: Key
    path: ValuePath
    old: Json
    new: Json
    document: Document

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.key, self.path

    @property
    def metadata(self) -> str:
        """``labels`` or ``annotations`` if the leaf is one of an object's or a pod template's, else empty."""
        for parent, kind in zip(self.path, self.path[1:], strict=False):
            if parent == "metadata" and kind in ("labels", "annotations"):
                return str(kind)
        return ""

    @property
    def is_bearable(self) -> bool:
        """Whether it is a label that stays a valid one, or an annotation: what a form may bring along."""
        if self.metadata == "annotations":
            return True
        return self.metadata == "labels" and isinstance(self.new, str) and bool(LABEL_VALUE.fullmatch(self.new))


@dataclass(frozen=True)
class Rendering:
    """The objects that one render made."""

    documents: tuple[Document, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, where: str) -> Rendering:
        """Parse helm's output; raises ConfigurationError for what cannot be read."""
        return cls(parse_rendering(text, where))

    @cached_property
    def by_key(self) -> Mapping[Key, Document]:
        """The objects by their key."""
        found: dict[Key, Document] = {}
        counts: dict[tuple[str, str], int] = {}
        for document in self.documents:
            number = counts[document.template, document.kind] = counts.get((document.template, document.kind), -1) + 1
            found[document.template, document.kind, number] = document
        return found

    @cached_property
    def leaves(self) -> Mapping[Key, Mapping[ValuePath, Json]]:
        """Every scalar of every object."""
        return {key: dict(leaves(document.object)) for key, document in self.by_key.items()}

    def at(self, place: Place) -> Json:
        """Return the scalar at a place, or None."""
        return self.leaves.get(place[0], {}).get(place[1])

    def differences(self, later: Rendering) -> Iterator[Difference]:
        """Yield every leaf that ``later`` holds otherwise, objects that only one has included (as all their leaves).

        A null is an absent key, to Kubernetes as here: helm drops a chart's null defaults as soon as a neighbour is set.
        """
        for key in sorted({*self.by_key, *later.by_key}):
            before, after = self.leaves.get(key, {}), later.leaves.get(key, {})
            if before == after:
                continue
            document = later.by_key.get(key) or self.by_key[key]
            for path in {**before, **after}:
                old, new = before.get(path), after.get(path)
                if old != new:
                    yield Difference(key, path, old, new, document)


@dataclass
class Renderer:
    """A chart that can be rendered with other values; ``renders`` counts what helm was asked."""

    helm: Helm
    chart: Chart
    copy: Copy
    release: str
    namespace: str
    kube_version: str = KUBE_VERSION
    renders: int = 0
    _computed: list[tuple[Mapping[str, Json], dict[str, Json]]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, helm: Helm, chart: Chart, directory: Path, release: str, namespace: str) -> Renderer:
        """Write the chart into ``directory`` and return a renderer for it."""
        return cls(helm, chart, Copy(chart, directory), release, namespace)

    def render(self, values: Mapping[str, Json], *, again: bool = False) -> Rendering:
        """Render with ``values``; ``again`` asks helm anew for what it was asked before. Raises RenderError."""
        self.renders += 1
        text = self.helm.template(
            self.copy.path,
            release=self.release,
            namespace=self.namespace,
            values=[_ordered(dict(values)), {}] if again else [_ordered(dict(values))],
            kube_version=self.kube_version,
        )
        return Rendering.parse(text, self.chart.label)

    def first(self, values: Mapping[str, Json]) -> Rendering:
        """Render what all later ones are compared with; without templates that only a cluster can answer (cases.md H4)."""
        return self.copy.bear(lambda _: self.render(values))

    def computed(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Return ``.Values`` as templates see them."""
        for asked, answer in self._computed:
            if asked == values:
                return answer
        self.renders += 1
        computed = self.chart.computed_values(
            self.helm, [values], release=self.release, namespace=self.namespace, kube_version=self.kube_version
        )
        self._computed.append((values, computed))
        return computed


def _ordered(values: Json) -> Any:
    """Return ``values`` with sorted keys, so that equal values are one question to helm."""
    if isinstance(values, dict):
        return {key: _ordered(values[key]) for key in sorted(values)}
    return [_ordered(item) for item in values] if isinstance(values, list) else values
