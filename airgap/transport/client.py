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
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin

from airgap import __version__
from airgap.errors import AirgapError, MisledError, NetworkError
from airgap.transport.auth import ANSWER_LIMIT, Authenticator
from airgap.transport.body import Body
from airgap.transport.challenge import parse_challenges
from airgap.transport.credentials import Credential, CredentialStore
from airgap.transport.failures import Failure, Place, answered, explain
from airgap.transport.proxy import Proxies
from airgap.transport.quota import FEW, Quota, parse_quota
from airgap.transport.rate import Metered, Rate, Tally
from airgap.transport.redact import Redactor, redact_url
from airgap.transport.response import WIRE_ERRORS, Response
from airgap.transport.retry import IDEMPOTENT, RETRIED, Backoff, RetryPolicy, retry_after
from airgap.transport.stall import Watch
from airgap.transport.tls import HostSettings, Trust
from airgap.transport.url import canonical, checked, host_of, origin, reached_at, refuse_redirect
from airgap.transport.wire import Timeouts, Wire

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

_log = logging.getLogger(__name__)

REDIRECTS = 5
"""Redirects that are followed (faults F32)."""
MOVED = frozenset({301, 302, 303, 307, 308})
FINISH_RATE = 4 * 1024 * 1024
"""Bytes per second at which a registry at least finishes an upload before it answers (cases.md P18: 1 GB took 90 s)."""
CONNECTIONS = 16
"""Connections kept per host."""
_ERROR_LIMIT = 16 * 1024
_SENSITIVE = frozenset({"authorization", "cookie", "proxy-authorization"})
_REFUSALS = frozenset({401, 403})


@dataclass(frozen=True)
class _Call:
    """One request as the caller means it. ``home``: the host whose TLS settings hold where none are given."""

    method: str
    url: str
    home: str
    headers: Mapping[str, str]
    body: bytes | Body | None = None
    scopes: tuple[str, ...] = ()
    auth: bool = True
    credential: Credential | None = None
    settle: int = 0
    follow: bool = True
    attempts: int | None = None

    @property
    def digestion(self) -> float:
        """Seconds that the server may need to finish what it got, before it answers."""
        return (self.settle + (len(self.body) if self.body is not None else 0)) / FINISH_RATE


@dataclass(frozen=True)
class _Refused:
    """How an attempt ended that brought nothing: the error, and what the policy must know. ``host``: to be left alone."""

    error: AirgapError
    status: int = 0
    reached: bool = True
    retry_after: float | None = None
    host: str = ""
    final: bool = False


class Client:
    """See the module. ``connections``: how many are kept per host (give it --jobs); ``rate``: how fast all of it may be.

    The rest is for tests to replace. ``tally`` counts what was repeated.
    """

    def __init__(
        self,
        *,
        hosts: Mapping[str, HostSettings] | None = None,
        credentials: CredentialStore | None = None,
        environ: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        user_agent: str = f"airgap/{__version__}",
        connections: int = CONNECTIONS,
        rate: Rate | None = None,
        trust: Trust | None = None,
        backoff: Backoff | None = None,
        watch: Watch | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._hosts = {reached_at(host): settings for host, settings in (hosts or {}).items()}
        for host in sorted(host for host, settings in self._hosts.items() if settings.insecure_skip_tls_verify):
            _log.warning("the certificate of %s is not checked: whoever is on the way may read and change everything", host)
        self.credentials = credentials or CredentialStore()
        self.retry = retry or RetryPolicy()
        self.redactor = Redactor()
        self._proxies = Proxies.from_environment(environ or {})
        self.redactor.add(*self._proxies.secrets)
        self._trust = trust or Trust(environ or {})
        self._backoff = backoff or Backoff()
        self._watch = watch or Watch()
        self._timeouts = timeouts or Timeouts()
        self._agent = user_agent
        self._rate = rate
        self.tally = Tally()
        self._scarce: set[str] = set()
        self._known: set[str] = set()
        self._connections = connections
        self._wires: dict[int, Wire] = {}
        self._chosen: dict[str, Wire] = {}
        self._lock = threading.Lock()
        self._auth = Authenticator(self.credentials, self._fetch_token, self.redactor)

    def settings(self, host: str) -> HostSettings:
        """Return how ``host`` (name:port, or docker.io) is spoken to."""
        return self._hosts.get(reached_at(host), HostSettings())

    def base_url(self, host: str) -> str:
        """Return scheme and host for a registry's name; plain HTTP only where the settings say so."""
        return f"{'http' if self.settings(host).plain_http else 'https'}://{reached_at(host)}"

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
        attempts: int | None = None,
    ) -> Response:
        """Send a request and return the answer whose status is in ``ok``; every other end is an error.

        ``scopes``: what a token must grant, e.g. ``repository:a/b:pull,push``. ``retry``: whether it may be repeated
        (default: if the method is idempotent). ``auth``: whether challenges are answered from the credential store;
        ``credential`` (or user information in the URL): sent as Basic at once instead, to this host only. ``preload``: read the
        body, of at most so many bytes, as part of the attempt. ``settle``: bytes beyond the body that the server has to digest
        before it answers. ``follow``: whether redirects are. ``attempts``: how often it may be tried, where the caller has a
        budget of its own; the answer says how many it took.

        Raises NetworkError, TLSError, UnauthorizedError, NotFoundError, RegistryError; IntegrityError for too long a body;
        ConfigurationError for what is no URL.
        """
        clean, inside = checked(url)
        credential = credential or inside
        call = _Call(
            method,
            clean,
            host_of(clean),
            dict(headers or {}),
            body,
            scopes,
            auth and credential is None,
            credential,
            settle,
            follow,
            attempts,
        )
        return self._run(call, ok, safe=method in IDEMPOTENT if retry is None else retry, preload=preload)

    def problem(self, response: Response, hint: str = "") -> AirgapError:
        """Return the error that an unwanted answer means, and close the answer."""
        body = b""
        try:
            body = next(response.stream(_ERROR_LIMIT), b"")
        except NetworkError:
            pass  # the status is what matters
        finally:
            response.close()
        if not hint and response.status in _REFUSALS:
            where = self.credentials.sources(canonical(response.place.host))
            hint = f"credentials were looked for in {where}; log in with docker, podman, helm or crane"
        return answered(response.place, response.status, response.headers, body, self.redactor, hint=hint)

    def leave_alone(self, url: str, seconds: float) -> None:
        """Let nobody ask the host of ``url`` for some seconds; without a URL only the caller waits."""
        self._backoff.pause(host_of(url) if url else "", seconds)

    def close(self) -> None:
        """Close all kept connections."""
        for wire in self._wires.values():
            wire.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, call: _Call, ok: Container[int], *, safe: bool, preload: int) -> Response:
        attempt = 0
        while True:
            attempt += 1
            outcome = self._attempt(call, ok, preload)
            if isinstance(outcome, Response):
                outcome.attempts = attempt
                return outcome
            pause = None
            if not outcome.final:
                pause = self.retry.decide(
                    attempt,
                    safe=safe,
                    status=outcome.status,
                    reached=outcome.reached,
                    retry_after=outcome.retry_after,
                    known=host_of(call.url) in self._known,
                    most=call.attempts,
                )
            if pause is None:
                self._spare(outcome)
                raise outcome.error from None
            self.tally.again()
            _log.debug("%s: again in %.1f s (%s)", call.method, pause, outcome.error.message)
            self._backoff.pause(outcome.host, pause)

    def _spare(self, outcome: _Refused) -> None:
        """Obey a Retry-After even where this request is not repeated: others to the same host wait."""
        if outcome.host and outcome.retry_after and outcome.retry_after <= self.retry.retry_after_cap:
            self._backoff.pause(outcome.host, outcome.retry_after)

    def _attempt(self, call: _Call, ok: Container[int], preload: int) -> Response | _Refused:
        try:
            response = self._follow(call)
        except Failure as failure:
            return _Refused(failure.error, reached=failure.reached, final=not failure.retried)
        if response.status in ok:
            try:
                if preload:
                    response.read(preload)
            except NetworkError as error:
                return _Refused(error)
            return response
        wait, status, host = retry_after(response.headers), response.status, host_of(response.url)
        quota = parse_quota(response.headers)
        if wait is None and quota and not quota.remaining and status == 429:  # noqa: PLR2004  # Too Many Requests
            wait = float(quota.window)
        return _Refused(self.problem(response), status, retry_after=wait, host=host, final=status not in RETRIED)

    def _follow(self, call: _Call) -> Response:
        url = call.url
        for _ in range(REDIRECTS + 1):
            response = self._authorized(call, url)
            if response.status not in MOVED or not call.follow or "Location" not in response.headers:
                return response
            response.close()
            url = _next(call, response)
        raise Failure(
            MisledError(f"{call.method} {redact_url(call.url)} is redirected more than {REDIRECTS} times"), retried=False
        )

    def _authorized(self, call: _Call, url: str) -> Response:
        """Send to ``url``; a challenge of the host that was asked is answered, once."""
        home = origin(url) == origin(call.url)
        if call.credential:
            self.redactor.add(*call.credential.secrets)
            return self._send(call, url, call.credential.basic if home else "")
        if not call.auth or not home:
            return self._send(call, url, "")
        host = canonical(host_of(url))
        header = self._auth.authorization(host, call.scopes)
        response = self._send(call, url, header)
        if response.status != 401:  # noqa: PLR2004  # Unauthorized
            return response
        challenges = parse_challenges(response.header_values("WWW-Authenticate"))
        with ExitStack() as undo:
            undo.callback(response.close)
            renewed = self._auth.answer(url, host, challenges, call.scopes, header)
            if not renewed:
                undo.pop_all()
                return response
        return self._send(call, url, renewed)

    def _send(self, call: _Call, url: str, authorization: str) -> Response:
        """Send one request on one connection."""
        host = host_of(url)
        place = Place(call.method, url, self._proxies.for_url(url), self._timeouts)
        headers = {"User-Agent": self._agent, "Accept-Encoding": "identity", "Accept": "*/*", **call.headers}
        if origin(url) != origin(call.url):
            headers = {name: value for name, value in headers.items() if name.lower() not in _SENSITIVE}
        if authorization:
            headers["Authorization"] = authorization
        if isinstance(call.body, Body):
            call.body.rewind()
        body = Metered(call.body, self._rate) if self._rate and isinstance(call.body, Body) else call.body
        self._backoff.wait(host)
        start = time.monotonic()
        try:
            answer = self._wire(place, call.home).exchange(
                call.method, url, headers, body, proxy=place.proxy, read_timeout=self._timeouts.read + call.digestion
            )
        except WIRE_ERRORS as error:
            raise explain(error, place) from None
        response = Response(answer.raw, place, self._watch, self._rate, self.tally)
        self._known.add(host)
        if quota := parse_quota(response.headers):
            self._told(host, quota)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s%s -> %d (%.3f s)", place, place.via, response.status, time.monotonic() - start)
        return response

    def _told(self, host: str, quota: Quota) -> None:
        """Warn, once, when a registry allows few more pulls (Docker Hub, cases.md L4)."""
        with self._lock:
            news = quota.remaining <= FEW and host not in self._scarce
            self._scarce |= {host} if news else set()
        if news:
            of = f" of {quota.limit}" if quota.limit else ""
            _log.warning("%s allows %d%s more pulls%s; log in for a higher limit", host, quota.remaining, of, quota.period)

    def _wire(self, place: Place, home: str) -> Wire:
        """Return the connections for a request; a token server or a store that has no settings is trusted as its registry is.

        That is what podman and skopeo do: a private authority that signed the registry has signed those too. Where no TLS is
        spoken no certificate is read: all of a system's take longer than the first answers of a registry nearby.
        """
        host, plain = host_of(place.url), not place.proxy and place.url.startswith("http:")
        own = host if host in self._hosts else home
        known = "" if plain else f"{host} {own}"
        with self._lock:
            if known in self._chosen:
                return self._chosen[known]
        context = None if plain else self._trust.context((host, own), self._hosts.get(own, HostSettings()))
        with self._lock:
            if id(context) not in self._wires:
                self._wires[id(context)] = Wire(context, self._connections, self._timeouts.connect)
            self._chosen[known] = self._wires[id(context)]
            return self._chosen[known]

    def _fetch_token(
        self, home: str, method: str, url: str, form: Mapping[str, str] | None, credential: Credential | None
    ) -> bytes:
        """Ask a token server for the registry ``home``; repeating that changes nothing (RFC 6749, 6)."""
        clean, _ = checked(url)
        call = _Call(method, clean, reached_at(home), {}, auth=False, credential=credential)
        if form:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            call = replace(call, headers=headers, body=urlencode(form).encode())
        with self._run(call, (200,), safe=True, preload=ANSWER_LIMIT) as response:
            return response.read(ANSWER_LIMIT)


def _next(call: _Call, response: Response) -> str:
    """Return where a redirect leads, or refuse to follow it."""
    try:
        target = urljoin(response.url, response.headers["Location"].strip())
    except ValueError:
        target = ""
    reason = refuse_redirect(response.url, target, method=call.method, status=response.status, has_body=call.body is not None)
    if reason:
        raise Failure(MisledError(f"{response.place} is redirected to {redact_url(target)}, {reason}: refused"), retried=False)
    _log.debug("%s is redirected to %s", response.place, redact_url(target))
    return target
