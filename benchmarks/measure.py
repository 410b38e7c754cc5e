"""Measuring: commands run one at a time, by a small process of its own, and what each took.

::

    took = Bench(folder, environment).run(Step("pull", ("crane", "pull", ...)), Step("tar", ("tar", "cf", ...)))
    took["seconds"], took["steps"]["tar"]["seconds"]

Before each measurement the disk is brought to rest (``sync``), so that nobody pays for what another left to be written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMED = Path(__file__).with_name("timed.py")
LONGEST = 1800
"""Seconds that one command may take."""
SUMS = ("seconds", "user", "system", "written")
PEAKS = ("rss", "own")


class FailedError(Exception):
    """A command that is measured ended with an error."""


@dataclass(frozen=True)
class Step:
    """One command; ``name`` is what it is called in the result."""

    name: str
    command: tuple[str, ...]


@dataclass
class Bench:
    """Where commands run and with which environment."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *steps: Step, rested: bool = True) -> dict[str, Any]:
        """Run the steps one after the other; return what they took together, and each. ``rested``: the disk is, first."""
        if rested:
            os.sync()
        load = os.getloadavg()[0]
        told = {step.name: self._one(step) for step in steps}
        took: dict[str, Any] = {name: sum(one[name] for one in told.values()) for name in SUMS}
        took |= {name: max(one[name] for one in told.values()) for name in PEAKS}
        return {**took, "load": load, **({"steps": told} if len(told) > 1 else {})}

    def _one(self, step: Step) -> dict[str, Any]:
        result, log = self.folder / "took.json", self.folder / "log"
        with log.open("wb") as out:
            done = subprocess.run(
                [sys.executable, "-I", "-S", str(TIMED), str(result), *step.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                cwd=self.folder,
                timeout=LONGEST,
                check=False,
            )
        if done.returncode:
            told = log.read_text(errors="replace")[-2000:]
            raise FailedError(f"{step.name}: {' '.join(step.command)[:300]} ended with {done.returncode}: {told}")
        took: dict[str, Any] = json.loads(result.read_text())
        return took

    def script(self, name: str, lines: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """Return a command that runs all ``lines`` one after the other, as an operator's script would."""
        path = self.folder / f"{name}.sh"
        path.write_text("set -e\n" + "".join(f"{' '.join(_quoted(word) for word in line)}\n" for line in lines))
        return ("sh", str(path))


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
