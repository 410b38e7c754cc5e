"""Fixtures of the transport tests: an authority, and clients that do not wait long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airgap.transport import Client, HostSettings, RetryPolicy
from tests.world.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = RetryPolicy(attempts=4, base=0.01, cap=0.05, retry_after_cap=3.0)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def plain() -> Iterator[Callable[..., Client]]:
    """Make clients that speak plain HTTP to the hosts given, with a quick policy; closed at the end."""
    made: list[Client] = []

    def make(*hosts: str, **more: object) -> Client:
        settings = {host: HostSettings(plain_http=True) for host in hosts}
        more.setdefault("retry", QUICK)
        made.append(Client(hosts=settings, **more))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for client in made:
        client.close()
