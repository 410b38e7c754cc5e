"""What one string says: the references and the outside hosts in it, given the key that it stands under.

An image is called one by these rules (why: each has a thread in cases.md, R1-R8, or a false alarm that it prevents):

=================  ==============================================  =====================================================
rule               takes                                           because
=================  ==============================================  =====================================================
full reference     ``host/path:tag`` or ``host/path@digest``       nothing else looks so: label values and API groups have
                   anywhere in any text; the host has a dot, a     no tag, host:port no path, file paths no host
                   port or is localhost, the path a letter
key ends in image  any reference, even ``busybox``                 ``baseImage``, ``BASE_IMAGE``, ``--image`` say so
key has image      a reference with a path or tag                  ``RELATED_IMAGE_X``, ``images``; but not ``imagePullPolicy``
map                repository (name, image, ...) with tag,         what operators and charts join themselves
                   version or digest beside it
=================  ==============================================  =====================================================

A host is outside unless it cannot be: a single label (a Service of the same namespace), cluster DNS (``*.svc``), loopback and
link-local addresses. Of a URL every host counts (``//host/...`` too), of a cloud address (``gs://bucket``) the provider;
else ``host:port``, a bare name under a key that says host, and a bare name of a public domain under any key that does not speak
of API groups and the like.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.ref import Reference
from airgap.scan.clouds import cloud_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINER, IMAGE, URL = "container", "image", "url"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_IPV6 = r"\[[0-9A-Fa-f:.]+\]"
_START = r"(?<![A-Za-z0-9_.@:/\\$}%*-])"
_END = r"(?![A-Za-z0-9_@/$*{-]|[.:][A-Za-z0-9$])"

_FULL = re.compile(
    rf"(?:(?<=docker://)|{_START})(?P<host>(?:{_NAME}|{_IPV6})(?::[0-9]{{1,5}})?)"
    r"(?P<path>(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+)"
    rf"(?P<end>(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-fA-F]{{32,}})?){_END}"
)
_URL = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):|(?<![^\s\"'(=]))//(?P<authority>[^/?#\s\"'<>`\\|,;)]*)(?P<rest>[^\s\"'<>`\\|,;)}\]]*)"
)
_HOST_PORT = re.compile(rf"{_START}(?P<host>(?:{_NAME}|{_IPV6})):(?P<port>[0-9]{{1,5}}){_END}")
_GIT = re.compile(rf"\bgit@(?P<host>{_NAME}):")
_BARE_HOST = re.compile(rf"{_NAME}\.?")
_FLAG = re.compile(r"-{0,2}(?P<key>[A-Za-z][A-Za-z0-9_.-]*)=(?P<value>\S+)")
_KEYED = re.compile(
    r"(?<![A-Za-z0-9_.-])(?P<key>[A-Za-z0-9_.-]*image[A-Za-z0-9_.-]*)[\"']?\s*[:=][ \t]*[\"']?(?P<value>[^\s\"',;}\]`)]+)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")

_NO_HOST_SCHEMES = frozenset({"file", "unix", "data", "urn", "about", "mem", "inmemory", "env", "k8s"})
"""Schemes whose authority, if any, is no host."""

_FILE_ENDINGS = frozenset({
    "c", "cc", "cfg", "cnf", "conf", "crt", "css", "go", "gz", "h", "html", "ini", "java", "jar", "js", "json", "key", "log",
    "lua", "md", "pem", "pid", "png", "py", "rb", "rs", "sh", "so", "sock", "sql", "svg", "tar", "tgz", "toml", "ts", "txt",
    "xml", "yaml", "yml", "zip",
})  # fmt: skip
"""Last labels that make ``redis.conf:12`` or ``x.py/y:1`` a file rather than a host (``sh``, ``py``, ``rs``, ``md``, ``so`` are
country domains too: with a scheme they count as hosts)."""

_IMAGE_FILE = re.compile(r"\.(?:png|jpe?g|gif|svg|ico|webp|bmp|iso|qcow2|img|raw)$", re.IGNORECASE)
_NOT_IMAGES = frozenset(
    {"policy", "pull", "tag", "secret", "secrets", "registry", "repository", "prefix", "size", "type", "version", "digest"}
)
"""Words that, last in a key with ``image`` in it, speak about the image but do not name it."""

_HOST_WORDS = frozenset({
    "host", "hosts", "hostname", "hostnames", "url", "uri", "server", "servers", "endpoint", "endpoints", "address", "addr",
    "domain", "fqdn", "registry", "upstream",
})  # fmt: skip
"""Last words of keys under which a bare name is a host."""

_PUBLIC = re.compile(r"(?<!\bk8s)(?<!\bkubernetes)\.(?:com|net|org|io|ai|dev|app|cloud|co|edu|gov|mil)$")
"""Domains whose names are hosts even under a key that says nothing (``DD_SITE``); names of Kubernetes' own are words."""

_NAMING_WORDS = frozenset({
    "group", "groups", "name", "names", "kind", "key", "id", "path", "provisioner", "driver", "finalizer", "finalizers",
    "controller", "class", "type", "resource", "resources",
})  # fmt: skip
"""Last words of keys under which a dotted name is an API group, a CRD, a CSI driver or an election's id."""

_LETTERS = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Found:
    """One thing that a text says: see Hit for the fields."""

    kind: str
    text: str
    reference: Reference | None
    host: str
    problem: str = ""


def is_inside(host: str) -> bool:
    """Whether a host (no port) cannot lie outside the cluster: single label, cluster DNS, loopback, link-local, unspecified."""
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        labels = name.split(".")
        return len(labels) == 1 or labels[-1] == "localhost" or "svc" in labels[1:] or labels[-2:] == ["cluster", "local"]
    return address.is_loopback or address.is_link_local or address.is_unspecified


def reference_of(text: str, kind: str) -> Found:
    """Return what a text that must be a reference is; one that is none comes with its problem."""
    try:
        reference = Reference.parse(text)
    except ConfigurationError as error:
        return Found(kind, text, None, "", f"{error.message}" if text.strip() else "the image is an empty text")
    return Found(kind, text, reference, reference.registry)


@lru_cache(maxsize=16384)
def find(text: str, key: str, *, opened: bool = False) -> tuple[Found, ...]:
    """Return everything in ``text``, each once; ``key`` is the name that it stands under, or empty.

    ``opened``: the text was read as YAML or JSON and its parts are looked at one by one; words beside keys are left to that.
    """
    found: dict[tuple[str, str], Found] = {}
    for item in _all(text, key, opened):
        found.setdefault((item.kind, item.text), item)
    return tuple(found.values())


def _all(text: str, key: str, opened: bool) -> Iterator[Found]:
    whole = keyed_reference(text.strip(), key)
    if whole:
        yield whole
    flag = _FLAG.fullmatch(text.strip())
    if flag:
        part = keyed_reference(flag["value"], flag["key"])
        yield from [part] if part else _bare_hosts(flag["value"], flag["key"])
    elif not opened and not whole:
        yield from _beside_keys(text)
    if "/" not in text and ":" not in text and "." not in text:
        return
    taken = set()
    for match in _FULL.finditer(text):
        if _is_full(match):
            taken.add(match.start())
            if not (whole and match[0] in whole.text):
                yield reference_of(match[0], IMAGE)
    if not (whole and "://" in whole.text):
        yield from _urls(text)
    yield from _hosts(text, taken)
    yield from _bare_hosts(text, key)


def words(key: str) -> list[str]:
    """Split a key into its lower-case words: ``baseImage``, ``BASE_IMAGE`` and ``base-image`` are base and image."""
    return [word.lower() for word in _WORD.findall(key)]


def keyed_reference(text: str, key: str) -> Found | None:
    """Return the reference that ``text`` is because of its key, or None."""
    named = words(key)
    if not {"image", "images"} & set(named) or named[-1] in _NOT_IMAGES:
        return None
    if not _LETTERS.search(text) or "://" in text.removeprefix("docker://") or _IMAGE_FILE.search(text):
        return None
    found = reference_of(text, IMAGE)
    if found.reference is None:
        return None
    says_more = "/" in text or ":" in text
    return found if says_more or (named[-1] == "image" and text not in _NO_NAMES) else None


_NO_NAMES = frozenset({"true", "false", "null", "none", "default", "always", "latest", "auto", "never", "image", "string"})


def _beside_keys(text: str) -> Iterator[Found]:
    """Find ``image: a/b:1`` and ``IMAGE=a/b:1`` in a text that is neither YAML nor JSON (scripts, templates)."""
    for match in _KEYED.finditer(text):
        if "/" in match["value"] or ":" in match["value"]:
            found = keyed_reference(match["value"], match["key"])
            if found:
                yield found


def _is_full(match: re.Match[str]) -> bool:
    host, path, end = match["host"], match["path"], match["end"]
    name = host.partition(":")[0]
    if not end or not _LETTERS.search(path) or not ("." in host or ":" in host or host == "localhost"):
        return False
    return host.startswith("[") or ":" in host or _looks_like_host(name) or name == "localhost"


def _looks_like_host(name: str) -> bool:
    """Whether a dotted name may be a host: an address, or a last label of letters that is no file ending."""
    last = name.rstrip(".").rpartition(".")[2].lower()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+){3}", name):
        return True
    return "." in name.rstrip(".") and last.isalpha() and len(last) > 1 and last not in _FILE_ENDINGS


def _urls(text: str) -> Iterator[Found]:
    for match in _URL.finditer(text):
        scheme = (match["scheme"] or "").lower()
        authority = match["authority"].rpartition("@")[2]
        host = _host_of(authority)
        if scheme in _NO_HOST_SCHEMES or not host or is_inside(host) or not (scheme or _looks_like_host(host)):
            continue
        secret = "***@" if "@" in match["authority"] else ""
        rest = match["rest"].partition("?")[0].rstrip(".:]}")
        yield Found(URL, f"{scheme + ':' if scheme else ''}//{secret}{authority}{rest}", None, host)
    for address, host in cloud_addresses(text):
        yield Found(URL, address, None, host)
    for match in _GIT.finditer(text):
        yield Found(URL, match[0].rstrip(":"), None, match["host"].lower())


def _host_of(authority: str) -> str:
    """Return the host of a URL's authority in lower case; empty when it is a template or no host."""
    match = re.fullmatch(rf"(?P<host>{_NAME}\.?|{_IPV6})(?::[^:]*)?", authority)
    return match["host"].lower().rstrip(".") if match else ""


def _hosts(text: str, taken: set[int]) -> Iterator[Found]:
    """Find ``host:port`` that is not the start of a reference."""
    for match in _HOST_PORT.finditer(text):
        host = match["host"]
        if match.start() not in taken and (host.startswith("[") or _looks_like_host(host)) and not is_inside(host):
            yield Found(URL, match[0], None, host.lower())


def _bare_hosts(text: str, key: str) -> Iterator[Found]:
    """Yield the hosts that a text is, whole or as a list with commas, because of its key or its public domain."""
    last = words(key)[-1:]
    for part in text.split(","):
        name = part.strip()
        if not _BARE_HOST.fullmatch(name) or not _looks_like_host(name) or is_inside(name):
            continue
        host = name.lower().rstrip(".")
        if _HOST_WORDS.intersection(last) or (_PUBLIC.search(host) and not _NAMING_WORDS.intersection(last)):
            yield Found(URL, name, None, host)
