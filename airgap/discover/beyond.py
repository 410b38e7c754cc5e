"""References that no rendering shows: chart annotations, literals in templates that were never reached, values never used.

Invariants: they only add (cases.md R10, R11). What the values or a template alone name goes to the feature ``unrendered``,
which is out unless asked for: such values are often dead (bufstream's own ``image.repository`` names an image that does not
exist). What an annotation alone names is in, and marked, unless it is an old name of something rendered; an annotation that
cannot be read is a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.discover.explore import Feature, Found, explained
from airgap.discover.rendering import Question, Switch
from airgap.discover.switches import SWITCH_WORDS, Candidate, gates
from airgap.errors import ConfigurationError
from airgap.lock import Origin
from airgap.ref import Reference, has_tag_or_digest
from airgap.tools import RenderError
from airgap.values import format_path, get, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.chart import Chart, Node
    from airgap.discover.explore import Exploration
    from airgap.values import ValuePath

UNRENDERED = "unrendered"
"""The feature under which references are offered that values or templates hold and no rendering shows."""

ANNOTATIONS = ("images", "helm.sh/images")
"""Chart annotations with lists of images: Bitnami's and Carvel's (cases.md R11)."""

LITERAL_LIMIT = 8
"""Renderings that one chart may take to reach literals in templates."""

_LITERAL = re.compile(r"(?:^|[\s{,])image:\s*[\"']?([^\s{}\"'#,\[\]]+)[\"']?\s*(?=[,}]|$)", re.MULTILINE)
_COMMENT = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
"""A comment of Go's templates: what it says of images is prose."""


def look_beyond(state: Exploration) -> None:
    """Add to an exploration what renderings alone do not show."""
    _apart(state)
    _literals(state)
    _values_only(state)
    _annotations(state)


def _apart(state: Exploration) -> None:
    """Take in what templates spell that were set apart: they belong to what is installed, and no rendering shows them."""
    for item in state.renderer.copy.apart:
        state.warnings.append(f"chart {state.label}: {item.told}")
        template = item.template
        for literal in dict.fromkeys(_LITERAL.findall(item.text)):
            reference = _parsed(literal)
            if reference and reference not in state.references:
                state.found.append(Found(reference, Origin("template", state.label, state.profile.name, template), (), literal))
        for spelt in (it for it in state.maps if it.tagged and any(_touch(it.path, path) for path in item.values)):
            if spelt.reference not in state.references:
                origin = Origin("values", state.label, state.profile.name, template, value=format_path(spelt.path))
                state.found.append(Found(spelt.reference, origin, (), str(spelt.reference)))


def _touch(one: ValuePath, other: ValuePath) -> bool:
    """Whether one path leads through the other."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _literals(state: Exploration) -> None:
    """Find images written out in templates (cases.md H5), and try to reach those that were not rendered."""
    known = state.references
    groups = list(_unreached(state).values())
    reached = [_reaching(state, places) for places in groups[:LITERAL_LIMIT]]
    answers = state.renderer.try_all([question for _, question in reached])
    for (candidate, _), answer in zip(reached, answers, strict=True):
        for hit in answer if not isinstance(answer, RenderError) else ():
            if hit.reference and hit.reference not in known:
                state.add(hit, (state.feature(candidate).name,))
    left = state.references
    for place in (place for places in groups for place in places):
        if place.reference not in left:
            template = f"{place.node.chart.name}/{place.name}"
            _offer(state, place.reference, Origin("template", state.label, UNRENDERED, template), place.text)


@dataclass(frozen=True)
class _Literal:
    """An image written out in a template of a node."""

    node: Node
    name: str
    text: str
    reference: Reference


def _unreached(state: Exploration) -> dict[tuple[str, str], list[_Literal]]:
    """Return the literals that no rendering showed, gathered by chart and template."""
    known = state.references
    found: dict[tuple[str, str], list[_Literal]] = {}
    for node in state.renderer.chart.tree():
        for name, text in node.chart.templates.items():
            for literal in dict.fromkeys(_LITERAL.findall(_COMMENT.sub("", text))):
                reference = _parsed(literal)
                if reference and reference not in known:
                    found.setdefault((node.chart.name, name), []).append(_Literal(node, name, literal, reference))
    return found


def _reaching(state: Exploration, places: list[_Literal]) -> tuple[Candidate, Question]:
    """Return what would reach a template: the switches in its ``if`` lines, on in the nodes that are there by default.

    Where none of the chart's nodes is, in all of them.
    """
    default = [place for place in places if not any(candidate.serves(place.node.path) for candidate in state.conditions)]
    switches: dict[Switch, None] = {}
    relative: dict[str, None] = {}
    for node in (place.node for place in default or places):
        serving = [candidate for candidate in state.conditions if candidate.serves(node.path)]
        text = node.chart.templates[places[0].name]
        asked = (path for path in gates(node, {"": text}) if path[-1] in SWITCH_WORDS and path[0] != "global")
        off = [path for path in asked if get(state.values, path) in (None, False)]
        switches.update(dict.fromkeys(switch for candidate in serving for switch in candidate.switches))
        switches.update(dict.fromkeys(Switch(path) for path in off))
        relative.update(dict.fromkeys(format_path(path[len(node.path) : -1]) for path in off))
    chart = places[0].node.chart.name
    name = ".".join(part for part in (chart, next(iter(relative), "templates")) if part)
    candidate = Candidate(name, tuple(switches), (), is_condition=False)
    return candidate, Question(state.profile, candidate.switches)


def _values_only(state: Exploration) -> None:
    """Offer what maps in the values spell and nothing renders, unless it is but another spelling of something rendered."""
    names = {reference.name for reference in state.references}
    for item in state.maps:
        if explained(item, state.references) or (not item.tagged and item.reference.name in names):
            continue
        origin = Origin("values", chart=state.label, profile=UNRENDERED, value=format_path(item.path))
        _offer(state, item.reference, origin, str(item.reference) if item.tagged else item.reference.name)


def _offer(state: Exploration, reference: Reference, origin: Origin, text: str) -> None:
    state.features.setdefault(UNRENDERED, Feature(UNRENDERED, state.label))
    state.found.append(Found(reference, origin, (UNRENDERED,), text))


def _annotations(state: Exploration) -> None:
    """Read the annotations of the chart and of its subcharts; one that is switched off brings its images with its feature."""
    known = {found.reference: found.features for found in state.found}
    twins = {_short(reference) for reference in known}
    for node in state.renderer.chart.tree():
        serving = [candidate for candidate in state.conditions if candidate.serves(node.path)]
        for text in _annotated(state, node.chart):
            reference = _parsed(text)
            if reference is None:
                state.warnings.append(f"chart {node.chart.label}: its annotation names {text!r}, which is no image reference")
                continue
            origin = Origin("annotation", chart=node.chart.label)
            if reference in known:
                state.found.append(Found(reference, origin, known[reference], text))
            elif _short(reference) in twins:
                _offer(state, reference, origin, text)
            else:
                state.found.append(Found(reference, origin, (state.feature(serving[-1]).name,) if serving else (), text))


def _short(reference: Reference) -> tuple[str, str]:
    """Return the last part of the name and the tag: equal for one image under an old and a new organisation."""
    return reference.repository.rpartition("/")[2], reference.tag


def _annotated(state: Exploration, chart: Chart) -> Iterator[str]:
    for key in ANNOTATIONS:
        text = chart.annotations.get(key)
        if text is None:
            continue
        where = f"chart {chart.label}: annotation {key}"
        try:
            data = load_yaml(text, where)
        except ConfigurationError as error:
            state.warnings.append(f"{error.message}; it is left out")
            continue
        if not isinstance(data, list):
            state.warnings.append(f"{where} is no list of images; it is left out")
            continue
        for entry in data:
            image = entry.get("image") if isinstance(entry, dict) else entry
            if isinstance(image, str):
                yield image


def _parsed(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except ConfigurationError:
        return None


def is_moving(text: str, reference: Reference) -> bool:
    """Whether a reference as written may be another image tomorrow: no tag, or ``latest`` (cases.md H5)."""
    return bool(text) and (not has_tag_or_digest(text) or (reference.tag == "latest" and reference.digest is None))
