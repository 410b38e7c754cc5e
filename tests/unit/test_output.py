"""What a command writes at its end: a place that takes no file is told before the work begins, and never half a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from airgap.cli import VERBS, cli
from airgap.cli.output import write_whole
from airgap.errors import DiskError

if TYPE_CHECKING:
    from pathlib import Path

WRITING = [
    ["plan", "--lock"],
    ["mirror"],
    ["inventory", "--registry", "127.0.0.1:1", "--output-file"],
    ["push", "{bundle}", "--registry", "127.0.0.1:1", "--receipt"],
    ["install", "{bundle}", "--registry", "127.0.0.1:1", "--receipt"],
]


@pytest.mark.parametrize("words", WRITING, ids=lambda words: words[0])
def test_a_file_in_a_folder_that_is_not_there_is_refused_before_anything_is_done(words: list[str], tmp_path: Path) -> None:
    bundle = tmp_path / "wandb.tar"
    bundle.touch()
    done = CliRunner().invoke(cli, [*(word.format(bundle=bundle) for word in words), str(tmp_path / "typo" / "file")])
    assert done.exit_code == 2
    assert f"the folder '{tmp_path / 'typo'}' of 'file' does not exist" in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == [bundle]


def test_what_could_not_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "airgap.lock"
    path.write_bytes(b"old")
    (tmp_path / ".airgap.lock.partial").mkdir()
    (tmp_path / ".airgap.lock.partial" / "something").touch()
    with pytest.raises(DiskError, match=r"airgap\.lock cannot be written: Is a directory"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_what_is_written_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "receipt.json", b"{}\n")
    assert [file.name for file in tmp_path.iterdir()] == ["receipt.json"]
    assert (tmp_path / "receipt.json").read_bytes() == b"{}\n"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_no_help_shows_the_marks_of_its_own_layout(verb: str) -> None:
    done = CliRunner().invoke(cli, [verb, "--help"] if verb else ["--help"])
    assert done.exit_code == 0
    assert "\\b" not in done.output
