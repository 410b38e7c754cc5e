"""Carrier: a push runs in a child process, so that the end of the command itself, kill -9 included, breaks no piece off.

CNCF distribution 2 (and Harbor, which contains it) forgets an upload whose piece broke off, and keeps one whose piece has ended
(cases.md P13). A process that is killed cannot end anything, so the one that is seen and killed only waits; the child that
sends notices that it is alone, ends the pieces under way (some seconds, ``push.GRACE`` at most), notes where the uploads
stand, and goes. The next run waits for that. Who kills the whole process group loses what P13 says, and no more.

Invariants: one child, no threads before it; signals reach it, its exit code is the command's; it never outlives the command by
more than the grace.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ECHO = 1.0
"""Seconds within which a second SIGINT is the same Ctrl-C: the terminal sends it to both, and the parent passes it on."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def carried(work: Callable[[], int]) -> int:
    """Run ``work`` in a child and return its exit code; in the child, return what ``work`` does."""
    alone, together = os.pipe()
    child = os.fork()
    if child:
        os.close(alone)
        return _wait(child)
    os.close(together)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupt())
    threading.Thread(target=_mind, args=(alone,), name="airgap-parent-watch", daemon=True).start()
    return work()


def _wait(child: int) -> int:
    """Pass signals on until the child has ended; return its exit code as a shell gives it."""

    def pass_on(signum: int, frame: FrameType | None) -> None:
        del frame
        os.kill(child, signum)

    for signum in PASSED_ON:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, pass_on)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _mind(alone: int) -> None:
    """End this process gently when the parent's end of the pipe is closed, which only its own end does."""
    os.read(alone, 1)
    os.kill(os.getpid(), signal.SIGTERM)


class _Interrupt:
    """SIGINT as KeyboardInterrupt, once for each Ctrl-C."""

    def __init__(self) -> None:
        self._last = -ECHO

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        last, self._last = self._last, time.monotonic()
        if self._last - last >= ECHO:
            raise KeyboardInterrupt
