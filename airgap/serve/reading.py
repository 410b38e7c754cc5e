"""The reading endpoints of the distribution-spec: pull and content discovery, over any Contents.

Invariants: nothing is changed here; a manifest's bytes are verified before they leave, a blob's are not (every client does,
and a registry that read each layer twice would be half as fast).
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from airgap.oci import OCI_INDEX
from airgap.serve.messages import OCTETS, Answer, RefusalError, json_answer

if TYPE_CHECKING:
    from collections.abc import Collection

    from airgap.oci import Descriptor
    from airgap.serve.contents import Contents
    from airgap.serve.messages import Request
    from airgap.serve.routes import Route
    from airgap.transport.body import Window

VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
"""What docker and older clients look for on /v2/."""
PAGE_LIMIT = 10_000
"""Names of one page of tags or repositories when the client asks for no number."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def ping(_contents: Contents, _request: Request, _route: Route) -> Answer:
    """Say that the distribution-spec is spoken here (end-1)."""
    return json_answer({}, VERSION)


def catalog(contents: Contents, request: Request, _route: Route) -> Answer:
    """List the repositories, as Docker's registry does (not in the distribution-spec, but asked for by everyone)."""
    names, headers = page(contents.repositories(), request, "/v2/_catalog")
    return json_answer({"repositories": names}, headers)


def manifest(contents: Contents, request: Request, route: Route) -> Answer:
    """Return a manifest or index, byte for byte (end-3)."""
    descriptor = contents.find(route.name, route.locator)
    if descriptor is None:
        raise unknown_manifest(contents, route)
    headers = {
        **VERSION,
        "Content-Type": descriptor.media_type,
        "Docker-Content-Digest": str(descriptor.digest),
        "ETag": f'"{descriptor.digest}"',
    }
    if request.header("If-None-Match") == headers["ETag"]:
        return Answer(HTTPStatus.NOT_MODIFIED, headers)
    return Answer(HTTPStatus.OK, headers, contents.read(descriptor))


def blob(contents: Contents, request: Request, route: Route) -> Answer:
    """Return a blob or the part that Range asks for (end-2; RFC 9110, 14)."""
    if route.digest is None:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", "a blob is asked for by its digest")
    window = contents.blob(route.name, route.digest)
    if window is None:
        raise RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"{route.digest} is not in {route.name}")
    return window_answer(window, request, {"Docker-Content-Digest": str(route.digest), "ETag": f'"{route.digest}"'})


def tags(contents: Contents, request: Request, route: Route) -> Answer:
    """List tags (end-8)."""
    known = contents.tags(route.name)
    if not known and route.name not in contents.repositories():
        raise RefusalError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", f"there is no repository {route.name}")
    names, headers = page(known, request, f"/v2/{route.name}/tags/list")
    return json_answer({"name": route.name, "tags": names}, headers)


def referrers(contents: Contents, request: Request, route: Route) -> Answer:
    """List what speaks about a digest (end-12); an unknown subject has an empty list, never a 404."""
    found: Collection[Descriptor] = contents.referrers(route.name, route.digest) if route.digest else ()
    headers = {}
    if wanted := request.first("artifactType"):
        found = [entry for entry in found if entry.artifact_type == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry.to_json() for entry in found]}
    return json_answer(document, headers, OCI_INDEX)


def window_answer(window: Window, request: Request, headers: dict[str, str], media_type: str = OCTETS) -> Answer:
    """Return a file's bytes, whole or the one range that is asked for; several ranges get the whole (allowed by RFC 9110)."""
    told = {"Content-Type": media_type, "Accept-Ranges": "bytes", **headers}
    wanted = request.header("Range")
    if wanted and request.header("If-Range") in {"", headers.get("ETag")} and (match := _RANGE.fullmatch(wanted.strip())):
        first, last = _bounds(match[1], match[2], len(window))
        if first > last or first >= len(window):
            raise RefusalError(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                "SIZE_INVALID",
                f"{wanted[:60]!r} is outside of {len(window)} bytes",
                {"Content-Range": f"bytes */{len(window)}"},
            )
        told["Content-Range"] = f"bytes {first}-{last}/{len(window)}"
        return Answer(HTTPStatus.PARTIAL_CONTENT, told, window.part(first, last - first + 1))
    return Answer(HTTPStatus.OK, told, window)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the first and last byte of ``A-B``, ``A-`` or ``-N``; an empty range comes out as first > last."""
    if not first:
        return (max(0, size - int(last)), size - 1) if last and int(last) else (1, 0)
    return int(first), min(int(last), size - 1) if last else size - 1


def page(names: Collection[str], request: Request, path: str) -> tuple[list[str], dict[str, str]]:
    """Return the part of ``names`` that ``n`` and ``last`` ask for, in ASCII order, and a Link to the next part."""
    number = request.first("n")
    if number and not _NUMBER.fullmatch(number):
        raise RefusalError(HTTPStatus.BAD_REQUEST, "SIZE_INVALID", f"n={number[:20]!r} is not a whole number")
    limit = min(int(number), PAGE_LIMIT) if number else PAGE_LIMIT
    last = request.first("last")
    rest = sorted(name for name in names if name > last)
    chosen = rest[:limit]
    if not chosen or len(rest) <= limit:
        return chosen, {}
    query = urlencode({"n": limit, "last": chosen[-1]})
    return chosen, {"Link": f'<{quote(path)}?{query}>; rel="next"'}


def unknown_manifest(contents: Contents, route: Route) -> RefusalError:
    """Say whether the repository or only this manifest is missing."""
    if route.name not in contents.repositories():
        return RefusalError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", f"there is no repository {route.name}")
    return RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{route.locator} is not in {route.name}")
