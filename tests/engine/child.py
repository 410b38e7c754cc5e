"""A mirror in a process of its own, for tests that kill it: arguments HOST BUNDLE LOCK FOLDER RATE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airgap.fetch import mirror
from airgap.lock import Lock
from airgap.oci import Digest
from airgap.registry import Registry
from airgap.transport import Client, CredentialStore, HostSettings, Rate
from tests.bundle.estate import Estate
from tests.fetch.conftest import RegistrySource


def main() -> None:
    host, path, lock, folder, rate = sys.argv[1:6]
    estate = Estate()
    for file in Path(folder).iterdir():
        data = file.read_bytes()
        estate.contents[Digest.of(data)] = data
    settings = {host: HostSettings(plain_http=True)}
    client = Client(hosts=settings, credentials=CredentialStore(), environ={}, rate=Rate(int(rate)))
    result = mirror(
        Lock.from_bytes(Path(lock).read_bytes()), RegistrySource(estate, Registry(client, host)), Path(path), jobs=3
    )
    told = {"fetched": result.fetched_size, "resumed": result.resumed_size, "retried": client.tally.retried}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
