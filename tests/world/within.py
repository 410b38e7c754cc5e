"""Plays the disconnected half; run inside its namespace: ``python -m tests.world.within FOLDER``.

FOLDER/inside.json says where the private registry listens, its certificate and its users. Prints ``ready`` and goes on until
its standard input ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.world.registries import start_docker_registry


def main() -> None:
    """Play until told to stop."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "inside.json").read_text())
    certificate, key = settings["pair"]
    http = {"addr": settings["address"], "secret": "constant", "tls": {"certificate": certificate, "key": key}}
    config = {"http": http, "log": {"level": "info", "accesslog": {"disabled": False}}}
    with start_docker_registry(folder, htpasswd=settings["users"], config=config):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
