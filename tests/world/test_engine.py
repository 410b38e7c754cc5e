"""The tests' own Docker engine: it runs, and registry:2 in it is a registry like the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests

from tests.world.images import Picture, Pusher, draw

if TYPE_CHECKING:
    from tests.world.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.registry]


def test_the_engine_is_our_own_and_empty(docker_engine: Engine) -> None:
    assert docker_engine.docker("info", "--format", "{{.DockerRootDir}}").startswith(str(docker_engine.folder))


def test_registry_2_by_testcontainers_takes_an_image(registry2: str) -> None:
    drawn = draw(
        Picture("example.com/some/app", ("1",), platforms=("linux/amd64", "linux/arm64"), extras=frozenset({"referrer"}))
    )
    Pusher(f"http://{registry2}").push(drawn, "some/app")
    kind, data = drawn.manifests[drawn.tags["1"]]
    answer = requests.get(f"http://{registry2}/v2/some/app/manifests/1", headers={"Accept": kind}, timeout=10)
    assert answer.content == data
