"""The one HTTP client: certificates, proxies, authentication, redirects, retries.

::

    store = CredentialStore.from_environment(os.environ)
    client = Client(hosts={"reg.lan:5000": HostSettings(ca_file=Path("ca.pem"))}, credentials=store, environ=os.environ)
    with client.request("GET", client.base_url("reg.lan:5000") + "/v2/", ok=(200,)) as response:
        response.read(1024)

Invariants: Authorization goes only to the scheme, host and port that was asked; redirects are followed here, at most
five, never from https to http, and never with a body to another host; every failure is an error of ``airgap.errors`` without
a secret in it; one policy decides what is repeated. One Client serves all threads of a run.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from airgap import __version__
from airgap.errors import AirgapError, ConfigurationError, NetworkError
from airgap.ref import DOCKER_HUB, HUB_ALIASES
from airgap.transport.auth import ANSWER_LIMIT, Authenticator
from airgap.transport.body import Body
from airgap.transport.challenge import parse_challenges
from airgap.transport.credentials import Credential, CredentialStore
from airgap.transport.failures import Failure, Place, answered, explain
from airgap.transport.proxy import PORTS, Proxies, is_link_local, is_loopback
from airgap.transport.redact import Redactor, redact_url
from airgap.transport.response import WIRE_ERRORS, Response
from airgap.transport.retry import IDEMPOTENT, RETRIED, Backoff, RetryPolicy, retry_after
from airgap.transport.stall import Watch
from airgap.transport.tls import HostSettings, Trust
from airgap.transport.wire import READ_TIMEOUT, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Container, Mapping

_log = logging.getLogger(__name__)

HUB_HOST = "registry-1.docker.io"
"""Where Docker Hub's registry is (docker.io itself is a web site)."""
REDIRECTS = 5
"""Redirects that are followed (faults F32)."""
MOVED = frozenset({301, 302, 303, 307, 308})
METHOD_KEPT = frozenset({307, 308})
"""Redirects that may be followed with a body (RFC 9110, 15.4)."""
FINISH_RATE = 4 * 1024 * 1024
"""Bytes per second at which a registry at least finishes an upload before it answers (cases.md P18: 1 GB took 90 s)."""
CONNECTIONS = 16
"""Connections kept per host."""
_ERROR_LIMIT = 16 * 1024
_SENSITIVE = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True)
class _Call:
    """One request as the caller means it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | Body | None
    scopes: tuple[str, ...]
    auth: bool
    credential: Credential | None
    read_timeout: float
    follow: bool


class Client:
    """See the module. ``connections``: how many are kept per host (give it --jobs)."""

    def __init__(
        self,
        *,
        hosts: Mapping[str, HostSettings] | None = None,
        credentials: CredentialStore | None = None,
        environ: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        user_agent: str = f"airgap/{__version__}",
        connections: int = CONNECTIONS,
        trust: Trust | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._hosts = {_origin_host(host): settings for host, settings in (hosts or {}).items()}
        self.credentials = credentials or CredentialStore()
        self.retry = retry or RetryPolicy()
        self._proxies = Proxies.from_environment(environ or {})
        self._trust = trust or Trust(environ or {})
        self._backoff = backoff or Backoff()
        self._agent = user_agent
        self._connections = connections
        self._wires: dict[int, Wire] = {}
        self._contexts: list[ssl.SSLContext] = []
        self._watch = Watch()
        self.redactor = Redactor()
        self._auth = Authenticator(self.credentials, self._fetch_token, self.redactor)

    def settings(self, host: str) -> HostSettings:
        """Return how ``host`` (name:port, or docker.io) is spoken to."""
        return self._hosts.get(_origin_host(host), HostSettings())

    def base_url(self, host: str) -> str:
        """Return scheme and host for a registry's name; plain HTTP only where the settings say so."""
        return f"{'http' if self.settings(host).plain_http else 'https'}://{_origin_host(host)}"

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        scopes: tuple[str, ...] = (),
        ok: Container[int] = (200,),
        retry: bool | None = None,
        auth: bool = True,
        credential: Credential | None = None,
        preload: int = 0,
        settle: int = 0,
        follow: bool = True,
    ) -> Response:
        """Send a request and return the answer whose status is in ``ok``; every other end is an error.

        ``scopes``: what a token must grant, e.g. ``repository:a/b:pull,push``. ``retry``: whether it may be repeated
        (default: if the method is idempotent). ``auth``: whether challenges are answered from the credential store; ``credential``: sent as
        Basic at once instead, to this host only. ``preload``: read the body, of at most so many bytes, as part of the attempt.
        ``settle``: bytes beyond the body that the server has to digest before it answers. ``follow``: whether redirects are.

        Raises NetworkError, TLSError, UnauthorizedError, NotFoundError, RegistryError; IntegrityError for too long a body.
        """
        size = settle + (len(body) if body is not None else 0)
        call = _Call(
            method, _checked(url), dict(headers or {}), body, scopes, auth and credential is None, credential,
            READ_TIMEOUT + size / FINISH_RATE, follow,
        )  # fmt: skip
        safe = method in IDEMPOTENT if retry is None else retry
        attempt = 0
        while True:
            attempt += 1
            outcome = self._attempt(call, ok, preload)
            if isinstance(outcome, Response):
                return outcome
            pause = self._pause(outcome, attempt, safe=safe)
            if pause is None:
                raise outcome.error from None
            _log.debug("%s: again in %.1f s (%s)", call.method, pause, outcome.error.message)
            time.sleep(pause)

    def problem(self, response: Response, hint: str = "") -> AirgapError:
        """Return the error that an unwanted answer means, and close it."""
        body = b""
        try:
            for piece in response.stream(_ERROR_LIMIT):
                body += piece
                if len(body) >= _ERROR_LIMIT:
                    break
        except NetworkError:
            pass  # the status is what matters
        finally:
            response.close()
        if not hint and response.status in {401, 403}:
            host = _canonical(response.place.host)
            hint = f"credentials were looked for in {self.credentials.sources(host)}; log in with docker, podman, helm or crane"
        return answered(response.place, response.status, response.headers, body, self.redactor, hint=hint)

    def close(self) -> None:
        """Close all kept connections."""
        for wire in self._wires.values():
            wire.close()

    def _attempt(self, call: _Call, ok: Container[int], preload: int) -> Response | _Refused:
        try:
            response = self._follow(call)
            if response.status in ok:
                if preload:
                    response.read(preload)
                return response
        except Failure as failure:
            return _Refused(failure.error, reached=failure.reached, final=not failure.retried)
        except NetworkError as error:
            if type(error) is not NetworkError:
                raise
            return _Refused(error)
        wait = retry_after(response.headers)
        return _Refused(
            self.problem(response), status=response.status, retry_after=wait, host=response.place.host,
            final=response.status not in RETRIED,
        )  # fmt: skip

    def _pause(self, outcome: _Refused, attempt: int, *, safe: bool) -> float | None:
        if outcome.final:
            return None
        pause = self.retry.decide(
            attempt, safe=safe, status=outcome.status, reached=outcome.reached, retry_after=outcome.retry_after
        )
        if pause is not None and outcome.host:
            self._backoff.hold(outcome.host, pause)
            return 0.0  # the next attempt waits with all others
        return pause

    def _follow(self, call: _Call) -> Response:
        url = call.url
        for _ in range(REDIRECTS + 1):
            response = self._authorized(call, url)
            if response.status not in MOVED or not call.follow or "Location" not in response.headers:
                return response
            response.close()
            url = self._next(call, response)
        raise Failure(
            NetworkError(f"{call.method} {redact_url(call.url)} is redirected more than {REDIRECTS} times"), retried=False
        )

    def _next(self, call: _Call, response: Response) -> str:
        """Return where a redirect leads, or refuse (faults F32)."""
        target = urljoin(response.url, response.headers["Location"].strip())
        try:
            new, old = urlsplit(target), urlsplit(response.url)
            same = _origin(target) == _origin(response.url)
        except ValueError:
            raise Failure(NetworkError(f"{response.place} is redirected to what is no URL"), retried=False) from None
        reason = ""
        if new.scheme not in PORTS or not new.hostname:
            reason = "which is no web address"
        elif old.scheme == "https" and new.scheme == "http":
            reason = "from TLS down to plain HTTP"
        elif not same and _is_inward(new.hostname, old.hostname or ""):
            reason = "an address of this machine or of its cloud"
        elif call.body is not None and (response.status not in METHOD_KEPT or new.hostname != old.hostname):
            reason = "where what is being sent does not go"
        elif call.body is None and call.method not in {"GET", "HEAD"} and response.status not in METHOD_KEPT:
            reason = f"and {call.method} is not repeated elsewhere"
        if reason:
            raise Failure(
                NetworkError(f"{response.place} is redirected to {redact_url(target)}, {reason}: refused"), retried=False
            )
        _log.debug("%s is redirected to %s", response.place, redact_url(target))
        return target

    def _authorized(self, call: _Call, url: str) -> Response:
        """Send to ``url``; a challenge of the host that was asked is answered, once."""
        home = _origin(url) == _origin(call.url)
        if call.credential:
            self.redactor.add(*call.credential.secrets)
            return self._send(call, url, call.credential.basic if home else "")
        if not call.auth or not home:
            return self._send(call, url, "")
        host = _canonical(urlsplit(url).netloc)
        header = self._auth.authorization(host, call.scopes)
        response = self._send(call, url, header)
        if response.status != 401:  # noqa: PLR2004  # Unauthorized
            return response
        challenges = parse_challenges(response.header_values("WWW-Authenticate"))
        renewed = self._auth.answer(url, host, challenges, call.scopes, header)
        if not renewed:
            return response
        response.close()
        return self._send(call, url, renewed)

    def _send(self, call: _Call, url: str, authorization: str) -> Response:
        """Send one request on one connection."""
        host = urlsplit(url).netloc
        place = Place(call.method, url, self._proxies.for_url(url))
        headers = {"User-Agent": self._agent, "Accept-Encoding": "identity", "Accept": "*/*", **call.headers}
        if _origin(url) != _origin(call.url):
            headers = {name: value for name, value in headers.items() if name.lower() not in _SENSITIVE}
        if authorization:
            headers["Authorization"] = authorization
        if isinstance(call.body, Body):
            call.body.rewind()
        self._backoff.wait(host)
        start = time.monotonic()
        try:
            answer = self._wire(host).exchange(call.method, url, headers, call.body, place.proxy, call.read_timeout)
        except WIRE_ERRORS as error:
            raise explain(error, place) from None
        response = Response(answer.raw, place, self._watch)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s%s -> %d (%.3f s)", place, place.via, response.status, time.monotonic() - start)
        return response

    def _wire(self, host: str) -> Wire:
        context = self._trust.context(host, self._hosts.get(host, HostSettings()))
        wire = self._wires.get(id(context))
        return wire or self._wires.setdefault(id(context), Wire(context, self._connections))

    def _fetch_token(self, method: str, url: str, form: Mapping[str, str] | None, credential: Credential | None) -> bytes:
        """Ask a token server; a refresh grant may be repeated: it changes nothing (RFC 6749, 6)."""
        body = urlencode(form).encode() if form else None
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        with self.request(
            method, url, headers=headers, body=body, auth=False, credential=credential, preload=ANSWER_LIMIT, retry=True
        ) as response:
            return response.read(ANSWER_LIMIT)


@dataclass(frozen=True)
class _Refused:
    """How an attempt ended that brought nothing: the error, and what the policy must know."""

    error: AirgapError
    status: int = 0
    reached: bool = True
    retry_after: float | None = None
    host: str = ""
    final: bool = False


def _checked(url: str) -> str:
    """Refuse what is no http(s) URL, and control characters in it (faults F56)."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or any(ord(character) <= ord(" ") or ord(character) == 0x7F for character in url):  # noqa: PLR2004  # DEL
        raise ConfigurationError(f"{redact_url(url)!r} is not an http:// or https:// URL")
    return url


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def _origin_host(host: str) -> str:
    """Return where a registry of this name is reached."""
    return HUB_HOST if host in HUB_ALIASES else host


def _canonical(host: str) -> str:
    """Return the name under which credentials for a host are kept."""
    return DOCKER_HUB if host in HUB_ALIASES else host.rpartition("@")[2].lower()


def _is_inward(target: str, source: str) -> bool:
    return is_link_local(target) or (is_loopback(target) and not is_loopback(source))
