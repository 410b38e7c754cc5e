"""Templates that only a cluster can answer, set apart so that the rest of their chart renders (cases.md H4).

Invariants: a template is set apart only after helm failed in it and only if it asks the cluster (``lookup``), which offline
answers nothing; what misses a value fails as ever. Nothing is set apart in silence: ``apart`` says what, where and why. The
chart itself is not touched, only a copy on disk.

::

    copy = Copy(chart, scratch)
    text = copy.bear(lambda path: helm.template(path, release="app", namespace="apps"))
    for item in copy.apart: print(item.told)
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from airgap.chart.texts import all_defines, from_top, node_of, reached, value_paths
from airgap.tools import RenderError
from airgap.values import format_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from airgap.chart import Chart, Node
    from airgap.values import ValuePath

Answer = TypeVar("Answer")

SHOWN = 4
"""Values that a sentence names at most."""

_TEMPLATE = re.compile(r"([\w./+-]+/templates/[\w./+-]+)")
_LOOKUP = re.compile(r"\{\{[^}]*\blookup\s")
_ACTION = re.compile(r"\{\{[^}]*\blookup\s[^}]*\}\}")
_COMMENT = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
_DECIDED = re.compile(r"execution error at \(")
"""How helm begins to tell of ``fail`` and ``required``: what the chart's author wants the user to know."""


def first_template(error: RenderError) -> str:
    """Return the template that helm was rendering: the values of its node are what ``.Values`` means."""
    found = _TEMPLATE.search(error.text)
    return found[1] if found else error.template


@dataclass(frozen=True)
class Apart:
    """A template that was set apart: its name as helm's Source line has it, its node and file, and helm's complaint.

    ``text``: what it says, with the named templates that it includes.
    """

    template: str
    node: Node = field(repr=False)
    name: str
    error: RenderError = field(repr=False)
    text: str = field(repr=False)

    @property
    def values(self) -> tuple[ValuePath, ...]:
        """The values that it reads, from the top."""
        return tuple(dict.fromkeys(from_top(self.node.path, path) for path in value_paths(self.text)))

    @property
    def place(self) -> str:
        """Where it failed."""
        line = f" line {self.error.line}" if self.error.line else ""
        within = f" (in {self.error.template}{line})" if self.error.template not in ("", self.template) else line
        return f"{self.template}{within}"

    @property
    def reason(self) -> str:
        """Why, in words."""
        return f"it asks the cluster (lookup), which nothing answers offline: {self.error.reason}"

    @property
    def remedy(self) -> str:
        """What may help."""
        asking = " ".join(_ACTION.findall(self.text))
        own = value_paths(asking) or value_paths(self.text)
        paths = [format_path(from_top(self.node.path, path)) for path in dict.fromkeys(own)][:SHOWN]
        return f"set what it would look up ({', '.join(paths)})" if paths else "give the chart a template that needs no lookup"

    @property
    def told(self) -> str:
        """All of it in one sentence."""
        return f"{self.place} does not render: {self.reason}; the rest counts; {self.remedy}"


def apart_of(error: RenderError, chart: Chart) -> Apart | None:
    """Return the template that failed, if it asks the cluster; None where something else is wrong. Pure.

    What a chart's author decided (``fail``, ``required``) counts only where the template itself asks: values are missing else.
    """
    template = first_template(error)
    folder, _, name = template.partition("/templates/")
    path = node_of(template)
    node = next((node for node in chart.tree() if node.path == path), None)
    text = node.chart.templates.get(f"templates/{name}") if node and folder else None
    if node is None or text is None or name.rpartition("/")[2].startswith("_"):
        return None
    named = all_defines(it for inner in chart.tree() for it in inner.chart.templates.values())
    texts = [_COMMENT.sub("", it) for it in (text, *reached(text, named).values())]
    asking = texts[:1] if _DECIDED.search(error.text) else texts
    if not any(_LOOKUP.search(it) for it in asking):
        return None
    return Apart(template, node, f"templates/{name}", error, "\n".join(texts))


class Copy:
    """A chart on disk, without what was set apart; safe to use from several threads."""

    def __init__(self, chart: Chart, directory: Path, leave_out: Sequence[str] = ()) -> None:
        self.chart = chart
        self.apart: tuple[Apart, ...] = ()
        self._directory, self._leave_out = directory, tuple(leave_out)
        self._changing = threading.Lock()
        self.path = chart.unpack_to(directory, self._leave_out) if leave_out else chart.write(directory)

    def bear(self, ask: Callable[[Path], Answer]) -> Answer:
        """Ask something of the chart's path until no template stands in the way that only a cluster can answer."""
        while True:
            try:
                return ask(self.path)
            except RenderError as error:
                if not self.set_apart(error):
                    raise

    def set_apart(self, error: RenderError) -> bool:
        """Set the template apart that failed; False if it is not one of those, or was set apart already."""
        found = apart_of(error, self.chart)
        with self._changing:
            if found is None or any(found.template == it.template for it in self.apart):
                return False
            self.apart = (*self.apart, found)
            files = frozenset((it.node.chart.label, it.name) for it in self.apart)
            folder = self._directory / f"apart-{len(self.apart)}"  # another one: somebody may be reading the last
            self.path = self.chart.unpack_to(folder, self._leave_out, files)
        return True
