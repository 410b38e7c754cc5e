"""Registry: one registry, spoken to in the verbs of the OCI distribution specification.

::

    registry = Registry(client, "reg.lan:5000")
    descriptor = registry.head_manifest("team/app", "1.2")          # None: not there
    manifest = registry.get_manifest("team/app", str(descriptor.digest))
    registry.upload("team/app", blob, open_window=lambda offset: bundle.window(blob, offset))

Invariants: bytes that come back from here as a whole match their digest, else IntegrityError; streams are checked by who
reads them. "Not there" is None or False, never an exception, where the verb is a question. A host name is that of references:
``docker.io`` is reached at registry-1.docker.io.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin

from airgap.errors import IntegrityError, NetworkError, NotFoundError, RegistryError, UnauthorizedError
from airgap.oci import ACCEPT, INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES, OCI_INDEX, Descriptor, Digest, Index, parse_manifest
from airgap.registry.sessions import Sessions
from airgap.registry.upload import Target, Upload, check_digest
from airgap.registry.ways import Ways
from airgap.transport import origin, redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from airgap.oci import Manifest
    from airgap.transport import Client, Response, Room, Window

_Found = TypeVar("_Found")
_log = logging.getLogger(__name__)

BLOB_LIMIT = 64 * 1024 * 1024
"""Bytes of a blob that is read as a whole; image configs of more than 4 MiB are real (faults F31, peers.md 2.9)."""
LAG_WAITS = (0.2, 0.5, 1.0)
"""Seconds between looks for what was just written and is not seen yet (faults F13: replicas of ACR)."""
UNKNOWN_BLOB_WAITS = (0.5, 1.0, 2.0)
"""Seconds before a manifest is sent again whose blobs the registry does not see yet (cases.md P16)."""
NO_REPOSITORY = (
    "create it first (Harbor: a project; ECR: aws ecr create-repository; Artifactory: the first part of the path must be an "
    "existing repository key), or choose another prefix"
)
"""The next step when a push finds no repository (cases.md P8, P17)."""
GAIN = 64 * 1024
"""Bytes that a connection must bring so that its break does not count as one more in a row: with the stall's floor of 1 KiB/s a
source that drips is given up after some minutes (faults F33; ours)."""
PAGES = 1000
"""Pages of a listing that are followed."""
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_LINK = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?')
_NO_HEAD = frozenset({405, 501})
_NO_RANGE = frozenset({206, 416})
"""How a wrong range ends: another one than asked for, or none (faults F26)."""
_NO_REFERRERS = frozenset({400, 404, 405, 406, 415, 501})
"""How registries without a referrers API answer it: 404 by the specification (distribution 2 and 3: run), 405 ECR
(aws/containers-roadmap#2783), 400 and 415 old Quay (the same thread), the others seen in the field."""
_IMMUTABLE = frozenset({400, 403, 409, 412})
"""How registries refuse to move a tag (cases.md P1): 400 ECR (moby/buildkit#3776) and Nexus (write policy ALLOW_ONCE), 403
Artifactory, 412 Harbor (tag immutability rules), 409 others. Who refuses for another reason holds the same digest, or none."""


class Registry:
    """See the module. ``push``: whether it will be pushed to, so that one token serves looking and pushing (cases.md P12).

    ``upload_hosts``: other hosts to which this registry may send an upload (cases.md P5). ``sessions``: where uploads under way
    are noted, so that another run can go on with them. ``ways``: what is known of how it lets itself be filled.
    """

    def __init__(
        self,
        client: Client,
        host: str,
        *,
        push: bool = False,
        upload_hosts: Container[str] = (),
        sessions: Sessions | None = None,
        ways: Ways | None = None,
    ) -> None:
        self._actions = "pull,push" if push else "pull"
        self.client = client
        self.host = host
        self._base = client.base_url(host)
        self._upload_hosts = upload_hosts
        self._sessions = sessions or Sessions()
        self._ways = ways or Ways()
        self._ranges = True
        self._written: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def expect(self, least: int, most: int) -> None:
        """Begin uploads with pieces of ``least`` to ``most`` bytes (0: no limit known): what the product is known to take."""
        self._ways.bound(least, most)

    def ping(self) -> None:
        """Check that the host speaks the registry API and takes our credentials."""
        with self.client.request("GET", f"{self._base}/v2/"):
            pass

    def head_manifest(self, repository: str, locator: str) -> Descriptor | None:
        """Return what ``locator`` (tag or digest) points to, or None.

        Raises RegistryError when it is there but a policy hides it (412, cases.md P2), IntegrityError when a digest is
        answered with another one.
        """
        url = self._url(repository, f"manifests/{locator}")
        return self._patiently(repository, locator, lambda: self._head_manifest(repository, locator, url))

    def _head_manifest(self, repository: str, locator: str, url: str) -> Descriptor | None:
        try:
            with self.client.request("HEAD", url, headers=_accept(), scopes=self._scopes(repository)) as response:
                descriptor = _described(response)
        except NotFoundError:
            return None
        except RegistryError as error:
            if error.status == 412:  # noqa: PLR2004  # Precondition Failed
                error.hint = "the image is there, but a policy of the registry (scanner, signature) forbids reading it"
            if error.status not in _NO_HEAD:
                raise
            descriptor = None
        if descriptor is None:  # HEAD is not known here, or says too little (F23)
            try:
                return self.get_manifest(repository, locator).descriptor
            except NotFoundError:
                return None
        if ":" in locator and str(descriptor.digest) != locator:
            raise IntegrityError(f"{self.host}/{repository} answers {descriptor.digest} when asked for {locator}")
        return descriptor

    def get_manifest(self, repository: str, locator: str) -> Manifest | Index:
        """Return the manifest or index at ``locator``, its bytes checked; raises NotFoundError, IntegrityError."""
        raw, media_type = self.get_manifest_bytes(repository, locator)
        return parse_manifest(raw, media_type)

    def get_manifest_bytes(self, repository: str, locator: str) -> tuple[bytes, str]:
        """Return the bytes of the manifest at ``locator``, and the media type they were served as."""
        url = self._url(repository, f"manifests/{locator}")
        scopes = self._scopes(repository)
        with self.client.request("GET", url, headers=_accept(), scopes=scopes, preload=MANIFEST_LIMIT) as response:
            raw, media_type = response.read(MANIFEST_LIMIT), _media_type(response)
            told = response.headers.get("Docker-Content-Digest", "") if ":" not in locator else locator
        if told and (digest := _digest(told)) and _hash(raw, digest) != digest:
            raise IntegrityError(
                f"{self.host} serves {repository} {locator} with other bytes than {digest}",
                hint="something between here and the registry changes answers, or the registry is damaged",
            )
        return raw, media_type

    def put_manifest(self, repository: str, locator: str, raw: bytes, media_type: str) -> Digest:
        """Store a manifest under a tag or its digest; return the digest; raises IntegrityError when another one comes back."""
        digest = _digest(locator) if ":" in locator else None
        digest = digest or Digest.of(raw)
        url, scopes = self._url(repository, f"manifests/{locator}"), _push(repository)
        for pause in (*UNKNOWN_BLOB_WAITS, None):
            try:
                with self.client.request(
                    "PUT", url, headers={"Content-Type": media_type}, body=raw, scopes=scopes, ok=(200, 201, 202)
                ) as response:
                    check_digest(response, digest, f"taking manifest {repository} {locator}")
                    break
            except (RegistryError, NotFoundError, UnauthorizedError) as error:
                if pause is None or not _blob_unknown(error):
                    raise self._immutable(error, repository, locator, digest) from None
                time.sleep(pause)
        self._wrote(repository, locator, str(digest))
        return digest

    def _immutable(self, error: NetworkError, repository: str, locator: str, digest: Digest) -> NetworkError:
        """Say so when a manifest was refused because its tag may not move (cases.md P1)."""
        status = error.status if isinstance(error, RegistryError) else 403 if isinstance(error, UnauthorizedError) else 0
        if status not in _IMMUTABLE or ":" in locator:
            return error
        try:
            there = self._head_manifest(repository, locator, self._url(repository, f"manifests/{locator}"))
        except (NetworkError, IntegrityError):
            return error
        if there is None or there.digest == digest:
            return error
        return RegistryError(
            f"{self.host}/{repository}:{locator} is {there.digest} and may not be overwritten with {digest}: {error.message}",
            hint="the registry forbids moving tags: push under another prefix, or have the tag removed",
            status=status,
            code=error.code if isinstance(error, RegistryError) else "",
        )

    def tags(self, repository: str) -> tuple[str, ...]:
        """Return all tags, sorted; empty when the repository is not there. What is no tag is refused (faults F56)."""
        found: list[str] = []
        try:
            for data in self._pages(repository, f"{self._base}/v2/{repository}/tags/list"):
                page = data.get("tags") if isinstance(data, dict) else None
                found += [str(tag) for tag in page or ()]
        except NotFoundError:
            return ()
        bad = [tag for tag in found if not _TAG.fullmatch(tag)]
        if bad:
            raise RegistryError(f"{self.host} lists {bad[0][:60]!r} as a tag of {repository}, which is none")
        return tuple(sorted(set(found)))

    def referrers(self, repository: str, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to ``digest`` (signatures, SBOMs): by the API, else by the fallback tag ``sha256-<hex>``."""
        url = self._url(repository, f"referrers/{digest}")
        try:
            with self.client.request(
                "GET", url, headers={"Accept": OCI_INDEX}, scopes=self._scopes(repository), preload=MANIFEST_LIMIT
            ) as response:
                return self._referrers(response, repository)
        except NotFoundError:
            pass
        except RegistryError as error:
            if error.status not in _NO_REFERRERS:
                raise
        try:
            index = self.get_manifest(repository, f"{digest.algorithm}-{digest.hex[:64]}")
        except NotFoundError:
            return ()
        return index.manifests if isinstance(index, Index) else ()

    def _referrers(self, response: Response, repository: str) -> tuple[Descriptor, ...]:
        found: list[Descriptor] = []
        for _ in range(PAGES):
            index = parse_manifest(response.read(MANIFEST_LIMIT), OCI_INDEX)
            if isinstance(index, Index):
                found += index.manifests
            following = self._next_page(response)
            if not following:
                break
            response = self.client.request(
                "GET", following, headers={"Accept": OCI_INDEX}, scopes=self._scopes(repository), preload=MANIFEST_LIMIT
            )
        return tuple({item.digest: item for item in found}.values())

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Whether the repository holds a blob; one that was just written here is waited for a little."""
        url = self._url(repository, f"blobs/{digest}")
        return bool(self._patiently(repository, str(digest), lambda: self._has_blob(repository, url) or None))

    def _has_blob(self, repository: str, url: str) -> bool:
        # A registry that sends us to its store (307) has the blob; a signed URL for GET may refuse HEAD.
        try:
            with self.client.request("HEAD", url, scopes=self._scopes(repository), ok=(200, 307, 302, 303), follow=False):
                return True
        except NotFoundError:
            return False
        except RegistryError as error:
            if error.status not in _NO_HEAD:
                raise
            return False  # F23: as absent; the upload or the mount will tell

    def open_blob(self, repository: str, descriptor: Descriptor, offset: int = 0, *, attempts: int | None = None) -> Response:
        """Return a response whose stream is the blob from ``offset``; bytes are for the reader to verify.

        ``attempts``: how often it may be asked for, as in Client.request.
        A range is checked (cases.md L2): where the whole comes instead, or another range, the first ``offset`` bytes of the
        whole are read away. Raises IntegrityError when the registry knows the blob with another size.
        """
        if offset and self._ranges:
            try:
                return self._opened(repository, descriptor, offset, attempts=attempts)
            except RegistryError as error:
                if error.status not in _NO_RANGE:
                    raise
                _log.debug("ranges are of no use here: %s", error.message)
                self._ranges = False
        return self._opened(repository, descriptor, 0, skip=offset, attempts=attempts)

    def _opened(self, repository: str, descriptor: Descriptor, offset: int, skip: int = 0, *, attempts: int | None) -> Response:
        url = self._url(repository, f"blobs/{descriptor.digest}")
        headers = {"Range": f"bytes={offset}-{descriptor.size - 1}"} if offset else {}  # crane refuses an open end
        with ExitStack() as undo:
            response = self.client.request(
                "GET", url, headers=headers, scopes=self._scopes(repository), ok=(200, 206), attempts=attempts
            )
            undo.callback(response.close)
            self._check_start(response, descriptor, offset)
            response.skip(skip)
            undo.pop_all()
        return response

    def _check_start(self, response: Response, descriptor: Descriptor, offset: int) -> None:
        length = response.length()
        if response.status == 200:  # noqa: PLR2004  # OK: the whole blob
            if length is not None and length != descriptor.size:
                raise IntegrityError(f"{self.host} has {descriptor.digest} with {length} bytes, not {descriptor.size}")
            response.skip(offset)
            return
        told = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if not told or int(told[1]) != offset or told[3] not in {"*", str(descriptor.size)}:
            shown = response.headers.get("Content-Range", "nothing")[:60]
            raise RegistryError(
                f"{self.host} answered a request for {descriptor.digest} from byte {offset} with range {shown}", status=206
            )

    def stream_blob(
        self, repository: str, descriptor: Descriptor, offset: int = 0, room: Room | None = None
    ) -> Iterator[bytes | memoryview]:
        """Yield the blob from ``offset`` to its end, going on by Range when the connection breaks.

        ``room``: where the pieces may lie (Response.fill).
        Bounded: by the client's attempts in a row that bring less than GAIN each, those included that it took to open a
        connection (one budget: two policies around each other would multiply). Each one starts at the registry, never at a
        signed URL that it once redirected to. Bytes are for the reader to verify; more than the descriptor's size raises
        IntegrityError.
        """
        position, failures, most = offset, 0, self.client.retry.attempts
        while position < descriptor.size:
            before = position
            response = self.open_blob(repository, descriptor, position, attempts=most - failures)
            failures += response.attempts - 1
            try:
                for piece in self._pieces(response, descriptor, position, room):
                    position += len(piece)
                    yield piece
            except NetworkError as error:
                failures = 1 if position >= before + GAIN else failures + 1
                if failures >= most:
                    raise
                _log.debug("%s goes on at byte %d: %s", descriptor.digest.short, position, error.message)
                self.client.tally.again()
                self.client.leave_alone("", self.client.retry.pause(failures))

    def _pieces(
        self, response: Response, descriptor: Descriptor, position: int, room: Room | None
    ) -> Iterator[bytes | memoryview]:
        """Yield the blob from ``position`` over one connection; raises NetworkError when it ends too early."""
        left = descriptor.size - position
        with response:
            for piece in response.fill(room) if room else response.stream():
                left -= len(piece)
                if left < 0:
                    raise IntegrityError(f"{self.host} sends more than the {descriptor.size} bytes of {descriptor.digest}")
                yield piece
        if left:
            raise NetworkError(f"{self.host} ended {descriptor.digest} {left} bytes too early")

    def read_blob(self, repository: str, descriptor: Descriptor) -> bytes:
        """Return a small blob, checked; raises IntegrityError."""
        if descriptor.size > BLOB_LIMIT:
            raise IntegrityError(f"{descriptor.digest} has {descriptor.size} bytes: too many to be read as a whole")
        for _ in range(2):  # wrong bytes are fetched once more from the start (F27)
            data = b"".join(self.stream_blob(repository, descriptor))
            if _hash(data, descriptor.digest) == descriptor.digest:
                return data
        raise IntegrityError(f"{self.host} serves {descriptor.digest} of {repository} with other bytes")

    def upload(
        self, repository: str, descriptor: Descriptor, open_window: Callable[[int], Window], mount_from: Sequence[str] = ()
    ) -> str:
        """Get a blob into the repository; return ``mounted`` or ``sent``. ``open_window(offset)``: the blob's rest."""
        upload = Upload(self.client, Target(self._base, repository, self._upload_hosts, self._sessions), descriptor, self._ways)
        url = self._url(repository, f"blobs/{descriptor.digest}")
        how = upload.run(open_window, mount_from, lambda: self._has_blob(repository, url))
        self._wrote(repository, str(descriptor.digest))
        return how

    def probe_repository(self, repository: str) -> None:
        """Check that blobs may be pushed to ``repository``: open an upload session and close it (cases.md P8).

        Raises NotFoundError when it does not exist and is not made by pushing, UnauthorizedError when it is not ours.
        """
        empty = Descriptor("application/octet-stream", Digest.of(b""), 0)
        upload = Upload(self.client, Target(self._base, repository, self._upload_hosts, self._sessions), empty, self._ways)
        try:
            session = upload.open()
        except NotFoundError as error:
            error.hint = NO_REPOSITORY
            raise
        upload.cancel(session)

    def _scopes(self, repository: str) -> tuple[str, ...]:
        return (f"repository:{repository}:{self._actions}",)

    def _url(self, repository: str, rest: str) -> str:
        return f"{self._base}/v2/{repository}/{rest}"

    def _wrote(self, repository: str, *locators: str) -> None:
        with self._lock:
            self._written.update((repository, locator) for locator in locators)

    def _patiently(self, repository: str, locator: str, look: Callable[[], _Found | None]) -> _Found | None:
        """Look, and look again a few times for what was written by us and is not seen yet (faults F13)."""
        found = look()
        if (repository, locator) not in self._written:
            return found
        for pause in LAG_WAITS:
            if found is not None:
                break
            time.sleep(pause)
            found = look()
        return found

    def _pages(self, repository: str, url: str) -> Iterator[object]:
        """Yield the JSON of every page of a listing, following Link (distribution-spec, "Listing Tags")."""
        for _ in range(PAGES):
            with self.client.request("GET", url, scopes=self._scopes(repository), preload=MANIFEST_LIMIT) as response:
                yield _json(response)
                url = self._next_page(response)
            if not url:
                return

    def _next_page(self, response: Response) -> str:
        found = _LINK.search(response.headers.get("Link", ""))
        if not found:
            return ""
        url: str = urljoin(response.url, found[1])
        if origin(url) != origin(self._base):
            raise NetworkError(f"{self.host} continues a listing at another place, {redact_url(url)}: refused")
        return url


def _push(repository: str) -> tuple[str, ...]:
    return (f"repository:{repository}:pull,push",)


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(ACCEPT)}


def _media_type(response: Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip()


def _described(response: Response) -> Descriptor | None:
    """Return the descriptor that the headers of a HEAD give, or None when they say too little."""
    digest, length, media_type = (
        _digest(response.headers.get("Docker-Content-Digest", "")),
        response.length(),
        _media_type(response),
    )
    if digest is None or not length or media_type not in {*INDEX_TYPES, *MANIFEST_TYPES}:
        return None
    return Descriptor(media_type, digest, length)


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text.strip())
    except IntegrityError:
        return None


def _hash(data: bytes, like: Digest) -> Digest:
    hasher = like.hasher()
    hasher.update(data)
    return Digest(like.algorithm, hasher.hexdigest())


def _json(response: Response) -> object:
    try:
        return json.loads(response.read(MANIFEST_LIMIT))
    except (ValueError, RecursionError):
        raise RegistryError(f"{response.place} was answered with something else than JSON") from None


def _blob_unknown(error: NetworkError) -> bool:
    return "BLOB_UNKNOWN" in error.message
