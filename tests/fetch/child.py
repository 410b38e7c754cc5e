"""A mirror in a process of its own, for tests that kill it: arguments HOST BUNDLE LOCK FOLDER PAUSE LIMIT."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.fetch import mirror
from airgap.lock import Lock
from airgap.oci import Digest
from airgap.progress import Progress
from tests.bundle.estate import Estate
from tests.fetch.conftest import RegistrySource, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.lock import LockedArtifact, LockedImage
    from airgap.oci import Descriptor
    from airgap.registry import Registry
    from airgap.transport import Room


class Slow(RegistrySource):
    """Waits before each blob, so that a test finds the time to kill it in the middle."""

    def __init__(self, estate: Estate, registry: Registry, pause: float) -> None:
        super().__init__(estate, registry)
        self.pause = pause

    def blob(
        self, owner: LockedImage | LockedArtifact, descriptor: Descriptor, offset: int = 0, room: Room | None = None
    ) -> Iterator[bytes | memoryview]:
        for chunk in super().blob(owner, descriptor, offset, room):
            time.sleep(self.pause)
            yield chunk


class Lines(Progress):
    def done(self, item: str, note: str = "") -> None:
        print(f"done {item} {note}", flush=True)

    def begin(self, what: str, items: int, size: int = 0) -> None:
        print(f"begin {what} {items} {size}", flush=True)


def main() -> None:
    host, path, lock, folder = sys.argv[1:5]
    estate = Estate()
    for file in Path(folder).iterdir():
        data = file.read_bytes()
        estate.contents[Digest.of(data)] = data
    if limit := int(sys.argv[6]):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    source = Slow(estate, connect(host), float(sys.argv[5]))
    result = mirror(Lock.from_bytes(Path(lock).read_bytes()), source, Path(path), jobs=3, progress=Lines())
    print(f"result fetched={result.fetched} held={result.held}", flush=True)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"peak {peak.split()[1]}", flush=True)  # KiB; ru_maxrss would count the parent's memory at the fork


if __name__ == "__main__":
    main()
