"""Renderings of one chart with different values: each once, in parallel, read document by document.

Invariants: what is rendered is a copy of the chart without its NOTES.txt files. Notes are no objects, but charts validate their
values there and fail (cases.md H6); for finding images a combination that nobody would install is as good as any, so two
modes that exclude each other show their images in one render. A document that two renderings share is read once.
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgap.chart.apart import Copy
from airgap.errors import ConfigurationError
from airgap.scan import parse_rendering, scan
from airgap.tools import KUBE_VERSION, RenderError
from airgap.values import coalesce, with_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from airgap.chart import Chart
    from airgap.scan import Hit
    from airgap.tools import Helm
    from airgap.values import Json, ValuePath

NOTES = "templates/NOTES.txt"
PARALLEL = 4
"""Renderings at a time; helm is mostly CPU, so more than the cores do not help much."""

_DOCUMENT = re.compile(r"^---\s*\n(?=# Source: )", re.MULTILINE)


@dataclass(frozen=True)
class Switch:
    """A value that turns something on: its path from the top of the values, and what to set."""

    path: ValuePath
    value: Json = True


@dataclass(frozen=True)
class Profile:
    """Values to render with (already merged), and what they are called."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Question:
    """One rendering to be made: a profile, switches over it, and the API groups that the cluster is said to have."""

    profile: Profile
    switches: tuple[Switch, ...] = ()
    api_versions: tuple[str, ...] = ()


class Renderer:
    """Renders one chart; use it as a context manager, it keeps a scratch copy of the chart.

    ``problems``: sentences about rendered documents that could not be read.
    """

    def __init__(self, chart: Chart, helm: Helm, *, release: str, namespace: str, kube_version: str = KUBE_VERSION) -> None:
        self.chart = chart
        self.helm = helm
        self.release = release
        self.namespace = namespace
        self.kube_version = kube_version
        self._scratch = tempfile.TemporaryDirectory(prefix="airgap-discover-")
        self.copy = Copy(chart, Path(self._scratch.name), leave_out=(NOTES,))
        self.problems: dict[str, None] = {}
        self._read: dict[str, tuple[Hit, ...]] = {}

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._scratch.cleanup()

    def render(self, question: Question) -> tuple[Hit, ...]:
        """Return everything that looks like a reference or URL in what the chart renders; raises RenderError."""
        text = self.helm.template(
            self.copy.path,
            release=self.release,
            namespace=self.namespace,
            values=_layers(question),
            kube_version=self.kube_version,
            api_versions=question.api_versions,
        )
        return tuple(hit for document in _DOCUMENT.split(text) for hit in self._hits(document))

    def try_all(self, questions: Sequence[Question]) -> list[tuple[Hit, ...] | RenderError]:
        """Render several in parallel; what fails gives its RenderError."""
        if not questions:
            return []
        with ThreadPoolExecutor(min(PARALLEL, len(questions))) as pool:
            return list(pool.map(self.attempt, questions))

    def attempt(self, question: Question) -> tuple[Hit, ...] | RenderError:
        """Render, or return the RenderError."""
        try:
            return self.render(question)
        except RenderError as error:
            return error

    def computed(self, profile: Profile, switches: Iterable[Switch] = ()) -> dict[str, Any]:
        """Return the values as templates would see them."""
        question = Question(profile, tuple(switches))
        return self.chart.computed_values(
            self.helm,
            _layers(question),
            release=self.release,
            namespace=self.namespace,
            kube_version=self.kube_version,
        )

    def text_of(self, template: str) -> str:
        """Return the text of a template by the name that helm's Source line has for it."""
        path, _, name = template.partition("/templates/")
        keys = tuple(path.split("/")[2::2])
        chart = next((node.chart for node in self.chart.tree() if node.path == keys), self.chart)
        return chart.templates.get(f"templates/{name}", "")

    def _hits(self, text: str) -> tuple[Hit, ...]:
        known = self._read.get(text)
        if known is None:
            try:
                documents = parse_rendering(f"---\n{text}", f"chart {self.chart.label}") if text.strip() else ()
            except ConfigurationError as error:
                documents = ()
                self.problems[f"{error.message}: what it asks for is not known"] = None
            found = scan(documents)
            known = self._read[text] = (*found.containers, *found.images)
        return known


def _layers(question: Question) -> tuple[dict[str, Any], ...]:
    """Return the profile's values with the switches laid over them as one layer."""
    over: Any = {}
    for switch in question.switches:
        over = with_value(over, switch.path, switch.value)
    return (coalesce([question.profile.values, over]),)
