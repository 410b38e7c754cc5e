"""Everything on at once: one rendering where it works, and what to do where it does not.

Invariants: the number of renderings is bounded (``BUDGET``); whatever had to be taken out of the common rendering is
rendered by itself, and what does not render even so is told with helm's sentence. Nothing is lost in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.chart.apart import first_template
from airgap.chart.texts import node_of
from airgap.discover.rendering import Question, Switch
from airgap.discover.repair import PLACEHOLDER, candidates
from airgap.tools import RenderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airgap.discover.rendering import Profile, Renderer
    from airgap.discover.switches import Candidate
    from airgap.scan import Hit

BUDGET = 60
"""Renderings that one search for a working combination may take; operator-wandb needs about five."""
AT_ONCE = 2
"""Placeholders tried side by side: the likeliest first, and helm takes a core each."""
FILL_LIMIT = 8
"""Placeholders in one rendering."""


@dataclass
class Together:
    """What came of it: ``hits`` of the common rendering, ``fills`` it needed, ``on`` what was in it, ``apart`` what was not.

    ``errors``: why something is apart, by the candidate's name.
    """

    on: list[Candidate]
    fills: tuple[Switch, ...] = ()
    hits: tuple[Hit, ...] = ()
    apart: list[Candidate] = field(default_factory=list)
    errors: dict[str, RenderError] = field(default_factory=dict)


class Search:
    """Looks for a combination that renders; ``left`` is what remains of the budget."""

    def __init__(self, renderer: Renderer, profile: Profile, api_versions: tuple[str, ...]) -> None:
        self.renderer = renderer
        self.profile = profile
        self.api_versions = api_versions
        self.left = BUDGET

    def together(self, wanted: Sequence[Candidate]) -> Together:
        """Render all of ``wanted`` at once, without those that stand in the way."""
        state = Together(list(wanted))
        while True:
            answer = self._attempt(state.on, state.fills)
            if not isinstance(answer, RenderError):
                state.hits = answer
                return state
            filled = self._fill(state.on, state.fills, answer)
            if filled:
                state.fills = filled
                continue
            culprits = self._blame(state, answer) or list(state.on)
            state.on = [candidate for candidate in state.on if candidate not in culprits]
            state.apart += culprits
            state.errors.update(dict.fromkeys((culprit.name for culprit in culprits), answer))
            if not state.on:
                return state

    def alone(self, candidate: Candidate, fills: tuple[Switch, ...] = ()) -> tuple[Hit, ...] | RenderError:
        """Render one candidate with its parents, filling in what it asks for; the error is the one without any filling."""
        answer = self._attempt([candidate], fills)
        while isinstance(answer, RenderError):
            filled = self._fill([candidate], fills, answer)
            if not filled:
                plain = self._attempt([candidate], ())
                return plain if isinstance(plain, RenderError) else answer
            fills = filled
            answer = self._attempt([candidate], fills)
        return answer

    def _attempt(self, on: Sequence[Candidate], fills: tuple[Switch, ...]) -> tuple[Hit, ...] | RenderError:
        self.left -= 1
        return self.renderer.attempt(self._question(on, fills))

    def _question(self, on: Iterable[Candidate], fills: tuple[Switch, ...]) -> Question:
        switches = tuple(dict.fromkeys(switch for candidate in on for switch in candidate.switches))
        return Question(self.profile, (*switches, *fills), self.api_versions)

    def _fill(self, on: Sequence[Candidate], fills: tuple[Switch, ...], error: RenderError) -> tuple[Switch, ...] | None:
        """Return the fills with one placeholder more that gets the rendering further, or None."""
        if len(fills) >= FILL_LIMIT or self.left <= 0:
            return None
        switches = self._question(on, fills).switches
        values = self.renderer.computed(self.profile, switches)
        tries = [(*fills, Switch(path, PLACEHOLDER)) for path in candidates(error, self.renderer.chart, values)]
        further = None
        for start in range(0, len(tries), AT_ONCE):
            some = tries[start : start + AT_ONCE]
            self.left -= len(some)
            answers = self.renderer.try_all([self._question(on, filled) for filled in some])
            for filled, answer in zip(some, answers, strict=True):
                if not isinstance(answer, RenderError):
                    return filled
                if further is None and _place(answer) != _place(error):
                    further = filled
        return further

    def _blame(self, state: Together, error: RenderError) -> list[Candidate]:
        """Return what to take out: switches of the node that failed, else its condition, else what a search by halves finds."""
        if self.left <= 0:
            return list(state.on)
        node = node_of(first_template(error))
        local = [candidate for candidate in state.on if not candidate.is_condition and candidate.nodes == (node,)]
        bringing = [candidate for candidate in state.on if candidate.is_condition and candidate.serves(node)]
        for suspects in (local, _with_dependents(bringing[-1:], state.on)):
            rest = [candidate for candidate in state.on if candidate not in suspects]
            if suspects and self._gets_further(rest, state.fills, error):
                return suspects
        return _with_dependents(self._halve(state), state.on)

    def _gets_further(self, on: Sequence[Candidate], fills: tuple[Switch, ...], error: RenderError) -> bool:
        answer = self._attempt(on, fills)
        return not isinstance(answer, RenderError) or _place(answer) != _place(error)

    def _halve(self, state: Together) -> list[Candidate]:
        """Return the one candidate whose joining those before it makes the rendering fail; empty if none does."""
        good, bad = 0, len(state.on)
        if isinstance(self._attempt([], state.fills), RenderError):
            return []
        while bad - good > 1 and self.left > 0:
            middle = (good + bad) // 2
            if isinstance(self._attempt(state.on[:middle], state.fills), RenderError):
                bad = middle
            else:
                good = middle
        return state.on[good:bad]


def _place(error: RenderError) -> tuple[str, int, str]:
    """Return what tells one failure from another."""
    return error.template, error.line, error.reason


def _with_dependents(culprits: Sequence[Candidate], on: Sequence[Candidate]) -> list[Candidate]:
    """Return the culprits with everything that would switch one of them on again."""
    paths = {candidate.path for candidate in culprits}
    return [candidate for candidate in on if paths & {switch.path for switch in candidate.switches}]
