"""A network namespace with nothing but loopback, and its own /etc/hosts: one half of the world.

::

    with Namespace.open(folder, {"quay.io": "127.1.0.2"}) as half:
        half.run("curl", "https://quay.io/v2/")

Invariants: there is no route and no name server in it, so what is not played on loopback fails at once. It lives as long as
one process that this module started (``holder``), and ends with it, also when pytest is killed: the holder reads from a pipe
whose other end dies with us. Made as root, or as anybody where user namespaces are allowed.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUN_LIMIT = 180.0
"""Seconds that a command in a namespace may take."""
START_LIMIT = 10.0
"""Seconds until a namespace stands, or its holder is gone."""

_SETUP = """
set -e
"$1" link set lo up
mount --bind "$2" /etc/hosts
mount --bind "$3" /etc/resolv.conf
echo ready
exec cat
"""
"""$1 the ip program, $2 the hosts file, $3 an empty resolv.conf."""


@dataclass
class Namespace(AbstractContextManager["Namespace"]):
    """A running namespace: commands are put before others to run them inside it."""

    holder: subprocess.Popen[str] = field(repr=False)
    as_user: bool

    @classmethod
    def open(cls, folder: Path, hosts: Mapping[str, str]) -> Namespace:
        """Make one that knows ``hosts`` (name to address); its files are kept in ``folder``. Skips where it may not be made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text("".join(f"{ip} {name}\n" for name, ip in {"localhost": "127.0.0.1", **hosts}.items()))
        (folder / "resolv.conf").write_text("")
        as_user = os.geteuid() != 0
        command = [find_binary("unshare"), "--net", "--mount", *(["--user", "--map-root-user"] if as_user else [])]
        arguments = (find_binary("ip"), str(folder / "hosts"), str(folder / "resolv.conf"))
        with (folder / "holder.log").open("wb") as log:
            holder = subprocess.Popen(
                [*command, "sh", "-c", _SETUP, "sh", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert holder.stdout
        if holder.stdout.readline().strip() != "ready":
            holder.wait(START_LIMIT)
            reason = (folder / "holder.log").read_text(errors="replace").strip().splitlines()
            pytest.skip(f"no network namespace can be made here: {reason[-1] if reason else 'no reason given'}")
        return cls(holder, as_user)

    def command(self, argv: Sequence[str | Path], folder: Path | None = None) -> list[str]:
        """Return ``argv`` with what enters the namespace before it; ``folder`` is the working directory."""
        user = ["--user", "--preserve-credentials"] if self.as_user else []
        enter = [find_binary("nsenter"), "--target", str(self.holder.pid), "--net", "--mount", *user]
        return [*enter, f"--wd={folder or Path.cwd()}", "--", *map(str, argv)]

    def run(
        self,
        *argv: str | Path,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        text: str = "",
        limit: float = RUN_LIMIT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``text`` goes to its standard input. The exit code is the caller's to judge."""
        return subprocess.run(
            self.command(argv, folder), env=env, input=text, capture_output=True, text=True, check=False, timeout=limit
        )

    def start(self, *argv: str | Path, env: Mapping[str, str], log: Path) -> subprocess.Popen[str]:
        """Start a command that goes on; it reads from a pipe and writes lines to another, its errors go to ``log``."""
        with log.open("wb") as errors:
            return subprocess.Popen(
                self.command(argv), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def close(self) -> None:
        """End the holder, and with it the namespace."""
        if self.holder.stdin:
            self.holder.stdin.close()
        if self.holder.stdout:
            self.holder.stdout.close()
        self.holder.wait(START_LIMIT)

    def __exit__(self, *_: object) -> None:
        self.close()
