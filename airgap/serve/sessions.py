"""Upload sessions: bytes that have come, but do not have their name yet.

Invariants: a session is two files, ``ID.json`` (its repository) and ``ID.data`` (what has arrived), so it survives a restart;
what a client was told has arrived is in the file. The running hash always speaks about exactly the bytes in the file. One
request at a time writes to a session.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
import uuid
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from airgap.errors import DiskError
from airgap.oci import Digest
from airgap.serve.messages import PIECE, RefusalError

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterator
    from pathlib import Path

    from airgap.serve.messages import Body

SESSION_LIFE = 24 * 3600.0
"""Seconds after the last byte in which an upload may go on (distribution's upload purging: a week; a gap's day is one)."""
TAKE_OVER = 10.0
"""Seconds that a request waits for the one before it: a client that lost its connection asks again before we notice."""
RESERVE = 16 << 20
"""Bytes of disk that stay free for index.json and the like."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Session:
    """One upload. Every method is called inside ``using``."""

    def __init__(self, folder: Path, identity: str, repository: str) -> None:
        self.identity = identity
        self.repository = repository
        self.data = folder / f"{identity}.data"
        self.note = folder / f"{identity}.json"
        self.lock = threading.Lock()
        self._hash: hashlib._Hash | None = None
        self._hashed = 0

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.data.stat().st_size

    def append(self, body: Body) -> None:
        """Take what the client sends to the end of its body; raises ConnectionError (what came stays) and DiskError."""
        _need_room(self.data.parent, body.length or 0)
        running = self._caught_up()
        with self.data.open("ab", buffering=0) as file:
            while piece := body.read(PIECE):
                try:
                    _write(file.fileno(), piece)
                except OSError as error:
                    os.truncate(self.data, self._hashed)
                    raise _disk_error(error) from error
                running.update(piece)
                self._hashed += len(piece)

    def digest(self, algorithm: str) -> Digest:
        """Return the digest of what has arrived, on disk for good (fsync)."""
        running = self._caught_up()
        with self.data.open("rb") as file:
            os.fsync(file.fileno())
            if algorithm == running.name:
                return Digest(algorithm, running.hexdigest())
            other = Digest(algorithm, "").hasher()
            while piece := file.read(PIECE):
                other.update(piece)
        return Digest(algorithm, other.hexdigest())

    def discard(self) -> None:
        """Remove the session's files; the data may have moved to its final name already."""
        self.note.unlink(missing_ok=True)
        self.data.unlink(missing_ok=True)

    def _caught_up(self) -> hashlib._Hash:
        """Return the running hash; after a restart it is made anew from the file."""
        if self._hash is None:
            self._hash = Digest("sha256", "").hasher()
            with self.data.open("rb") as file:
                while piece := file.read(PIECE):
                    self._hash.update(piece)
                    self._hashed += len(piece)
        return self._hash


class Sessions:
    """All uploads of a store, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._expire()

    def create(self, repository: str) -> Session:
        """Open a session."""
        self._expire()
        session = Session(self._folder, uuid.uuid4().hex, repository)
        try:
            session.data.touch()
            session.note.write_text(json.dumps({"repository": repository}), encoding="utf-8")
        except OSError as error:
            raise _disk_error(error) from error
        with self._lock:
            self._open[session.identity] = session
        return session

    @contextmanager
    def using(self, identity: str, repository: str) -> Iterator[Session]:
        """Give the session to one request; raises RefusalError when it is not (any more) or another request holds it."""
        session = self._find(identity, repository)
        if not session.lock.acquire(timeout=TAKE_OVER):
            raise RefusalError(HTTPStatus.CONFLICT, "BLOB_UPLOAD_INVALID", f"upload {identity} is in use by another request")
        try:
            if not session.note.exists():
                raise _unknown(identity)
            yield session
        finally:
            session.lock.release()
            if not session.note.exists():
                with self._lock:
                    self._open.pop(identity, None)

    def _find(self, identity: str, repository: str) -> Session:
        with self._lock:
            session = self._open.get(identity) or self._resumed(identity)
        if session is None or session.repository != repository:
            raise _unknown(identity)
        return session

    def _resumed(self, identity: str) -> Session | None:
        """Return a session from before a restart."""
        try:
            note = json.loads((self._folder / f"{identity}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        session = Session(self._folder, identity, str(note["repository"]))
        self._open[identity] = session
        return session

    def _expire(self) -> None:
        """Remove what nobody has touched for SESSION_LIFE."""
        eldest = time.time() - SESSION_LIFE
        for data in self._folder.glob("*.data"):
            try:
                if data.stat().st_mtime < eldest:
                    data.with_suffix(".json").unlink(missing_ok=True)
                    data.unlink(missing_ok=True)
            except FileNotFoundError:
                continue  # finished in this moment


def _unknown(identity: str) -> RefusalError:
    return RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", f"upload {identity} is not open (any more)")


def _need_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size + RESERVE > free:
        raise DiskError(
            f"{size} bytes do not fit: {max(0, free - RESERVE)} are free in {folder}", hint="make room for the store"
        )


def _disk_error(error: OSError) -> DiskError:
    reason = "the disk is full" if error.errno in _FULL else (error.strerror or type(error).__name__)
    return DiskError(f"the store cannot be written: {reason}", hint="free space, or give --store another folder")


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
