"""A second look at a certificate that was refused, only to name in a message what it holds.

Best effort: a direct connection with short limits, nothing sent over it; whatever fails is "not known".
"""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import urlsplit

LOOK_TIMEOUT = 5.0
"""Seconds for the second look."""
_NAME_LIMIT = 5
_DATES = re.compile(rb"\x30[\x1e\x20\x22](?:\x17\x0d(\d{12})|\x18\x0f(\d{14}))Z(?:\x17\x0d(\d{12})|\x18\x0f(\d{14}))Z")
"""The DER of Validity ::= SEQUENCE { notBefore Time, notAfter Time }, UTCTime or GeneralizedTime (RFC 5280, 4.1.2.5)."""
_DNS_NAMES = re.compile(rb"\x06\x03\x55\x1d\x11(?:\x01\x01.)?\x04")
"""The DER of the extension subjectAltName's OID 2.5.29.17 and the tag of its OCTET STRING (RFC 5280, 4.2.1.6)."""


@dataclass(frozen=True)
class Seen:
    """The names and the dates in a certificate, as far as known."""

    names: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None


def look(url: str) -> Seen:
    """Return what the certificate of the host of ``url`` says."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent or believed: the certificate is only read
    host = parts.hostname or ""
    try:
        with (
            socket.create_connection((host, parts.port or 443), LOOK_TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            return read_certificate(connection.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return Seen()


def read_certificate(der: bytes) -> Seen:
    """Return names and dates of a certificate in DER form, without a full parser."""
    found = _DATES.search(der)
    start = _moment(found[1] or found[2]) if found else None
    end = _moment(found[3] or found[4]) if found else None
    return Seen(_names(der), start, end)


def _moment(digits: bytes) -> datetime | None:
    text = digits.decode()
    if len(text) == len("yymmddhhmmss"):
        text = ("19" if text[:2] >= "50" else "20") + text  # RFC 5280, 4.1.2.5.1
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _names(der: bytes) -> tuple[str, ...]:
    """Return the first DNS names and addresses of subjectAltName."""
    found = _DNS_NAMES.search(der)
    if not found:
        return ()
    names: list[str] = []
    try:
        position = _length(der, found.end())[1]  # into the OCTET STRING
        size, position = _length(der, position + 1)  # into the SEQUENCE
        end = position + size
        while position < end and len(names) < _NAME_LIMIT:
            tag = der[position]
            size, start = _length(der, position + 1)
            position = start + size
            names += _name(tag, der[start:position])
    except IndexError:
        pass
    return tuple(names)


def _name(tag: int, value: bytes) -> list[str]:
    if tag == 0x82:  # noqa: PLR2004  # dNSName [2]
        return [value.decode("ascii", errors="replace")]
    if tag == 0x87 and len(value) == 4:  # noqa: PLR2004  # iPAddress [7], IPv4
        return [socket.inet_ntop(socket.AF_INET, value)]
    if tag == 0x87 and len(value) == 16:  # noqa: PLR2004  # IPv6
        return [socket.inet_ntop(socket.AF_INET6, value)]
    return []


def _length(der: bytes, position: int) -> tuple[int, int]:
    """Return a DER length and the position after it."""
    first = der[position]
    if first < 0x80:  # noqa: PLR2004  # the short form
        return first, position + 1
    count = first & 0x7F
    return int.from_bytes(der[position + 1 : position + 1 + count], "big"), position + 1 + count
