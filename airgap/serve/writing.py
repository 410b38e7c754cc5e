"""The writing endpoints of the distribution-spec: uploads, manifests, and (if allowed) deletion, into a Store.

Invariants: bytes are verified before they get a name; a manifest is taken only when everything that it names is here, so no
tag ever points to half an image; the same push twice is the same as once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from airgap.errors import IntegrityError
from airgap.oci import MANIFEST_LIMIT, Descriptor, Digest, Index, Manifest, parse_manifest
from airgap.serve.messages import PIECE, Answer, RefusalError
from airgap.serve.routes import check_digest, check_name, check_tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airgap.serve.contents import Contents
    from airgap.serve.messages import Body, Request
    from airgap.serve.routes import Route
    from airgap.serve.sessions import Session
    from airgap.serve.store import Store
    from airgap.transport.body import Window

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?")
"""``A-B`` by the distribution-spec; RFC 9110's ``bytes A-B/N`` is what other clients write."""


@dataclass(frozen=True)
class Rules:
    """What a store allows. ``sparse``: an index may name children that are not here."""

    immutable_tags: bool = False
    sparse: bool = False
    delete: bool = False


class Writing:
    """The endpoints. ``contents`` is everything readable (store and bundle), ``store`` what is written to."""

    def __init__(self, store: Store, contents: Contents, rules: Rules) -> None:
        self._store = store
        self._contents = contents
        self._rules = rules

    # -- blobs ----------------------------------------------------------------------------------------------------------

    def start(self, request: Request, route: Route) -> Answer:
        """POST: mount, take a whole blob at once, or open a session (end-4, end-11)."""
        algorithm = request.first("digest-algorithm")
        if algorithm and algorithm not in {"sha256", "sha512"}:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"digests of {algorithm[:20]!r} are not known here")
        if mount := request.first("mount"):
            digest = check_digest(mount)
            source = request.first("from")
            if self._mounted(route.name, digest, check_name(source) if source else ""):
                return _created(f"/v2/{route.name}/blobs/{digest}", digest)
        wanted = request.first("digest")
        expected = check_digest(wanted) if wanted else None
        session = self._store.sessions.create(route.name)
        if expected is None:
            return _progress(session, HTTPStatus.ACCEPTED)
        with self._store.sessions.using(session.identity, route.name):
            try:
                session.append(request.body)
                return self._finish(session, expected)
            finally:
                session.discard()

    def chunk(self, request: Request, route: Route) -> Answer:
        """PATCH: take the next bytes (end-5)."""
        with self._store.sessions.using(route.rest, route.name) as session:
            _check_order(request, session)
            session.append(request.body)
            return _progress(session, HTTPStatus.ACCEPTED)

    def close(self, request: Request, route: Route) -> Answer:
        """PUT: take the last bytes, if any, and check the digest (end-6)."""
        digest = check_digest(request.first("digest"))
        with self._store.sessions.using(route.rest, route.name) as session:
            _check_order(request, session)
            session.append(request.body)
            return self._finish(session, digest)

    def status(self, _request: Request, route: Route) -> Answer:
        """GET: say how far an upload is (end-13)."""
        with self._store.sessions.using(route.rest, route.name) as session:
            return _progress(session, HTTPStatus.NO_CONTENT)

    def cancel(self, _request: Request, route: Route) -> Answer:
        """DELETE: forget an upload (end-14)."""
        with self._store.sessions.using(route.rest, route.name) as session:
            session.discard()
            return Answer(HTTPStatus.NO_CONTENT)

    def _finish(self, session: Session, digest: Digest) -> Answer:
        found = session.digest(digest.algorithm)
        if found != digest:
            session.discard()
            message = f"the bytes are {found}, not {digest}: the upload is dropped"
            raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", message)
        self._store.commit(session, digest)
        return _created(f"/v2/{session.repository}/blobs/{digest}", digest)

    def _mounted(self, repository: str, digest: Digest, source: str) -> bool:
        if self._store.mount(repository, digest, source):
            return True
        places = [source] if source else self._contents.repositories()
        return any(self._adopted(repository, digest, place) for place in places)

    def _adopted(self, repository: str, digest: Digest, place: str) -> bool:
        """Copy a blob that only the bundle holds into the store, verified: the store stays whole by itself."""
        window = self._contents.blob(place, digest)
        if window is None:
            return False
        session = self._store.sessions.create(repository)
        with self._store.sessions.using(session.identity, repository):
            try:
                with window:
                    session.append(_WindowBody(window))
                self._finish(session, digest)
            finally:
                session.discard()
        return True

    # -- manifests ------------------------------------------------------------------------------------------------------

    def put(self, request: Request, route: Route) -> Answer:
        """PUT a manifest by tag or digest (end-7); more tags may follow as ``tag=`` parameters."""
        raw = _read_manifest(request.body)
        document = _parsed(raw, request.header("Content-Type"))
        digest = _digest_of(raw, route.digest)
        if route.digest and digest != route.digest:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"the manifest is {digest}, not {route.digest}")
        more = [check_tag(route.name, tag) for tag in request.query.get("tag", ())]
        tags = [*([] if route.digest else [route.rest]), *more]
        self._check_tags(route.name, tags, digest)
        self._check_complete(route.name, document)
        descriptor = Descriptor(document.media_type, digest, len(raw))
        self._store.put(route.name, descriptor, document, tags)
        answer = _created(f"/v2/{route.name}/manifests/{route.locator}", digest)
        headers = dict(answer.headers)
        if document.subject:
            headers["OCI-Subject"] = str(document.subject.digest)
        if more:
            headers["OCI-Tag"] = ", ".join(more)
        return Answer(answer.status, headers)

    def remove_manifest(self, _request: Request, route: Route) -> Answer:
        """DELETE a tag or a manifest (end-9)."""
        self._check_deletion(tag="" if route.digest else route.rest)
        if not self._store.remove_manifest(route.name, route.locator):
            raise RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{route.locator} is not in {route.name}")
        return Answer(HTTPStatus.ACCEPTED)

    def remove_blob(self, _request: Request, route: Route) -> Answer:
        """DELETE a blob (end-10)."""
        self._check_deletion()
        if route.digest is None or not self._store.remove_blob(route.name, route.digest):
            raise RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"{route.digest} is not in {route.name}")
        return Answer(HTTPStatus.ACCEPTED)

    def _check_deletion(self, tag: str = "") -> None:
        if not self._rules.delete or (tag and self._rules.immutable_tags):
            raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "deletion is switched off")

    def _check_tags(self, repository: str, tags: Iterable[str], digest: Digest) -> None:
        if not self._rules.immutable_tags:
            return
        for tag in tags:
            there = self._contents.find(repository, tag)
            if there and there.digest != digest:
                message = f"tag {tag} of {repository} is {there.digest} and must stay so"
                raise RefusalError(HTTPStatus.CONFLICT, "DENIED", message)

    def _check_complete(self, repository: str, document: Manifest | Index) -> None:
        if isinstance(document, Manifest):
            absent = [blob for blob in document.blobs if not blob.is_foreign and not self._holds(repository, blob.digest)]
        elif self._rules.sparse:
            absent = []
        else:
            absent = [child for child in document.manifests if not self._contents.find(repository, child.digest)]
        if absent:
            names = ", ".join(str(descriptor.digest) for descriptor in absent[:5])
            message = f"{len(absent)} parts of the manifest are not in {repository}: {names}"
            raise RefusalError(HTTPStatus.BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", message)

    def _holds(self, repository: str, digest: Digest) -> bool:
        return self._store.blob(repository, digest) is not None or self._adopted(repository, digest, repository)


def _check_order(request: Request, session: Session) -> None:
    told = request.header("Content-Range")
    if not told:
        return
    match = _CONTENT_RANGE.fullmatch(told.strip())
    if not match:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "BLOB_UPLOAD_INVALID", f"Content-Range {told[:60]!r} is not FIRST-LAST")
    first, last = int(match[1]), int(match[2])
    if first != session.size:
        headers = dict(_progress(session, 0).headers)
        message = f"the next byte is {session.size}, not {first}"
        raise RefusalError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message, headers)
    length = request.body.length
    if length is not None and last - first + 1 != length:
        message = f"Content-Range {told[:60]!r} does not fit a body of {length} bytes"
        raise RefusalError(HTTPStatus.BAD_REQUEST, "SIZE_INVALID", message)


class _WindowBody:
    """Bytes of a file as if a client sent them."""

    def __init__(self, window: Window) -> None:
        self.length: int | None = len(window)
        self._window = window

    def read(self, limit: int = PIECE) -> bytes:
        """Return up to ``limit`` bytes, empty at the end."""
        return self._window.read(limit)


def _created(location: str, digest: Digest) -> Answer:
    return Answer(HTTPStatus.CREATED, {"Location": location, "Docker-Content-Digest": str(digest)})


def _progress(session: Session, status: int) -> Answer:
    """Say where to go on; ``0-0`` is what every registry says for nothing yet (cases.md P14)."""
    headers = {
        "Location": f"/v2/{session.repository}/blobs/uploads/{session.identity}",
        "Range": f"0-{max(0, session.size - 1)}",
        "Docker-Upload-UUID": session.identity,
    }
    return Answer(status, headers)


def _read_manifest(body: Body) -> bytes:
    too_large = RefusalError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "MANIFEST_INVALID", f"a manifest may have {MANIFEST_LIMIT} bytes"
    )
    if (body.length or 0) > MANIFEST_LIMIT:
        raise too_large
    pieces, size = [], 0
    while piece := body.read():
        pieces.append(piece)
        size += len(piece)
        if size > MANIFEST_LIMIT:
            raise too_large
    return b"".join(pieces)


def _parsed(raw: bytes, content_type: str) -> Manifest | Index:
    try:
        document = parse_manifest(raw, content_type)
    except IntegrityError as error:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", error.message) from error
    told = content_type.partition(";")[0].strip()
    if told and told != document.media_type:
        message = f"sent as {told[:100]!r}, but the document says {document.media_type!r}"
        raise RefusalError(HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", message)
    return document


def _digest_of(raw: bytes, like: Digest | None) -> Digest:
    if like is None:
        return Digest.of(raw)
    running = like.hasher()
    running.update(raw)
    return Digest(like.algorithm, running.hexdigest())
