"""Registries on loopback for a benchmark: CNCF distribution 3 or 2.8, whose logs tell what they were asked.

The source keeps its storage beside the estate, so that it is filled once.
"""

from __future__ import annotations

import collections
import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import floor
from tests.world.registries import RunningRegistry, start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from benchmarks.estate import Estate, Image
    from tests.world.authority import Authority

ACCESS = re.compile(r'msg="response completed.*?http\.request\.method=(\w+).*?http\.request\.uri="?([^\s"]+)')
"""What distribution logs of each request."""
REGISTRIES = {"registry": start_distribution3, "docker-registry": start_docker_registry}
"""CNCF distribution by the names of its programs: version 3, and 2.8 as Debian has it."""


def start(
    folder: Path, program: str = "registry", *, storage: Path | None = None, tls: Authority | None = None
) -> RunningRegistry:
    """Start one of REGISTRIES in a folder of its own under ``folder``; ``storage``: where its contents lie, if elsewhere."""
    config: dict[str, object] = {}
    if storage:
        storage.mkdir(parents=True, exist_ok=True)
        config = {"storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}}}
    folder.mkdir(exist_ok=True)
    return REGISTRIES[program](folder, tls=tls, config=config)


def asked(registry: RunningRegistry, start: int = 0) -> dict[str, int]:
    """Return how often each method was used, and how many distinct paths as ``distinct METHOD``, after ``start`` of the log."""
    found = (ACCESS.search(line) for line in registry.log[start:].splitlines())
    requests = [(it[1], it[2].partition("?")[0]) for it in found if it]
    told = collections.Counter(method for method, _ in requests)
    told.update(f"distinct {method}" for method, _ in set(requests))
    return dict(told)


def worked(registry: RunningRegistry) -> float:
    """Return the processor's seconds that a registry has used so far."""
    assert registry.process
    words = Path(f"/proc/{registry.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def fill(registry: RunningRegistry, estate: Estate) -> None:
    """Push every image of ``estate``."""
    context = ssl.create_default_context(cafile=str(registry.ca_file)) if registry.ca_file else None
    floor.fill(registry.url, work(estate), context)


def work(estate: Estate, prefix: str = "") -> dict[str, Any]:
    """Return what filling a registry with ``estate`` takes, as ``floor`` wants it; ``prefix``: before every repository."""
    blobs: dict[str, tuple[str, str, int, dict[str, None]]] = {}
    manifests: dict[str, list[tuple[str, str, str]]] = {}
    for image in estate.images:
        repository = f"{prefix}{image.repository}"
        for digest, size in image.blobs:
            blobs.setdefault(digest, (_path(image, digest), digest, size, {}))[3][repository] = None
        root = image.manifests[-1][0]
        manifests.setdefault(repository, []).extend(
            (_path(image, digest), media_type, image.tag if digest == root else digest)
            for digest, media_type in image.manifests
        )
    largest_first = sorted(blobs.values(), key=lambda item: -item[2])
    return {"blobs": [(*item, list(names)) for *item, names in largest_first], "manifests": manifests}


def _path(image: Image, digest: str) -> str:
    return str(image.layout / "blobs/sha256" / digest.partition(":")[2])
