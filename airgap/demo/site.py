"""The static half of the upstream: a chart repository and a release channel, as pages by host and path.

Invariants: pure. The names are those of the real hosts, so that what is written down later (lock, custom resource) looks as
it does outside. The repository has what real ones have: an entry with an absolute URL that leads to a third host and one with
a relative URL, digests, an older version, and a prerelease newer than the release, which nobody may choose unasked.

>>> sorted(pages())[0]
'charts.wandb.ai/index.yaml'
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.chart.archive import pack
from airgap.demo.shipped import chart_files, read
from airgap.oci import Digest
from airgap.values import dump_yaml, load_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

CHARTS = "charts.wandb.ai"
"""The chart repository's host."""
RELEASES = "github.com/wandb/helm-charts/releases/download"
"""Where the archives lie to which the index points absolutely, as chart-releaser's indexes do (wandb-v1.md section 3)."""
CHANNEL = "deploy.wandb.ai/api/v1/operator/channel"
"""The release channel (wandb-v1.md section 1)."""
WEB_HOSTS = tuple(sorted(place.partition("/")[0] for place in (CHARTS, RELEASES, CHANNEL)))

OLDER = {"operator": "1.3.0", "operator-wandb": "0.42.0"}
PRERELEASE = {"operator": "1.5.0-PR12.1", "operator-wandb": "0.44.0-PR7.1"}
"""Versions beside the one in Chart.yaml."""

_CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Packed:
    """A chart archive with its Chart.yaml."""

    metadata: Mapping[str, Any] = field(hash=False)
    archive: bytes = field(repr=False)

    @property
    def file(self) -> str:
        """The archive's usual name."""
        return f"{self.metadata['name']}-{self.metadata['version']}.tgz"


def packed_chart(name: str, version: str = "") -> Packed:
    """Pack a chart of the demonstration, under another version if one is given: the same bytes each time."""
    files = chart_files(name)
    if version:
        files["Chart.yaml"] = re.sub(rb"(?m)^version: .*$", f"version: {version}".encode(), files["Chart.yaml"])
    metadata = load_yaml(files["Chart.yaml"], f"{name}/Chart.yaml")
    if not isinstance(metadata, dict):  # pragma: no cover - our own file
        raise TypeError(name)
    return Packed(metadata, pack(name, files))


def spec() -> dict[str, Any]:
    """Return the channel's answer."""
    answer: dict[str, Any] = json.loads(read("channel.json"))
    return answer


def pages() -> dict[str, bytes]:
    """Return every page by ``HOST/PATH``."""
    found: dict[str, bytes] = {}
    entries: dict[str, list[dict[str, Any]]] = {}
    for name in ("operator", "operator-wandb"):
        for version in (PRERELEASE[name], "", OLDER[name]):
            packed = packed_chart(name, version)
            place = f"{RELEASES if name == 'operator-wandb' else CHARTS}/{packed.file}"
            url = f"https://{place}" if name == "operator-wandb" else packed.file
            found[place] = packed.archive
            entries.setdefault(name, []).append(_entry(packed, url))
    index: dict[str, Any] = {"apiVersion": "v1", "entries": entries, "generated": _CREATED}
    found[f"{CHARTS}/index.yaml"] = dump_yaml(index).encode()
    answer = spec()
    for place in (CHANNEL, f"{CHANNEL}/release/{answer['metadata']['release']}"):
        found[place] = json.dumps(answer).encode()
    return found


def _entry(packed: Packed, url: str) -> dict[str, Any]:
    return {**packed.metadata, "created": _CREATED, "digest": Digest.of(packed.archive).hex, "urls": [url]}
