"""The release channel: what the operator asks deploy.wandb.ai, answered from inside.

Invariants: the values and metadata are the bundle's, untouched; only the chart is rewritten, to the chart repository of this
server under the name by which the client reached it, and only if this server holds that chart. RepoRelease is the default
form, because operators before v1.22 know no other. Credentials of the original source are dropped: they mean nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from airgap.plan import chart_tag
from airgap.serve.messages import Answer, RefusalError, json_answer
from airgap.wandb import OciChart, RepoChart, Spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.serve.charts import ChartRepository, ServedChart
    from airgap.serve.messages import Request
    from airgap.serve.routes import Route
    from airgap.wandb import ChartSource

LATEST = "latest"


@dataclass(frozen=True)
class Channel:
    """The specs at hand by release id; ``latest`` is what the channel itself answers. ``oci``: charts named as oci://."""

    releases: Mapping[str, bytes]
    charts: ChartRepository
    public_url: str = ""
    oci: bool = False

    def answer(self, request: Request, route: Route) -> Answer:
        """Answer a spec as the operator reads it: ``metadata``, ``chart``, ``values``."""
        release = route.rest or LATEST
        raw = self.releases.get(release)
        if raw is None:
            held = ", ".join(sorted(self.releases)) or "none"
            raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", f"release {release[:80]!r} is not held here ({held})")
        spec = Spec.parse(raw, f"release {release}")
        source = self._source(spec.chart, self.public_url or f"{request.scheme}://{request.host}")
        document = {
            "metadata": spec.metadata or None,
            "chart": source.to_json() if source else None,
            "values": spec.values,
        }
        return json_answer(document)

    def _source(self, original: ChartSource | None, url: str) -> ChartSource | None:
        """Return the chart's source here, or the original when this server does not hold the chart."""
        if isinstance(original, RepoChart):
            held = self.charts.find(original.name, original.version)
        elif isinstance(original, OciChart):
            path, _, tag = original.url.removeprefix("oci://").rpartition("/")[2].partition(":")
            held = self.charts.find(path, original.version or tag)
        else:
            held = None
        return self._here(held, url) if held else original

    def _here(self, chart: ServedChart, url: str) -> ChartSource:
        if not self.oci:
            return RepoChart(f"{url}/charts", chart.name, chart.version)
        host = url.partition("://")[2]
        return OciChart(f"oci://{host}/{chart.repository}", chart_tag(chart.version), plain_http=url.startswith("http://"))
