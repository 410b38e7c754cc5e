"""Run one command and tell what it took: ``python3 -I -S timed.py RESULT COMMAND...`` writes JSON to RESULT.

A process of its own, and small: the kernel's ``ru_maxrss`` of a program also counts what the process that started it held.
``rss`` is the largest of the command and its descendants, ``own`` the command's alone (VmHWM), bytes. ``written``: bytes that
they made the kernel write to a disk (``ru_oublock``), which counts everything, wherever it lies.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path

LOOK = 0.02
"""Seconds between two looks at the memory."""


def peak(pid: int) -> int:
    """Return the peak of the memory of a process that runs, bytes; 0: it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def main(result: str, command: list[str]) -> int:
    """Run ``command``; return its exit code."""
    begun = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    ending, own = select.poll(), 0
    ending.register(os.pidfd_open(pid), select.POLLIN)
    while not ending.poll(LOOK * 1000):
        own = max(own, peak(pid))
    seconds = time.monotonic() - begun
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    took = {
        "seconds": seconds,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "rss": usage.ru_maxrss * 1024,
        "own": own,
        "written": usage.ru_oublock * 512,
        "code": code,
    }
    Path(result).write_text(json.dumps(took))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
