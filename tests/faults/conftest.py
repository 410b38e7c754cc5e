"""Real registries, one of each kind for a worker, with the sources in them; bundles; a proxy and another host for each test."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from airgap.serve import Server
from tests.bundle.estate import bundle
from tests.faults.judge import witness
from tests.faults.rows import D2, D3, STORE
from tests.faults.world import BIG, LARGE, charted, estate, older
from tests.fetch.conftest import upload
from tests.transport.scripted import Answer, Scripted
from tests.world.registries import start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.bundle.estate import Estate

SOURCES = "sources"
"""The prefix under which each registry holds what mirror fetches."""


@dataclass(frozen=True)
class Shop:
    """Everything that is made once: hosts by kind, started when asked for; bundles by name."""

    start: Callable[[str], str]
    folder: Path
    bundles: dict[str, tuple[Path, Estate]]


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("faults")
    made = {"big": charted(estate(BIG)), "large": charted(estate(LARGE)), "old": charted(older())}
    bundles = {name: (bundle(one, folder / f"{name}.tar"), one) for name, one in made.items()}
    hosts: dict[str, str] = {}
    with ExitStack() as stack:

        def start(kind: str) -> str:
            if kind not in hosts:
                hosts[kind] = _started(kind, folder, stack)
                _fill(hosts[kind])
            return hosts[kind]

        yield Shop(start, folder, bundles)


def _started(kind: str, folder: Path, stack: ExitStack) -> str:
    if kind == STORE:
        server = stack.enter_context(Server(None, folder / "store"))
        return server.host
    start = {D2: start_docker_registry, D3: start_distribution3}[kind]
    return stack.enter_context(start(folder)).host


def _fill(host: str) -> None:
    registry, made = witness(host), estate(BIG)
    for image in made.images:
        repository = f"{SOURCES}/{image.reference.repository}"
        for tree in image.trees:
            for blob in tree.blobs:
                upload(made, registry, repository, blob)
            for manifest in tree.manifests:
                registry.put_manifest(repository, str(manifest.digest), made.contents[manifest.digest], manifest.media_type)


@pytest.fixture
def elsewhere() -> Iterator[Scripted]:
    """Another host, which has the big blob at /store."""
    made = estate(BIG)
    big = max(made.contents.values(), key=len)

    def answer(seen: object) -> Answer:
        return Answer(200, {}, big) if str(getattr(seen, "path", "")).startswith("/store") else Answer(404)

    with Scripted(answer, name="localhost") as server:
        yield server
