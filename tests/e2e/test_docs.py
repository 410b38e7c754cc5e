"""What is shown to a user runs: the README's commands in their order, and each example of a verb's help."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from airgap.cli import VERBS, cli
from tests.e2e.conftest import Bare, well
from tests.unit.test_house import readme_commands
from tests.world.fixtures import DEMO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.fixtures import Inside, World

OUTSIDE = ("plan", "mirror", "inspect", "verify", "diff")
INSIDE = ("push", "render", "audit", "inventory")
SHOWN_REGISTRY = "reg.lan/wandb"
"""The private registry of the README; the world's stands for it."""
PREFIX = "readme"


@pytest.mark.netns
@pytest.mark.registry
@pytest.mark.helm
@pytest.mark.slow
def test_the_readmes_commands_run_as_they_are_shown(world: World, inside: Inside, tmp_path: Path) -> None:
    shutil.copy(DEMO / "values.yaml", tmp_path / "user.yaml")
    home = tmp_path / "home"
    home.mkdir()
    host = Bare(inside, tmp_path / "wandb.tar", home)
    settings = {"REGISTRY_AUTH_FILE": str(inside.auth_file), "SSL_CERT_FILE": str(inside.ca_file)}
    run = []
    for words in readme_commands():
        shown = [word.replace(SHOWN_REGISTRY, f"{inside.registry}/{PREFIX}") for word in words]
        if words[0] in OUTSIDE:
            well(world.run("airgap", *shown, folder=tmp_path))
        elif words[0] in INSIDE and words[1] == "wandb.tar":
            well(host.run(*shown, env=settings))
        else:
            continue
        run.append(words[0])
    assert set(run) >= {*OUTSIDE, *INSIDE}
    assert (tmp_path / "out" / "wandb.yaml").exists()


def commands() -> dict[str, click.Command]:
    """Every verb, and the verbs of groups, by the words that are typed."""
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert command
        within = command.commands if isinstance(command, click.Group) else {}
        found |= {f"{verb} {name}": child for name, child in within.items()} or {verb: command}
    return found


def examples(command: click.Command) -> list[list[str]]:
    """Return the command lines in a verb's epilog, as words after ``airgap`` or ``python3 BUNDLE``."""
    text = re.sub(r"\\\n\s*", " ", command.epilog or "")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    pipes = [words[words.index("|") + 1 :] if words[:1] == ["cat"] and "|" in words else words for words in lines]
    cut = [words[: next((at for at, word in enumerate(words) if word in {"|", ">"}), None)] for words in pipes]
    typed = {"airgap": 1, "python3": 2}
    return [words[typed[words[0]] :] for words in cut if words and words[0] in typed]


@pytest.mark.parametrize("typed", commands())
def test_the_help_of_each_verb_runs(typed: str) -> None:
    done = CliRunner().invoke(cli, [*typed.split(), "--help"], prog_name="airgap")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: airgap {typed}")


@pytest.mark.parametrize("typed", [name for name, command in commands().items() if command.params[1:]])
def test_a_verb_with_options_shows_an_example(typed: str) -> None:
    assert examples(commands()[typed]), "its epilog has no line that begins with airgap or python3"


@pytest.mark.parametrize("typed", commands())
def test_each_example_uses_options_that_exist_with_the_arguments_they_take(typed: str) -> None:
    known = commands()
    for words in examples(known[typed]):
        name = next(it for it in known if words[: len(it.split())] == it.split())
        command, arguments = known[name], words[len(name.split()) :]
        context = click.Context(command, resilient_parsing=True)
        parser = command.make_parser(context)
        left: list[str] = parser.parse_args(list(arguments))[1]
        assert left == [], f"airgap {shlex.join(words)}"


def test_each_verb_is_described_on_the_first_page() -> None:
    done = subprocess.run([sys.executable, "-m", "airgap", "--help"], capture_output=True, text=True, check=False, timeout=60)
    for verb, told in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(told[:20])}", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(("word", "near"), [("mirorr", "mirror"), ("pusch", "push"), ("verifiy", "verify")])
def test_a_misspelt_verb_is_answered_with_the_nearest(word: str, near: str) -> None:
    done = subprocess.run([sys.executable, "-m", "airgap", word], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"did you mean {near}?" in done.stderr


def test_the_completion_script_is_one_that_bash_reads() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "airgap", "completion", "bash"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    read = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, text=True, check=False, timeout=60)
    assert (read.returncode, read.stderr) == (0, "")
