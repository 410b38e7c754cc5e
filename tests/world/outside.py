"""Plays the connected half; run inside its namespace: ``python -m tests.world.outside FOLDER``.

FOLDER/world.json says what to play (see ``Script``). It starts a real registry with TLS for every registry host, Docker Hub's
behind its token server, the release channel, the chart repository and the hosts behind it, fills the registries, prints
``ready`` and goes on until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.world import sites
from tests.world.authority import Pair
from tests.world.images import Picture, Pusher, draw
from tests.world.registries import start_docker_registry
from tests.world.tokens import TokenServer

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB, HUB_TOKENS = "registry-1.docker.io", "auth.docker.io"
CHANNEL, CHARTS = "deploy.wandb.ai", "charts.wandb.ai"
DOWNLOADS, STORAGE = "github.com", "release-assets.githubusercontent.com"
REGISTRIES = (HUB, "quay.io", "gcr.io", "ghcr.io", "us-docker.pkg.dev")
HOSTS = (CHANNEL, CHARTS, DOWNLOADS, STORAGE, HUB_TOKENS, *REGISTRIES)

SEEDER = ("seeder", "throwaway")
"""The one who may push to the upstream registries."""


@dataclass(frozen=True)
class Script:
    """What is played: ``hosts`` (name to loopback address), a certificate for each, the token signer's, and the images."""

    hosts: dict[str, str]
    pairs: dict[str, Pair]
    signer: Pair
    pictures: tuple[Picture, ...]

    def to_json(self) -> dict[str, Any]:
        """Write it for the other process."""
        return {
            "hosts": self.hosts,
            "pairs": {host: _pair_json(pair) for host, pair in self.pairs.items()},
            "signer": _pair_json(self.signer),
            "pictures": [picture.to_json() for picture in self.pictures],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Script:
        """Read it there."""
        return cls(
            hosts=data["hosts"],
            pairs={host: _pair(pair) for host, pair in data["pairs"].items()},
            signer=_pair(data["signer"]),
            pictures=tuple(Picture.from_json(picture) for picture in data["pictures"]),
        )


def _pair_json(pair: Pair) -> list[str]:
    return [str(pair.certificate), str(pair.key), str(pair.root)]


def _pair(data: list[str]) -> Pair:
    certificate, key, root = map(Path, data)
    return Pair(certificate, key, root)


def start(folder: Path, script: Script, running: ExitStack) -> None:
    """Start every server; registries keep their files and logs under ``folder``/registries/HOST."""
    log = folder / "requests.jsonl"
    web = {
        CHANNEL: sites.channel(folder),
        CHARTS: sites.chart_repository(folder),
        DOWNLOADS: sites.redirecting(STORAGE),
        STORAGE: sites.assets(folder),
    }
    for host, site in web.items():
        server = sites.serve(host, script.hosts[host], script.pairs[host], site, log)
        running.callback(server.server_close)
        running.callback(server.shutdown)
    tokens = running.enter_context(_tokens(script, folder / "tokens.jsonl"))
    for host in script.hosts:
        if host not in (*web, HUB_TOKENS):
            pair = script.pairs[host]
            http = {
                "addr": f"{script.hosts[host]}:443",
                "secret": "constant",
                "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
            }
            running.enter_context(
                start_docker_registry(
                    folder / "registries" / host,
                    token=tokens if host == HUB else None,
                    config={"http": http, "log": {"level": "info", "accesslog": {"disabled": False}}},
                )
            )


def _tokens(script: Script, log: Path) -> TokenServer:
    """Docker Hub's token server: pull for everybody, push for the seeder; ``log`` takes a line for each request."""
    pair = script.pairs[HUB_TOKENS]
    return TokenServer(
        script.signer,
        pair.root,
        dict([SEEDER]),
        anonymous_pull=True,
        service="registry.docker.io",
        issuer="auth.docker.io",
        tls=pair,
        host_name=HUB_TOKENS,
        log=log,
    ).listen((script.hosts[HUB_TOKENS], 443))


def fill(script: Script) -> None:
    """Push every image to where it comes from, a few registries at a time."""

    def push(host: str) -> None:
        pusher = Pusher(f"https://{host}", str(script.signer.root), SEEDER if host == HUB else None)
        for picture in script.pictures:
            if picture.host == host:
                pusher.push(draw(picture), picture.repository)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(push, sorted({picture.host for picture in script.pictures})))


def main() -> None:
    """Play until told to stop."""
    folder = Path(sys.argv[1])
    script = Script.from_json(json.loads((folder / "world.json").read_text()))
    with ExitStack() as running:
        start(folder, script, running)
        fill(script)
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
