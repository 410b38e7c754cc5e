"""Probe: find out by rendering which values make which image (design.md decision 3).

Every value that may make an image gets a sentinel of its own; one render shows which sentinel lands in which reference. No
table of value paths is needed, so a chart that changes its paths is handled by the same code.

Invariants: a probe asks only for values that are there (first round) or that are empty and called like a part of an image
(second round, for images that nothing moved). A global that several images share is taken only where nothing nearer moves an
image, and is emptied otherwise, so that no host is ever put in front of another (cases.md H7). A chart that refuses a sentinel
is probed without the values that it refuses (H6).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.relocate.recipe import DIGEST, NAME, TAG, WHOLE, Candidate, Recipe, Sentinel, read
from airgap.scan import scan
from airgap.tools import RenderError
from airgap.values import get, leaves, parse_path, with_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.ref import Reference
    from airgap.relocate.rendering import Key, Place, Renderer, Rendering
    from airgap.scan import Document, Hit
    from airgap.values import Json, ValuePath

Values = dict[str, "Json"]
Recipes = dict["Place", "tuple[tuple[str, Recipe], ...]"]
"""Per place the references in its scalar, each as text and recipe."""

NAMED = re.compile(r"(?:.*(?:image|repository|registry|prefix|base|tag|digest|version)|name)", re.IGNORECASE)
"""Keys of values that make images. ``name`` counts only beside a tag or digest (stakater/reloader: image.name)."""
EMPTY_NAMED = re.compile(r".*(?:image|repository|registry|prefix)|tag", re.IGNORECASE)
"""Keys whose empty value a helper may fill in; fewer, because a sentinel in an empty value changes more."""
SHORTEST = 3
"""Characters of a value of any key that are looked for in references; shorter ones are in everything."""

GUARDS: tuple[tuple[re.Pattern[str], ValuePath, str], ...] = (
    (
        re.compile(r"allowInsecureImages|substituted for unrecognized|unrecognized images", re.IGNORECASE),
        ("global", "security", "allowInsecureImages"),
        "Bitnami's charts refuse images from another registry without it; it is about names, not TLS (bitnami/charts#30850)",
    ),
)
"""What helm says when a chart polices its images, the switch that lets it be, and why that is right (cases.md H6)."""

RUN = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._/:@+\-\[\]]*(?<![.:/@+-])")
"""A stretch of text that may be a reference (with a sentinel in it)."""
_SEMVER = re.compile(r"v?\d+\.\d+\.\d+[^+]*")


@dataclass(frozen=True)
class Spot:
    """A reference in a rendering: where, the whole scalar there, the reference as written and parsed (None: unreadable)."""

    place: Place
    scalar: str
    text: str
    reference: Reference | None
    document: Document
    kind: str
    problem: str = ""

    @property
    def label(self) -> str:
        """``Kind/name container`` for people."""
        step = next((str(it) for it in reversed(self.place[1][:-1]) if isinstance(it, str)), "")
        number = next((it for it in reversed(self.place[1]) if isinstance(it, int)), None)
        containers = get(self.document.object, self.place[1][:-1])
        name = containers.get("name") if isinstance(containers, dict) else None
        inner = str(name) if isinstance(name, str) else f"{step}[{number}]" if number is not None else step
        return f"{self.document.label} {inner}".strip()


@dataclass(frozen=True)
class Attribution:
    """What a probe found: ``cleared`` are globals to be emptied, ``switches`` values to be set so that the chart renders."""

    recipes: Recipes
    cleared: tuple[ValuePath, ...] = ()
    switches: Mapping[ValuePath, Json] = field(default_factory=dict)
    refused: tuple[tuple[ValuePath, str], ...] = ()

    def recipe(self, spot: Spot) -> Recipe | None:
        """Return the recipe of a spot, or None if no value moves it."""
        return next((it for text, it in self.recipes.get(spot.place, ()) if text == spot.text and it.moves), None)


def spots(rendering: Rendering) -> tuple[Spot, ...]:
    """Return every reference in a rendering: containers and reference-like strings."""
    keys = {id(document): key for key, document in rendering.by_key.items()}
    found = scan(rendering.documents)
    return tuple(_spot(rendering, keys[id(hit.document)], hit) for hit in (*found.containers, *found.images))


def _spot(rendering: Rendering, key: Key, hit: Hit) -> Spot:
    path = _leaf(rendering.leaves[key], hit)
    scalar = rendering.leaves[key].get(path)
    return Spot((key, path), str(scalar), hit.text, hit.reference, hit.document, hit.kind, hit.problem)


def _leaf(known: Mapping[ValuePath, Json], hit: Hit) -> ValuePath:
    """Return the path of the scalar that a hit lies in; a hit may lie in YAML inside a string (``!`` in its path)."""
    try:
        path = parse_path(hit.path.partition("!")[0])
    except ConfigurationError:
        path = ()
    if path in known:
        return path
    return next((it for it, scalar in known.items() if isinstance(scalar, str) and hit.text in scalar), ())


def attribute(renderer: Renderer, values: Values, base: Rendering, wanted: Sequence[Spot]) -> Attribution:
    """Find out which values make the references ``wanted`` of ``base``, the rendering of ``values``."""
    prober = _Prober(renderer, renderer.computed(values), values, base)
    first = prober.probe(prober.named(wanted), wanted)
    globals_ = sorted(
        {it.path for recipes in first.values() for _, r in recipes for it in r.candidates if it.path[0] == "global"}
    )
    if not globals_:
        return prober.finish(first, wanted)
    bare = prober.without(globals_)
    bare_spots = spots(bare.base)
    again = bare.probe(bare.named(bare_spots), bare_spots)
    lost = {spot.place for spot in _unmoved(again, wanted)} - {spot.place for spot in _unmoved(first, wanted)}
    if lost or {spot.place for spot in bare_spots} != {spot.place for spot in wanted}:
        return prober.finish(first, wanted)
    texts = {spot.place: spot.text for spot in wanted}
    renamed = {place: tuple((texts[place], recipe) for _, recipe in recipes) for place, recipes in again.items()}
    found = bare.finish(renamed, wanted)
    return replace(found, cleared=tuple(globals_))


@dataclass
class _Prober:
    renderer: Renderer
    computed: Values
    values: Values
    base: Rendering
    switches: dict[ValuePath, Json] = field(default_factory=dict)
    refused: dict[ValuePath, str] = field(default_factory=dict)

    def without(self, paths: Iterable[ValuePath]) -> _Prober:
        """Return a prober for the same chart with the values at ``paths`` emptied."""
        values, computed = self.values, self.computed
        for path in paths:
            values, computed = _set(values, self.computed, path, ""), _set(computed, {}, path, "")
        return _Prober(self.renderer, computed, values, self.renderer.render(values), self.switches, self.refused)

    def finish(self, found: Recipes, wanted: Sequence[Spot]) -> Attribution:
        """Probe empty values, then empty globals, for what nothing moved yet."""
        left = _unmoved(found, [spot for spot in wanted if spot.reference and not spot.document.is_test])
        if left:
            named = self.named(wanted)
            found = {**found, **self.probe([*named, *self.unnamed(left)], left, exact=False)}
            left = _unmoved(found, left)
        globals_ = self.empty_globals() if left else []
        if globals_:
            moved = self.probe(globals_, left, exact=False)
            if moved:
                found = {**found, **self.probe([*self.named(wanted), *globals_], wanted, exact=False)}
        return Attribution(found, (), dict(self.switches), tuple(self.refused.items()))

    def named(self, wanted: Sequence[Spot]) -> list[Candidate]:
        """Return values that are called like a part of an image and whose text is in one."""
        texts = "\n".join(sorted({spot.text for spot in wanted}))
        return _unique(it for it in self._candidates() if _is_named(self.computed, it) and it.text in texts)

    def unnamed(self, left: Sequence[Spot]) -> list[Candidate]:
        """Return empty values called like a part of an image, templates, and values of any key whose text is in an image."""
        texts = "\n".join(sorted({spot.text for spot in left}))
        own = [it for it in self._candidates() if it.path[0] != "global"]
        held = [it for it in own if "{{" in it.text or (len(it.text) >= SHORTEST and it.text in texts)]
        empty = [
            Candidate(path, "", TAG if str(path[-1]).lower().endswith("tag") else NAME)
            for path, value in self._written()
            if value in ("", None) and path[0] != "global" and EMPTY_NAMED.fullmatch(str(path[-1]))
        ]
        return _unique([*held, *empty])

    def empty_globals(self) -> list[Candidate]:
        """Return empty globals called like a part of an image."""
        return _unique(
            Candidate(path, "", NAME)
            for path, value in self._written()
            if value in ("", None) and path[0] == "global" and EMPTY_NAMED.fullmatch(str(path[-1]))
        )

    def _candidates(self) -> Iterable[Candidate]:
        for path, value in leaves(self.computed):
            lifted = _lifted(path)
            if lifted != path and get(self.computed, lifted) is not None:
                continue
            if isinstance(value, str) and value and isinstance(path[-1], str):
                yield Candidate(lifted, value, _role(path[-1], value))
            elif isinstance(value, (int, float)) and not isinstance(value, bool) and path[-1] == "tag":
                yield Candidate(lifted, str(value), TAG)

    def _written(self) -> Iterable[tuple[ValuePath, Json]]:
        """Yield the leaves of values.yaml of the chart and its subcharts as written, nulls included, then the computed ones."""
        for node in self.renderer.chart.tree():
            for path, value in leaves(node.chart.values):
                yield _lifted((*node.path, *path)), get(self.computed, (*node.path, *path), value)
        for path, value in leaves(self.computed):
            yield _lifted(path), value

    def probe(self, candidates: Sequence[Candidate], wanted: Sequence[Spot], *, exact: bool = True) -> Recipes:
        """Render with a sentinel for each candidate and read the recipes of ``wanted``."""
        usable = [it for it in candidates if it.path not in self.refused]
        if not usable:
            return {}
        sentinels = [_sentinel(number, candidate) for number, candidate in enumerate(usable)]
        rendering, sentinels = self._rendered(sentinels)
        if rendering is None:
            return {}
        found: dict[Place, list[tuple[str, Recipe]]] = {}
        for spot in wanted:
            shown = rendering.at(spot.place)
            for recipe in _recipes(shown, sentinels) if isinstance(shown, str) else ():
                if recipe.original == spot.text or (not exact and spot.text == spot.scalar):
                    found.setdefault(spot.place, []).append((spot.text, recipe))
                    break
        return {place: tuple(recipes) for place, recipes in found.items()}

    def _rendered(self, sentinels: list[Sentinel]) -> tuple[Rendering | None, list[Sentinel]]:
        """Render with sentinels; on failure switch a guard off, or leave out the sentinels that the chart refuses."""
        try:
            return self._with(sentinels), sentinels
        except RenderError as error:
            if self._switch(error):
                return self._rendered(sentinels)
        kept = [it for it in sentinels if it not in set(self._offenders(sentinels))]
        try:
            return (self._with(kept), kept) if kept else (None, [])
        except RenderError:
            return None, []

    def _switch(self, error: RenderError) -> bool:
        """Set the switch of the guard that an error speaks of; False if it is none, or set already."""
        for pattern, path, _ in GUARDS:
            if pattern.search(error.text or error.message) and path not in self.switches:
                self.switches[path] = True
                return True
        return False

    def _offenders(self, sentinels: Sequence[Sentinel]) -> list[Sentinel]:
        """Return the sentinels that a chart refuses by themselves, by halving."""
        try:
            self._with(sentinels)
        except RenderError as error:
            if len(sentinels) == 1:
                self.refused[sentinels[0].candidate.path] = error.reason or error.message
                return list(sentinels)
            middle = len(sentinels) // 2
            return [*self._offenders(sentinels[:middle]), *self._offenders(sentinels[middle:])]
        return []

    def _with(self, sentinels: Iterable[Sentinel]) -> Rendering:
        settings = {**self.switches, **{it.candidate.path: it.text for it in sentinels}}
        return self.renderer.render(apply(self.values, self.computed, settings))


def _unmoved(found: Recipes, wanted: Sequence[Spot]) -> list[Spot]:
    """Return the spots whose name no value makes (a tag alone moves nothing)."""
    moved = {place for place, recipes in found.items() if all(recipe.moves for _, recipe in recipes)}
    return [spot for spot in wanted if spot.place not in moved]


def apply(values: Values, computed: Values, settings: Mapping[ValuePath, Json]) -> Values:
    """Return ``values`` with ``settings``; a list that is set into is first copied whole, because helm replaces lists."""
    for path in sorted(settings, key=lambda path: [str(step) for step in path]):
        values = _set(values, computed, path, settings[path])
    return values


def _set(values: Values, computed: Values, path: ValuePath, value: Json) -> Values:
    index = next((number for number, step in enumerate(path) if isinstance(step, int)), None)
    if index is not None and not isinstance(get(values, path[:index]), list):
        values = _mapping(with_value(_opened(values, path[:index]), path[:index], get(computed, path[:index], [])))
    return _mapping(with_value(_opened(values, path), path, value))


def _opened(values: Values, path: ValuePath) -> Values:
    """Return ``values`` without a scalar or null in the way of ``path``."""
    for end in range(1, len(path)):
        here = get(values, path[:end], {})
        if not isinstance(here, (dict, list)):
            return _mapping(with_value(values, path[:end], {}))
    return values


def _mapping(values: Json) -> Values:
    if not isinstance(values, dict):
        raise ConfigurationError("values must be a mapping at the top")
    return values


def _lifted(path: ValuePath) -> ValuePath:
    """Return where a value is set: a subchart's ``global`` is the one at the top."""
    for number, step in enumerate(path):
        if step == "global" and number:
            return path[number:]
    return path


def _is_named(computed: Values, candidate: Candidate) -> bool:
    key = str(candidate.path[-1])
    if key == "name":
        beside = get(computed, candidate.path[:-1], {})
        return "/" in candidate.text and isinstance(beside, dict) and ("tag" in beside or "digest" in beside)
    return bool(NAMED.fullmatch(key))


def _role(key: str, text: str) -> str:
    lower = key.lower()
    if lower.endswith("digest") or text.startswith("sha256:"):
        return DIGEST
    if lower.endswith(("tag", "version")):
        return TAG
    return WHOLE if ":" in text.rpartition("/")[2] or "@" in text else NAME


def _sentinel(number: int, candidate: Candidate) -> Sentinel:
    """Return a sentinel that keeps the shape of what it stands for, so that a chart that looks at it does not stumble."""
    mark = f"zq{number:04d}qz"
    if candidate.role == DIGEST:
        mark = f"{number:08x}" * 8
        return Sentinel(candidate, f"sha256:{mark}", mark)
    if candidate.role == TAG and candidate.text:
        joint = "+" if _SEMVER.fullmatch(candidate.text) else "-"
        return Sentinel(candidate, f"{candidate.text}{joint}{mark}", mark)
    return Sentinel(candidate, f"{mark}:{mark}" if candidate.role == WHOLE else mark, mark)


def _recipes(shown: str, sentinels: Sequence[Sentinel]) -> Iterable[Recipe]:
    """Yield a recipe for each reference-like run of a scalar that holds a sentinel."""
    for run in RUN.findall(shown):
        recipe = read(run, sentinels)
        if recipe:
            yield recipe


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    found: dict[ValuePath, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.path, candidate)
    return list(found.values())
