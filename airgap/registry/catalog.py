"""The catalog: every repository of a registry (distribution's ``/v2/_catalog``, which the distribution-spec leaves out).

Many registries do not have it, or only for administrators (Docker Hub, GHCR, GitLab, Quay, Harbor for plain users): then None.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from airgap.errors import NotFoundError, RegistryError, UnauthorizedError
from airgap.oci import MANIFEST_LIMIT
from airgap.transport import origin

if TYPE_CHECKING:
    from airgap.transport import Client

PAGE = 1000
"""Repositories asked for at once; distribution gives 100 by default and 1000 at most (its ``catalog.maxentries``)."""
PAGES = 1000
SCOPE = "registry:catalog:*"
"""What a token must grant (distribution, docs/spec/auth/scope.md)."""

_LINK = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?')


def catalog(client: Client, host: str) -> tuple[str, ...] | None:
    """Return the names of all repositories at ``host``, sorted; None where it does not say.

    Raises NetworkError when it cannot be reached, RegistryError when it fails.
    """
    base = client.base_url(host)
    url = f"{base}/v2/_catalog?n={PAGE}"
    found: set[str] = set()
    for _ in range(PAGES):
        try:
            with client.request("GET", url, scopes=(SCOPE,), preload=MANIFEST_LIMIT) as response:
                page = _names(response.read(MANIFEST_LIMIT))
                link = _LINK.search(response.headers.get("Link", ""))
                following = urljoin(response.url, link[1]) if link else ""
        except (NotFoundError, UnauthorizedError):
            return None
        except RegistryError as error:
            if error.status in {400, 405, 501}:
                return None
            raise
        if page is None:
            return None
        found.update(page)
        if not following or origin(following) != origin(base):
            break
        url = following
    return tuple(sorted(found))


def _names(raw: bytes) -> list[str] | None:
    """Return the names on one page, or None when it is no catalog (a front page in HTML, say)."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    names = document.get("repositories", []) if isinstance(document, dict) else None
    return [str(name) for name in names or ()] if isinstance(names, list) or (names is None and document) else None
