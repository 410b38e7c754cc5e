"""Reference: the name of an image, and Location: where the private registry keeps them.

Invariants: a Reference is normalised when it is parsed: the registry is always there and in lower case, Docker Hub has one
name (``docker.io``) and its official images their full path (``library/nginx``), so equal images are equal objects.
The grammar is that of distribution/reference (the Docker reference grammar), with IPv6 hosts; cases.md R1-R6, R13.

>>> str(Reference.parse("nginx"))
'docker.io/library/nginx:latest'
>>> str(Location.parse("reg.lan:5000/team/").relocate(Reference.parse("quay.io/a/b:1")))
'reg.lan:5000/team/quay.io/a/b:1'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from airgap.errors import ConfigurationError, IntegrityError
from airgap.oci import Digest

DOCKER_HUB = "docker.io"
HUB_ALIASES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
"""Names under which Docker Hub is written down (cases.md R6)."""

HOST, PATH, FLAT = "host", "path", "flat"
LAYOUTS = (HOST, PATH, FLAT)
"""How repositories are called inside (design.md decision 10): ``quay.io/a/b``, ``a/b``, ``quay.io--a--b``."""

REPOSITORY_LIMIT = 255
"""Characters of ``registry/repository`` that distribution accepts (distribution/reference NameTotalLengthMax)."""

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<ipv6>[0-9a-f:.]+)\])(?P<port>:[0-9]{{1,5}})?")
_HYPHENS = re.compile(r"-{2,}")
_SCHEMES = ("docker://", "oci://")
_PORT_LIMIT = 65535


@dataclass(frozen=True, order=True)
class Reference:
    """``registry/repository[:tag][@digest]``, normalised.

    ``tag`` is empty when only a digest was given; ``Reference.parse`` fills in ``latest`` when neither was, and remembers
    nothing of that: use ``has_tag_or_digest`` on the text to tell.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference as people and charts write them; raises ConfigurationError that names the fault.

        ``docker://`` and ``oci://`` are taken off; other schemes are refused with the text that would be right.
        """
        name, tag, digest = _split(_without_scheme(text), text)
        registry, repository = _host_and_path(name)
        if not registry:
            registry = DOCKER_HUB
        registry = _checked_host(registry, text)
        if registry in HUB_ALIASES:
            registry = DOCKER_HUB
            if "/" not in repository:
                repository = f"library/{repository}"
        _check_repository(repository, registry, text)
        if not tag and not digest:
            tag = "latest"
        return cls(registry, repository, tag, digest)

    @property
    def name(self) -> str:
        """``registry/repository``."""
        return f"{self.registry}/{self.repository}"

    @property
    def locator(self) -> str:
        """What to ask a registry for: the digest when there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag

    def pinned(self, digest: Digest) -> Reference:
        """Return the same reference with ``digest``, the tag kept."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


@dataclass(frozen=True, order=True)
class Location:
    """``REGISTRY[/PREFIX]``: where the private registry keeps what was bundled (``--registry``).

    In the layout HOST the source host stays in the path (design.md decision 10), so nothing collides and the origin can be
    read. PATH leaves it out; FLAT writes everything below the prefix as one component, for registries that allow no depth.

    >>> Location("reg.lan", "team", FLAT).repository("quay.io/a/b--c")
    'team/quay.io--a--b---c'
    """

    registry: str
    prefix: str = ""
    layout: str = HOST

    @classmethod
    def parse(cls, text: str, layout: str = HOST) -> Location:
        """Parse ``REGISTRY[/PREFIX]``; a trailing slash is dropped; raises ConfigurationError (cases.md R13, R4)."""
        if layout not in LAYOUTS:
            raise ConfigurationError(f"layout {layout!r} is none of {', '.join(LAYOUTS)}")
        bare = _without_scheme(text)
        bare = bare.removesuffix("/")
        registry, slash, prefix = bare.partition("/")
        host = _checked_host(registry, text)
        if slash:
            _check_repository(prefix, host, text)
        return cls(host, prefix, layout)

    def under(self, repository: str) -> str:
        """Return ``repository``, named as the layout names it already, with the prefix before it."""
        return f"{self.prefix}/{repository}" if self.prefix else repository

    def repository(self, path: str) -> str:
        """Return the repository for ``path`` under the prefix, in this layout."""
        return self.under(_flattened(path) if self.layout == FLAT else path)

    def relocate(self, reference: Reference) -> Reference:
        """Return where ``reference`` lies inside; tag and digest are kept.

        What would be no legal path component is written otherwise: the colon of a port as an underscore, an IPv6 address in
        full with hyphens.
        """
        host = "" if self.layout == PATH else f"{_host_component(reference.registry)}/"
        return replace(reference, registry=self.registry, repository=self.repository(f"{host}{reference.repository}"))

    def origin(self, repository: str) -> str:
        """Return the path that ``repository`` was made from: with the source host in HOST and FLAT, without it in PATH."""
        inner = repository.removeprefix(f"{self.prefix}/") if self.prefix else repository
        return _unflattened(inner) if self.layout == FLAT else inner

    def holds(self, reference: Reference) -> bool:
        """Whether ``reference`` lies in this registry and under this prefix."""
        if reference.registry != self.registry:
            return False
        return not self.prefix or reference.repository.startswith(f"{self.prefix}/")

    def __str__(self) -> str:
        return f"{self.registry}/{self.prefix}" if self.prefix else self.registry


def has_tag_or_digest(text: str) -> bool:
    """Whether a reference as written names a tag or a digest at all (an untagged one moves: cases.md H5)."""
    return "@" in text or ":" in text.rpartition("/")[2]


def _without_scheme(text: str) -> str:
    bare = text.strip()
    for scheme in _SCHEMES:
        bare = bare.removeprefix(scheme)
    if "://" in bare:
        raise ConfigurationError(
            f"{text!r} has a scheme, which a registry name has not", hint=f"write {bare.partition('://')[2]}"
        )
    return bare


def _split(bare: str, text: str) -> tuple[str, str, Digest | None]:
    """Split into name, tag and digest: a tag's colon comes after the last slash and before the @ (cases.md R1)."""
    rest, at, encoded = bare.partition("@")
    digest = None
    if at:
        try:
            digest = Digest.parse(encoded)
        except IntegrityError as error:
            raise ConfigurationError(f"reference {text!r}: {error.message}") from error
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ConfigurationError(f"reference {text!r}: {tag!r} is not a tag (letters, digits, '_', '.', '-'; at most 128)")
    return f"{head}{slash}{last}", tag, digest


def _host_and_path(name: str) -> tuple[str, str]:
    """Split off the first part if it is a host: it has a dot or a colon, is localhost, or has upper case (R1, R4)."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return first, rest
    return "", name


def _checked_host(host: str, text: str) -> str:
    """Return the host in lower case (hosts are case-insensitive), or say what is wrong with it."""
    lower = host.lower()
    match = _HOST.fullmatch(lower)
    if not match or (match["ipv6"] and not _is_ipv6(match["ipv6"])):
        raise ConfigurationError(f"{text!r}: {host!r} is not a host name with an optional port")
    port = (match["port"] or ":0")[1:]
    if int(port) > _PORT_LIMIT:
        raise ConfigurationError(f"{text!r}: port {port} is larger than {_PORT_LIMIT}")
    return lower


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _host_component(host: str) -> str:
    """Return a registry's host as one path component, different for different hosts."""
    address, bracket, port = host.removeprefix("[").partition("]")
    if bracket:
        host = IPv6Address(address).exploded.replace(":", "-") + port
    return host.replace(":", "_")


def _flattened(path: str) -> str:
    """Return a path as one component: a slash as two hyphens, runs of hyphens one longer, so that it can be read back."""
    return _HYPHENS.sub(lambda run: f"{run[0]}-", path).replace("/", "--")


def _unflattened(component: str) -> str:
    return _HYPHENS.sub(lambda run: "/" if run[0] == "--" else run[0][1:], component)


def _check_repository(repository: str, registry: str, text: str) -> None:
    if repository != repository.lower():
        upper = next(character for character in repository if character != character.lower())
        raise ConfigurationError(
            f"reference {text!r}: a repository may not hold upper case ({upper!r})",
            hint=f"write {text.replace(repository, repository.lower())}",
        )
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigurationError(f"reference {text!r}: {repository!r} is not a repository path")
    if len(registry) + 1 + len(repository) > REPOSITORY_LIMIT:
        raise ConfigurationError(f"reference {text[:60]!r}...: longer than the {REPOSITORY_LIMIT} characters of a name")
