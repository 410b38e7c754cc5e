"""Which proxy a URL goes through, from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; pure.

Lower-case names win over upper-case ones, as in curl and requests. NO_PROXY is read in every form that the tools of the
field know (cases.md L7): ``*``; ``reg.lan`` and ``.reg.lan`` and ``*.reg.lan`` (the domain and all below it); ``host:port``;
addresses, ``[::1]``, and networks in CIDR form, IPv4 and IPv6. Loopback is never sent through a proxy, as in Go.

>>> Proxies.from_environment({"HTTPS_PROXY": "p.lan:3128", "NO_PROXY": "10.0.0.0/8,.corp.lan"}).for_url("https://10.1.2.3:5000/v2/")
>>> Proxies.from_environment({"HTTPS_PROXY": "p.lan:3128"}).for_url("https://quay.io/v2/")
'http://p.lan:3128'
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airgap.errors import ConfigurationError
from airgap.transport.redact import redact_url

if TYPE_CHECKING:
    from collections.abc import Mapping

PORTS = {"http": 80, "https": 443}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Proxies:
    """The proxies of one environment: by scheme, and the hosts that are reached without."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    excluded: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """Read the environment; raises ConfigurationError for a proxy of a kind that is not spoken (SOCKS)."""

        def read(name: str) -> str:
            return (environ.get(name.lower()) or environ.get(name) or "").strip()

        everything = read("ALL_PROXY")
        excluded = tuple(part for part in re.split(r"[\s,]+", read("NO_PROXY").lower()) if part)
        return cls(
            _proxy_url(read("HTTP_PROXY") or everything, "HTTP_PROXY"),
            _proxy_url(read("HTTPS_PROXY") or everything, "HTTPS_PROXY"),
            excluded,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Passwords in the URLs of the proxies."""
        return tuple(unquote(word) for url in (self.http, self.https) if (word := urlsplit(url).password))

    def for_url(self, url: str) -> str:
        """Return the URL of the proxy for ``url`` (it may hold credentials: redact before showing), or nothing."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        host = (parts.hostname or "").rstrip(".")
        if not proxy or is_loopback(host) or self._excludes(host, parts.port or PORTS.get(parts.scheme, 0)):
            return ""
        return proxy

    def _excludes(self, host: str, port: int) -> bool:
        return any(_matches(entry, host, port) for entry in self.excluded)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine by its name or address (no look-up)."""
    address = _address(host)
    return address.is_loopback if address else host == "localhost" or host.endswith(".localhost")


def is_link_local(host: str) -> bool:
    """Whether ``host`` is written as a link-local address: where clouds keep their metadata services (faults F37)."""
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return bool(address and (address.is_link_local or address.is_unspecified))


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY covers ``host`` (lower case, no brackets) at ``port``."""
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    name, entry_port = _split_port(entry)
    if entry_port and entry_port != port:
        return False
    if (entry_address := _address(name)) or address:
        return entry_address == address
    domain = name.removeprefix("*").lstrip(".").rstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _in_network(address: _Address, entry: str) -> bool:
    try:
        network = ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _split_port(entry: str) -> tuple[str, int]:
    """Split ``name:port``, ``[v6]:port``, or a bare IPv6 address with its many colons."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, int(rest[1:]) if rest[:1] == ":" and rest[1:].isdecimal() else 0
    if entry.count(":") == 1:
        name, _, digits = entry.partition(":")
        return name, int(digits) if digits.isdecimal() else 0
    return entry, 0


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _proxy_url(text: str, variable: str) -> str:
    if not text:
        return ""
    url = text if "://" in text else f"http://{text}"
    scheme = url.partition("://")[0].lower()
    if scheme not in PORTS:
        raise ConfigurationError(
            f"{variable} names {redact_url(url)}, a {scheme} proxy, which airgap does not speak",
            hint="set it to an http:// or https:// proxy",
        )
    return url
