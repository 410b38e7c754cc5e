"""Rewrite: set the values that move every image of a chart inside, pinned by digest where the chart can, and prove it surgical.

A form says how a digest gets in: a digest key, a tag with the digest behind it, or the tag alone (its digest is then checked
in the registry). All images try one form in one render; those whose rendering is wrong, or that change anything but image
references (and labels or annotations that stay valid: by-products, which are named), go on to the next form.

Invariants: nothing is set that a render did not prove; the rendering of the final values differs from the one before in image
references and named by-products alone. What no value moves is listed, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import AirgapError, ConfigurationError
from airgap.ref import Reference
from airgap.relocate.probe import GUARDS, RUN, Attribution, Spot, Values, apply, attribute, spots
from airgap.relocate.recipe import DIGEST, NAME, TAG, WHOLE, Assignments, Recipe, unknowns
from airgap.tools import RenderError
from airgap.values import format_path, get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airgap.lock import Lock
    from airgap.oci import Digest
    from airgap.ref import Location
    from airgap.relocate.rendering import Difference, Place, Renderer, Rendering
    from airgap.values import Json, ValuePath

DIGEST_KEY, TAG_DIGEST, TAG_ONLY, PINNED, WHOLE_VALUE = "digest", "tag@digest", "tag", "pinned", "reference"
"""Forms: ``pinned`` keeps a digest that the values hold already; ``reference`` sets one value to the whole reference."""

ROUNDS = 12
"""Renders that may be spent on finding forms; two or three are usual."""
UNIQUE = 12
"""Hexadecimal digits of a digest that charts put into labels (wandb-base); enough to tell whose by-product it is."""


@dataclass(frozen=True)
class Change:
    """One value that was set, for ``render --explain``.

    ``old`` is None where nothing was set; ``moves`` are the containers (Kind/name container); ``by_products`` are places that
    change along; ``reason`` is set where the value is not a part of an image.
    """

    chart: str
    path: str
    old: Json
    new: Json
    moves: tuple[str, ...] = ()
    form: str = ""
    by_products: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Unmoved:
    """A reference that stays outside: what no value moves, with the remedies by name."""

    chart: str
    template: str
    object: str
    path: str
    reference: str
    reason: str
    remedies: tuple[str, ...]
    is_test: bool = False


@dataclass(frozen=True)
class Rewrite:
    """The final values of a chart and what led to them; ``noise`` is what differs between any two renders (random Secrets)."""

    values: Values = field(repr=False)
    settings: Mapping[ValuePath, Json]
    changes: tuple[Change, ...]
    unmoved: tuple[Unmoved, ...]
    notes: tuple[str, ...]
    noise: frozenset[Place] = field(repr=False)
    before: Rendering = field(repr=False)
    after: Rendering = field(repr=False)


@dataclass
class _Unit:
    """Spots that one set of values makes; ``forms`` are left to try, the first is the present one."""

    recipe: Recipe
    spots: list[Spot]
    source: Reference
    target: Reference
    digest: Digest | None
    forms: list[str]
    by_products: set[str] = field(default_factory=set)
    trouble: str = ""

    @property
    def form(self) -> str:
        """The form in use, or empty when none is left."""
        return self.forms[0] if self.forms else ""

    def drop(self, trouble: str) -> None:
        """Go on to the next form."""
        self.trouble = trouble
        self.by_products.clear()
        if self.forms:
            del self.forms[0]


def rewrite(renderer: Renderer, values: Values, lock: Lock, location: Location) -> Rewrite:
    """Return the values that move every image of ``renderer``'s chart to ``location``.

    ``values`` are what the chart is rendered with; raises ConfigurationError if it does not render with them.
    """
    before = renderer.first(values)
    wanted = [spot for spot in spots(before) if not (spot.reference and spot.reference.registry == location.registry)]
    found = attribute(renderer, values, before, wanted)
    return _Rewriter(renderer=renderer, values=values, lock=lock, location=location, before=before, found=found).run(wanted)


class _Rewriter:
    def __init__(
        self, *, renderer: Renderer, values: Values, lock: Lock, location: Location, before: Rendering, found: Attribution
    ) -> None:
        self.renderer, self.values, self.before, self.found = renderer, values, before, found
        self.lock, self.location = lock, location
        self.computed = renderer.computed(values)
        self.noise = {it.place for it in before.differences(renderer.render(values, again=True))}
        self.names = Assignments()
        self.unmoved: list[Unmoved] = []
        self.notes = [f"{it.told}; it is not rewritten" for it in renderer.copy.apart]
        self.chart = renderer.chart.label
        self.switches = dict(found.switches)
        self.shared: dict[Place, list[tuple[str, str]]] = {}

    def run(self, wanted: Sequence[Spot]) -> Rewrite:
        """Choose forms until a rendering proves them all, then explain."""
        units = self._named(self._units(wanted))
        after = self._settle(units)
        settings = self._settings(units)
        left = [unit for unit in units if not unit.forms]
        self.unmoved += [self._unmoved(spot, unit.trouble) for unit in left for spot in unit.spots]
        return Rewrite(
            values=apply(self.values, self.computed, settings),
            settings=settings,
            changes=tuple(self._changes(units, settings)),
            unmoved=tuple(self.unmoved),
            notes=tuple(self.notes),
            noise=frozenset(self.noise),
            before=self.before,
            after=after,
        )

    # -- units and names -------------------------------------------------------------------------------------------

    def _units(self, wanted: Sequence[Spot]) -> list[_Unit]:
        units: dict[tuple[object, ...], _Unit] = {}
        for spot in wanted:
            recipe = self.found.recipe(spot)
            if spot.reference is None or recipe is None:
                if spot.kind == "container" or spot.reference is not None:
                    self.unmoved.append(self._unmoved(spot, spot.problem or self._why(spot)))
                continue
            key = (recipe.pieces, spot.reference)
            if key not in units:
                units[key] = self._unit(recipe, spot.reference)
            units[key].spots.append(spot)
            self.shared.setdefault(spot.place, []).append((spot.text, units[key].target.name))
        return list(units.values())

    def _unit(self, recipe: Recipe, source: Reference) -> _Unit:
        locked = self.lock.image(source)
        digest = (source.digest or locked.digest) if locked else None
        if locked is None:
            self.notes.append(f"{self.chart}: {source} is not in the bundle: no digest is known for it")
        return _Unit(recipe, [], source, self.location.relocate(source), digest, _forms(recipe, source, digest))

    def _named(self, units: list[_Unit]) -> list[_Unit]:
        """Solve the names of all units, those with the fewest unknowns first; a unit without a solution loses its forms."""
        waiting = list(units)
        while waiting:
            unit = min(waiting, key=lambda it: unknowns(it.recipe.name, self.names.texts))
            waiting.remove(unit)
            if unit.form == WHOLE_VALUE:
                continue
            solution = self.names.solve(unit.recipe.name, unit.target.name)
            if solution is None:
                paths = ", ".join(format_path(it.path) for it in unit.recipe.candidates if it.role == NAME)
                unit.forms.clear()
                unit.trouble = f"the value {paths} makes other images too, and no text suits all of them"
            else:
                self.names.accept(solution)
        return units

    # -- forms -----------------------------------------------------------------------------------------------------

    def _settings(self, units: Iterable[_Unit]) -> dict[ValuePath, Json]:
        """Return all settings of the units' present forms; where two want one value differently, the later drops its form."""
        settings: dict[ValuePath, Json] = dict.fromkeys(self.found.cleared, "")
        settings.update(self.switches)
        for unit in units:
            while unit.forms:
                own = self._own(unit)
                clash = [
                    path for path, text in own.items() if settings.get(path, text) != text and path not in self.found.cleared
                ]
                if not clash:
                    settings.update(own)
                    break
                unit.drop(f"{format_path(clash[0])} is needed otherwise by another image")
        return settings

    def _own(self, unit: _Unit) -> dict[ValuePath, Json]:
        """Return the settings of one unit in its present form."""
        if WHOLE in {candidate.role for candidate in unit.recipe.candidates}:
            solution = self.names.solve(unit.recipe.pieces, _whole(unit))
            return dict(solution or {})
        mine = {candidate.path for candidate in unit.recipe.candidates if candidate.role == NAME}
        own: dict[ValuePath, Json] = {path: text for path, text in self.names.texts.items() if path in mine}
        beside = max((path for path in mine if path[0] != "global"), key=len, default=())[:-1]
        if unit.form == DIGEST_KEY:
            digest = unit.recipe.of_role(DIGEST)
            own[digest.path if digest else (*beside, "digest")] = str(unit.digest)
        if unit.form == TAG_DIGEST:
            tag = unit.recipe.of_role(TAG)
            own[tag.path if tag else (*beside, "tag")] = f"{unit.source.tag}@{unit.digest}"
        return own

    def _settle(self, units: list[_Unit]) -> Rendering:
        """Render and judge until every unit's form is proved; raises AirgapError if that has no end."""
        told = "every form changes more than images"
        for _ in range(ROUNDS + 3 * len(units)):
            try:
                after = self._with(units)
            except RenderError as error:
                told = error.message
                if not self._refused(units, error):
                    break
                continue
            if not self._judge(units, after):
                return after
        raise AirgapError(f"{self.chart}: no set of image values renders soundly; the last attempt: {told}")

    def _with(self, units: Iterable[_Unit]) -> Rendering:
        return self.renderer.render(apply(self.values, self.computed, self._settings(units)))

    def _refused(self, units: list[_Unit], error: RenderError) -> bool:
        """Switch the guard off that keeps the chart from rendering, or drop the forms that it refuses; False: none is left."""
        for pattern, path, _ in GUARDS:
            if pattern.search(error.text or error.message) and path not in self.switches:
                self.switches[path] = True
                return True
        active = [unit for unit in units if unit.forms]
        for unit in self._offenders(active) or active:
            unit.drop(f"the chart refuses it: {error.reason or error.message}")
        return bool(active)

    def _offenders(self, units: list[_Unit]) -> list[_Unit]:
        if not units:
            return []
        try:
            self._with(units)
        except RenderError:
            if len(units) == 1:
                return units
            middle = len(units) // 2
            return [*self._offenders(units[:middle]), *self._offenders(units[middle:])]
        return []

    # -- judgement -------------------------------------------------------------------------------------------------

    def _judge(self, units: list[_Unit], after: Rendering) -> bool:
        """Drop the forms of units that came out wrong; return whether any was dropped."""
        active = [unit for unit in units if unit.forms]
        for unit in active:
            unit.by_products.clear()
        wrong = {id(unit): why for unit in active for why in [_fault(unit, after, self.shared)] if why}
        mine = {spot.place for unit in active for spot in unit.spots}
        for change in self.before.differences(after):
            if change.place in mine or change.place in self.noise:
                continue
            told = f"{change.document.label} {format_path(change.path)}"
            for unit in _blamed(active, change):
                if change.is_bearable:
                    unit.by_products.add(told)
                else:
                    wrong.setdefault(id(unit), f"it also changes {told}")
        for unit in active:
            if id(unit) in wrong:
                unit.drop(wrong[id(unit)])
        return bool(wrong)

    # -- explanation -----------------------------------------------------------------------------------------------

    def _why(self, spot: Spot) -> str:
        refused = [f"{format_path(path)} ({why})" for path, why in self.found.refused]
        told = f"; the chart refused a probe of {', '.join(refused)}" if refused else ""
        return f"no value of the chart makes it: it is written in {spot.document.template}{told}"

    def _unmoved(self, spot: Spot, reason: str) -> Unmoved:
        host = spot.reference.registry if spot.reference else "its registry"
        remedies = (
            ("nothing needs to be done: it is a helm test, which the operator never runs",)
            if spot.document.is_test
            else (
                f"put the files for {host} in node-mirrors/ on every node, and audit with --node-mirrors",
                f"carry a chart whose {spot.document.template} takes the image from a value",
            )
        )
        path = format_path(spot.place[1])
        return Unmoved(
            self.chart, spot.document.template, spot.document.label, path, spot.text, reason, remedies, spot.document.is_test
        )

    def _changes(self, units: Sequence[_Unit], settings: Mapping[ValuePath, Json]) -> Iterator[Change]:
        owners: dict[ValuePath, list[_Unit]] = {}
        for unit in units:
            for path in self._own(unit) if unit.forms else ():
                owners.setdefault(path, []).append(unit)
        for path, new in sorted(settings.items(), key=lambda item: format_path(item[0])):
            users = owners.get(path, [])
            yield Change(
                chart=self.chart,
                path=format_path(path),
                old=get(self.computed, path),
                new=new,
                moves=tuple(sorted({spot.label for unit in users for spot in unit.spots})),
                form=", ".join(sorted({unit.form for unit in users})),
                by_products=tuple(sorted({it for unit in users for it in unit.by_products})),
                reason=self._reason(path, users),
            )

    def _reason(self, path: ValuePath, users: Sequence[_Unit]) -> str:
        guard = next((why for _, switch, why in GUARDS if switch == path), "")
        if guard:
            return guard
        if path in self.found.cleared and not users:
            return "each image is named in full by its own value, so a global in front of them would put a host there twice"
        return ""


def _forms(recipe: Recipe, source: Reference, digest: Digest | None) -> list[str]:
    """Return the forms to try for a recipe, best first."""
    if WHOLE in {candidate.role for candidate in recipe.candidates}:
        return [WHOLE_VALUE, TAG_ONLY] if digest and not source.digest else [WHOLE_VALUE]
    if digest is None or source.digest:
        return [PINNED if source.digest else TAG_ONLY]
    return [DIGEST_KEY, TAG_DIGEST, TAG_ONLY]


def _whole(unit: _Unit) -> str:
    """Return the reference that a value for a whole reference is set to."""
    pinned = unit.target.pinned(unit.digest) if unit.digest and unit.form == WHOLE_VALUE else unit.target
    return str(pinned)


def _fault(unit: _Unit, after: Rendering, shared: Mapping[Place, Sequence[tuple[str, str]]]) -> str:
    """Return what is wrong with the rendering of a unit, or nothing; ``shared`` are all references of a scalar."""
    for spot in unit.spots:
        shown = after.at(spot.place)
        told = f"{spot.label} renders {shown!r}"
        reference = _moved(shown, spot, unit.target.name, shared[spot.place])
        if reference is None:
            return f"{told}, which is not under {unit.target.name}"
        pinned = unit.form in (DIGEST_KEY, TAG_DIGEST, WHOLE_VALUE, PINNED) and unit.digest is not None
        if pinned and reference.digest != unit.digest:
            return f"{told} without the digest"
        if not pinned and reference.tag != unit.source.tag:
            return f"{told} with another tag"
    return ""


def _moved(shown: Json, spot: Spot, name: str, shared: Sequence[tuple[str, str]]) -> Reference | None:
    """Return the reference at a spot if it has the wanted name, and the rest of the scalar is as it was."""
    if not isinstance(shown, str) or _masked(shown, shared) != _masked(spot.scalar, shared):
        return None
    for text in [shown] if spot.scalar == spot.text else RUN.findall(shown):
        try:
            reference = Reference.parse(text[max(text.find(name), 0) :])
        except ConfigurationError:
            continue
        if reference.name == name:
            return reference
    return None


def _masked(scalar: str, shared: Sequence[tuple[str, str]]) -> str:
    """Return a scalar with its references taken out, where they are now and where they go."""
    for run in RUN.findall(scalar):
        for _, name in shared:
            if name in run:
                scalar = scalar.replace(run[run.find(name) :], "\0")
    for text, _ in sorted(shared, key=lambda it: len(it[0]), reverse=True):
        scalar = scalar.replace(text, "\0")
    return scalar


def _blamed(units: Sequence[_Unit], change: Difference) -> list[_Unit]:
    """Return the units that a change comes from: whose digest or name it shows, those in its subchart first; else all."""
    shown = str(change.new)

    def is_shown(unit: _Unit) -> bool:
        return bool(unit.digest and unit.digest.hex[:UNIQUE] in shown) or unit.target.name in shown

    def is_near(unit: _Unit) -> bool:
        return any(_folder(spot.place) == _folder((change.key, ())) for spot in unit.spots)

    tests: tuple[Callable[[_Unit], bool], ...] = (lambda it: is_shown(it) and is_near(it), is_shown, is_near, lambda _: True)
    return next((found for test in tests if (found := [unit for unit in units if test(unit)])), [])


def _folder(place: Place) -> str:
    """Return the templates folder of the (sub)chart that a template is in."""
    return place[0][0].rpartition("/templates/")[0]
