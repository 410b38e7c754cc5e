"""What can be switched on in a chart: conditions of its dependency tree, and ``enabled`` switches beside images.

Invariants: pure. Nothing here knows a chart by name. A switch is an *image switch* when the map that holds it also
holds (at any depth) a map that spells an image: ``redis.metrics.enabled`` beside ``redis.metrics.image``. Switches that
gate anything else (ingress, TLS, probes) bring no image of their own and are left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airgap.chart.texts import INCLUDE, defines, from_top, value_paths
from airgap.discover.rendering import Switch
from airgap.scan import scan_values
from airgap.values import format_path, get, leaves, parse_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airgap.chart import Chart, Node
    from airgap.ref import Reference
    from airgap.values import ValuePath

SWITCH_WORDS = ("enabled", "install", "enable", "create")
"""Last parts of a switch's path; they are left out of the feature's name."""

INCLUDE_DEPTH = 3
"""Named templates that include named templates, followed when it is asked who reads a value."""

_GATE = re.compile(r"\{\{-?\s*(?:if|else if)\s([^}]*)\}\}")
_CHOICE = re.compile(r"\beq\s+\$?\.Values((?:\.[A-Za-z0-9_-]+)+)\s+\"([^\"]+)\"")
_API = re.compile(r"\.APIVersions\.Has\s+\(?[\"`]([\w./-]+)[\"`]")


@dataclass(frozen=True)
class ImageMap:
    """A map in the values that spells an image: its path (without the key of the repository), and the reference."""

    path: ValuePath
    reference: Reference
    tagged: bool


@dataclass(frozen=True)
class Candidate:
    """Something that is off and can be on: ``switches`` are its own last, with all that must be on for it before.

    ``nodes``: the nodes of the tree that a condition brings, or the one whose templates look at the switch.
    """

    name: str
    switches: tuple[Switch, ...]
    nodes: tuple[tuple[str, ...], ...]
    is_condition: bool

    @property
    def path(self) -> ValuePath:
        """The path of its own switch."""
        return self.switches[-1].path

    def serves(self, node: tuple[str, ...]) -> bool:
        """Whether ``node`` is, or lies under, one of its nodes."""
        return any(node[: len(own)] == own for own in self.nodes)


def feature_name(path: ValuePath) -> str:
    """Return how a switch is called: its dotted path without the word that says what it is.

    >>> feature_name(("redis", "metrics", "enabled"))
    'redis.metrics'
    """
    parts = path[:-1] if len(path) > 1 and path[-1] in SWITCH_WORDS else path
    return format_path(parts)


def image_maps(values: Mapping[str, Any]) -> tuple[ImageMap, ...]:
    """Return the maps that spell images, copies of ``global`` inside subcharts left out."""
    found = []
    for hit in scan_values(dict(values)):
        path = parse_path(hit.path) if "!" not in hit.path else ()
        if hit.reference and path and "global" not in path[1:]:
            found.append(ImageMap(path[:-1], hit.reference, hit.text.rpartition("/")[2].find(":") > 0 or "@" in hit.text))
    return tuple(found)


def conditions(chart: Chart, values: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """Return the conditions (and tags) of the dependency tree that are off with ``values``, parents first, each once."""
    found: dict[ValuePath, Candidate] = {}
    switches: dict[tuple[str, ...], tuple[Switch, ...]] = {(): ()}
    for node in chart.tree():
        above = switches[node.path[:-1]] if node.path else ()
        own = _off(node, values)
        switches[node.path] = (*above, *((Switch(own),) if own else ()))
        if own and own in found:
            found[own] = replace(found[own], nodes=(*found[own].nodes, node.path))
        elif own:
            found[own] = Candidate(feature_name(own), switches[node.path], (node.path,), is_condition=True)
    return tuple(found.values())


def _off(node: Node, values: Mapping[str, Any]) -> ValuePath:
    """Return the path that would switch an optional node on, or nothing if it is on.

    Helm takes the first condition whose path holds a boolean; else the tags, of which one must be true or unset.
    """
    for condition in node.conditions:
        state = get(dict(values), tuple(condition.split(".")))
        if isinstance(state, bool):
            return () if state else tuple(condition.split("."))
    tags = [get(dict(values), ("tags", tag)) for tag in node.tags]
    return ("tags", node.tags[0]) if tags and all(tag is False for tag in tags) else ()


def image_switches(chart: Chart, values: Mapping[str, Any], known: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the image switches that are off with ``values`` (those with every condition on).

    ``known`` are the conditions that were off before: what lies under one of them needs it too. A switch of which the values
    say nothing is found where a template asks for it.
    """
    maps = image_maps(values)
    taken = {candidate.path for candidate in known}
    nodes = tuple(chart.tree())
    paths = {path for path, value in leaves(dict(values)) if value is False and path[-1] in SWITCH_WORDS[:3]}
    for node in nodes:
        paths |= {path for path in gates(node, node.chart.templates) if get(dict(values), path) in (None, False)}
    found = []
    for path in sorted(paths - taken, key=format_path):
        beside = [item for item in maps if item.path[: len(path) - 1] == path[:-1]]
        if not beside or "global" in path or not path[:-1] or path[-1] not in SWITCH_WORDS[:3]:
            continue
        node_path = max((node.path for node in nodes if path[: len(node.path)] == node.path), key=len)
        found.append((path, node_path))
    switches = [path for path, _ in found]
    return tuple(
        Candidate(
            feature_name(path), (*_needed(node, known), *_around(path, switches), Switch(path)), (node,), is_condition=False
        )
        for path, node in found
    )


def _needed(node: tuple[str, ...], known: Sequence[Candidate]) -> tuple[Switch, ...]:
    """Return the conditions that must be on for ``node`` to be there."""
    serving = [candidate for candidate in known if candidate.serves(node)]
    return tuple(dict.fromkeys(switch for candidate in serving for switch in candidate.switches))


def _around(path: ValuePath, switches: Sequence[ValuePath]) -> tuple[Switch, ...]:
    """Return the switches of the maps around: ``externalAccess.enabled`` for ``externalAccess.autoDiscovery.enabled``."""
    outer = (other for other in switches if len(other) < len(path) and other[:-1] == path[: len(other) - 1])
    return tuple(Switch(other) for other in sorted(outer, key=len))


def gates(node: Node, templates: Mapping[str, str]) -> Iterator[ValuePath]:
    """Yield the paths (from the top) of the values that templates of ``node`` look at in ``if``."""
    for text in templates.values():
        for gate in _GATE.findall(text):
            for path in value_paths(gate):
                yield from_top(node.path, path)


def choices(node: Node, item: ImageMap) -> dict[ValuePath, tuple[str, ...]]:
    """Return the words with which the templates that use an image compare a value: ``eq .Values.architecture "replication"``.

    Only templates of ``node`` count that read the map ``item``, by themselves or through a named template.
    """
    found: dict[ValuePath, dict[str, None]] = {}
    for text in _readers(node, item):
        for path, word in _CHOICE.findall(text):
            found.setdefault(from_top(node.path, path), {})[word] = None
    return {path: tuple(words) for path, words in found.items()}


def _readers(node: Node, item: ImageMap) -> Iterator[str]:
    """Yield the templates that read a map of the values, directly or through named templates (three deep)."""
    templates = node.chart.templates
    asked = re.compile(rf"\.Values\.{re.escape(format_path(item.path[len(node.path) :]))}(?![\w-])")
    names = {name for text in templates.values() for name, body in defines(text).items() if asked.search(body)}
    for _ in range(INCLUDE_DEPTH):
        more = {
            name
            for text in templates.values()
            for name, body in defines(text).items()
            if names.intersection(INCLUDE.findall(body))
        }
        names |= more
    for text in templates.values():
        if asked.search(text) or names.intersection(INCLUDE.findall(text)):
            yield text


def api_gates(chart: Chart) -> tuple[str, ...]:
    """Return the API groups and versions that templates of the chart and its subcharts ask the cluster for (cases.md H4)."""
    texts = (text for node in chart.tree() for text in node.chart.templates.values())
    return tuple(sorted({name for text in texts for name in _API.findall(text)}))


def makes(item: ImageMap, reference: Reference) -> bool:
    """Whether the map may be what made a rendered reference: a registry or prefix may have been put before its repository."""
    short = item.reference.repository.removeprefix("library/")
    inside = reference.repository in (item.reference.repository, short) or reference.repository.endswith(f"/{short}")
    same = (item.reference.tag, item.reference.digest) == (reference.tag, reference.digest)
    return inside and (same or not item.tagged or bool(reference.digest))
