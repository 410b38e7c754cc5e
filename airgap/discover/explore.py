"""One chart, looked into from every side: what it renders by default, and what each optional feature adds.

::

    default profiles, with and without the API groups that the charts ask for
    -> conditions that are off, image switches beside them         (switches)
    -> all of them on at once, what stands in the way by itself     (together)
    -> words that templates compare values with, where images are still unexplained
    -> annotations, literals in templates, values that nothing renders  (beyond)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.chart.texts import node_of
from airgap.discover.rendering import Question, Switch
from airgap.discover.switches import (
    api_gates,
    choices,
    conditions,
    feature_name,
    image_maps,
    image_switches,
    makes,
)
from airgap.discover.together import Search
from airgap.lock import Origin
from airgap.tools import RenderError
from airgap.values import format_path, get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airgap.discover.rendering import Profile, Renderer
    from airgap.discover.switches import Candidate, ImageMap
    from airgap.ref import Reference
    from airgap.scan import Hit

CHOICE_LIMIT = 16
"""Renderings with another word for a value that one chart may take."""
NAMED_LIMIT = 4
"""Candidates that a template speaks of and that are tried by themselves."""
SEARCH_LIMIT = 12
"""References whose feature is searched for by renderings, when their place does not tell it."""


@dataclass(frozen=True)
class Found:
    """A reference that was found, where, and the features that bring it there (none: it is there by default)."""

    reference: Reference
    origin: Origin
    features: tuple[str, ...] = ()
    text: str = ""


@dataclass
class Feature:
    """Something optional: what must be set for it, the chart it belongs to, and why it could not be rendered, if so.

    ``switches`` are dotted value paths with what to set, for people.
    """

    name: str
    chart: str
    candidate: Candidate | None = field(default=None, repr=False)
    switches: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass
class Exploration:
    """Everything that is known of a chart's images. ``values`` are computed with every condition on."""

    renderer: Renderer
    profile: Profile
    found: list[Found] = field(default_factory=list)
    features: dict[str, Feature] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    maps: tuple[ImageMap, ...] = ()
    conditions: tuple[Candidate, ...] = ()
    switches: tuple[Candidate, ...] = ()

    @property
    def label(self) -> str:
        """The chart's name and version."""
        return self.renderer.chart.label

    @property
    def references(self) -> set[Reference]:
        """What was found so far."""
        return {found.reference for found in self.found}

    def feature(self, candidate: Candidate) -> Feature:
        """Return the feature of a candidate, made when it is asked for first."""
        shown = {format_path(switch.path): switch.value for switch in candidate.switches}
        return self.features.setdefault(candidate.name, Feature(candidate.name, self.label, candidate, shown))

    def add(self, hit: Hit, features: tuple[str, ...] = (), profile: str = "") -> None:
        """Note a hit; what is no reference is told and not dropped (cases.md R3)."""
        place = f"chart {self.label}, {hit.document.template}, {hit.document.label}, {hit.path}"
        if hit.reference is None:
            told = f"{place}: {hit.text!r} is no image reference: {hit.problem}"
            if told not in self.warnings:
                self.warnings.append(told)
            return
        item = self.map_of(hit)
        origin = Origin(
            kind="template",
            chart=self.label,
            profile=profile or (features[0] if features else self.profile.name),
            template=hit.document.template,
            object=hit.document.label,
            path=hit.path,
            value=format_path(item.path) if item else "",
        )
        self.found.append(Found(hit.reference, origin, features, hit.text))

    def map_of(self, hit: Hit) -> ImageMap | None:
        """Return the map in the values that makes a rendered reference: of its own node if there is one."""
        reference, node = hit.reference, node_of(hit.document.template)
        fitting = [item for item in self.maps if reference and makes(item, reference)]
        own = [item for item in fitting if item.path[: len(node)] == node]
        return next(iter(own or fitting), None)


def explore(renderer: Renderer, profiles: Sequence[Profile]) -> Exploration:
    """Look into a chart; the first profile is the one that features are switched on over. Raises RenderError.

    A profile that does not render is an error; a feature that does not is a warning, and the rest counts.
    """
    state = Exploration(renderer, profiles[0])
    apis = api_gates(renderer.chart)
    _switch_on_conditions(state)
    state.switches = image_switches(renderer.chart, state.values, state.conditions)
    state.maps = image_maps(state.values)
    _defaults(state, profiles, apis)
    _optional(state, apis)
    _by_choice(state, apis)
    return state


def _switch_on_conditions(state: Exploration) -> None:
    """Find every condition that is off; those of charts inside an absent chart show when it is there (kafka.zookeeper)."""
    found: dict[tuple[str | int, ...], Candidate] = {}
    while True:
        switches = [switch for candidate in found.values() for switch in candidate.switches]
        state.values = state.renderer.computed(state.profile, switches)
        new = [item for item in conditions(state.renderer.chart, state.values) if item.path not in found]
        if not new:
            break
        for item in new:
            above = [known for known in found.values() if known.serves(item.nodes[0])]
            needed = dict.fromkeys(switch for known in above for switch in known.switches)
            found[item.path] = replace(item, switches=(*needed, *item.switches))
    state.conditions = tuple(found.values())


def _defaults(state: Exploration, profiles: Sequence[Profile], apis: tuple[str, ...]) -> None:
    """Render every profile as it is, and again for a cluster that has all API groups that the charts ask for."""
    sets = ((), apis) if apis else ((),)
    questions = [Question(profile, (), names) for profile in profiles for names in sets]
    failed: dict[str, RenderError] = {}
    worked = set()
    for question, answer in zip(questions, _borne(state, questions), strict=True):
        if isinstance(answer, RenderError):
            failed[question.profile.name] = answer
            continue
        worked.add(question.profile.name)
        for hit in answer:
            state.add(hit, profile=question.profile.name)
    for name, error in failed.items():
        if name not in worked:
            raise error
        state.warnings.append(f"profile {name} renders for some clusters only: {error.message}")


def _borne(state: Exploration, questions: Sequence[Question]) -> list[tuple[Hit, ...] | RenderError]:
    """Render; where a profile renders for no cluster, without the templates that only a cluster can answer (cases.md H4)."""
    while True:
        answers = state.renderer.try_all(questions)
        pairs = list(zip(questions, answers, strict=True))
        worked = {question.profile.name for question, answer in pairs if not isinstance(answer, RenderError)}
        errors = [it for question, it in pairs if isinstance(it, RenderError) and question.profile.name not in worked]
        if not any(state.renderer.copy.set_apart(error) for error in errors):
            return answers


def _optional(state: Exploration, apis: tuple[str, ...]) -> None:
    """Switch on everything that can be, and say of each new reference which feature brings it."""
    search = Search(state.renderer, state.profile, apis)
    default = state.references
    together = search.together([*state.conditions, *state.switches])
    lost: list[Hit] = []
    for hit in together.hits:
        if hit.reference in default:
            continue
        features = tuple(state.feature(candidate).name for candidate in _bringing(state, hit))
        if hit.reference is None or features:
            state.add(hit, features)
        else:
            lost.append(hit)
    for candidate in together.apart:
        _apart(state, search, candidate, together.fills)
    _find_features(state, search, together.on, together.fills, lost)


def _bringing(state: Exploration, hit: Hit) -> tuple[Candidate, ...]:
    """Return the innermost features that bring a hit: image switches around the maps that make it, else the condition."""
    node = node_of(hit.document.template)
    own = [item for item in state.maps if item.path[: len(node)] == node and hit.reference and makes(item, hit.reference)]
    found: dict[str, Candidate] = {}
    for item in own:
        around = [switch for switch in state.switches if item.path[: len(switch.path) - 1] == switch.path[:-1]]
        if around:
            innermost = max(around, key=lambda switch: len(switch.path))
            found[innermost.name] = innermost
    conditions_ = [candidate for candidate in state.conditions if candidate.serves(node)]
    if not found and conditions_:
        innermost = max(conditions_, key=lambda candidate: len(candidate.nodes[0]))
        found[innermost.name] = innermost
    return tuple(found.values())


def _apart(state: Exploration, search: Search, candidate: Candidate, fills: tuple[Switch, ...]) -> None:
    """Render what could not be rendered with the others."""
    answer = search.alone(candidate, fills)
    if isinstance(answer, RenderError) and fills:
        answer = search.alone(candidate)
    if isinstance(answer, RenderError):
        feature = state.feature(candidate)
        feature.problem = answer.message
        state.warnings.append(f"feature {candidate.name}: {answer.message}; the rest counts, its own images may be missing")
        return
    default = {found.reference for found in state.found if not found.features}
    for hit in answer:
        if hit.reference not in default:
            bringing = _bringing(state, hit) or (candidate,)
            state.add(hit, tuple(state.feature(item).name for item in bringing))


def _find_features(
    state: Exploration, search: Search, on: Sequence[Candidate], fills: tuple[Switch, ...], lost: Sequence[Hit]
) -> None:
    """Find by renderings what brings the hits whose place does not tell it.

    First the candidates that the template itself speaks of, then a search by halves for the shortest run that does.
    """
    for reference in list(dict.fromkeys(hit.reference for hit in lost))[:SEARCH_LIMIT]:
        hits = [hit for hit in lost if hit.reference == reference]
        texts = [state.renderer.text_of(hit.document.template) for hit in hits]

        def brings(run: Sequence[Candidate], reference: Reference | None = reference) -> bool:
            switches = tuple(dict.fromkeys(switch for candidate in run for switch in candidate.switches))
            answer = state.renderer.attempt(Question(state.profile, (*switches, *fills), search.api_versions))
            return not isinstance(answer, RenderError) and any(hit.reference == reference for hit in answer)

        named = [candidate for candidate in on if any(str(candidate.path[0]) in text for text in texts)][:NAMED_LIMIT]
        found = next((candidate for candidate in named if brings([candidate])), None) or _by_halves(on, brings)
        for hit in hits:
            state.add(hit, (state.feature(found).name,))


def _by_halves(on: Sequence[Candidate], brings: Callable[[Sequence[Candidate]], bool]) -> Candidate:
    """Return the candidate that ends the shortest run from the front for which ``brings`` holds."""
    good, bad = 0, len(on)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if brings(on[:middle]) else (middle, bad)
    return on[bad - 1]


def _by_choice(state: Exploration, apis: tuple[str, ...]) -> None:
    """Try the other words that templates know for a value, where they use an image that nothing rendered yet."""
    nodes = tuple(state.renderer.chart.tree())
    asked: dict[tuple[Switch, ...], Switch] = {}
    for item in state.maps:
        if explained(item, state.references):
            continue
        node = max((node for node in nodes if item.path[: len(node.path)] == node.path), key=lambda node: len(node.path))
        everything = _everything_of(state, node.path)
        for path, words in choices(node, item).items():
            current = get(state.values, path)
            for word in words if isinstance(current, str) and "global" not in path else ():
                if word != current:
                    changed = Switch(path, word)
                    key = (*everything, changed)
                    asked[key] = changed
    limited = list(asked.items())[:CHOICE_LIMIT]
    answers = state.renderer.try_all([Question(state.profile, switches, apis) for switches, _ in limited])
    for (_, changed), answer in zip(limited, answers, strict=True):
        _credit(state, answer if not isinstance(answer, RenderError) else (), changed)


def _everything_of(state: Exploration, node: tuple[str, ...]) -> tuple[Switch, ...]:
    """Return the switches that bring a node, with its own image switches on."""
    serving = [candidate for candidate in state.conditions if candidate.serves(node)]
    inside = [candidate for candidate in state.switches if candidate.nodes == (node,)]
    return tuple(dict.fromkeys(switch for candidate in (*serving, *inside) for switch in candidate.switches))


def _credit(state: Exploration, hits: Sequence[Hit], word: Switch) -> None:
    """Give what one word brings to the image switch around it, which then needs the word too, or to a feature of its own."""
    known = state.references
    for hit in hits:
        if hit.reference is None or hit.reference in known:
            continue
        features = [state.feature(candidate) for candidate in _bringing(state, hit) if not candidate.is_condition]
        if not features:
            name = f"{feature_name(word.path)}.{word.value}"
            features = [state.features.setdefault(name, Feature(name, state.label))]
        for feature in features:
            feature.switches[format_path(word.path)] = word.value
        state.add(hit, tuple(feature.name for feature in features))


def explained(item: ImageMap, references: Iterable[Reference]) -> bool:
    """Whether some reference that was found is what the map spells."""
    return any(makes(item, reference) for reference in references)
