"""What must never be read by others is taken out of texts here: URL user information and queries, and known secrets.

>>> redact_url("https://ann:pw@reg.lan/v2/a?X-Amz-Signature=abc#x")
'https://reg.lan/v2/a?...'
"""

from __future__ import annotations

import base64
import re
import threading
from urllib.parse import quote, quote_plus, urlsplit

SHOWN_LIMIT = 200
"""Characters of a server's own words that are shown (faults F15)."""
_SECRET_LENGTH = 4
"""Shorter secrets are not searched for in texts: they would take out half of the words."""
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
_SENSITIVE = re.compile(r"\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}", re.IGNORECASE)


def redact_url(url: str) -> str:
    """Return ``url`` without user information, query values and fragment (signed URLs: cases.md L3)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(a URL that cannot be parsed)"
    host = parts.netloc.rpartition("@")[2]
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return printable(f"{scheme}{host}{parts.path}{'?...' if parts.query else ''}")


def printable(text: str) -> str:
    """Return ``text`` with white space folded and control characters shown escaped (faults F53)."""
    folded = " ".join(text.split())
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in folded)


class Redactor:
    """The secrets of this run, to be taken out of everything a server says; thread-safe."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def add(self, *secrets: str) -> None:
        """Remember secrets, in the forms in which they travel."""
        forms = {form for secret in secrets if len(secret) >= _SECRET_LENGTH for form in _forms(secret)}
        with self._lock:
            self._secrets |= forms

    def clean(self, text: str, limit: int = SHOWN_LIMIT) -> str:
        """Return the first ``limit`` printable characters of ``text`` with secrets, signed URLs and tokens taken out."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "[redacted]")
        text = _SENSITIVE.sub(r"\1 [redacted]", text)
        text = printable(_URL.sub(lambda found: redact_url(found[0]), text))
        return text if len(text) <= limit else f"{text[:limit]}..."


def _forms(secret: str) -> tuple[str, ...]:
    encoded = base64.b64encode(secret.encode()).decode()
    return secret, quote(secret, safe=""), quote_plus(secret), encoded
