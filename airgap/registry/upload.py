"""Sending one blob: mount, then one of several ways to upload, whichever the registry takes.

The ladder (cases.md P7, P15): a POST and one PUT of everything; a PATCH of everything and a closing PUT; PATCHes of 4 MiB; of
1 MiB. What worked is remembered for the run. Invariants: a blob that may have arrived is looked for before it is sent again
(faults F12); each step uses the last Location (P6), which never leads to another host unless that was allowed (P5).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from airgap.errors import IntegrityError, NetworkError, NotFoundError, RegistryError, TLSError, UnauthorizedError
from airgap.transport.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from airgap.oci import Descriptor, Digest
    from airgap.transport import Client, Response, Window

_log = logging.getLogger(__name__)

MIB = 1024 * 1024
MOUNT_TRIES = 2
"""Repositories from which a mount is tried: where the first is refused, the tenth is too."""
MINIMUM_HEADER = "OCI-Chunk-Min-Length"
"""By which a registry asks for chunks of at least so many bytes (distribution-spec, "Pushing a blob in chunks")."""


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
NOT_TAKEN = frozenset({400, 404, 405, 411, 415, 501})
"""Answers to a PUT or PATCH of everything by registries that want it otherwise (P15: Artifactory 404, others 405 or 411)."""
TOO_LARGE = frozenset({413, 416})
"""Answers to a body that is too large (nginx 413; GHCR 416 with a text about size)."""
SESSION_TRIES = 4
"""Sessions for one blob before giving up: lost by a restart, a broken connection or another replica (P13, P16, F2)."""


@dataclass
class Ways:
    """What a registry was found to take; shared by the threads of a run (a lost update costs one refused request)."""

    rung: int = 0
    proven: bool = False


class Upload:
    """The upload of one blob into one repository."""

    def __init__(
        self, client: Client, base: str, repository: str, descriptor: Descriptor, ways: Ways, hosts: Container[str] = ()
    ) -> None:
        self._client = client
        self._base = base
        self._repository = repository
        self._descriptor = descriptor
        self._ways = ways
        self._hosts = hosts
        self._scopes: tuple[str, ...] = (f"repository:{repository}:pull,push",)

    def run(self, open_window: Callable[[int], Window], mount_from: Sequence[str], held: Callable[[], bool]) -> str:
        """Get the blob there; return ``mounted`` or ``sent``. ``held`` asks whether the registry has it by now."""
        session = ""
        for source in mount_from[:MOUNT_TRIES]:
            session = self._mount(source)
            if not session:
                return "mounted"
            if session != _REFUSED:
                break
        failures = 0
        while True:
            try:
                location = session if session not in {"", _REFUSED} else self.open()
                session = ""
                self._send(location, open_window)
            except (TLSError, UnauthorizedError):
                raise
            except NetworkError as error:
                failures += 1
                if held():
                    return "sent"
                if not self._goes_on(error, failures):
                    raise
            else:
                self._ways.proven = True
                return "sent"

    def open(self) -> str:
        """Open an upload session and return its URL; repeating that is safe: a registry forgets empty sessions."""
        url = f"{self._base}/v2/{self._repository}/blobs/uploads/"
        with self._client.request("POST", url, scopes=self._scopes, ok=(202,), retry=True) as response:
            return self._location(response)

    def cancel(self, location: str) -> None:
        """Close a session; a registry that does not do that forgets it by itself."""
        try:
            self._client.request("DELETE", location, scopes=self._scopes, ok=range(600), retry=False, auth=self._ours(location)).close()
        except NetworkError as error:
            _log.debug("an upload session could not be closed: %s", error.message)

    def _mount(self, source: str) -> str:
        """Try to mount from ``source``: empty when mounted, a session's URL when one was opened instead, or refused."""
        digest = self._descriptor.digest
        url = f"{self._base}/v2/{self._repository}/blobs/uploads/?mount={quote(str(digest), safe='')}&from={quote(source, safe='')}"
        scopes = (*self._scopes, f"repository:{source}:pull")
        try:
            with self._client.request("POST", url, scopes=scopes, ok=(201, 202), retry=True) as response:
                if response.status == 202:  # noqa: PLR2004  # Accepted: not mounted, but a session is open (F19)
                    return self._location(response)
                check_digest(response, digest, f"mounting {digest} into {self._repository}")
                return ""
        except (UnauthorizedError, NotFoundError, RegistryError) as error:
            _log.debug("mount of %s from %s is refused: %s", digest.short, source, error.message)
            return _REFUSED

    def _send(self, location: str, open_window: Callable[[int], Window]) -> None:
        mode = LADDER[self._ways.rung]
        digest, size = self._descriptor.digest, self._descriptor.size
        if not mode.patch or not size:
            with open_window(0) as window:
                self._finish(location, window, settle=0)
            return
        offset, chunk = 0, mode.chunk or size
        while offset < size:
            with open_window(offset) as window:
                part = window.part(0, min(chunk, size - offset))
                try:
                    location = self._patch(location, part, offset)
                finally:
                    part.close()
            offset += len(part)
        _log.debug("%s is there, the registry is finishing it", digest.short)
        self._finish(location, None, settle=size)

    def _patch(self, location: str, part: Window, offset: int) -> str:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{offset + len(part) - 1}",
        }
        with self._client.request(
            "PATCH", location, headers=headers, body=part, scopes=self._scopes, ok=(202, 201, 204), retry=False, auth=self._ours(location)
        ) as response:
            return self._location(response) if "Location" in response.headers else location

    def _finish(self, location: str, window: Window | None, settle: int) -> None:
        joint = "&" if urlsplit(location).query else "?"
        url = f"{location}{joint}digest={quote(str(self._descriptor.digest), safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        with self._client.request(
            "PUT", url, headers=headers, body=window, scopes=self._scopes, ok=(201, 204), retry=False, settle=settle, auth=self._ours(location)
        ) as response:
            check_digest(response, self._descriptor.digest, f"uploading to {self._repository}")

    def _ours(self, location: str) -> bool:
        """Whether an upload URL is the registry's own: elsewhere no Authorization is sent (cases.md P5)."""
        return urlsplit(location)[:2] == urlsplit(self._base)[:2]

    def _goes_on(self, error: NetworkError, failures: int) -> bool:
        """Decide whether another session is worth it, perhaps one rung down, and wait a little."""
        status = error.status if isinstance(error, RegistryError) else 404 if isinstance(error, NotFoundError) else 0
        if step := next_rung(self._ways.rung, status, proven=self._ways.proven):
            _log.debug(
                "%s does not take %s (%d); trying %s", self._base, LADDER[self._ways.rung].name, status, LADDER[step].name
            )
            self._ways.rung = step
            return True
        if failures >= SESSION_TRIES or (status and status not in {404, 408, 416, 429, 500, 502, 503, 504}):
            return False
        _log.debug("upload of %s starts again: %s", self._descriptor.digest.short, error.message)
        time.sleep(self._client.retry.pause(failures))
        return True

    def _location(self, response: Response) -> str:
        """Return the absolute URL of an answer's Location, or refuse where it leads (P3, P5, F10)."""
        told = response.headers.get("Location", "").strip()
        if not told:
            raise RegistryError(f"{response.place} was answered without a Location to go on at", status=response.status)
        url = urljoin(response.url, told)
        new, old = urlsplit(url), urlsplit(response.url)
        if (new.scheme, new.netloc) == (old.scheme, old.netloc):
            return url
        if new.netloc in self._hosts and new.scheme == old.scheme:
            return url
        if new.hostname == old.hostname and new.scheme != old.scheme:
            hint = "the proxy before the registry must send X-Forwarded-Proto, or the registry be told http.relativeurls"
        else:
            hint = f"if that is meant, allow it by name: --upload-host {new.netloc.rpartition('@')[2]}"
        raise NetworkError(f"{old.netloc} sends an upload to {redact_url(url)}: refused", hint=hint)


_REFUSED = "refused"


def next_rung(rung: int, status: int, *, proven: bool) -> int:
    """Return the next rung of LADDER to try after an answer of ``status``, or 0: stay. Pure.

    A rung that has worked before is left only for bodies that are too large: its 404 is a lost session.
    """
    if rung + 1 >= len(LADDER):
        return 0
    if status in TOO_LARGE:
        return max(rung + 1, 2) if status == 413 else rung + 1  # noqa: PLR2004  # a PATCH of everything is as large
    if status in NOT_TAKEN and not proven and rung < 1:
        return rung + 1
    return 0


def check_digest(response: Response, digest: Digest, doing: str) -> None:
    """Raise IntegrityError when an answer names another digest than ``digest`` (faults F11); silence is no lie."""
    told = response.headers.get("Docker-Content-Digest", "").strip()
    if told and told != str(digest) and told.startswith(f"{digest.algorithm}:"):
        raise IntegrityError(
            f"{response.place.host}, {doing}, stored {told[:80]} instead of {digest}",
            hint="bytes were changed on the way, or the registry is faulty; nothing was tagged",
        )
