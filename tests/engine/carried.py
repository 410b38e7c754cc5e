"""A push that sends nothing, for tests that end it: two pieces of two seconds, in a child. Argument: a file for its log."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from airgap.bundle.crew import Crew
from airgap.cli.carrier import carried


def work() -> int:
    crew = Crew(1, grace=20.0)

    def send(path: Path) -> None:
        for number in range(2):
            crew.check()
            path.write_text(f"begun {number}")
            time.sleep(2)
            path.write_text(f"ended {number}")

    crew.run([Path(sys.argv[1])], send)
    return 7


def end(signum: int, _: object) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    sys.exit(carried(work))
