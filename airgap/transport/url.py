"""URLs: which are asked at all, where they lead, and the names of Docker Hub; pure.

>>> origin("https://Reg.Lan/v2/") == origin("https://reg.lan:443/x?y")
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from airgap.errors import ConfigurationError
from airgap.ref import DOCKER_HUB, HUB_ALIASES
from airgap.transport.credentials import Credential
from airgap.transport.proxy import PORTS, is_link_local, is_loopback
from airgap.transport.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Container

HUB_HOST = "registry-1.docker.io"
"""Where Docker Hub's registry is reached (docker.io itself is a web site)."""
METHOD_KEPT: Container[int] = frozenset({307, 308})
"""Redirects that may be followed with another method than GET (RFC 9110, 15.4)."""
_DELETE = 0x7F


def checked(url: str) -> tuple[str, Credential | None]:
    """Return ``url`` without user information, and that as a credential.

    Raises ConfigurationError for what is no http(s) URL, or holds white space or control characters (faults F56).
    """
    if any(ord(character) <= ord(" ") or ord(character) == _DELETE for character in url) or (parts := _web(url)) is None:
        raise ConfigurationError(f"{redact_url(url)!r} is not an http:// or https:// URL")
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    name, _, word = user.partition(":")
    return urlunsplit(parts._replace(netloc=host)), Credential(unquote(name), unquote(word))


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what must be equal for credentials to go there."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def host_of(url: str) -> str:
    """Return ``name[:port]`` in lower case, as a reference would write it."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def reached_at(host: str) -> str:
    """Return where a registry of this name is reached."""
    return HUB_HOST if host in HUB_ALIASES else host


def canonical(host: str) -> str:
    """Return the name under which credentials for a host are kept (cases.md R6)."""
    return DOCKER_HUB if host in HUB_ALIASES else host


def number(text: str) -> int | None:
    """Return a header's whole number, or None; ``str.isdigit`` takes superscripts, which ``int`` does not."""
    return int(text) if text.isascii() and text.isdigit() else None


def refuse_redirect(old: str, new: str, *, method: str, status: int, has_body: bool) -> str:
    """Return why a redirect is not followed, or nothing (faults F32; peers.md 5). Pure.

    From https only to https; never to this machine from elsewhere, nor to link-local addresses; what changes something goes
    to no other host, and is repeated only where the status says so.
    """
    target, source = _web(new), urlsplit(old)
    if target is None:
        return "which is no web address"
    if source.scheme == "https" and target.scheme == "http":
        return "from TLS down to plain HTTP"
    if origin(new) != origin(old) and is_inward(target.hostname or "", source.hostname or ""):
        return "an address of this machine or of its cloud"
    if method not in {"GET", "HEAD"} and status not in METHOD_KEPT:
        return f"and {method} is not repeated elsewhere"
    if (has_body or method not in {"GET", "HEAD"}) and target.hostname != source.hostname:
        return "where what is being sent does not go"
    return ""


def is_inward(target: str, source: str) -> bool:
    """Whether ``source`` sends us to an address that only this machine can mean."""
    return is_link_local(target) or (is_loopback(target) and not is_loopback(source))


def _web(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if good else None
