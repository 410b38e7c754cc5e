"""The walk through objects: which strings there are, where, and under which key."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.ref import has_tag_or_digest
from airgap.scan.documents import Document
from airgap.scan.texts import CONTAINER, IMAGE, URL, Found, find, keyed_reference, reference_of, words
from airgap.values import Json, ValuePath, format_path, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airgap.ref import Reference

_CONTAINER_LISTS = frozenset({"containers", "initContainers", "ephemeralContainers"})
_ENCODED: dict[str, tuple[ValuePath, ...]] = {"Secret": (("data",),), "ConfigMap": (("binaryData",),)}
_NESTING_LIMIT = 4
"""Levels of YAML in strings of YAML in strings; two have been seen."""
_VALUE_KEYS = frozenset({"value", "name", "ref", "reference", "default", "url", "uri"})
"""Keys that say nothing by themselves: what stands under them belongs to the key above (``image: {value: ...}``)."""
_REPOSITORY_KEYS = ("repository", "image", "baseImage", "name")
_VERSION_KEYS = ("tag", "version", "imageTag")
_DIGEST_KEYS = ("digest", "sha", "sha256")
_DIGEST_HEX = 64


@dataclass(frozen=True)
class Hit:
    """A reference or an outside host, and the place of it.

    ``path``: place in the object (``spec.containers[0].image``); ``!`` stands where a string was opened (YAML, JSON, base64).
    ``text``: the reference or URL as written, without credentials. ``kind``: container (the image of a container, or of a
    volume), image (a reference in any other string) or url. ``reference`` is None for a url, and for a container's image that
    is none: ``problem`` says why. ``host``: of the URL or the reference's registry.
    """

    document: Document
    path: str
    text: str
    kind: str
    reference: Reference | None
    host: str
    problem: str = ""


@dataclass(frozen=True)
class Scan:
    """Everything that was found, in the order of the documents."""

    hits: tuple[Hit, ...]

    @property
    def containers(self) -> tuple[Hit, ...]:
        """The images of containers and of image volumes."""
        return tuple(hit for hit in self.hits if hit.kind == CONTAINER)

    @property
    def images(self) -> tuple[Hit, ...]:
        """References in other strings."""
        return tuple(hit for hit in self.hits if hit.kind == IMAGE)

    @property
    def urls(self) -> tuple[Hit, ...]:
        """Outside hosts."""
        return tuple(hit for hit in self.hits if hit.kind == URL)


def scan(documents: Iterable[Document]) -> Scan:
    """Return every reference and outside host of the objects."""
    listed = tuple(documents)
    services = frozenset(document.name for document in listed if document.kind == "Service")
    hits: list[Hit] = []
    for document in listed:
        seen: set[tuple[str, str, str]] = set()
        for path, found in _walk_document(document):
            mark = (path, found.kind, found.text)
            if mark in seen or (found.kind == URL and _is_service(found.host, services)):
                continue
            seen.add(mark)
            hits.append(Hit(document, path, found.text, found.kind, found.reference, found.host, found.problem))
    return Scan(tuple(hits))


def scan_values(values: Json) -> tuple[Hit, ...]:
    """Return the references that values spell out: ``{registry?, repository, tag?, digest?}`` and ``image: ...``.

    The document of these hits has no template; tags that the chart would fill in are ``latest`` here.
    """
    document = Document("", values if isinstance(values, dict) else {})
    walk = _Walk(values_only=True)
    return tuple(
        Hit(document, path, it.text, it.kind, it.reference, it.host, it.problem)
        for path, it in walk.any(values, "", (), "")
        if it.kind != URL
    )


def _is_service(host: str, services: frozenset[str]) -> bool:
    """Whether ``service.namespace`` or ``pod.service[.namespace]`` names a Service that is rendered too."""
    labels = host.split(".")
    return (len(labels) == 2 and labels[0] in services) or (len(labels) in (2, 3) and labels[1] in services)  # noqa: PLR2004 - the two forms of the docstring


def _walk_document(document: Document) -> Iterator[tuple[str, Found]]:
    yield from _Walk(encoded=_ENCODED.get(document.kind, ())).any(document.object, "", (), "")


@dataclass(frozen=True)
class _Walk:
    """One walk; ``prefix`` arguments are the written path of the string that was opened, with its ``!``.

    ``encoded``: the top-level keys below which strings are base64. ``level``: how many strings were opened to get here.
    """

    values_only: bool = False
    encoded: tuple[ValuePath, ...] = ()
    level: int = 0

    def any(self, node: Json, prefix: str, path: ValuePath, key: str) -> Iterator[tuple[str, Found]]:
        """Yield (written path, what was found) for ``node`` and everything below it."""
        if isinstance(node, dict):
            yield from self.map(node, prefix, path, key)
        elif isinstance(node, list):
            yield from self.list(node, prefix, path, key)
        elif isinstance(node, str):
            yield from self.text(node, prefix + format_path(path), key, path)

    def map(self, node: dict[str, Json], prefix: str, path: ValuePath, key: str) -> Iterator[tuple[str, Found]]:
        done: frozenset[str] = frozenset()
        image = _image_key(path)
        if image in node:
            done = frozenset({image})
            value = node[image]
            text = value if isinstance(value, str) else json.dumps(value)
            yield prefix + format_path((*path, image)), reference_of(text, CONTAINER)
        elif joined := _joined(node, key):
            done = frozenset({joined[0], "registry"})
            yield prefix + format_path((*path, joined[0])), joined[1]
        named = node.get("name") if isinstance(node.get("value"), str) else None
        for name, value in node.items():
            if "://" in name:
                yield from ((prefix + format_path((*path, name)), found) for found in find(name, "") if found.kind == URL)
            if name not in done:
                yield from self.any(value, prefix, (*path, name), _key_below(name, key, named))

    def list(self, node: list[Json], prefix: str, path: ValuePath, key: str) -> Iterator[tuple[str, Found]]:
        for index, item in enumerate(node):
            before = node[index - 1] if index else None
            flag = isinstance(item, str) and isinstance(before, str) and before.startswith("-") and "=" not in before
            yield from self.any(item, prefix, (*path, index), before.lstrip("-") if flag and isinstance(before, str) else key)

    def text(self, text: str, written: str, key: str, path: ValuePath) -> Iterator[tuple[str, Found]]:
        if self.values_only:
            found = keyed_reference(text.strip(), key)
            if found:
                yield written, found
            return
        if not self.level and path[:1] in self.encoded:
            decoded = _decoded(text)
            if decoded is not None:
                yield from _Walk(level=1).text(decoded, f"{written}!", key, path)
            return
        inner = _opened(text) if self.level < _NESTING_LIMIT else None
        told: set[tuple[str, str]] = set()
        if inner is not None:
            for place, found in _Walk(level=self.level + 1).any(inner, f"{written}!", (), key):
                told.add((found.kind, found.text))
                yield place, found
        for found in find(text, key, opened=inner is not None):
            if (found.kind, found.text) not in told and (CONTAINER, found.text) not in told:
                yield written, found


def _image_key(path: ValuePath) -> str:
    """Return the key that holds an image in the map at ``path``: of a container, or of an image volume; else nothing."""
    if path[-2:-1] and path[-2] in _CONTAINER_LISTS and isinstance(path[-1], int):
        return "image"
    return "reference" if path[-3:-2] == ("volumes",) and path[-1] == "image" else ""


def _key_below(name: str, key: str, named: Json) -> str:
    """Return what a value under ``name`` in a map under ``key`` is called; ``named``: the name beside a value (``env``)."""
    if name == "value" and isinstance(named, str):
        return named
    return f"{key}.{name}" if name in _VALUE_KEYS else name


def _joined(node: dict[str, Json], key: str) -> tuple[str, Found] | None:
    """Return the reference that a map spells in parts, with the key of its main part; None if it does not."""
    under_image = words(key)[-1:] == ["image"]
    for main in _REPOSITORY_KEYS:
        repository = node.get(main)
        if not isinstance(repository, str) or not repository or "://" in repository or has_tag_or_digest(repository):
            continue
        tag, digest = _first(node, _VERSION_KEYS), _digest(_first(node, _DIGEST_KEYS))
        registry = node.get("registry") if main in ("repository", "name") else None
        is_image = main == "repository" and (under_image or tag or digest or isinstance(registry, str))
        if not (is_image or (main == "name" and under_image) or (main in ("image", "baseImage") and (tag or digest))):
            continue
        text = f"{registry.rstrip('/')}/{repository}" if isinstance(registry, str) and registry else repository
        text += (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
        found = reference_of(text, IMAGE)
        if found.reference is not None:
            return main, found
    return None


def _first(node: dict[str, Json], keys: tuple[str, ...]) -> str:
    """Return the first non-empty text or number among ``keys``."""
    for key in keys:
        value = node.get(key)
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
            return str(value)
    return ""


def _digest(text: str) -> str:
    return f"sha256:{text}" if len(text) == _DIGEST_HEX and ":" not in text else text


@lru_cache(maxsize=4096)
def _opened(text: str) -> Json:
    """Return a text as the map or list that it spells in JSON or YAML, or None."""
    bare = text.strip()
    if not bare or ("\n" not in bare and bare[0] not in "{["):
        return None
    try:
        data: Json = json.loads(bare)
    except (ValueError, RecursionError):
        try:
            data = load_yaml(text, "text", duplicates=True)
        except ConfigurationError:
            return None
    return data if isinstance(data, (dict, list)) and data else None


def _decoded(text: str) -> str | None:
    """Return the text that a Secret's base64 holds, or None for what is no text."""
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (ValueError, binascii.Error):
        return None
