"""Discover: every image that charts can ask for, why, and which optional feature it belongs to.

Invariants: discovery is a union that only adds (design.md section 4, decision 2): renderings with the given values and
profiles, with every optional feature on, for clusters with and without the API groups that charts ask for; annotations;
literals in templates; images that only values name. Nothing optional gets in by accident: what a feature brings is in when
the manifest says so.
Needs a real helm and no cluster. Stateless: the same charts and values give the same result.

::

    found = discover([ChartInput(chart, "wandb", "wandb", {"default": values})], helm, features="default")
    for feature in found.features: print(feature.name, feature.adds)
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.discover.beyond import UNRENDERED, is_moving, look_beyond
from airgap.discover.explore import explore
from airgap.discover.rendering import Profile, Question, Renderer
from airgap.errors import ConfigurationError
from airgap.lock import Origin, Requirement
from airgap.manifest import ALL, DEFAULT, nearest
from airgap.tools import KUBE_VERSION, RenderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.chart import Chart
    from airgap.discover.explore import Exploration, Found
    from airgap.manifest import ImageEntry
    from airgap.progress import Progress
    from airgap.ref import Reference
    from airgap.tools import Helm

CHARTS = 2
"""Charts looked into at a time; each renders several times at once by itself."""

__all__ = ["UNRENDERED", "ChartInput", "Discovery", "Feature", "Requirement", "discover"]


@dataclass(frozen=True)
class ChartInput:
    """A chart to look into: how it will be installed, and the value sets to render it with (the first is the main one)."""

    chart: Chart
    release: str
    namespace: str
    profiles: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {DEFAULT: {}}, hash=False)


@dataclass(frozen=True)
class Feature:
    """Something optional in a chart: the values that switch it on, and the images it adds to the default ones.

    ``selected``: the manifest asks for it. ``problem``: helm's sentence, if it could not be rendered.
    """

    name: str
    chart: str
    switches: Mapping[str, Any] = field(default_factory=dict, hash=False)
    adds: tuple[Reference, ...] = ()
    selected: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Discovery:
    """``requirements``: what is to be bundled. ``offered``: what features that are not selected would add."""

    requirements: tuple[Requirement, ...]
    offered: tuple[Requirement, ...]
    features: tuple[Feature, ...]
    warnings: tuple[str, ...]

    @property
    def selected(self) -> tuple[str, ...]:
        """The names of the features that are in."""
        return tuple(sorted({feature.name for feature in self.features if feature.selected}))


def discover(
    charts: Sequence[ChartInput],
    helm: Helm,
    *,
    features: str | Sequence[str] = DEFAULT,
    images: Iterable[ImageEntry] = (),
    kube_version: str = KUBE_VERSION,
    progress: Progress | None = None,
) -> Discovery:
    """Look into ``charts`` and return what is to be bundled; ``features``: default, all, or names.

    ``images`` are added as the manifest has them. Raises RenderError for a chart that does not render with its own values, and
    ConfigurationError for an unknown feature.
    """
    with ThreadPoolExecutor(CHARTS) as pool:
        explorations = list(pool.map(lambda item: _explore(item, helm, features, kube_version), charts))
    if progress:
        for exploration in explorations:
            progress.debug(f"chart {exploration.label}: {len(exploration.references)} references")
    offered = _features(explorations, features)
    selected = frozenset(feature.name for feature in offered if feature.selected)
    everything = [found for exploration in explorations for found in exploration.found]
    requirements = _requirements(everything)
    wanted = [item for item in requirements if not item.features or selected.intersection(item.features)]
    return Discovery(
        requirements=_with_images(wanted, images),
        offered=tuple(item for item in requirements if item not in wanted),
        features=offered,
        warnings=tuple(warning for exploration in explorations for warning in exploration.warnings),
    )


def _explore(item: ChartInput, helm: Helm, features: str | Sequence[str], kube_version: str) -> Exploration:
    if item.chart.missing:
        names = ", ".join(sorted({dependency.name for dependency in item.chart.missing}))
        raise ConfigurationError(
            f"chart {item.chart.label} lacks charts that it depends on: {names}", hint="run helm dependency build in its folder"
        )
    with Renderer(item.chart, helm, release=item.release, namespace=item.namespace, kube_version=kube_version) as renderer:
        state = explore(renderer, [Profile(name, values) for name, values in item.profiles.items()])
        look_beyond(state)
        if not isinstance(features, str):
            _render_selection(state, frozenset(features))
    state.warnings += renderer.problems
    state.warnings += [f"chart {state.label}: {problem}" for problem in item.chart.problems]
    return state


def _render_selection(state: Exploration, names: frozenset[str]) -> None:
    """Render exactly the features that were asked for, together: what their combination brings counts too."""
    chosen = [feature.candidate for feature in state.features.values() if feature.name in names and feature.candidate]
    switches = tuple(dict.fromkeys(switch for candidate in chosen for switch in candidate.switches))
    answer = state.renderer.attempt(Question(state.profile, switches)) if switches else ()
    known = {found.reference for found in state.found if not found.features or names.intersection(found.features)}
    for hit in answer if not isinstance(answer, RenderError) else ():
        if hit.reference and hit.reference not in known:
            state.add(hit, tuple(sorted(candidate.name for candidate in chosen)))


def _features(explorations: Sequence[Exploration], asked: str | Sequence[str]) -> tuple[Feature, ...]:
    """Return the features that add something, and refuse names that are none (a condition that adds nothing may be named)."""
    out = []
    known: set[str] = set()
    for state in explorations:
        known |= {candidate.name for candidate in (*state.conditions, *state.switches)} | set(state.features)
        default = {found.reference for found in state.found if not found.features}
        for feature in state.features.values():
            adds = {found.reference for found in state.found if feature.name in found.features} - default
            if adds or feature.problem:
                selected = asked == ALL or (not isinstance(asked, str) and feature.name in asked)
                out.append(
                    Feature(
                        feature.name, state.label, feature.switches, tuple(sorted(adds, key=str)), selected, feature.problem
                    )
                )
    unknown = [name for name in (asked if not isinstance(asked, str) else ()) if name not in known]
    if unknown:
        told = ", ".join(f"{name!r}{nearest(name, known)}" for name in unknown)
        raise ConfigurationError(f"no chart has the feature {told}", hint="airgap plan lists the features there are")
    return tuple(sorted(out, key=lambda feature: (feature.name, feature.chart)))


def _requirements(everything: Iterable[Found]) -> tuple[Requirement, ...]:
    """Gather the hits of each reference; what the default asks for belongs to no feature, whoever asks besides."""
    groups: dict[Reference, list[Found]] = {}
    for found in everything:
        groups.setdefault(found.reference, []).append(found)
    return tuple(_requirement(reference, groups[reference]) for reference in sorted(groups, key=str))


def _requirement(reference: Reference, hits: Sequence[Found]) -> Requirement:
    default = [found for found in hits if not found.features]
    features = () if default else tuple(sorted({name for found in hits for name in found.features}))
    kinds = {found.origin.kind for found in hits}
    notes = []
    if any(is_moving(found.text, reference) for found in hits):
        notes.append(f"the charts ask for {reference.tag or 'latest'}, which moves: the lock pins what it is now")
    if kinds == {"annotation"}:
        notes.append("annotation only: no rendering shows it")
    return Requirement(
        reference,
        tuple(sorted({found.origin for found in hits})),
        features,
        optional=not kinds & {"template", "manifest"} or (UNRENDERED in features and len(features) == 1),
        notes=tuple(notes),
    )


def _with_images(wanted: Sequence[Requirement], images: Iterable[ImageEntry]) -> tuple[Requirement, ...]:
    """Add the images that the manifest names; one that is discovered too keeps both origins (cases.md R10)."""
    found = {item.reference: item for item in wanted}
    for image in images:
        known = found.get(image.reference, Requirement(image.reference))
        origins = (*known.origins, Origin("manifest"))
        found[image.reference] = replace(known, origins=origins, features=(), optional=False, local=image.local)
    return tuple(found[reference] for reference in sorted(found, key=str))
