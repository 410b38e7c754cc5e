"""Paths into a tree of values: ``a.b[0]."c.d"`` as people write them, tuples inside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
ValuePath: TypeAlias = "tuple[str | int, ...]"

_BARE = re.compile(r"[^\s.\[\]\"]+")
_STEP = re.compile(r"\[(?P<index>[0-9]+)\]|(?P<dot>\.?)(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^\s.\[\]\"]+))")


def format_path(path: ValuePath) -> str:
    """Write a path as ``a.b[0]."c.d"``; ``parse_path`` reads it back."""
    out = ""
    for step in path:
        if isinstance(step, int):
            out += f"[{step}]"
        else:
            text = step if _BARE.fullmatch(step) else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
            out += f".{text}" if out else text
    return out


def parse_path(text: str) -> ValuePath:
    """Read ``a.b[0]."c.d"``; raises ConfigurationError that shows the place where it stops making sense."""
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        named = match is not None and match["index"] is None
        if match is None or (named and bool(match["dot"]) != bool(steps)):
            raise ConfigurationError(
                f"value path {text!r} cannot be read from {text[position:]!r} on", hint='write paths like a.b[0]."c.d"'
            )
        if match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["quoted"] is not None:
            steps.append(re.sub(r"\\(.)", r"\1", match["quoted"], flags=re.DOTALL))
        else:
            steps.append(match["bare"])
        position = match.end()
    return tuple(steps)


def get(values: Json, path: ValuePath, default: Json = None) -> Json:
    """Return what lies at ``path``, or ``default`` when there is no such place."""
    here = values
    for step in path:
        if isinstance(here, dict) and isinstance(step, str):
            if step not in here:
                return default
            here = here[step]
        elif isinstance(here, list) and isinstance(step, int) and 0 <= step < len(here):
            here = here[step]
        else:
            return default
    return here


def with_value(values: Json, path: ValuePath, value: Json) -> Json:
    """Return a tree with ``value`` at ``path``; maps on the way are made, a list index may be at most one past the end.

    Raises ConfigurationError where the path meets something that it cannot go through.
    """
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        items = [] if values is None else values
        if not isinstance(items, list) or not 0 <= step <= len(items):
            raise ConfigurationError(f"index {step} of {format_path(path)} does not fit {_kind(values)}")
        below = items[step] if step < len(items) else None
        return [*items[:step], with_value(below, rest, value), *items[step + 1 :]]
    mapping = {} if values is None else values
    if not isinstance(mapping, dict):
        raise ConfigurationError(f"key {step!r} of {format_path(path)} does not fit {_kind(values)}")
    return {**mapping, step: with_value(mapping.get(step), rest, value)}


def without(values: Json, path: ValuePath) -> Json:
    """Return a tree without what lies at ``path``; a path that leads nowhere changes nothing."""
    if not path:
        return values
    step, rest = path[0], path[1:]
    if isinstance(values, dict) and isinstance(step, str) and step in values:
        if rest:
            return {**values, step: without(values[step], rest)}
        return {key: value for key, value in values.items() if key != step}
    if isinstance(values, list) and isinstance(step, int) and 0 <= step < len(values):
        middle = [without(values[step], rest)] if rest else []
        return [*values[:step], *middle, *values[step + 1 :]]
    return values


def leaves(values: Json, prefix: ValuePath = ()) -> Iterator[tuple[ValuePath, bool | int | float | str | None]]:
    """Yield every scalar with its path, in document order; empty maps and lists yield nothing."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, (*prefix, key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from leaves(value, (*prefix, index))
    else:
        yield prefix, values


def _kind(value: Json) -> str:
    """Name the kind of a value for a sentence."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    return f"a {type(value).__name__}"
