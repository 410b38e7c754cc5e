"""Claim: one run at a time on one output (F40).

Invariants: the claim is a lock of the kernel on ``BUNDLE.partial.lock``, so it ends with the process however that ends: a
stale file is taken over without asking. The file says who holds it (pid and host), for the message only.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from typing import TYPE_CHECKING

from airgap.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path


class Claim:
    """A held claim; ``release`` gives it up and removes the file."""

    def __init__(self, path: Path, bundle: Path) -> None:
        """Take the claim on ``bundle``; raises DiskError: another run (named) has it, or nothing can be written here."""
        self._path, self._bundle = path, bundle
        self._fd = -1
        while self._fd < 0:
            self._fd = self._take()

    def release(self) -> None:
        """Give the claim up."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> int:
        """Return a locked descriptor, or -1 when the file was removed between opening and locking it."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DiskError(
                f"cannot write beside {self._path.parent}: {error.strerror}", hint="choose another place"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self._holder(fd)
            os.close(fd)
            raise DiskError(
                f"another run is writing the same bundle, {self._bundle} ({holder})",
                hint=f"wait for it, or end it; {self._path} is its lock file",
            ) from error
        if not self._is_current(fd):
            os.close(fd)
            return -1
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        return fd

    def _is_current(self, fd: int) -> bool:
        """Whether the name still leads to the file that was locked."""
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False

    @staticmethod
    def _holder(fd: int) -> str:
        try:
            told = json.loads(os.pread(fd, 1024, 0))
            return f"pid {int(told['pid'])} on {str(told['host'])[:100]}"
        except (ValueError, KeyError, TypeError):
            return "it does not say which"
