"""Two merges: Helm's own (``-f a -f b``) and the W&B operator's, which is another one.

The operator (v1.22, wandb-v1.md sections 1 and 11, seen running): maps merge, the higher scalar wins, **lists are
concatenated** higher first, kinds must match (else it retries for ever and tells nobody), and a null on either side of a key
that both layers have stops it for good. What it would only log is refused here, before anything is applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.values.paths import format_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airgap.values.paths import Json, ValuePath


@dataclass(frozen=True)
class Layer:
    """One source of values, called ``name`` in messages."""

    name: str
    values: dict[str, Json]


@dataclass(frozen=True)
class Merged:
    """What several layers make together.

    ``values`` holds no null in any map (nulls in list items stay: the operator does not look into those). ``origins`` names the
    layer of each scalar and empty container, and of each list item as a whole. ``nulls`` are the places where a null was left
    out and nothing else stands: there the chart's default comes through. ``panics`` says of each place where the operator would
    panic, at every reconcile, which layers meet there.
    """

    values: dict[str, Json]
    origins: Mapping[ValuePath, str]
    warnings: tuple[str, ...] = ()
    nulls: tuple[ValuePath, ...] = ()
    panics: tuple[str, ...] = ()

    def origin(self, path: ValuePath) -> str:
        """Return the layer that set what lies at ``path`` (or the list item around it), or an empty string."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return ""


def coalesce(layers: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Merge as ``helm -f first -f second``: later wins, maps merge, lists are replaced.

    A null stays in the result, as it does in helm, where it deletes the chart's own default later on.
    """
    out: dict[str, Json] = {}
    for layer in layers:
        out = _over(out, layer)
    return out


def _over(lower: Mapping[str, Json], higher: Mapping[str, Json]) -> dict[str, Json]:
    out = dict(lower)
    for key, value in higher.items():
        below = out.get(key)
        out[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return out


def operator_merge(layers: Sequence[Layer]) -> Merged:
    """Merge ``layers``, highest first, as the operator does; see Merged for what becomes of nulls.

    Raises ConfigurationError that names both layers and the path where their kinds differ.
    """
    merge = _Merge(tuple(layers))
    values = merge.maps((), [(layer.name, layer.values) for layer in layers])
    return Merged(values, merge.origins, tuple(merge.warnings), tuple(merge.nulls), tuple(merge.panics))


@dataclass
class _Merge:
    layers: tuple[Layer, ...]
    origins: dict[ValuePath, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    nulls: list[ValuePath] = field(default_factory=list)
    panics: list[str] = field(default_factory=list)

    def maps(self, path: ValuePath, parts: Sequence[tuple[str, dict[str, Json]]]) -> dict[str, Json]:
        """Merge maps of several layers, highest first."""
        out: dict[str, Json] = {}
        for key in dict.fromkeys(key for _, part in parts for key in part):
            here = (*path, key)
            given = [(name, part[key]) for name, part in parts if key in part]
            kept = self.without_nulls(here, given)
            if kept:
                out[key] = self.value(here, kept)
        if not out and path:
            self.origins[path] = parts[0][0]
        return out

    def without_nulls(self, path: ValuePath, given: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
        """Take nulls out, and what lies under a null: it was meant to delete that. Warn of each."""
        first = next((index for index, (_, value) in enumerate(given) if value is None), None)
        if first is None:
            return given
        name, kept, below = given[first][0], given[:first], given[first + 1 :]
        told = f"{format_path(path)}: null in {name} is left out"
        if kept:
            self.warnings.append(f"{told}; the operator would panic on it, because {kept[-1][0]} has the key too")
        elif below:
            others = " and ".join(other for other, _ in below)
            self.warnings.append(f"{told}, and so is the key in {others}; the operator would panic on it at every reconcile")
        else:
            self.warnings.append(f"{told}; the chart's own default stands, because a null in the cluster can stop the operator")
        if kept or below:
            other = (kept[-1] if kept else below[0])[0]
            self.panics.append(f"{format_path(path)} is null in {name} and set in {other}")
        if not kept:
            self.nulls.append(path)
        return kept

    def value(self, path: ValuePath, given: list[tuple[str, Json]]) -> Json:
        """Merge the values that several layers have for one key."""
        name, top = given[0]
        for other, value in given[1:]:
            if _kind(value) != _kind(top):
                raise ConfigurationError(
                    f"{format_path(path)} is {_kind(top)} in {name} but {_kind(value)} in {other}; the operator merges"
                    " only like with like and would retry for ever without saying so",
                    hint=f"give {format_path(path)} the same kind in both",
                )
        if isinstance(top, dict):
            return self.maps(path, [(layer, value) for layer, value in given if isinstance(value, dict)])
        if isinstance(top, list):
            return self.lists(path, [(layer, value) for layer, value in given if isinstance(value, list)])
        self.origins[path] = name
        return top

    def lists(self, path: ValuePath, given: Sequence[tuple[str, list[Json]]]) -> list[Json]:
        """Concatenate, higher layers first."""
        out: list[Json] = []
        for name, items in given:
            for item in items:
                place = (*path, len(out))
                self.origins[place] = name
                out.append(item)
        if not out:
            self.origins[path] = given[0][0]
        return out


def _kind(value: Json) -> str:
    """Name the kind that the operator compares (Go's reflect kinds of decoded JSON: all numbers are alike)."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "a boolean"
    return "a string" if isinstance(value, str) else "a number"
