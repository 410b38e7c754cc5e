"""What the text of templates says: values that are read, named templates, and what includes what. Pure.

Go's template language is not parsed: these are looks at its surface, good enough to propose what a render then proves.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.values import ValuePath

_PATH = re.compile(r"(?<![\w$)])\$?\.Values((?:\.[A-Za-z0-9_-]+)+)")
_INDEX = re.compile(r"index\s+\$?\.Values((?:\s+\"[A-Za-z0-9_-]+\")+)")
_QUOTED = re.compile(r"\"([^\"]+)\"")
_PARENTHESES = re.compile(r"\((\$?\.Values(?:\.[A-Za-z0-9_-]+)*)\)\.")
_DEFINE = re.compile(r"\{\{-?\s*define\s+\"([^\"]+)\"")
INCLUDE = re.compile(r"\b(?:include|template)\s+\"([^\"]+)\"")


def value_paths(text: str) -> list[str]:
    """Return the dotted paths below ``.Values`` that a piece of a template reads, however it is written.

    >>> value_paths('.Values.a.b (.Values.c.d).e (index .Values "f-g" "h").i')
    ['a.b', 'c.d.e', 'f-g.h.i']
    """
    plain = _INDEX.sub(lambda found: f".Values{''.join(f'.{key}' for key in _QUOTED.findall(found[1]))}", text)
    plain = _PARENTHESES.sub(r"\1.", plain)
    return [path.removeprefix(".") for path in _PATH.findall(plain)]


def defines(text: str) -> dict[str, str]:
    """Return the named templates in a file, name to text (up to the next ``define``)."""
    starts = list(_DEFINE.finditer(text))
    return {start[1]: text[start.start() : end.start() if end else len(text)] for start, end in zip_longest(starts, starts[1:])}


def from_top(node: tuple[str, ...], dotted: str) -> ValuePath:
    """Return the path from the top of what templates of ``node`` call ``.Values.DOTTED``; ``global`` is everybody's."""
    path = tuple(dotted.strip(".").split("."))
    return path if path[0] == "global" else (*node, *path)


def node_of(template: str) -> tuple[str, ...]:
    """Return the node whose template this is, from helm's Source line.

    >>> node_of("operator-wandb/charts/kafka/charts/zookeeper/templates/statefulset.yaml")
    ('kafka', 'zookeeper')
    """
    parts = template.partition("/templates/")[0].split("/")
    return tuple(parts[2::2]) if parts[1::2] == ["charts"] * len(parts[1::2]) else ()


def reached(text: str, named: Mapping[str, str]) -> dict[str, str]:
    """Return the named templates that a piece of a template includes, directly or through others, name to text."""
    found: dict[str, str] = {}
    waiting = INCLUDE.findall(text)
    while waiting:
        name = waiting.pop(0)
        if name in named and name not in found:
            found[name] = named[name]
            waiting += INCLUDE.findall(named[name])
    return found


def all_defines(texts: Iterable[str]) -> dict[str, str]:
    """Return the named templates of several files."""
    found: dict[str, str] = {}
    for text in texts:
        found.update(defines(text))
    return found
