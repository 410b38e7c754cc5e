"""No fault of the matrix is forgotten; the tests that are named exist; the page is what the table says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.faults.covered import COVERED
from tests.faults.document import PAGE, page
from tests.faults.pulling import PULLING
from tests.faults.pushing import PUSHING

TESTS = Path(__file__).resolve().parents[1]
NAMED = sorted({test for one in COVERED for test in one.tests})


@cache
def functions(folder: str) -> set[str]:
    """Every function in the test files of a folder."""
    trees = [ast.parse(path.read_text()) for path in (TESTS / folder).glob("test_*.py")]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_exists(name: str) -> None:
    folder, _, function = name.partition("::")
    assert function in functions(folder)


def test_every_fault_of_the_matrix_is_played_or_covered_or_said_to_be_lacking() -> None:
    numbers = [*(row.number for row in (*PUSHING, *PULLING)), *(one.number for one in COVERED)]
    told = {re.sub(r"[a-z]$", "", number) for number in numbers}
    assert told == {f"F{number}" for number in range(1, 58)}


def test_each_row_has_a_number_of_its_own() -> None:
    numbers = [row.number for row in (*PUSHING, *PULLING)]
    assert sorted(numbers) == sorted(set(numbers))


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.faults.document"
