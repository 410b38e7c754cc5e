"""From what went wrong on the wire, or what a server answered, to one sentence and the next step.

Invariants: no credential, query or control character of the other side gets into a message; exceptions of the libraries
below are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING

import urllib3.exceptions as wire

from airgap.errors import AirgapError, NetworkError, NotFoundError, RegistryError, TLSError, UnauthorizedError
from airgap.transport.certificate import look
from airgap.transport.quota import parse_quota
from airgap.transport.redact import redact_url
from airgap.transport.wire import Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.transport.redact import Redactor

_NAME_CODES = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH (openssl/x509_vfy.h)."""
_UNKNOWN_CA_CODES = frozenset({2, 18, 19, 20, 21})
"""X509_V_ERR: unable to get issuer, self-signed, self-signed in chain, issuer not here, leaf not verifiable."""
_NOT_YET_VALID = 9
_EXPIRED = 10
_CLIENT_WANTED = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN")
"""Alerts by which a server refuses our certificate, or that we have none (RFC 8446, 6.2)."""


NO_ROOM = "the registry has no room; free some, then run this again"
"""The next step when a registry is full; callers know by it that repeating is of no use (faults F24)."""
_FULL = re.compile(r"no space left|disk quota exceeded|insufficient storage|ENOSPC|\"Err\": ?(28|122)\b", re.IGNORECASE)
"""How a full registry says so: its system's words, or errno 28 and 122 in CNCF distribution's details."""


class Failure(Exception):  # noqa: N818  # not an error of the tree: it carries one, inside transport only
    """What ends one attempt: the error to raise if it is the last, and whether a connection came about at all."""

    def __init__(self, error: NetworkError, *, reached: bool = True, retried: bool = True) -> None:
        super().__init__(error.message)
        self.error = error
        self.reached = reached
        self.retried = retried


@dataclass(frozen=True)
class Place:
    """Where a request went, for messages: method, URL (redacted when shown), proxy (likewise), how long was waited."""

    method: str
    url: str = field(repr=False)
    proxy: str = field(default="", repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)

    @property
    def host(self) -> str:
        """name:port as in the URL."""
        return redact_url(self.url).partition("://")[2].partition("/")[0]

    @property
    def via(self) -> str:
        """`` through the proxy ...``, or nothing."""
        return f" through the proxy {redact_url(self.proxy)}" if self.proxy else ""

    def __str__(self) -> str:
        return f"{self.method} {redact_url(self.url)}"


def explain(error: BaseException, place: Place) -> Failure:
    """Return what an exception of requests, urllib3 or the socket means."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            return Failure(_untrusted(one, place), reached=False, retried=False)
    for one in chain:
        if isinstance(one, ssl.SSLError) and not isinstance(one, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return Failure(_tls(one, place), reached=False, retried=False)
    if failure := _proxy(chain, place):
        return failure
    return _network(chain, place)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything it was made from; the libraries keep causes in args and in ``reason``."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [*one.args, getattr(one, "reason", None), getattr(one, "original_error", None)]
            waiting += [one.__cause__, one.__context__]


def _untrusted(error: ssl.SSLCertVerificationError, place: Place) -> TLSError:
    code = error.verify_code
    if code in _NAME_CODES:
        names = look(place.url).names if not place.proxy else ()
        known = f"; it is for {', '.join(names)}" if names else ""
        return TLSError(
            f"the certificate of {place.host} is not for that name{known}",
            hint="use the name in the certificate, or have one issued with this name as subjectAltName",
        )
    if code in {_EXPIRED, _NOT_YET_VALID}:
        return _wrong_time(expired=code == _EXPIRED, place=place)
    if code in _UNKNOWN_CA_CODES:
        return TLSError(
            f"the certificate of {place.host} is signed by an authority that is not trusted here{place.via}",
            hint=f"give the authority's certificate: --ca-file CA.pem, or /etc/docker/certs.d/{place.host}/ca.crt",
        )
    return TLSError(f"the certificate of {place.host} is refused: {error.verify_message} (code {code})")


def _wrong_time(*, expired: bool, place: Place) -> TLSError:
    seen = look(place.url) if not place.proxy else None
    now = datetime.now(timezone.utc)
    clock = f"the clock here says {now:%Y-%m-%d %H:%M} UTC"
    if expired:
        end = f" (it ended {seen.end:%Y-%m-%d %H:%M} UTC)" if seen and seen.end else ""
        return TLSError(
            f"the certificate of {place.host} has expired{end}; {clock}",
            hint="have it renewed; if the clock is wrong, set it (chrony, timedatectl)",
        )
    start = f" (it begins {seen.start:%Y-%m-%d %H:%M} UTC)" if seen and seen.start else ""
    return TLSError(
        f"the certificate of {place.host} is not valid yet{start}; {clock}",
        hint="set the clock of this host, or of the host that issued the certificate (chrony, timedatectl)",
    )


def _tls(error: ssl.SSLError, place: Place) -> TLSError:
    reason = error.reason or ""
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return TLSError(
            f"{place.host} does not speak TLS{place.via}",
            hint="if it is meant to speak plain HTTP, say --plain-http; else check the port",
        )
    if any(word in reason for word in _CLIENT_WANTED):
        return TLSError(
            f"{place.host} refuses the connection without a client certificate that it knows ({reason})",
            hint=f"give one: --cert and --key, or /etc/docker/certs.d/{place.host}/client.cert and client.key",
        )
    return TLSError(f"TLS with {place.host} failed{place.via}: {reason or 'no reason given'}")


def _proxy(chain: list[BaseException], place: Place) -> Failure | None:
    if not place.proxy or not any(isinstance(one, wire.ProxyError) for one in chain):
        return None
    told = next((str(one) for one in chain if type(one) is OSError and "Tunnel connection failed" in str(one)), "")
    if told:
        answer = told.partition("failed:")[2].strip()
        word = "wants other credentials" if answer.startswith("407") else "does not let us through"
        error = NetworkError(
            f"the proxy {redact_url(place.proxy)} {word}: it answered {answer[:60]} to CONNECT {place.host}",
            hint="if this host is to be reached without it, add it to NO_PROXY",
        )
        return Failure(error, reached=False, retried=not answer.startswith("4"))
    error = NetworkError(
        f"the proxy {redact_url(place.proxy)} (for {place.host}) cannot be reached: {_reason(chain, place)}",
        hint="check HTTPS_PROXY and HTTP_PROXY; NO_PROXY names hosts that are reached without",
    )
    return Failure(error, reached=False)


def _network(chain: list[BaseException], place: Place) -> Failure:
    reason = _reason(chain, place)
    if _unconnected(chain):
        hint = "check the name, the port and the route; behind a proxy, set HTTPS_PROXY"
        return Failure(NetworkError(f"{place.host} cannot be reached{place.via}: {reason}", hint=hint), reached=False)
    return Failure(NetworkError(f"{place.host} broke off{place.via} at {place}: {reason}"))


def _unconnected(chain: list[BaseException]) -> bool:
    return any(isinstance(one, (wire.NewConnectionError, wire.ConnectTimeoutError, socket.gaierror)) for one in chain)


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "its name does not resolve"),
    (wire.ConnectTimeoutError, "no answer within {0.connect:g} seconds"),
    (ConnectionRefusedError, "the connection is refused, nothing listens there"),
    (wire.ReadTimeoutError, "nothing came for {0.read:g} seconds"),
    (TimeoutError, "nothing moved for too long"),
    (wire.IncompleteRead, "the answer was cut short"),
    (BrokenPipeError, "the connection was closed while sending"),
    (ConnectionResetError, "the connection was reset"),
    (ssl.SSLEOFError, "the connection was closed"),
    (wire.ProtocolError, "the connection was closed without an answer"),
)
"""What each exception means, most telling first. (NewConnectionError calls itself a time-out, but only wraps the reason.)"""


def _reason(chain: list[BaseException], place: Place) -> str:
    for kind, words in _REASONS:
        if any(isinstance(one, kind) and not isinstance(one, wire.NewConnectionError) for one in chain):
            return words.format(place.timeouts)
    numbered = next((one for one in chain if isinstance(one, OSError) and one.strerror), None)
    return (numbered.strerror if numbered else None) or type(chain[0]).__name__


def answered(
    place: Place, status: int, headers: Mapping[str, str], body: bytes, redactor: Redactor, *, hint: str = ""
) -> AirgapError:
    """Return the error for an answer that is not what was asked for: status, code, the first words of the body."""
    code, words = _words(body, headers.get("Content-Type", ""))
    text = redactor.clean(words)
    said = ": ".join(part for part in (code, text) if part)
    name = f"{status} {_phrase(status)}".strip()
    asked = redactor.clean(str(place), limit=500)
    message = f"{place.host} answered {name} to {asked}{place.via}{f': {said}' if said else ''}"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        proxy = f"the proxy {redact_url(place.proxy)}" if place.proxy else "a proxy"
        return NetworkError(f"{proxy} wants other credentials: {message}")
    if status == HTTPStatus.BAD_REQUEST and _mentions(words, "SSL certificate"):
        return TLSError(f"{place.host} wants a client certificate: {text}", hint="give one: --cert and --key")
    if status == HTTPStatus.BAD_REQUEST and _mentions(words, "HTTP request to an HTTPS server", "plain HTTP request"):
        return TLSError(f"{place.host} speaks TLS, and was asked by plain HTTP", hint="leave out --plain-http")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return UnauthorizedError(message, hint=hint)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return NotFoundError(message, hint=hint)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and _FULL.search(body.decode(errors="replace")):
        hint = NO_ROOM
    return RegistryError(message, hint=hint or _hint(status, headers), status=status, code=code)


def _words(body: bytes, media_type: str) -> tuple[str, str]:
    """Return the distribution-spec code and the message of an error body of any kind (cases.md P7)."""
    text = body.decode(errors="replace")
    if "json" in media_type or text[:1] == "{":
        try:
            first = json.loads(text)["errors"][0]
            detail = first.get("detail")
            told = f" ({json.dumps(detail)})" if detail and not first.get("message") else ""
            return str(first.get("code") or ""), f"{first.get('message') or ''}{told}"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            pass
    return "", text


def _mentions(text: str, *phrases: str) -> bool:
    return any(phrase.lower() in text.lower() for phrase in phrases)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _hint(status: int, headers: Mapping[str, str]) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = headers.get("Retry-After", "").strip()
        quota = parse_quota(headers)
        if not wait and quota and not quota.remaining and quota.window:
            wait = str(quota.window)
        if wait.isascii() and wait.isdigit():
            moment = datetime.now(timezone.utc) + timedelta(seconds=min(int(wait[:9]), 10 * 365 * 86400))
            return f"it wants no request before {moment:%Y-%m-%d %H:%M} UTC; log in for a higher limit, then run this again"
        return f"wait{f' until {wait[:40]}' if wait else ' a while'}, or log in for a higher limit; then run this again"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return 'a proxy before the registry limits bodies: raise client_max_body_size, or proxy-body-size: "0" of the ingress'
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        return NO_ROOM
    return ""
