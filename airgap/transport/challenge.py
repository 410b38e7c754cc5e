"""WWW-Authenticate headers, parsed (RFC 9110, 11.6.1), and what may be asked of the realm that a Bearer challenge names.

>>> parse_challenges(['Bearer realm="https://auth.lan/token",service="reg",scope="repository:a/b:pull,push"'])[0].scopes
('repository:a/b:pull,push',)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airgap.errors import UnauthorizedError
from airgap.transport.proxy import is_link_local, is_loopback
from airgap.transport.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105  # RFC 9110 calls it so
_PART = re.compile(rf"""\s*,?\s*(?P<name>{_TOKEN})(?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]+)))?""")


@dataclass(frozen=True)
class Challenge:
    """One challenge: a scheme in lower case and its parameters."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def realm(self) -> str:
        """For Bearer, the URL of the token server."""
        return self.parameters.get("realm", "")

    @property
    def service(self) -> str:
        """For Bearer, the name of the registry to the token server."""
        return self.parameters.get("service", "")

    @property
    def scopes(self) -> tuple[str, ...]:
        """For Bearer, what the registry wants to see granted."""
        return tuple(self.parameters.get("scope", "").split())


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse the values of all WWW-Authenticate headers; what cannot be read is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        position, open_challenge = 0, False
        while position < len(header) and (part := _PART.match(header, position)):
            position = part.end()
            value = part["quoted"] if part["quoted"] is not None else part["bare"]
            if value is None and header[position : position + 1] == "=":
                break  # a parameter that cannot be read, and so what follows it
            if value is None:
                found.append((part["name"].lower(), {}))
                open_challenge = True
            elif open_challenge:
                found[-1][1][part["name"].lower()] = re.sub(r"\\(.)", r"\1", value)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


def check_realm(realm: str, asked: str) -> None:
    """Refuse a realm to which nothing may be sent (faults F37, ours); ``asked`` is the URL that was challenged.

    Another host is normal (auth.docker.io). Plain HTTP is taken only from a registry that is itself spoken to by plain HTTP,
    link-local addresses (metadata services of clouds) never, and this machine only from this machine.
    """
    try:
        parts = urlsplit(realm)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    where = urlsplit(asked).netloc.rpartition("@")[2]
    if parts.scheme not in {"https", "http"} or not host:
        raise UnauthorizedError(f"{where} sends us for a token to {redact_url(realm)!r}, which is no URL to ask")
    if parts.scheme == "http" and urlsplit(asked).scheme == "https":
        raise UnauthorizedError(
            f"{where} sends us for a token to {redact_url(realm)}, over plain HTTP: credentials do not go there",
            hint="the registry's token realm must be an https:// URL",
        )
    asked_host = urlsplit(asked).hostname or ""
    if is_link_local(host) or (is_loopback(host) and parts.scheme == "http" and not is_loopback(asked_host)):
        raise UnauthorizedError(
            f"{where} sends us for a token to {redact_url(realm)}, an address of this machine or of its cloud: refused",
            hint="the registry's token realm must be a host of its own",
        )
