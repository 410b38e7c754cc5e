"""Sending one blob: mount, or upload in whichever way the registry takes (``ways``), going on where a session stands.

Invariants: a blob that may have arrived is looked for before it is sent again (faults F12); each step uses the last Location
(P6), which never leads to another host unless that was allowed (P5). While the connection is healthy our own count of bytes
rules; the registry's is asked for after a break, or when an earlier run left a session, and believed only if it is not beyond
what can have been sent (P14); the digest decides in the end, and where it does not fit after that, the blob is sent once more
from its start.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from airgap.errors import (
    ConfigurationError,
    IntegrityError,
    MisledError,
    NetworkError,
    NotFoundError,
    RegistryError,
    TLSError,
    UnauthorizedError,
)
from airgap.registry.sessions import Sessions
from airgap.registry.ways import MIB, Step, Ways, next_way
from airgap.transport import NO_ROOM, number, origin, redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from airgap.oci import Descriptor, Digest
    from airgap.transport import Client, Response, Window

_log = logging.getLogger(__name__)

MOUNT_TRIES = 2
"""Repositories from which a mount is tried: where two are refused, the tenth is too."""
MINIMUM_HEADER = "OCI-Chunk-Min-Length"
"""By which a registry asks for chunks of at least so many bytes (distribution-spec, "Pushing a blob in chunks")."""
TRIES = 4
"""Breaks in a row without GAIN before giving up: a restart, a broken connection, another replica (P13, P16, F2)."""
GAIN = 64 * 1024
"""Bytes that a session must have won so that a break does not count as one more in a row."""
NOTED = 8 * MIB
"""Bytes from which on a blob's session is noted for another run; less is sent sooner than asked about."""
CREATED, ACCEPTED, NO_CONTENT, NOT_FOUND, BAD_RANGE = 201, 202, 204, 404, 416
LOST = frozenset({0, NOT_FOUND, 408, BAD_RANGE, 500, 502, 503, 504})
"""Ends of a session after which another may do better; 0: no answer came. (429 was repeated by the client already.)"""
UNCERTAIN = frozenset({0, 408, 500, 502, 503, 504})
"""Ends of a session after which the blob may be there all the same, or the session be alive."""
MISCOUNTED = frozenset({400, 409, BAD_RANGE, 422})
"""Answers that may mean: the bytes do not follow on each other, or are not those of the digest."""
_RANGE = re.compile(r"(?:bytes[= ])?0-(\d{1,18})")
"""With and without the unit (distribution#3496)."""


@dataclass(frozen=True)
class Session:
    """An open upload: where to go on, the least size of a chunk, and how many bytes are there."""

    location: str
    minimum: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Target:
    """Where uploads go: the registry's base URL, other hosts it may send them to, the repository; where sessions are noted."""

    base: str
    repository: str
    hosts: Container[str] = ()
    sessions: Sessions = field(default_factory=Sessions)


class Upload:
    """The upload of one blob into one repository."""

    def __init__(self, client: Client, target: Target, descriptor: Descriptor, ways: Ways) -> None:
        self._client = client
        self._target = target
        self._descriptor = descriptor
        self._ways = ways
        self._session: Session | None = None
        self._step = Step("POST", 0)
        self._best = self._failures = 0
        self._told_by_registry = False
        self._key = f"{target.base}/v2/{target.repository} {descriptor.digest}"
        self._scopes: tuple[str, ...] = (f"repository:{target.repository}:pull,push",)

    def run(self, open_window: Callable[[int], Window], mount_from: Sequence[str], held: Callable[[], bool]) -> str:
        """Get the blob there; return ``mounted`` or ``sent``. ``held`` asks whether the registry has it by now.

        Raises the error of the last session that failed; IntegrityError when the registry stored other bytes.
        """
        self._recall()
        if any(self._mount(source) for source in mount_from[:MOUNT_TRIES]):
            return "mounted"
        while True:
            try:
                self._send(open_window)
            except (TLSError, UnauthorizedError, MisledError):
                raise
            except NetworkError as error:
                status = _status(error)
                if self._may_be_there(status) and held():
                    break
                if not self._goes_on(status, error):
                    raise
                self._client.tally.again()
            else:
                self._ways.worked(self._step)
                break
        self._target.sessions.forget(self._key)
        return "sent"

    def open(self) -> Session:
        """Open an upload session; repeating that is safe: a registry forgets empty sessions."""
        url = f"{self._target.base}/v2/{self._target.repository}/blobs/uploads/"
        self._step = Step("POST", 0)
        with self._client.request(
            "POST", url, scopes=self._scopes, ok=(ACCEPTED,), retry=True, attempts=self._left()
        ) as response:
            return self._opened(response)

    def _left(self) -> int:
        """Return the attempts that are left to what the client repeats by itself: breaks of this upload count too."""
        return max(1, self._client.retry.attempts - self._failures)

    def cancel(self, session: Session) -> None:
        """Close a session; a registry that does not do that forgets it by itself."""
        auth = self._is_ours(session.location)
        try:
            self._client.request("DELETE", session.location, scopes=self._scopes, ok=range(600), retry=False, auth=auth).close()
        except NetworkError as error:
            _log.debug("an upload session could not be closed: %s", error.message)

    def _recall(self) -> None:
        """Go on with the session that an earlier run noted, if the registry still has it (F5)."""
        noted = self._target.sessions.recall(self._key)
        if noted is None:
            return
        found = self._asked(Session(noted.location), self._descriptor.size)
        if found is None:
            self._target.sessions.forget(self._key)
            return
        _log.debug("%s goes on at byte %d, where an earlier run left it", self._descriptor.digest.short, found.offset)
        self._session, self._best = found, found.offset

    def _mount(self, source: str) -> bool:
        """Try to mount from ``source``; where a session is opened instead, keep it (F19). Any refusal is a plain no (P18)."""
        if self._session:
            return False
        digest, target = self._descriptor.digest, self._target
        query = f"mount={quote(str(digest), safe='')}&from={quote(source, safe='')}"
        url = f"{target.base}/v2/{target.repository}/blobs/uploads/?{query}"
        scopes = (*self._scopes, f"repository:{source}:pull")
        try:
            with self._client.request("POST", url, scopes=scopes, ok=(CREATED, ACCEPTED), retry=False) as response:
                if response.status == CREATED:
                    check_digest(response, digest, f"mounting into {target.repository}")
                    return True
                self._session = self._opened(response)
        except TLSError:
            raise
        except NetworkError as error:
            _log.debug("mounting %s from %s is refused: %s", digest.short, source, error.message)
        return False

    def _send(self, open_window: Callable[[int], Window]) -> None:
        """Send what is left: pieces, and a closing PUT with the rest or with nothing, as the way says."""
        size = self._descriptor.size
        while True:
            if self._session is None:
                self._session = self.open()
                self._note()
            session, way = self._session, self._ways.way
            left, piece = size - session.offset, self._ways.piece(size, session.minimum)
            fits = left <= piece
            if not left or (fits and (way.tail if session.offset else way.put)):
                self._finish(open_window, left)
                return
            self._patch(open_window, min(piece, left))

    def _patch(self, open_window: Callable[[int], Window], count: int) -> None:
        session, size = self._current(), self._descriptor.size
        self._step = Step("PATCH", count, session.offset, whole=count == size)
        headers = {"Content-Type": "application/octet-stream"}
        if not self._step.whole:
            headers["Content-Range"] = f"{session.offset}-{session.offset + count - 1}"
        with open_window(session.offset) as window:
            begun = time.monotonic()
            with self._client.request(
                "PATCH",
                session.location,
                headers=headers,
                body=Piece(window, count),
                attempts=self._left(),
                scopes=self._scopes,
                ok=(ACCEPTED, CREATED, NO_CONTENT),
                retry=False,
                auth=self._is_ours(session.location),
            ) as response:
                location = self._location(response) if "Location" in response.headers else session.location
            self._ways.measured(count, time.monotonic() - begun)
        self._session = replace(session, location=location, offset=session.offset + count)
        self._note()

    def _finish(self, open_window: Callable[[int], Window], left: int) -> None:
        """Send the closing PUT, with the ``left`` bytes that are still missing."""
        session, digest = self._current(), self._descriptor.digest
        self._step = Step("PUT", left, session.offset, whole=not session.offset or (not left and self._step.whole))
        if not left:
            _log.debug("%s is there, the registry is finishing it", digest.short)
        joint = "&" if "?" in session.location else "?"
        url = f"{session.location}{joint}digest={quote(str(digest), safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        if left and session.offset:
            headers["Content-Range"] = f"{session.offset}-{self._descriptor.size - 1}"
        with open_window(session.offset) as window:
            begun = time.monotonic()
            with self._client.request(
                "PUT",
                url,
                headers=headers,
                body=Piece(window, left) if left or not session.offset else None,
                attempts=self._left(),
                scopes=self._scopes,
                ok=(CREATED, NO_CONTENT),
                retry=False,
                settle=session.offset,
                auth=self._is_ours(session.location),
            ) as response:
                check_digest(response, digest, f"taking a blob for {self._target.repository}")
            self._ways.measured(left, time.monotonic() - begun)

    def _current(self) -> Session:
        assert self._session is not None  # noqa: S101  # _send has opened it
        return self._session

    def _note(self) -> None:
        """Note the session for another run, if the blob is worth it."""
        if self._session and self._descriptor.size >= NOTED:
            self._target.sessions.note(self._key, self._session.location, self._session.offset)

    def _is_ours(self, location: str) -> bool:
        """Whether an upload URL is the registry's own: elsewhere no Authorization is sent (cases.md P5)."""
        return origin(location) == origin(self._target.base)

    def _may_be_there(self, status: int) -> bool:
        """Whether a closing PUT that ended so may have been taken; 404 to an empty one: sent twice on the way, say."""
        return self._step.method == "PUT" and (status in UNCERTAIN or (status == NOT_FOUND and not self._step.body))

    def _goes_on(self, status: int, error: NetworkError) -> bool:
        """Decide whether and how to go on after ``error``: in another way, in the same session, in a new one; wait a little."""
        session, self._session = self._session, None
        self._failures += 1
        if self._step.method == "POST":  # the client has repeated that as often as is right
            return False
        if session and status == BAD_RANGE and self._out_of_step(session):
            return self._failures < TRIES
        way = next_way(self._ways.way, self._step, status, failures=self._failures)
        if way != self._ways.way:
            _log.debug("%s does not take it that way (%d); trying another: %s", self._target.base, status, way)
            self._ways.way, self._failures = way, 0
            return True
        if self._told_by_registry and status in MISCOUNTED:
            _log.debug("%s does not fit together and starts again: %s", self._descriptor.digest.short, error.message)
            self._told_by_registry = False
            return True
        if self._failures >= TRIES or status not in LOST or _full(error):
            return False
        pause = self._client.retry.pause(self._failures)
        self._client.leave_alone(self._target.base if status else "", pause)
        if session and status in UNCERTAIN and self._descriptor.size > GAIN:
            self._session = self._asked(session, self._step.offset + self._step.body)
        if self._session and self._session.offset >= self._best + GAIN:
            self._best, self._failures = self._session.offset, 0
        there = self._session.offset if self._session else 0
        _log.debug("the upload of %s goes on at byte %d: %s", self._descriptor.digest.short, there, error.message)
        return True

    def _out_of_step(self, session: Session) -> bool:
        """Ask where a session stands whose piece was refused as out of order, and go on there if it is elsewhere (F4)."""
        if not self._step.offset or self._told_by_registry:
            return False
        found = self._asked(session, self._step.offset + self._step.body)
        if found is None or found.offset == self._step.offset:
            self._told_by_registry = False
            return False
        _log.debug("%s is at byte %d there, not at %d", self._descriptor.digest.short, found.offset, self._step.offset)
        self._session = found
        return True

    def _asked(self, session: Session, most: int) -> Session | None:
        """Ask the registry where a session stands; None: it is lost, or nobody can say. ``most``: bytes that can be there."""
        try:
            self._checked(session.location, "the journal", "")
            auth = self._is_ours(session.location)
            with self._client.request(
                "GET", session.location, scopes=self._scopes, ok=(200, NO_CONTENT), auth=auth, attempts=self._left()
            ) as response:
                told = _RANGE.fullmatch(response.headers.get("Range", "").strip())
                location = self._location(response) if "Location" in response.headers else session.location
        except (NetworkError, ConfigurationError) as error:
            if type(error) is NetworkError:  # nobody answered, however often: a new session gets one try
                self._failures = max(self._failures, self._client.retry.attempts - 1)
            _log.debug("the session is lost: %s", error.message)
            return None
        offset = int(told[1]) + 1 if told and int(told[1]) else 0
        if not 0 < offset <= most:  # 0-0 is said to nothing and to one byte: a new session is sure to be empty
            self.cancel(replace(session, location=location))
            return None
        self._told_by_registry = True
        return replace(session, location=location, offset=offset)

    def _opened(self, response: Response) -> Session:
        minimum = response.headers.get(MINIMUM_HEADER, "")
        return Session(self._location(response), number(minimum) or 0)

    def _location(self, response: Response) -> str:
        """Return the absolute URL of an answer's Location, or refuse where it leads (P3, P5, F10)."""
        told = response.headers.get("Location", "").strip()
        if not told:
            raise RegistryError(f"{response.place} was answered without a Location to go on at", status=response.status)
        try:
            url = urljoin(response.url, told)
        except ValueError:
            url = "//"
        return self._checked(url, response.place.host, response.url)

    def _checked(self, url: str, who: str, asked: str) -> str:
        """Return ``url`` if an upload may go there; ``asked``: the URL whose answer named it. Raises MisledError."""
        try:
            new, base = origin(url), origin(self._target.base)
        except ValueError:
            raise MisledError(f"{who} sends an upload to what is no URL: {redact_url(url)}") from None
        host = redact_url(url).partition("://")[2].partition("/")[0]
        if new == base or (host in self._target.hosts and new[0] == base[0]):
            return url
        if asked and new[1] == base[1] and new == origin(asked):  # the registry itself moved us to TLS
            return url
        if new[1] == base[1]:
            hint = "the proxy before the registry must send X-Forwarded-Proto and Host, or the registry use http.relativeurls"
        else:
            hint = f"if that is meant, allow it by name: --upload-host {host}"
        raise MisledError(f"{who} sends an upload to {redact_url(url)}: refused", hint=hint)


class Piece:
    """The first ``size`` bytes of a window, as a request body."""

    def __init__(self, window: Window, size: int) -> None:
        self._window, self._size, self._left = window, size, size

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes of what is left."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._window.read(wanted) if wanted else b""
        self._left -= len(data)
        return data

    def place(self) -> tuple[int, int] | None:
        """Return where it lies (see transport.body.Placed)."""
        return self._window.place()

    def passed(self, size: int) -> None:
        """Count ``size`` bytes as read."""
        self._window.passed(size)
        self._left -= size

    def rewind(self) -> None:
        """Go back to the first byte."""
        self._window.rewind()
        self._left = self._size


def check_digest(response: Response, digest: Digest, doing: str) -> None:
    """Raise IntegrityError when an answer names another digest than ``digest`` (faults F11); silence is no lie.

    A digest of another algorithm says nothing about ours, and is left alone.
    """
    told = response.headers.get("Docker-Content-Digest", "").strip()
    if told.startswith(f"{digest.algorithm}:") and told != str(digest):
        raise IntegrityError(
            f"{response.place.host}, {doing}, stored {told[:80]} instead of {digest}",
            hint="bytes were changed on the way, or the registry is faulty; no tag was set",
        )


def _full(error: NetworkError) -> bool:
    """Whether a registry said that it has no room: sending it all again would only fill it again (faults F24)."""
    return isinstance(error, RegistryError) and error.hint == NO_ROOM


def _status(error: NetworkError) -> int:
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    return error.status if isinstance(error, RegistryError) else 0
