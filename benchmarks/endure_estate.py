"""What the endurance trial carries and where to: images as sparse files in a registry's own storage, and running registries.

Each MiB of a layer begins with a text of its own, the rest is zeros: bytes at a wrong place are found; the disk holds little.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KIB, MIB, GIB = 1024, 1024**2, 1024**3
PAGE = 4 * KIB
NAMED = 64
"""Bytes at the start of each MiB that tell which blob it is and where."""
START_LIMIT = 60.0
"""Seconds that a registry may take to say where it listens."""
SECRET = "constant, so that uploads outlive a restart"  # noqa: S105  # a registry of this run only
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Blob:
    """One blob by its digest."""

    media_type: str
    digest: str
    size: int

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Image:
    """One image: name, tag, manifest and blobs."""

    repository: str
    tag: str
    manifest: Blob
    blobs: tuple[Blob, ...]


class Storage:
    """The folder of a CNCF distribution, filled without asking it: blobs are sparse files under their digests."""

    def __init__(self, root: Path) -> None:
        self.base = root / "docker/registry/v2"
        self.base.mkdir(parents=True)

    def image(self, repository: str, tag: str, sizes: Sequence[int], seed: str) -> Image:
        """Put an image with layers of ``sizes``."""
        layers = [self._layer(size, f"{seed}/{repository}/{number}") for number, size in enumerate(sizes)]
        rootfs = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        config = self._small(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}), CONFIG)
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor() for layer in layers],
        }
        manifest = self._small(json.dumps(document), MANIFEST)
        there = self.base / "repositories" / repository
        for blob in (config, *layers):
            self._link(there / "_layers" / blob.digest.replace(":", "/") / "link", blob.digest)
        self._link(there / "_manifests/revisions" / manifest.digest.replace(":", "/") / "link", manifest.digest)
        self._link(there / "_manifests/tags" / tag / "current/link", manifest.digest)
        self._link(there / "_manifests/tags" / tag / "index" / manifest.digest.replace(":", "/") / "link", manifest.digest)
        return Image(repository, tag, manifest, (config, *layers))

    def _layer(self, size: int, seed: str) -> Blob:
        """Write a sparse file and hash it; it is moved to where its digest says."""
        raw, hashed = self.base / "new", hashlib.sha256()
        zeros = bytes(MIB - NAMED)
        with raw.open("wb") as file:
            for number, start in enumerate(range(0, size, MIB)):
                head = f"{seed} MiB {number}".encode().ljust(NAMED, b".")[: min(NAMED, size - start)]
                file.seek(start)
                file.write(head)
                hashed.update(head)
                hashed.update(memoryview(zeros)[: max(0, min(MIB, size - start) - NAMED)])
            file.truncate(size)
        return self._kept(raw, Blob(LAYER, f"sha256:{hashed.hexdigest()}", size))

    def _small(self, text: str, media_type: str) -> Blob:
        raw, data = self.base / "new", text.encode()
        raw.write_bytes(data)
        return self._kept(raw, Blob(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)))

    def _kept(self, raw: Path, blob: Blob) -> Blob:
        hexa = blob.digest.partition(":")[2]
        final = self.base / "blobs/sha256" / hexa[:2] / hexa / "data"
        final.parent.mkdir(parents=True, exist_ok=True)
        raw.replace(final)
        return blob

    @staticmethod
    def _link(path: Path, digest: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(digest)


def estate(storage: Storage, total: int, largest: int, seed: int) -> tuple[Image, ...]:
    """Make images of ``total`` bytes: one with a layer of ``largest``, three that share the rest in layers of unequal size."""
    rest = total - largest
    parts = [rest * share // 100 for share in (31, 23, 17, 13, 9, 7)]
    chance = str(seed)
    return (
        storage.image("trial/large", "1", [largest, PAGE * 3 + 17], chance),
        storage.image("trial/a", "1", parts[:2], chance),
        storage.image("trial/b", "1", parts[2:4], chance),
        storage.image("trial/c", "1", [*parts[4:], 12_345], chance),
    )


def written(pid: int) -> int:
    """Return how many bytes a process has handed to write calls so far; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/io").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^wchar: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Served:
    """A running registry."""

    host: str
    pid: int
    root: Path

    def written(self) -> int:
        return written(self.pid)


@contextmanager
def registry(program: str, folder: Path) -> Iterator[Served]:
    """Run a CNCF distribution over ``folder``/storage until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": True}},  # it says there which port the kernel picked
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": "127.0.0.1:0", "secret": SECRET},
    }
    (folder / "config.yml").write_text(json.dumps(settings), encoding="utf-8")
    log = folder / "registry.log"
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_", "OTEL_"))}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdout=said,
            stderr=said,
            env={**environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        yield Served(f"127.0.0.1:{_port(process, log)}", process.pid, folder / "storage")
    finally:
        process.terminate()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and process.poll() is None:
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text(errors="replace")):
            return int(found[1])
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} did not start: {log.read_text(errors='replace')[-2000:]}")


def hashed(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return _digest(iter(lambda: file.read(MIB), b""))


def fetched(url: str) -> str:
    """Return the sha256 of what a URL gives."""
    request = urllib.request.Request(url, headers={"Accept": MANIFEST})  # noqa: S310  # our own registry on loopback
    with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310
        return _digest(iter(lambda: response.read(MIB), b""))


def _digest(pieces: Iterator[bytes]) -> str:
    taken = hashlib.sha256()
    for piece in pieces:
        taken.update(piece)
    return f"sha256:{taken.hexdigest()}"


def same(whole: Path, other: Path, offset: int, size: int | None = None) -> bool:
    """Whether ``other`` (its first ``size`` bytes) is what ``whole`` has at ``offset``."""
    left = whole.stat().st_size if size is None else size
    if size is None and other.stat().st_size != left:
        return False
    with whole.open("rb") as one, other.open("rb") as two:
        one.seek(offset)
        while left:
            data = one.read(min(MIB, left))
            if not data or data != two.read(len(data)):
                return False
            left -= len(data)
    return True
