"""Sessions: which uploads are under way, kept in a file so that another run can go on with them (faults F5).

Invariants: a note is a hint and never a proof: the registry is asked where an upload stands, and the digest decides in the
end. A file is written for one bundle and one registry by one process at a time (a lock of the kernel, gone with the
process). Lines are appended by one write each; a torn last line counts as not written. The file may have come on a foreign
medium: where it says an upload lies is checked like any Location. It is readable by its owner only, for some registries sign
these URLs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Self

_TITLE = "airgap-uploads 1"
PATIENCE = 30.0
"""Seconds to wait for another run on the same bundle and registry: one that was killed may be finishing its last piece."""
POLL = 0.2


@dataclass(frozen=True)
class Noted:
    """An upload as an earlier moment saw it: where it goes on, and the bytes that were taken by then."""

    location: str
    offset: int


class Sessions:
    """Sessions that are forgotten with the process; also the interface. Thread-safe."""

    def recall(self, key: str) -> Noted | None:
        """Return what an earlier run noted of the upload ``key`` (base URL, repository and digest), or None."""
        del key
        return None

    def note(self, key: str, location: str, offset: int) -> None:
        """Note where an upload stands."""

    def forget(self, key: str) -> None:
        """Note that an upload is over."""


class SavedSessions(Sessions):
    """Sessions in a file; a context manager, which deletes the file at the end if nothing is under way."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` and read what is in it.

        Raises DiskError when another process holds it, OSError when nothing can be written there.
        """
        self._path = path
        self._lock = threading.Lock()
        with ExitStack() as undo:
            self._fd = _claimed(path, time.monotonic() + PATIENCE)
            undo.callback(os.close, self._fd)
            self._open = _read(os.pread(self._fd, os.fstat(self._fd).st_size, 0))
            self._begin()
            undo.pop_all()

    def recall(self, key: str) -> Noted | None:
        """See Sessions."""
        with self._lock:
            return self._open.get(key)

    def note(self, key: str, location: str, offset: int) -> None:
        """See Sessions; a file that cannot be written any more only costs the continuation."""
        with self._lock:
            self._open[key] = Noted(location, offset)
            self._write({"key": key, "location": location, "offset": offset})

    def forget(self, key: str) -> None:
        """See Sessions."""
        with self._lock:
            if self._open.pop(key, None):
                self._write({"key": key})

    def clear(self) -> None:
        """Forget all uploads: everything is there."""
        with self._lock:
            self._open.clear()

    def close(self) -> None:
        """Let go of the file, and delete it when no upload is under way."""
        with self._lock:
            if self._fd < 0:
                return
            if not self._open:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        """Write the file anew: title, holder, what is still under way."""
        noted = [{"key": key, "location": one.location, "offset": one.offset} for key, one in self._open.items()]
        lines = [_TITLE, *(json.dumps(line) for line in ({"pid": os.getpid()}, *noted))]
        os.ftruncate(self._fd, 0)
        os.write(self._fd, "".join(f"{line}\n" for line in lines).encode())

    def _write(self, line: Mapping[str, object]) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, json.dumps(line).encode() + b"\n")
        except OSError:  # full: the upload itself does not suffer
            return


def journal_name(bundle: str, target: str) -> str:
    """Return the name of the journal of ``bundle`` (a file's name or a digest) for the registry ``target``."""
    return f"{bundle}.push-{hashlib.sha256(target.encode()).hexdigest()[:12]}.journal"


def _claimed(path: Path, until: float) -> int:
    """Return a locked descriptor of ``path``; a file that is deleted while it is waited for is opened anew."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with ExitStack() as undo:
            undo.callback(os.close, fd)
            if _locked(fd) and _is_current(fd, path):
                undo.pop_all()
                return fd
            if time.monotonic() > until:
                raise DiskError(
                    f"another run is pushing the same bundle to the same registry ({_holder(fd)})",
                    hint=f"wait for it, or end it; {path} is its journal",
                )
        time.sleep(POLL)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: better unguarded than not at all
        return True
    return True


def _is_current(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _read(data: bytes) -> dict[str, Noted]:
    found: dict[str, Noted] = {}
    *lines, _torn = data.split(b"\n")
    if not lines or lines[0] != _TITLE.encode():
        return found
    for line in lines[1:]:
        try:
            told = json.loads(line)
            key = str(told["key"])
            found.pop(key, None)
            found[key] = Noted(str(told["location"]), max(0, int(told["offset"])))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # the end of an upload, the holder, or damage
    return found


def _holder(fd: int) -> str:
    try:
        return f"pid {int(json.loads(os.pread(fd, 4096, 0).splitlines()[1])['pid'])}"
    except (ValueError, KeyError, TypeError, IndexError):
        return "it does not say which"
