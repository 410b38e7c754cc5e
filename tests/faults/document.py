"""docs/faults.md, made from the table.

::

    python -m tests.faults.document        # writes docs/faults.md
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.covered import COVERED
from tests.faults.pulling import PULLING
from tests.faults.pushing import PUSHING
from tests.faults.rows import D2, D3, STORE, Finish

if TYPE_CHECKING:
    from tests.faults.rows import Covered, Row, Stop

PAGE = Path(__file__).resolve().parents[2] / "docs/faults.md"
NAMES = {D2: "distribution 2.8", D3: "distribution 3", STORE: "airgap serve"}
TOP = """# Faults

Made from the table in `tests/faults/` by `python -m tests.faults.document`; a test compares. Each row is run twice on each of
its registries (real ones, behind a proxy that does the harm): the fault happens **once**, and it happens **always**. Then the
same command is run again without the fault: it must finish, and send or fetch nothing that was finished before.

What is looked at after every run: **I1** nothing wrong is stored under a digest or a tag, **I2** nothing finished is lost or
moved again, **I3** no credential reaches another host, a log, a file or an error, **I4** nothing is written outside of the
target, **I5** nothing half has a final name, **I6** time and requests are bounded, **I7** an error is one sentence with its
exit code.

"again" is what may be moved a second time: the bytes of one piece of an upload, or of one blob; the proxy counts.
"""
HEAD = "| # | the fault | registries | once | always |\n|---|---|---|---|---|\n"


def page() -> str:
    """Return the whole text."""
    parts = [TOP, "\n## Between push and its registry\n\n", HEAD, *(row_line(row) for row in PUSHING)]
    parts += ["\n## Between mirror and its registry\n\n", HEAD, *(row_line(row) for row in PULLING)]
    parts += ["\n## Covered by other tests\n\n", "| # | the fault | tests | not covered |\n|---|---|---|---|\n"]
    return "".join([*parts, *(covered_line(one) for one in COVERED)])


def row_line(row: Row) -> str:
    where = ", ".join(NAMES[kind] for kind in row.on)
    why = f" ({row.why})" if row.why else ""
    return f"| {row.number} | {row.fault}{why} | {where} | {told(row.once)} | {told(row.always)} |\n"


def told(expected: Finish | Stop) -> str:
    """Return what must come of a row, in words."""
    if isinstance(expected, Finish):
        again = expected.again
        amount = (
            "; ".join(f"{size(value)} on {NAMES[kind]}" for kind, value in again.items())
            if not isinstance(again, int)
            else size(again)
        )
        warned = f", warned: \u201c{expected.warned}\u201d" if expected.warned else ""
        return f"finishes, again {amount}{warned}" if amount != "0" else f"finishes{warned}"
    words = ", ".join(f"\u201c{word}\u201d" for word in expected.words).replace("{", "").replace("}", "")
    before = " before anything is sent" if expected.untouched else ""
    return f"stops{before} with {expected.code}{f': {words}' if words else ''}"


def size(count: int) -> str:
    return "0" if not count else f"{count / 1024:.0f} KiB" if count >= 1024 else f"{count} B"


def covered_line(one: Covered) -> str:
    tests = "<br>".join(f"`{test}`" for test in one.tests)
    return f"| {one.number} | {one.fault} | {tests} | {one.lacking} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
