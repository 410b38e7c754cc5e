"""Servers for the tests of serve, each in a thread of its own on a free port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from airgap.bundle import BundleReader
from airgap.serve import Access, Server
from tests.serve.shelf import whole
from tests.serve.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    return whole(folder).write(folder / "shelf.tar")


@pytest.fixture
def bundle(bundle_path: Path) -> Iterator[BundleReader]:
    with BundleReader.open(bundle_path) as reader:
        yield reader


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def accesses() -> list[Access]:
    return []


@pytest.fixture
def shelf(bundle: BundleReader, session: requests.Session, accesses: list[Access]) -> Iterator[Talk]:
    """A client of a server of the bundle alone."""
    with Server(bundle, access_log=accesses.append) as server:
        yield Talk(server, session)


@pytest.fixture
def store(tmp_path: Path, session: requests.Session, accesses: list[Access]) -> Iterator[Talk]:
    """A client of a server of an empty store."""
    with Server(None, tmp_path / "store", access_log=accesses.append) as server:
        yield Talk(server, session)
