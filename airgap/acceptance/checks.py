"""The checks, in the order in which ``wandb verify`` makes them: each one sentence, and the next step where it fails."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.acceptance.server import Upload
from airgap.errors import AirgapError, NetworkError, NotFoundError, RegistryError, UnauthorizedError
from airgap.transport import origin, redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airgap.acceptance.server import Run, Server
    from airgap.progress import Progress

PASSED, WARNING, FAILED, SKIPPED = "passed", "warning", "failed", "skipped"

PUBLIC = ("api.wandb.ai", "wandb.ai")
"""W&B's own cloud, which nobody means to check."""
LARGE = 10_000_000
"""Bytes of the large payload (``wandb verify``: 10 ** 7)."""
FILE_NAME = "airgap verify_with special-characters.txt"
FILE_LIMIT = 1024 * 1024
FILE_WAIT = 10.0
"""Seconds until an uploaded file must be known to the server: the bucket's notification (``wandb verify``: 10)."""
FILE_STEP = 0.5
TOO_LARGE = 413


@dataclass(frozen=True)
class Check:
    """One check: ``verdict`` is passed, warning, failed or skipped."""

    name: str
    verdict: str
    sentence: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return all fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class Report:
    """All checks; truthy when none failed."""

    host: str
    checks: tuple[Check, ...]
    versions: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def failed(self) -> tuple[Check, ...]:
        """What does not work."""
        return tuple(check for check in self.checks if check.verdict == FAILED)

    def __bool__(self) -> bool:
        return not self.failed

    def to_json(self) -> dict[str, object]:
        """Return the stable form for ``--output json``."""
        return {
            "host": self.host,
            "healthy": bool(self),
            "versions": self.versions,
            "checks": [check.to_json() for check in self.checks],
        }


def accept(server: Server, progress: Progress, *, large: int = LARGE, wait: float = FILE_WAIT) -> Report:
    """Make every check that can be made and return what they say; raises nothing of the server's."""
    made: list[Check] = []
    versions: dict[str, str] = {}
    for check in _checks(server, versions, large, wait):
        progress.debug(f"{check.name}: {check.verdict}")
        made.append(check)
    return Report(server.url, tuple(made), versions)


def _checks(server: Server, versions: dict[str, str], large: int, wait: float) -> Iterator[Check]:
    host = _tried("host", lambda: _host(server), fix="is the ingress up? airgap status; give --ca-file for a private CA")
    yield host
    if host.verdict == FAILED:
        yield Check("rest", SKIPPED, "nothing else can be checked while the host does not answer")
        return
    yield _https(server.url)
    if not server.api_key:
        yield Check("login", SKIPPED, "no API key was given", "WANDB_API_KEY=... or --api-key-stdin; made at HOST/authorize")
        return
    entity: list[str] = []
    login = _tried("login", lambda: _login(server, entity), fix="make a new key at HOST/authorize")
    yield login
    if login.verdict == FAILED:
        yield Check("rest", SKIPPED, "nothing else can be checked without a login")
        return
    yield _tried("version", lambda: _version(server, versions))
    yield _tried("large payload", lambda: _large(server, large), explain=_too_large)
    yield from _files(server, entity[0], wait)


def _tried(
    name: str, action: Callable[[], str], *, fix: str = "", explain: Callable[[AirgapError], Check | None] | None = None
) -> Check:
    """Return what an action says, or why it failed."""
    try:
        return Check(name, PASSED, action())
    except AirgapError as error:
        told = explain(error) if explain else None
        return told or Check(name, FAILED, error.message, fix or error.hint)


def _host(server: Server) -> str:
    if any(server.url.partition("://")[2] == name for name in PUBLIC):
        raise NetworkError(f"{server.url} is W&B's own cloud, not this installation", hint="give --host")
    server.alive()
    return f"{server.url} answers"


def _https(url: str) -> Check:
    if url.startswith("https://"):
        return Check("https", PASSED, "the certificate is trusted, for this name and today")
    return Check("https", WARNING, f"{url} is plain HTTP: keys and data can be read on the way", "set global.host to https://")


def _login(server: Server, entity: list[str]) -> str:
    try:
        viewer = server.viewer()
    except UnauthorizedError as error:
        raise UnauthorizedError("the server does not take the API key") from error
    if not viewer:
        raise UnauthorizedError("the server does not know the API key")
    entity.append(str(viewer.get("entity") or viewer.get("username") or ""))
    return f"logged in as {viewer.get('username') or entity[0]}"


def _version(server: Server, versions: dict[str, str]) -> str:
    found, oldest, newest = server.versions()
    versions.update({"server": found, "oldestClient": oldest, "newestClient": newest})
    clients = f"it takes clients from {oldest or 'any'} to {newest or 'any'}"
    return f"server {found or 'of unnamed version'}; {clients}"


def _large(server: Server, size: int) -> str:
    server.large(size)
    return f"a request of {size / 1e6:.0f} MB gets through"


def _too_large(error: AirgapError) -> Check | None:
    if isinstance(error, RegistryError) and error.status == TOO_LARGE:
        fix = 'set the ingress annotation nginx.ingress.kubernetes.io/proxy-body-size: "0" (or that of your proxy)'
        return Check("large payload", FAILED, "a proxy on the way refuses large requests (413)", fix)
    return None


def _files(server: Server, entity: str, wait: float) -> Iterator[Check]:
    """Upload a file by signed URL, read it back, look at the bucket's CORS; leave nothing behind."""
    with ExitStack() as undo:
        content = secrets.token_bytes(64)
        held: list[tuple[Run, Upload]] = []
        put = _tried("upload", lambda: _put(server, entity, content, held), fix="check bucket, its keys and rights")
        if held:
            undo.callback(_removed, server, held[0][0])
        yield put
        if not held:
            return
        run, upload = held[0]
        yield _bucket_https(upload.url)
        yield from _cors(server, upload.url)
        if put.verdict == PASSED:
            yield _tried(
                "download",
                lambda: _get(server, run, content, wait),
                fix="check the bucket's notifications (queue), its rights to read, and the app's log",
            )


def _put(server: Server, entity: str, content: bytes, held: list[tuple[Run, Upload]]) -> str:
    run = server.start_run(entity)
    held.append((run, Upload("", {})))
    upload = server.upload(run, FILE_NAME)
    held[0] = (run, upload)
    try:
        with server.client.request("PUT", upload.url, headers=upload.headers, body=content, auth=False, ok=range(200, 300)):
            pass
    except (UnauthorizedError, NotFoundError) as error:
        raise type(error)(f"the bucket refuses the signed URL: {error.message}") from error
    return f"a file was put to {redact_url(upload.url).rpartition('/')[0]}/..."


def _get(server: Server, run: Run, content: bytes, wait: float) -> str:
    deadline = time.monotonic() + wait
    url = server.download_url(run, FILE_NAME)
    while not url:
        if time.monotonic() > deadline:
            raise NetworkError(f"the server does not know the file {wait:.0f} s after it was put into the bucket")
        time.sleep(FILE_STEP)
        url = server.download_url(run, FILE_NAME)
    with server.client.request("GET", url, auth=False) as response:
        found = response.read(FILE_LIMIT)
    if found != content:
        raise NetworkError(f"what comes back from the bucket is not what was put there ({len(found)} bytes)")
    return "the file comes back as it was put"


def _bucket_https(url: str) -> Check:
    if not url:
        return Check("bucket https", SKIPPED, "no signed URL was given")
    if url.startswith("https://"):
        return Check("bucket https", PASSED, "signed URLs lead to HTTPS")
    return Check(
        "bucket https",
        WARNING,
        "signed URLs of the bucket are plain HTTP: browsers on an HTTPS page refuse them",
        "set global.bucket.path: NAME?tls=true for an S3-compatible store",
    )


def _cors(server: Server, url: str) -> Iterator[Check]:
    """Ask the bucket as a browser would that has a page of the server open."""
    if not url or origin(url) == origin(server.url):
        if url:
            yield Check("cors", PASSED, "signed URLs lead to the server itself: no other origin is asked")
        return
    yield _tried("cors", lambda: _preflight(server, url), explain=_no_cors(server.url))


def _preflight(server: Server, url: str) -> str:
    for method in ("GET", "PUT"):
        headers = {"Origin": server.url, "Access-Control-Request-Method": method}
        with server.client.request("OPTIONS", url, headers=headers, auth=False, ok=range(200, 500)) as response:
            allowed = response.headers.get("Access-Control-Allow-Origin", "")
            methods = response.headers.get("Access-Control-Allow-Methods", method).upper()
        if allowed not in ("*", server.url):
            raise _CorsError(
                f"the bucket does not allow pages of {server.url} to {method}" + (f" (only of {allowed})" if allowed else "")
            )
        if method not in methods and "*" not in methods:
            raise _CorsError(f"the bucket allows pages of {server.url} {methods}, but not {method}")
    return f"the bucket lets pages of {server.url} GET and PUT"


class _CorsError(NetworkError):
    """The bucket answers, but a browser would refuse."""


def _no_cors(host: str) -> Callable[[AirgapError], Check | None]:
    def explain(error: AirgapError) -> Check | None:
        fix = f"set CORS of the bucket: allowed origin {host}, methods GET, HEAD and PUT, all headers, expose ETag"
        return Check("cors", WARNING, error.message, fix) if isinstance(error, _CorsError) else None

    return explain


def _removed(server: Server, run: Run) -> None:
    """Remove what was made; a server that fails by now has said so already."""
    try:
        server.remove(run)
    except AirgapError:
        return
