"""Who we are to a host: Basic, or a token from the realm that the host names, kept per host and scopes.

A host is first asked without credentials; its challenge is remembered, so later requests carry their answer at once, and one
token serves all requests of a repository. When a host refuses a token it is renewed once, from the credentials and never
from the old token (cases.md P12). Invariants: credentials go to the host they belong to and to a realm that ``check_realm``
lets pass; threads that want the same token wait for one request.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from airgap.errors import NotFoundError, RegistryError, UnauthorizedError
from airgap.transport.challenge import Challenge, check_realm
from airgap.transport.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airgap.transport.credentials import Credential, CredentialStore
    from airgap.transport.redact import Redactor

_log = logging.getLogger(__name__)

DEFAULT_LIFETIME = 60.0
"""Seconds that a token lives when its server does not say (distribution, spec/auth/token: expires_in)."""
MARGIN = 10.0
"""Seconds before its end at which a token is no longer used; at most a quarter of its life."""
ANSWER_LIMIT = 1024 * 1024
"""Bytes of a token server's answer; tokens with many scopes are some kilobytes."""
CLIENT_ID = "airgap"
_NO_GET = frozenset({404, 405, 501})
"""How a token server answers GET when it only knows the OAuth2 POST."""


class Fetch(Protocol):
    """How a token server is asked: the Client's request, without authentication by challenge."""

    def __call__(
        self, home: str, method: str, url: str, form: Mapping[str, str] | None, credential: Credential | None
    ) -> bytes:
        """Return the body of the answer; raises what the Client raises."""
        ...


@dataclass(frozen=True)
class Token:
    """A token and the moment (of the monotonic clock) after which it is not used any more."""

    text: str = field(repr=False)
    until: float


@dataclass(frozen=True)
class _Known:
    """What a host has challenged with."""

    scheme: str
    realm: str = ""
    service: str = ""


class Authenticator:
    """Answers challenges; thread-safe."""

    def __init__(
        self, credentials: CredentialStore, fetch: Fetch, redactor: Redactor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials = credentials
        self._fetch = fetch
        self._redactor = redactor
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._tokens: dict[tuple[str, frozenset[str]], Token] = {}
        self._locks: dict[tuple[str, frozenset[str]], threading.Lock] = {}
        self._lock = threading.Lock()

    def authorization(self, host: str, scopes: tuple[str, ...]) -> str:
        """Return the Authorization header to send to ``host`` at once, or nothing."""
        known = self._known.get(host)
        if known is None:
            return ""
        if known.scheme == "basic":
            credential = self._credential(host, scopes)
            return credential.basic if credential else ""
        return self._bearer(host, known, scopes, (), rejected="")

    def answer(self, url: str, host: str, challenges: tuple[Challenge, ...], scopes: tuple[str, ...], rejected: str) -> str:
        """Return the Authorization header that answers ``challenges``, or nothing if there is none (or no better one).

        ``rejected`` is the header that was refused. Raises UnauthorizedError when the token server refuses.
        """
        for challenge in sorted(challenges, key=lambda one: one.scheme != "bearer"):
            if challenge.scheme == "bearer" and challenge.realm:
                check_realm(challenge.realm, url)
                known = _Known("bearer", challenge.realm, challenge.service)
                self._remember(host, known)
                return self._bearer(host, known, scopes, challenge.scopes, rejected)
            if challenge.scheme == "basic" and (credential := self._credential(host, scopes)):
                self._remember(host, _Known("basic"))
                return credential.basic if credential.basic != rejected and credential.username else ""
        return ""

    def _remember(self, host: str, known: _Known) -> None:
        with self._lock:
            if known.realm and self._known.get(host) != known:
                _log.debug("%s has its tokens from %s", host, redact_url(known.realm))
            self._known[host] = known

    def _credential(self, host: str, scopes: tuple[str, ...]) -> Credential | None:
        credential = self._credentials.lookup(host, _repository(scopes))
        if credential:
            self._redactor.add(*credential.secrets)
        return credential

    def _bearer(self, host: str, known: _Known, scopes: tuple[str, ...], wanted: tuple[str, ...], rejected: str) -> str:
        """Return a Bearer header for ``scopes``; what the registry ``wanted`` is added when a token was refused."""
        key = (host, frozenset(scopes or wanted))
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            token = self._tokens.get(key) or self._wider(key)
            if not token or token.until <= self._clock() or f"Bearer {token.text}" == rejected:
                token = self._new_token(host, known, scopes, wanted, rejected)
                with self._lock:
                    self._tokens[key] = token
        return f"Bearer {token.text}"

    def _wider(self, key: tuple[str, frozenset[str]]) -> Token | None:
        """Return a living token of the host that grants more than is needed: a push token reads, too."""
        host, needed = key
        with self._lock:
            for (other, granted), token in self._tokens.items():
                if other != host or not needed or token.until <= self._clock():
                    continue
                if all(any(_covers(own, scope) for own in granted) for scope in needed):
                    return token
        return None

    def _new_token(self, host: str, known: _Known, scopes: tuple[str, ...], wanted: tuple[str, ...], rejected: str) -> Token:
        credential = self._credential(host, scopes or wanted)
        if credential and credential.registry_token and not rejected:
            return Token(credential.registry_token, self._clock() + DEFAULT_LIFETIME)
        asked = _union(scopes, wanted) if rejected else (scopes or wanted)
        try:
            return self._ask(host, known, asked, credential)
        except UnauthorizedError:
            # Some registries grant nothing on a repository that is not there yet but what they named (cases.md P12 b).
            if not wanted or set(wanted) == set(asked):
                raise
            return self._ask(host, known, wanted, credential)

    def _ask(self, host: str, known: _Known, scopes: tuple[str, ...], credential: Credential | None) -> Token:
        try:
            body = self._call(host, known, scopes, credential)
        except (UnauthorizedError, NotFoundError, RegistryError) as error:
            status = f" ({error.status})" if isinstance(error, RegistryError) and error.status else ""
            refused = isinstance(error, RegistryError) and error.status >= 500  # noqa: PLR2004  # server errors are no refusal
            if refused:
                raise
            raise UnauthorizedError(
                f"the token server {redact_url(known.realm)} refuses a token for {' '.join(scopes) or host}{status}",
                hint=f"credentials were looked for in {self._credentials.sources(host)}",
            ) from None
        return self._parse(body, known)

    def _call(self, host: str, known: _Known, scopes: tuple[str, ...], credential: Credential | None) -> bytes:
        form = {"service": known.service, "scope": " ".join(scopes), "client_id": CLIENT_ID}
        if credential and credential.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": credential.identity_token}
            return self._fetch(host, "POST", known.realm, {**form, **grant}, None)
        basic = credential if credential and credential.username else None
        try:
            return self._fetch(host, "GET", _with_query(known, scopes, basic), None, basic)
        except (NotFoundError, RegistryError) as error:
            status = error.status if isinstance(error, RegistryError) else 404
            if status not in _NO_GET or basic is None:
                raise
            grant = {"grant_type": "password", "username": basic.username, "password": basic.password}
            return self._fetch(host, "POST", known.realm, {**form, **grant}, None)

    def _parse(self, body: bytes, known: _Known) -> Token:
        try:
            data = json.loads(body)
            text = data.get("token") or data.get("access_token")
            lifetime = float(data.get("expires_in") or DEFAULT_LIFETIME)
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            text, lifetime = None, 0.0
        if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable() or " " in text:
            raise UnauthorizedError(f"the token server {redact_url(known.realm)} answered without a token")
        self._redactor.add(text)
        return Token(text, self._clock() + lifetime - min(MARGIN, lifetime / 4))


def _with_query(known: _Known, scopes: tuple[str, ...], credential: Credential | None) -> str:
    """Return the realm with service and scopes; one scope parameter for each (distribution, spec/auth/token)."""
    parts = urlsplit(known.realm)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if known.service:
        query.append(("service", known.service))
    query += [("scope", scope) for scope in scopes]
    if credential:
        query.append(("account", credential.username))
    return urlunsplit(parts._replace(query=urlencode(query)))


def _union(scopes: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return all scopes once; a wanted one whose actions are all in one of ours adds nothing."""
    extra = tuple(scope for scope in wanted if not any(_covers(own, scope) for own in scopes))
    return (*scopes, *extra)


def _covers(own: str, other: str) -> bool:
    name, _, actions = own.rpartition(":")
    other_name, _, other_actions = other.rpartition(":")
    return name == other_name and set(other_actions.split(",")) <= set(actions.split(","))


def _repository(scopes: tuple[str, ...]) -> str:
    kind, _, rest = (scopes[0] if scopes else "").partition(":")
    return rest.rpartition(":")[0] if kind == "repository" else ""
