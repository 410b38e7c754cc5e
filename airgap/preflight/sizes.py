"""The two mebibytes: helm's record of a release and the ConfigMap of the chart (cases.md H9). Pure."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

from airgap.preflight.report import FINE, STOP, WARN, Finding
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airgap.chart import Chart
    from airgap.intent import Intent, Part
    from airgap.scan import Document

LIMIT = 1024 * 1024
"""Bytes of a Secret's or ConfigMap's data (Kubernetes validation, MaxSecretSize)."""
TEMPLATES = "templates/"
_READ = ("Chart.yaml", "Chart.lock", "values.yaml", "charts/")
"""Files of a chart that helm reads and does not keep as files."""
NEAR = 0.9
"""Part of the limit above which it is told: our estimate of helm's record is a few percent off."""


def sizes(intent: Intent, operator_chart: Chart, server_chart: Chart, server_values: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what fits and what does not."""
    charts = ((intent.operator, operator_chart, intent.operator_values), (intent.server, server_chart, server_values))
    for part, chart, values in charts:
        size = record_size(part, chart, values)
        level = STOP if size > LIMIT else WARN if size > NEAR * LIMIT else FINE
        told = f"helm's record of {part.label} takes about {size} of {LIMIT} bytes"
        remedy = "switch off in --values what is not needed: helm cannot keep a larger release" if level != FINE else ""
        yield Finding("sizes", level, told, remedy)
    data = get(intent.chart_configmap or {}, ("binaryData",))
    if isinstance(data, dict):
        size = sum(len(key) + len(base64.b64decode(str(text))) for key, text in data.items())
        level = STOP if size > LIMIT else FINE
        yield Finding(
            "sizes",
            level,
            f"the chart's ConfigMap has {size} of {LIMIT} bytes",
            "use --chart-delivery oci" if level == STOP else "",
        )


def record_size(part: Part, chart: Chart, values: Mapping[str, Any]) -> int:
    """Return about how many bytes helm's record of a release has: gzip and base64 of its JSON (helm pkg/storage/driver).

    The record holds the chart's own templates, files and values, with the values of its subcharts, but not the subcharts
    themselves (helm pkg/chart: ``dependencies`` is no field of the JSON).
    """
    record = {
        "chart": {
            "metadata": dict(chart.metadata),
            "templates": [_file(name, data) for name, data in chart.files.items() if name.startswith(TEMPLATES)],
            "values": chart.defaults(),
            "files": [_file(name, data) for name, data in chart.files.items() if not name.startswith((TEMPLATES, *_READ))],
        },
        "config": dict(values),
        "manifest": _manifest(it for it in part.installed if not it.hooks),
        "hooks": [
            {"name": it.name, "kind": it.kind, "path": it.template, "manifest": _manifest([it]), "events": list(it.hooks)}
            for it in part.documents
            if it.hooks
        ],
    }
    return len(base64.b64encode(gzip.compress(json.dumps(record, default=str).encode(), compresslevel=9)))


def _file(name: str, data: bytes) -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(data).decode()}


def _manifest(documents: Iterable[Document]) -> str:
    return "".join(f"---\n# Source: {it.template}\n{json.dumps(it.object, indent=1)}" for it in documents)
