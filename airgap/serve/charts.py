"""The chart repository: every chart that the registry holds, as ``helm repo add`` and ``helm pull --repo`` want it.

Invariants: an entry is made from the chart's own manifest (its config is Chart.yaml as JSON: HIP 6), so what is listed is
what is there. URLs are relative without a leading slash, the only form that all of helm's code resolves alike (cases.md H2),
and so hold under any host name or path; ``digest`` is that of the packed chart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airgap.errors import IntegrityError
from airgap.oci import HELM_CHART, HELM_CONFIG, Digest, Manifest, parse_manifest
from airgap.plan import CHARTS
from airgap.serve.messages import Answer, RefusalError
from airgap.serve.reading import window_answer
from airgap.sources.semver import Version, newest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.serve.contents import Contents
    from airgap.serve.messages import Request
    from airgap.serve.routes import Route

CONFIG_LIMIT = 1 << 20
"""Bytes of a chart's metadata; Helm's own limit for a whole decompressed file is five times that."""


@dataclass(frozen=True)
class ServedChart:
    """A packed chart and where it lies."""

    name: str
    version: str
    repository: str
    content: Digest
    metadata: Mapping[str, Any]

    @property
    def file(self) -> str:
        """The name of the packed chart without ``.tgz``."""
        return f"{self.name}-{self.version}"

    def entry(self) -> dict[str, Any]:
        """Return the chart's entry of index.yaml."""
        return {**self.metadata, "digest": self.content.hex, "urls": [f"{self.file}.tgz"]}


class ChartRepository:
    """The charts of a registry; what a manifest says is read once."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._known: dict[tuple[str, Digest], ServedChart | None] = {}

    def charts(self) -> tuple[ServedChart, ...]:
        """Return all charts, by name, newest first. Of two with one name and version the one under ``charts/`` counts."""
        found: dict[str, ServedChart] = {}
        for repository in sorted(self._contents.repositories(), key=lambda name: (f"{CHARTS}/" not in f"{name}/", name)):
            for chart in self._charts_of(repository):
                found.setdefault(chart.file, chart)
        newest = sorted(found.values(), key=lambda chart: (_rank(chart.version), chart.version), reverse=True)
        return tuple(sorted(newest, key=lambda chart: chart.name))

    def find(self, name: str, version: str = "") -> ServedChart | None:
        """Return a chart by name and version or range, as Helm would choose it; without one the newest stable."""
        named = {chart.version: chart for chart in self.charts() if chart.name == name}
        return named.get(newest(named, version) or "")

    def index(self, _request: Request, _route: Route) -> Answer:
        """Answer index.yaml (written as JSON, which is YAML)."""
        entries: dict[str, list[dict[str, Any]]] = {}
        for chart in self.charts():
            entries.setdefault(chart.name, []).append(chart.entry())
        document = {"apiVersion": "v1", "entries": entries}
        body = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode()
        return Answer(HTTPStatus.OK, {"Content-Type": "application/yaml"}, body)

    def download(self, request: Request, route: Route) -> Answer:
        """Answer a packed chart."""
        chart = next((chart for chart in self.charts() if chart.file == route.rest), None)
        window = self._contents.blob(chart.repository, chart.content) if chart else None
        if chart is None or window is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"there is no chart {route.rest[:100]}.tgz")
        return window_answer(window, request, {"ETag": f'"{chart.content}"'}, "application/gzip")

    def _charts_of(self, repository: str) -> Iterable[ServedChart]:
        for tag in self._contents.tags(repository):
            descriptor = self._contents.find(repository, tag)
            if descriptor is None or not descriptor.is_manifest:
                continue
            key = (repository, descriptor.digest)
            if key not in self._known:
                self._known[key] = self._read(repository, self._contents.read(descriptor))
            chart = self._known[key]
            if chart:
                yield chart

    def _read(self, repository: str, raw: bytes) -> ServedChart | None:
        """Return the chart that a manifest describes, or None when it is something else, or not complete."""
        document = parse_manifest(raw)
        if not isinstance(document, Manifest) or document.config.media_type != HELM_CONFIG:
            return None
        content = next((layer for layer in document.layers if layer.media_type == HELM_CHART), None)
        window = self._contents.blob(repository, document.config.digest)
        if content is None or window is None or len(window) > CONFIG_LIMIT:
            return None
        with window:
            metadata = _metadata(window.read())
        if metadata is None:
            return None
        return ServedChart(metadata["name"], metadata["version"], repository, content.digest, metadata)


def _rank(version: str) -> Version:
    """Return a key for sorting; what is no version comes last."""
    return Version.parse(version) or Version((0, 0, 0), "0")


def _metadata(raw: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IntegrityError("the config of a chart is not JSON") from error
    named = isinstance(data, dict) and all(isinstance(data.get(key), str) and data[key] for key in ("name", "version"))
    return data if named else None
