"""A test that could have run here and did not is a failure in CI; the table of allowed reasons is the only way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, reason: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over one test that passes and one that skips for ``reason``."""
    text = f"import pytest\ndef test_runs(): pass\ndef test_skips(): pytest.skip({reason!r})\n"
    (folder / "test_sample.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    command += ["-c", str(ROOT / "setup.cfg"), *options, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_a_skip_for_want_of_a_program_fails_a_strict_run(tmp_path: Path, workers: str) -> None:
    done = run(tmp_path, "none of the programs skopeo is installed", "--strict-skips", workers)
    assert done.returncode == 1
    assert "1 test(s): none of the programs skopeo is installed  <- not allowed" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]


def test_an_allowed_skip_is_named_and_does_not_fail(tmp_path: Path) -> None:
    done = run(tmp_path, "../shared is not beside this checkout", "--strict-skips", "-n0")
    assert done.returncode == 0
    assert "1 test(s): ../shared is not beside this checkout\n" in done.stdout


def test_a_developers_run_only_names_what_did_not_run(tmp_path: Path) -> None:
    done = run(tmp_path, "none of the programs skopeo is installed", "-n0")
    assert done.returncode == 0
    assert "1 test(s): none of the programs skopeo is installed\n" in done.stdout
