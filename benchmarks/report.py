"""From a result to figures, a table for the terminal, and docs/performance.md: ``python -m benchmarks.report RESULT...``.

Pure: a result is the JSON that ``./benchmarks/run --result FILE`` writes. Ratios are the median of the repetitions' own ratios:
within a repetition the tools took turns, so what disturbed one has likely disturbed the other.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MIB = 1024 * 1024
OURS = ("airgap", "airgap --lock", "python3 bundle")
RSS_LIMIT = 100 * MIB


@dataclass(frozen=True)
class Figure:
    """One promise: ``met`` is None where nothing is promised or nothing was measured."""

    name: str
    target: str
    measured: str
    met: bool | None = None


def figures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was promised and what was measured."""
    runs = result["runs"]
    found = [
        _ratio(runs, "mirror", "airgap", "crane", 0.6),
        _ratio(runs, "mirror", "airgap --lock", "crane", 0.6),
        _ratio(runs, "mirror", "airgap", "crane", None, what="durable"),
        _ratio(runs, "mirror", "airgap --lock", "crane", None, what="durable"),
        _ratio(runs, "mirror", "floor", "crane", None),
        _ratio(runs, "mirror", "airgap --lock", "floor", None),
        _ratio(runs, "mirror", "airgap", "skopeo", 0.45),
        _ratio(runs, "mirror", "airgap --lock", "skopeo", 0.45),
        _ratio(runs, "push", "airgap", "crane", 0.6),
        _ratio(runs, "push", "python3 bundle", "crane", 0.6),
        _ratio(runs, "push", "floor", "crane", None),
        _ratio(runs, "push", "airgap", "floor", None),
        _ratio(runs, "push", "airgap", "skopeo", 0.45),
        _ratio(runs, "tls: mirror", "airgap", "crane", None),
        _ratio(runs, "tls: push", "airgap", "crane", None),
        *_again(result),
        *_cpu(runs),
        *_footprint(runs),
        *_plan(result),
        *_limits(runs),
    ]
    return [asdict(figure) for figure in found if figure.measured]


def _ratio(
    runs: Sequence[dict[str, Any]], scene: str, ours: str, theirs: str, most: float | None, *, what: str = "seconds"
) -> Figure:
    """Compare the seconds of two tools; ``what``: which seconds of theirs."""
    pairs = [(one, other) for one, other in _pairs(runs, scene, ours, theirs) if what in other]
    name = f"{scene}: {ours} / {theirs}, {'seconds' if what == 'seconds' else 'with its file brought to the disk as well'}"
    target = f"<= {most}" if most else "reported"
    if not pairs:
        return Figure(name, target, "")
    ratios = [one["seconds"] / other[what] for one, other in pairs]
    middle = statistics.median(ratios)
    told = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return Figure(name, target, told, middle <= most if most else None)


def _pairs(runs: Sequence[dict[str, Any]], scene: str, ours: str, theirs: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    one, other = ({run["repetition"]: run for run in _of(runs, scene, tool)} for tool in (ours, theirs))
    return [(one[number], other[number]) for number in sorted(one.keys() & other.keys())]


def _again(result: dict[str, Any]) -> list[Figure]:
    runs = result["runs"]
    ours, theirs = (list(_of(runs, "many: again", tool)) for tool in ("airgap", "skopeo"))
    told = []
    if ours:
        pairs = result["estates"]["many"]["pairs"]
        heads, others = (max(_asked(run, head=head) for run in ours) for head in (True, False))
        twice = max(run["requests"].get("HEAD", 0) - run["requests"].get("distinct HEAD", 0) for run in ours)
        measured = f"{heads} HEAD, {others} others, none asked twice" if not twice else f"{heads} HEAD, {twice} of them again"
        told.append(Figure("push again: requests", f"<= {pairs} HEAD", measured, heads <= pairs and not twice and not others))
    if ours and theirs:
        ratios = [their["seconds"] / our["seconds"] for our, their in zip(ours, theirs, strict=False)]
        middle = statistics.median(ratios)
        told.append(Figure("push again: skopeo sync / airgap, seconds", ">= 5", f"{middle:.1f}", middle >= 5))
    for run in _of(runs, "plan --base", "airgap"):
        asked = _asked(run, head=True) + _asked(run, head=False)
        told.append(Figure("plan from an inventory: requests to the registry", "0", str(asked), asked == 0))
    return told


def _asked(run: dict[str, Any], *, head: bool) -> int:
    return sum(count for method, count in run["requests"].items() if " " not in method and (method == "HEAD") == head)


def _cpu(runs: Sequence[dict[str, Any]]) -> list[Figure]:
    told = []
    for scene in ("mirror", "push", "tls: mirror", "tls: push"):
        ours, theirs = (
            statistics.median([_of_cpu(run) for run in _of(runs, scene, tool)] or [0]) for tool in ("airgap", "crane")
        )
        if ours and theirs:
            told.append(Figure(f"{scene}: processor's seconds", f"< {theirs:.2f} (crane)", f"{ours:.2f}", ours < theirs))
    return told


def _footprint(runs: Sequence[dict[str, Any]]) -> list[Figure]:
    ours = [run for run in runs if run["tool"] in OURS and run["scene"] != "plan"]
    told = []
    if ours:
        most = max(ours, key=lambda run: run["rss"])
        measured = f"{most['rss'] / MIB:.0f} MiB ({most['scene']})"
        told.append(Figure("peak memory of any command, with its helm", "<= 100 MiB", measured, most["rss"] <= RSS_LIMIT))
    pushes = list(_of(runs, "push", "airgap"))
    bundles = [run["written"] for run in _of(runs, "mirror", "airgap")]
    if pushes and bundles:
        share = max(run["written"] for run in pushes) / max(bundles)
        told.append(
            Figure("push: written to a disk of the receiving host", "<= 1 % of the bundle", f"{share:.2%}", share <= 0.01)
        )
    return told


def _plan(result: dict[str, Any]) -> list[Figure]:
    runs = list(_of(result["runs"], "plan", "airgap"))
    if not runs:
        return []
    seconds, told = statistics.median(run["seconds"] for run in runs), result["estates"]["plan"]
    return [
        Figure(f"plan of {told['manifest']}, seconds", "< 5", f"{seconds:.1f}", seconds < 5),
        Figure("renders of the same with the same", "0", f"{told['repeated']} of {told['renders']}", told["repeated"] == 0),
    ]


def _limits(runs: Sequence[dict[str, Any]]) -> list[Figure]:
    """The line's budget: how long the bytes took, whatever the jobs."""
    return [
        Figure(f"{run['scene']}, {run['tool']}: seconds at {run['limit'] / MIB:.0f} MiB/s", "reported", f"{run['seconds']:.1f}")
        for run in runs
        if "limit" in run
    ]


def _of(runs: Iterable[dict[str, Any]], scene: str, tool: str) -> Iterable[dict[str, Any]]:
    return (run for run in runs if run["scene"] == scene and run["tool"] == tool)


def _of_cpu(run: dict[str, Any]) -> float:
    return float(run["user"] + run["system"])


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each scene and tool: seconds (median, least, most), the processor's, memory, requests."""
    keys = dict.fromkeys((run["scene"], run["tool"]) for run in result["runs"])
    return [_row(scene, tool, list(_of(result["runs"], scene, tool))) for scene, tool in keys]


def _row(scene: str, tool: str, runs: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    seconds = [run["seconds"] for run in runs]
    steps = runs[0].get("steps", {})
    medians = {name: statistics.median(run["steps"][name]["seconds"] for run in runs) for name in steps}
    parts = " + ".join(f"{name} {value:.1f}" for name, value in medians.items())
    asked = runs[-1].get("requests", {})
    if "registry" in runs[0]:
        parts = f"the registry's own processor {statistics.median(run['registry'] for run in runs):.2f}; "
    return (
        scene,
        tool,
        f"{statistics.median(seconds):.2f}",
        f"{min(seconds):.2f} to {max(seconds):.2f}" if len(seconds) > 1 else "",
        f"{statistics.median(_of_cpu(run) for run in runs):.2f}",
        f"{max(run['rss'] for run in runs) / MIB:.0f}",
        f"{max(run['load'] for run in runs):.1f}",
        parts + ", ".join(f"{count} {method}" for method, count in sorted(asked.items()) if " " not in method),
    )


HEAD = ("scene", "tool", "seconds", "least to most", "processor", "MiB", "load", "parts, or requests to the registry")


def text(result: dict[str, Any]) -> str:
    """Return the result for a terminal."""
    return "\n".join([*_plain((HEAD, *rows(result))), "", *_plain((("figure", "target", "measured", ""), *_promises(result)))])


def _plain(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _promises(result: dict[str, Any]) -> list[tuple[str, ...]]:
    words = {True: "met", False: "NOT MET", None: ""}
    return [(it["name"], it["target"], it["measured"], words[it["met"]]) for it in result["figures"]]


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the tables of docs/performance.md for one or several runs."""
    first = results[0]
    promises = [dict(zip((row[0] for row in told), told, strict=True)) for told in (_promises(result) for result in results)]
    names = dict.fromkeys(name for told in promises for name in told)
    lines = ["## Figures", ""]
    lines += _table(
        ("figure", "target", *(f"run {number + 1}" for number in range(len(results)))),
        [
            (name, next(told[name][1] for told in promises if name in told), *(_cell(told.get(name)) for told in promises))
            for name in names
        ],
    )
    for number, result in enumerate(results, 1):
        lines += ["", f"## Run {number}: {result['begun']}, {result['minutes']} minutes", "", f"`{result['command']}`", ""]
        lines += _table(HEAD, rows(result))
    machine = first["machine"]
    lines += ["", "## Machine and versions", ""]
    lines.append(
        f"{machine['cores']} cores ({machine['model']}), {machine['memory'] / 2**30:.0f} GiB, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {', '.join(f'{name} {version}' for name, version in first['versions'].items())}."
    )
    return "\n".join(lines) + "\n"


def _cell(row: Sequence[str] | None) -> str:
    if row is None:
        return ""
    return f"{row[2]} **{row[3]}**" if row[3] == "NOT MET" else row[2]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


MARK = "<!-- from here on written by python -m benchmarks.report -->\n"


def main() -> int:
    """Write the tables behind the mark in docs/performance.md."""
    results = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    page = Path(__file__).parent.parent / "docs" / "performance.md"
    page.write_text(page.read_text().partition(MARK)[0] + MARK + "\n" + markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
