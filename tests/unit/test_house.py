"""The house rules that a program can count (style.md, "The bar"), measured over the whole tree.

Layers and cycles are import-linter's business (setup.cfg), complexity ruff's.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from airgap.cli import VERBS, cli
from airgap.cli.audit_live import command as live_audit

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 500
FUNCTION_LINES = 60
USUAL_LINES, USUAL_SHARE = 36, 0.9
COMMAND_LINE_ONLY = {"click", "tqdm"}
PURE = {"requests", "urllib3", "yaml"}
"""What may be imported when a module is loaded, beside the standard library: pure Python, carried in the bundle's zipapp.
Everything else (jsonschema, docker, oras) is imported inside the function that needs it, on the connected side."""


@dataclass(frozen=True)
class Source:
    """A Python file of the tree with its syntax."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def is_command_line(self) -> bool:
        return self.name.startswith("airgap/cli/")


def sources(folder: str) -> list[Source]:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        found.append(Source(path, text, ast.parse(text)))
    return found


PACKAGE = sources("airgap")
EVERYTHING = [*PACKAGE, *sources("tests"), *sources("scripts"), *sources("benchmarks")]


def functions(source: Source) -> list[tuple[str, int]]:
    """Each function with its length in lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(source.tree) if isinstance(node, kinds)]
    return [(f"{source.name}:{it.lineno} {it.name}", (it.end_lineno or it.lineno) - it.lineno + 1) for it in found]


def imports(nodes: list[ast.stmt], *, deep: bool) -> list[tuple[int, str]]:
    """Top-level names of the modules that statements import, with their lines.

    ``deep`` looks into functions too; otherwise only what runs when the module is loaded counts, so not what stands under
    ``if TYPE_CHECKING``.
    """
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, (node.module or "").partition(".")[0]))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found += imports(node.body, deep=deep) if deep else []
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += imports(node.orelse, deep=deep)
        else:
            inner = [it for it in ast.iter_child_nodes(node) if isinstance(it, ast.stmt)]
            handlers = [it for child in ast.iter_child_nodes(node) if isinstance(child, ast.ExceptHandler) for it in child.body]
            found += imports([*inner, *handlers], deep=deep)
    return found


def test_the_measures_see_the_code() -> None:
    assert len(PACKAGE) > 5
    assert any(length > 10 for source in PACKAGE for _, length in functions(source))


def test_no_file_is_longer_than_500_lines() -> None:
    assert [source.name for source in EVERYTHING if source.text.count("\n") > FILE_LINES] == []


def test_no_function_is_longer_than_60_lines() -> None:
    assert [where for source in EVERYTHING for where, length in functions(source) if length > FUNCTION_LINES] == []


def test_nine_functions_in_ten_fit_in_36_lines() -> None:
    lengths = [length for source in PACKAGE for _, length in functions(source)]
    assert sum(length <= USUAL_LINES for length in lengths) >= USUAL_SHARE * len(lengths)


def test_nothing_is_caught_blindly() -> None:
    blind = []
    for source in EVERYTHING:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {it.id for it in ast.walk(node.type) if isinstance(it, ast.Name)} if node.type else {"BaseException"}
                if caught & {"Exception", "BaseException"}:
                    blind.append(f"{source.name}:{node.lineno}")
    assert blind == []


def ends_the_process(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise) and node.exc:
        return "SystemExit" in ast.unparse(node.exc)
    return isinstance(node, ast.Call) and ast.unparse(node.func) in {"sys.exit", "os._exit", "exit", "quit"}


def test_only_the_command_line_ends_the_process() -> None:
    found = [
        f"{source.name}:{getattr(node, 'lineno', 0)}"
        for source in PACKAGE
        if not source.is_command_line and source.name != "airgap/__main__.py"
        for node in ast.walk(source.tree)
        if ends_the_process(node)
    ]
    assert found == []


def test_only_the_command_line_knows_click_and_tqdm() -> None:
    found = [
        f"{source.name}:{line} {module}"
        for source in PACKAGE
        if not source.is_command_line
        for line, module in imports(source.tree.body, deep=True)
        if module in COMMAND_LINE_ONLY
    ]
    assert found == []


def test_loading_a_module_needs_only_pure_python() -> None:
    found = []
    for source in PACKAGE:
        allowed = {*sys.stdlib_module_names, "airgap", *PURE, *(COMMAND_LINE_ONLY if source.is_command_line else ())}
        found += [f"{source.name}:{line} {it}" for line, it in imports(source.tree.body, deep=False) if it not in allowed]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    assert [source.name for source in PACKAGE if not ast.get_docstring(source.tree)] == []


def test_no_file_names_a_path_of_this_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.fail(f"the tree must be a git checkout to be measured: {listed.stderr}")
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and f"{ROOT}/".encode() in path.read_bytes():
            found.append(name)
    assert found == []


def readme_commands() -> list[list[str]]:
    """Every command line of airgap in the README's code blocks, as words after ``airgap`` or ``python3 BUNDLE``."""
    found = []
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["airgap"]:
                found.append(words[1:])
            elif words[:1] == ["python3"] and len(words) > 2:
                found.append(words[2:])
    return found


@pytest.mark.parametrize("words", readme_commands(), ids=" ".join)
def test_each_command_of_the_readme_exists_with_its_options(words: list[str]) -> None:
    verb = words[0]
    assert verb in {*VERBS, "--help"}
    if verb in VERBS:
        command = live_audit if "--live" in words else cli.get_command(click.Context(cli), verb)
        assert command
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"-h", "--help"}
        assert {word.partition("=")[0] for word in words[1:] if word.startswith("-") and len(word) > 1} <= known


def test_the_readme_shows_commands() -> None:
    assert {words[0] for words in readme_commands()} >= {"mirror", "push", "render", "audit"}


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in link]
    assert len(links) > 5
    assert [f"{page.relative_to(ROOT)}: {link}" for page, link in links if not (page.parent / link).exists()] == []
