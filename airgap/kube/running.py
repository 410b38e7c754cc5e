"""Running a program of the site against a cluster: bounded, quiet, with a bounded number of further tries.

Invariants: standard input is what is handed over or nothing, so no program can ask a question; a program ends at its time
limit; nothing of what goes in or comes out is logged, because it may hold Secrets.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ToolError
from airgap.kube.failures import UnreachableError, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PAUSES = (1.0, 2.0, 4.0)
"""Seconds between tries after an API server that does not answer: one restart of an API server takes about five."""


@dataclass(frozen=True)
class Ran:
    """What a program left: its exit code and what it said."""

    code: int
    out: str
    complaint: str


def run(arguments: Sequence[str], *, doing: str, limit: float, text: str = "", environ: Mapping[str, str] | None = None) -> Ran:
    """Run a program once; raises ToolError if it cannot be started and UnreachableError at its time limit (seconds)."""
    try:
        done = subprocess.run(
            arguments,
            input=text.encode(),
            capture_output=True,
            timeout=limit,
            check=False,
            env=dict(environ) if environ is not None else None,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(
            f"the cluster did not answer within {limit:.0f} s ({doing})",
            hint="once it answers, the same command goes on where this one stopped",
        ) from error
    except OSError as error:
        raise ToolError(f"{arguments[0]} cannot be run: {error.strerror or error}", hint="check the program") from error
    return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def insist(attempt: Callable[[], Ran], doing: str, pauses: Sequence[float] = PAUSES) -> str:
    """Return the output of ``attempt``, tried again after each pause while the API server is away; raises ClusterError."""
    for pause in (*pauses, None):
        try:
            ran = attempt()
            if ran.code == 0:
                return ran.out
            raise failure(ran.complaint or ran.out, doing)
        except UnreachableError:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError  # pragma: no cover - the last try returns or raises
