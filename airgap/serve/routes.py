"""From a URL to what is asked for: pure, and the only place that reads paths.

Invariants: a name or tag that leaves here is one by the grammar of ``airgap.ref`` and a digest is a Digest, so both are safe
in file paths; whatever else is asked for is refused by RefusalError with the distribution-spec's code. Paths::

    /v2/ , /v2/_catalog , /v2/NAME/{manifests,blobs,blobs/uploads,tags/list,referrers}/...   registry
    [/HOST][/charts]/index.yaml , [/HOST][/charts]/NAME-VERSION.tgz                           chart repository
    [/HOST]/api/v1/operator/channel[/release/ID]                                              release channel
    /simple/ , /simple/PROJECT/ , /simple/PROJECT/FILE                                        Python packages
    / , /healthz                                                                              people and probes

``/HOST`` (anything with a dot) lets one server play several hosts that a manifest's ``registries:`` sends here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from airgap.errors import AirgapError, ConfigurationError, IntegrityError
from airgap.oci import Digest
from airgap.ref import DOCKER_HUB, PATH, Location, Reference
from airgap.serve.messages import RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterable

API = "/v2/"

_REGISTRY = (
    ("manifest", re.compile(r"(.+)/manifests/([^/]+)")),
    ("uploads", re.compile(r"(.+)/blobs/uploads/?()")),
    ("upload", re.compile(r"(.+)/blobs/uploads/([0-9a-f]{32})")),
    ("blob", re.compile(r"(.+)/blobs/([^/]+)")),
    ("tags", re.compile(r"(.+)/tags/list()")),
    ("referrers", re.compile(r"(.+)/referrers/([^/]+)")),
)
"""Tried in this order: a repository may be called ``a/blobs/uploads``, the last words of a path decide."""

_PLAIN = (
    ("channel", re.compile(r"(?:/[^/]*\.[^/]*)?/api/v1/operator/channel/?()")),
    ("channel", re.compile(r"(?:/[^/]*\.[^/]*)?/api/v1/operator/channel/release/([A-Za-z0-9._+-]+)")),
    ("chart-index", re.compile(r"(?:/[^/]*\.[^/]*)?(?:/charts)?/index\.yaml()")),
    ("chart", re.compile(r"(?:/[^/]*\.[^/]*)?(?:/charts)?/([A-Za-z0-9][A-Za-z0-9._+-]*)\.tgz")),
    ("packages", re.compile(r"/simple/?()")),
    ("package", re.compile(r"/simple/([A-Za-z0-9][A-Za-z0-9._-]*)/?")),
    ("package", re.compile(r"/simple/([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._+!-]*)")),
    ("front", re.compile(r"/()")),
    ("health", re.compile(r"/healthz()")),
)


@dataclass(frozen=True)
class Route:
    """What is asked for. ``name`` is the repository as the client calls it, ``rest`` a tag, session, file or release."""

    kind: str
    name: str = ""
    rest: str = ""
    digest: Digest | None = None

    @property
    def locator(self) -> str | Digest:
        """A manifest's tag or digest."""
        return self.digest or self.rest

    def under(self, name: str) -> Route:
        """Return the same route for the repository called ``name``."""
        return replace(self, name=name)

    @property
    def is_registry(self) -> bool:
        """Whether the distribution-spec speaks about it."""
        return self.kind in {"ping", "catalog"} or bool(self.name)


def route(path: str) -> Route:
    """Return what ``path`` (percent-decoded) asks for; raises RefusalError."""
    if path in {API, API.rstrip("/")}:
        return Route("ping")
    if path == f"{API}_catalog":
        return Route("catalog")
    if path.startswith(API):
        return _registry_route(path.removeprefix(API))
    for kind, pattern in _PLAIN:
        if match := pattern.fullmatch(path):
            return Route(kind, rest=match[1])
    raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", f"nothing is served at {path[:100]!r}")


def _registry_route(path: str) -> Route:
    for kind, pattern in _REGISTRY:
        if match := pattern.fullmatch(path):
            return _checked(kind, match[1], match[2])
    raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", f"no endpoint of the distribution-spec: {path[:100]!r}")


def _checked(kind: str, name: str, rest: str) -> Route:
    check_name(name)
    if kind in {"blob", "referrers"} or (kind == "manifest" and ":" in rest):
        return Route(kind, name, rest, check_digest(rest))
    if kind == "manifest":
        check_tag(name, rest)
    return Route(kind, name, rest)


def check_name(name: str) -> str:
    """Return ``name`` if it is a repository path by the one grammar; raises RefusalError."""
    try:
        prefix = Location.parse(f"x/{name}").prefix
    except ConfigurationError as error:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "NAME_INVALID", f"{name[:100]!r} is no repository name") from error
    if prefix != name:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "NAME_INVALID", f"{name[:100]!r} is no repository name")
    return name


def check_tag(name: str, tag: str) -> str:
    """Return ``tag`` if it is one; raises RefusalError: a manifest of another name than tag or digest cannot exist."""
    try:
        found = Reference.parse(f"localhost/{name}:{tag}")
    except AirgapError as error:
        raise RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{tag[:140]!r} is no tag") from error
    if found.tag != tag or found.digest:
        raise RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{tag[:140]!r} is no tag")
    return tag


def check_digest(text: str) -> Digest:
    """Return the digest; raises RefusalError."""
    try:
        return Digest.parse(text)
    except IntegrityError as error:
        raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", error.message) from error


ROOT = Location("x")
"""A place without a prefix; only repositories are read of it."""


def candidates(name: str, *, place: Location = ROOT, hosts: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the repositories that ``name`` may mean, best first.

    ``hosts`` are source hosts that the client named: containerd's ``ns=`` parameter, the Host header of a server that plays
    several hosts. ``name`` as it stands comes last, and then with the prefix put before it.
    """
    found = []
    for host in hosts:
        try:
            found.append(place.relocate(Reference.parse(f"{host}/{name}")).repository)
        except ConfigurationError:
            continue  # not a host: then it names nothing here
    return (*dict.fromkeys((*found, name, place.repository(name))),)


def short_names(name: str, repositories: Iterable[str], *, place: Location = ROOT) -> tuple[str, ...]:
    """Return the repositories whose path at their source is ``name``, Docker Hub first.

    A node mirror that sends no ``ns=`` (Docker's registry-mirrors, CRI-O with a bare location) asks in this way.
    """
    found = []
    for repository in sorted(repositories):
        origin = place.origin(repository)
        host, slash, path = origin.partition("/") if place.layout != PATH else (DOCKER_HUB, "/", origin)
        if slash and (path == name or (host == DOCKER_HUB and path == f"library/{name}")):
            found.append((host != DOCKER_HUB, repository))
    return tuple(repository for _, repository in sorted(found))
