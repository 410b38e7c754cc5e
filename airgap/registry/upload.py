"""Sending one blob: mount, then one of several ways to upload, whichever the registry takes.

The ladder (cases.md P7, P15): a POST and one PUT of everything; a PATCH of everything and a closing PUT; PATCHes of 4 MiB; of
1 MiB. What worked is remembered for the run. Invariants: a blob that may have arrived is looked for before it is sent again
(faults F12); each step uses the last Location (P6), which never leads to another host unless that was allowed (P5).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

from airgap.errors import IntegrityError, NetworkError, NotFoundError, RegistryError, TLSError, UnauthorizedError
from airgap.transport import number, origin, redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from airgap.oci import Descriptor, Digest
    from airgap.transport import Client, Response, Window

_log = logging.getLogger(__name__)

MIB = 1024 * 1024
MOUNT_TRIES = 2
"""Repositories from which a mount is tried: where two are refused, the tenth is too."""
MINIMUM_HEADER = "OCI-Chunk-Min-Length"
"""By which a registry asks for chunks of at least so many bytes (distribution-spec, "Pushing a blob in chunks")."""
SESSION_TRIES = 4
"""Sessions for one blob before giving up: lost by a restart, a broken connection or another replica (P13, P16, F2)."""
CREATED, ACCEPTED, NO_CONTENT, NOT_FOUND, TOO_LARGE, BAD_RANGE = 201, 202, 204, 404, 413, 416


@dataclass(frozen=True)
class Mode:
    """A way to upload. ``chunk``: bytes of each PATCH (0: all in one); ``patch`` False: no PATCH, one PUT with everything."""

    name: str
    patch: bool = True
    chunk: int = 0


LADDER = (
    Mode("one PUT", patch=False),
    Mode("one PATCH"),
    Mode("PATCHes of 4 MiB", chunk=4 * MIB),  # GHCR's limit (P15)
    Mode("PATCHes of 1 MiB", chunk=MIB),  # nginx's default limit (P7)
)
CHUNKED = 2
"""The first rung that sends in chunks."""
NOT_TAKEN = frozenset({400, 404, 405, 411, 415, 501})
"""Answers to a PUT of everything by registries that want it otherwise (P15: Artifactory 404, others 405 or 411)."""
LOST = frozenset({0, 404, 408, 416, 429, 500, 502, 503, 504})
"""Ends of a session after which another may do better; 0: no answer came."""

UNCERTAIN = frozenset({0, 408, 500, 502, 503, 504})
"""Ends of a session after which the blob may be there all the same."""


@dataclass
class Ways:
    """What a registry was found to take; shared by the threads of a run (a lost update costs one refused request)."""

    rung: int = 0
    proven: bool = False


@dataclass(frozen=True)
class Session:
    """An open upload: where to go on, the least size of a chunk, and how many bytes are there."""

    location: str
    minimum: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Target:
    """Where uploads go: the registry's base URL, other hosts it may send them to, the repository."""

    base: str
    repository: str
    hosts: Container[str] = ()


class Upload:
    """The upload of one blob into one repository."""

    def __init__(self, client: Client, target: Target, descriptor: Descriptor, ways: Ways) -> None:
        self._client = client
        self._target = target
        self._descriptor = descriptor
        self._ways = ways
        self._session: Session | None = None
        self._scopes: tuple[str, ...] = (f"repository:{target.repository}:pull,push",)

    def run(self, open_window: Callable[[int], Window], mount_from: Sequence[str], held: Callable[[], bool]) -> str:
        """Get the blob there; return ``mounted`` or ``sent``. ``held`` asks whether the registry has it by now.

        Raises the error of the last session that failed; IntegrityError when the registry stored other bytes.
        """
        if any(self._mount(source) for source in mount_from[:MOUNT_TRIES]):
            return "mounted"
        failures = 0
        while True:
            self._session = self._session or self.open()
            rung = self._ways.rung
            try:
                self._send(LADDER[rung], open_window)
            except (TLSError, UnauthorizedError):
                raise
            except NetworkError as error:
                failures += 1
                status = _status(error)
                if status in UNCERTAIN and held():
                    return "sent"
                if not self._goes_on(rung, status, failures, error):
                    raise
                self._session = None
            else:
                self._ways.proven = True
                return "sent"

    def open(self) -> Session:
        """Open an upload session; repeating that is safe: a registry forgets empty sessions."""
        url = f"{self._target.base}/v2/{self._target.repository}/blobs/uploads/"
        with self._client.request("POST", url, scopes=self._scopes, ok=(ACCEPTED,), retry=True) as response:
            return self._opened(response)

    def cancel(self, session: Session) -> None:
        """Close a session; a registry that does not do that forgets it by itself."""
        auth = self._is_ours(session.location)
        try:
            self._client.request("DELETE", session.location, scopes=self._scopes, ok=range(600), retry=False, auth=auth).close()
        except NetworkError as error:
            _log.debug("an upload session could not be closed: %s", error.message)

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

    def _send(self, mode: Mode, open_window: Callable[[int], Window]) -> None:
        size = self._descriptor.size
        if not mode.patch or not size:
            with open_window(0) as window:
                self._finish(window)
            return
        session = self._current()
        chunk = max(mode.chunk, session.minimum) if mode.chunk else size
        for offset in range(0, size, chunk):
            with open_window(offset) as window, window.part(0, min(chunk, size - offset)) as part:
                self._patch(part, offset, ranged=bool(mode.chunk))
        _log.debug("%s is there, the registry is finishing it", self._descriptor.digest.short)
        self._finish(None)

    def _patch(self, part: Window, offset: int, *, ranged: bool) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        if ranged:
            headers["Content-Range"] = f"{offset}-{offset + len(part) - 1}"
        session = self._current()
        auth = self._is_ours(session.location)
        with self._client.request(
            "PATCH",
            session.location,
            headers=headers,
            body=part,
            scopes=self._scopes,
            ok=(ACCEPTED, CREATED, NO_CONTENT),
            retry=False,
            auth=auth,
        ) as response:
            location = self._location(response) if "Location" in response.headers else session.location
        self._session = replace(session, location=location, offset=offset + len(part))

    def _finish(self, window: Window | None) -> None:
        session, digest = self._current(), self._descriptor.digest
        joint = "&" if "?" in session.location else "?"
        url = f"{session.location}{joint}digest={quote(str(digest), safe='')}"
        with self._client.request(
            "PUT",
            url,
            headers={"Content-Type": "application/octet-stream"},
            body=window,
            scopes=self._scopes,
            ok=(CREATED, NO_CONTENT),
            retry=False,
            settle=session.offset,
            auth=self._is_ours(session.location),
        ) as response:
            check_digest(response, digest, f"taking a blob for {self._target.repository}")

    def _current(self) -> Session:
        self._session = self._session or self.open()
        return self._session

    def _is_ours(self, location: str) -> bool:
        """Whether an upload URL is the registry's own: elsewhere no Authorization is sent (cases.md P5)."""
        return origin(location) == origin(self._target.base)

    def _goes_on(self, rung: int, status: int, failures: int, error: NetworkError) -> bool:
        """Decide whether another session is worth it, perhaps one rung down, and wait a little."""
        sent = self._session.offset if self._session else 0
        step = next_rung(rung, status, proven=self._ways.proven, failures=failures, offset=sent, size=self._descriptor.size)
        if step > rung:
            _log.debug("%s does not take %s (%d); trying %s", self._target.base, LADDER[rung].name, status, LADDER[step].name)
            self._ways.rung, self._ways.proven = max(self._ways.rung, step), False
            return True
        if failures >= SESSION_TRIES or status not in LOST:
            return False
        _log.debug("the upload of %s starts again: %s", self._descriptor.digest.short, error.message)
        time.sleep(self._client.retry.pause(failures))
        return True

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
            new, base = origin(url), origin(self._target.base)
        except ValueError:
            raise RegistryError(
                f"{response.place} was answered with a Location that is no URL", status=response.status
            ) from None
        host = redact_url(url).partition("://")[2].partition("/")[0]
        if new == base or (host in self._target.hosts and new[0] == base[0]):
            return url
        if new[1] == base[1] and new == origin(response.url):  # the registry itself moved us to TLS
            return url
        if new[1] == base[1]:
            hint = "the proxy before the registry must send X-Forwarded-Proto and Host, or the registry use http.relativeurls"
        else:
            hint = f"if that is meant, allow it by name: --upload-host {host}"
        raise MisledError(f"{response.place.host} sends an upload to {redact_url(url)}: refused", hint=hint)


class MisledError(RegistryError):
    """A registry sends an upload where it must not go; another session would be sent there too."""


def next_rung(rung: int, status: int, *, proven: bool, failures: int, offset: int, size: int) -> int:
    """Return the rung of LADDER to try after a session ended with ``status`` (0: no answer); the same one: stay. Pure.

    ``offset``: bytes taken before; a 416 after some is about the offset, not the size. A rung that has worked before is left
    only for bodies that are too large: there a 404 is a lost session. A connection that breaks twice on a body of more
    than a MiB may be a proxy's way to say too large (P7).
    """
    lower = min(rung + 1, len(LADDER) - 1)
    if status == TOO_LARGE:
        return max(lower, CHUNKED)
    if status == BAD_RANGE and not offset:
        return lower
    if proven:
        return rung
    if status in NOT_TAKEN and rung == 0:
        return lower
    if status == 0 and failures == 2 and size > MIB and rung < CHUNKED:  # noqa: PLR2004  # the second time
        return CHUNKED
    return rung


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


def _status(error: NetworkError) -> int:
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    if isinstance(error, MisledError):
        return -1
    return error.status if isinstance(error, RegistryError) else 0
