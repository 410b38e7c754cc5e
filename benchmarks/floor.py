"""The least that carrying takes, whoever does it: what a client cannot leave out, and nothing else.

``fetch``: each blob once, hashed, into its place in one file, which is durable in the end. ``fill``: POST and PUT of each blob
out of files, a mount where it lies already, manifests. Nothing is asked for first, retried or told, and the largest blob goes
first, so the rest is the registry's work, the disk's and the machine's. It also fills the registries that benchmarks read from.

    python3 -I -S floor.py fetch|fill URL WORK.json [FILE]

``work``: ``blobs``, each [path, digest, size, repositories], the largest first, and ``manifests``, for each repository a list
of [path, media type, tag or digest], children first.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

THREADS = 6
BLOCK = 1024 * 1024


class Connection:
    """One connection to a registry."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        host = urlsplit(url).netloc
        self._http = (
            http.client.HTTPSConnection(host, context=context, blocksize=BLOCK)
            if context
            else http.client.HTTPConnection(host, blocksize=BLOCK)
        )

    def close(self) -> None:
        """Close it."""
        self._http.close()

    def blob(self, path: str, digest: str, size: int, repositories: list[str]) -> None:
        """Upload a blob into the first repository, mount it from there into the others."""
        for number, repository in enumerate(repositories):
            mount = f"?mount={digest}&from={repositories[0]}" if number else ""
            location = self._ask("POST", f"/v2/{repository}/blobs/uploads/{mount}")
            if not number:
                joint = "&" if "?" in location else "?"
                self._ask("PUT", f"{location}{joint}digest={digest}", Path(path), size, "application/octet-stream")

    def into(self, file: int, offset: int, digest: str, repository: str) -> None:
        """Fetch a blob into a file."""
        self._http.request("GET", f"/v2/{repository}/blobs/{digest}")
        response, hashed, buffer = self._http.getresponse(), hashlib.sha256(), memoryview(bytearray(BLOCK))
        while count := response.readinto(buffer):
            hashed.update(buffer[:count])
            offset += os.pwrite(file, buffer[:count], offset)
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise RuntimeError(f"{repository} serves other bytes than {digest}")

    def manifests(self, repository: str, documents: list[tuple[str, str, str]]) -> None:
        """Put manifests in their order."""
        for name, media_type, locator in documents:
            path = Path(name)
            self._ask("PUT", f"/v2/{repository}/manifests/{locator}", path, path.stat().st_size, media_type)

    def _ask(self, method: str, url: str, body: Path | None = None, size: int = 0, media_type: str = "") -> str:
        """Send one request; return the Location of its answer. Raises RuntimeError."""
        connection = self._http
        connection.putrequest(method, url)
        connection.putheader("Content-Length", str(size))
        if body:
            connection.putheader("Content-Type", media_type)
        connection.endheaders()
        if body:
            with body.open("rb") as file:
                connection.sock.sendfile(file)
        response = connection.getresponse()
        told = response.read()
        if response.status not in {201, 202}:
            raise RuntimeError(f"{method} {url}: {response.status} {told[:300]!r}")
        return response.headers.get("Location", "")


def fill(url: str, work: dict[str, Any], context: ssl.SSLContext | None = None) -> None:
    """Bring everything there; raises RuntimeError."""
    _all(url, context, work["blobs"], lambda connection, item: connection.blob(*item))
    _all(url, context, work["manifests"].items(), lambda connection, item: connection.manifests(*item))


def fetch(url: str, work: dict[str, Any], path: Path) -> None:
    """Bring everything here; raises RuntimeError."""
    places, end = [], 0
    for _, digest, size, repositories in work["blobs"]:
        places.append((end, digest, repositories[0]))
        end += size
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        _all(url, None, places, lambda connection, item: connection.into(file, *item))
        os.fsync(file)
    finally:
        os.close(file)


def _all(url: str, context: ssl.SSLContext | None, items: Iterable[Any], do: Callable[[Connection, Any], None]) -> None:
    """Do something with each item, THREADS at a time; raises what that raises."""
    left = iter(list(items))  # threads may share a list's iterator, a generator they may not

    def take(_: int) -> None:
        with closing(Connection(url, context)) as connection:
            for item in left:
                do(connection, item)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(take, range(THREADS)))


def main(verb: str, url: str, told: str, *file: str) -> None:
    """Do one or the other."""
    work = json.loads(Path(told).read_text())
    if verb == "fill":
        fill(url, work)
    else:
        fetch(url, work, Path(*file))


if __name__ == "__main__":
    main(*sys.argv[1:])
