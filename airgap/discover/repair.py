"""What a chart wants before it renders: value paths read out of helm's own complaint.

Invariants: pure, general and bounded; no chart is known by name. A feature that needs plausible values (a bucket's name) gets a
placeholder at a path that the complaint names, or that the templates behind it look at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airgap.chart.apart import first_template
from airgap.chart.texts import all_defines, from_top, node_of, reached, value_paths
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.chart import Chart
    from airgap.tools import RenderError
    from airgap.values import ValuePath

PLACEHOLDER = "airgap-placeholder"
CANDIDATE_LIMIT = 12
"""Paths that are tried for one complaint."""

_NAMED = re.compile(r"\.?\bValues((?:\.[A-Za-z0-9_-]+)+)")
_DOTTED = re.compile(r"(?<![\w./-])([A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z][A-Za-z0-9_-]*)+)(?![\w/-])")
_EXECUTING = re.compile(r"executing \"([^\"]+)\"")
_KEY = re.compile(r"\.([A-Za-z][A-Za-z0-9_-]*)")


def candidates(error: RenderError, chart: Chart, values: Mapping[str, Any]) -> tuple[ValuePath, ...]:
    """Return paths (from the top) that hold nothing in ``values`` and may be what is missing, the likeliest first."""
    node = node_of(first_template(error))
    named = [from_top(node, path) for path in _NAMED.findall(error.reason)]
    named += [(*node, *path.split(".")) for path in _DOTTED.findall(error.reason)]
    behind = [from_top(node, path) for path in _mentioned(error, chart)]
    paths = dict.fromkeys(path for path in (*named, *behind) if _is_empty(get(dict(values), path)))
    return tuple(path for path in paths if _fits(dict(values), path))[:CANDIDATE_LIMIT]


def _is_empty(value: object) -> bool:
    return value is None or value == ""


def _fits(values: dict[str, Any], path: ValuePath) -> bool:
    """Whether a text can be put there: what lies around it is a map, or nothing yet."""
    return all(
        get(values, path[:length]) is None or isinstance(get(values, path[:length]), dict) for length in range(1, len(path))
    )


def _mentioned(error: RenderError, chart: Chart) -> Iterator[str]:
    """Yield the value paths in the named template that failed and in those that it includes.

    First those whose last key the failing one takes out of something: ``(include "bucket" .).name``.
    """
    defines = all_defines(text for node in chart.tree() for text in node.chart.templates.values())
    executing = [name for name in _EXECUTING.findall(error.text) if name in defines]
    if not executing:
        return
    behind = {executing[-1]: defines[executing[-1]], **reached(defines[executing[-1]], defines)}
    keys = set(_KEY.findall(defines[executing[-1]])) - {"Values"}
    paths = [path for text in behind.values() for path in value_paths(text)]
    yield from (path for path in paths if path.rpartition(".")[2] in keys)
    yield from (path for path in paths if path.rpartition(".")[2] not in keys)
