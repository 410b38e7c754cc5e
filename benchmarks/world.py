"""Registries on loopback for a benchmark: CNCF distribution 3 or 2.8, whose logs tell what they were asked.

The source keeps its storage beside the estate, so that it is filled once.
"""

from __future__ import annotations

import collections
import http.client
import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.world.registries import RunningRegistry, start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.estate import Estate, Image
    from tests.world.authority import Authority

ACCESS = re.compile(r'msg="response completed.*?http\.request\.method=(\w+).*?http\.request\.uri="?([^\s"]+)')
"""What distribution logs of each request."""
REGISTRIES = {"registry": start_distribution3, "docker-registry": start_docker_registry}
"""CNCF distribution by the names of its programs: version 3, and 2.8 as Debian has it."""
BLOCK = 1024 * 1024


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
    parts = urlsplit(registry.url)
    assert parts.hostname
    if registry.ca_file:
        context = ssl.create_default_context(cafile=str(registry.ca_file))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(parts.hostname, parts.port, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, blocksize=BLOCK)
    there: dict[str, str] = {}
    for image in estate.images:
        for digest, _ in image.blobs:
            _blob(connection, image, digest, there)
        for digest, media_type in image.manifests:
            raw = _path(image, digest).read_bytes()
            for locator in (digest, *([image.tag] if digest == image.manifests[-1][0] else [])):
                _ask(connection, "PUT", f"/v2/{image.repository}/manifests/{locator}", raw, {"Content-Type": media_type})
    connection.close()


def _blob(connection: http.client.HTTPConnection, image: Image, digest: str, there: dict[str, str]) -> None:
    """Upload a blob, or mount it from where it is already."""
    source = there.setdefault(digest, image.repository)
    mount = f"?mount={digest}&from={source}" if source != image.repository else ""
    status, location = _ask(connection, "POST", f"/v2/{image.repository}/blobs/uploads/{mount}")
    if status == 201:
        return
    joint = "&" if "?" in location else "?"
    with _path(image, digest).open("rb") as file:
        length = {"Content-Length": str(_path(image, digest).stat().st_size), "Content-Type": "application/octet-stream"}
        _ask(connection, "PUT", f"{location}{joint}digest={digest}", file, length)


def _path(image: Image, digest: str) -> Path:
    return image.layout / "blobs/sha256" / digest.partition(":")[2]


def _ask(
    connection: http.client.HTTPConnection, method: str, url: str, body: object = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    connection.request(method, url, body, dict(headers or {}))  # type: ignore[arg-type]  # bytes or a file
    response = connection.getresponse()
    told = response.read()
    if response.status not in {201, 202}:
        raise RuntimeError(f"{method} {url}: {response.status} {told[:300]!r}")
    return response.status, response.headers.get("Location", "")
