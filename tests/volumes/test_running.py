"""Each volume runs: on every Python, with nothing installed, and the commands take it or the common name."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from airgap import installer
from airgap.cli import cli
from tests.bundle.estate import small
from tests.bundle.test_installer import PYTHONS
from tests.volumes.conftest import SIZE, split, tail, volume

if TYPE_CHECKING:
    from pathlib import Path

BUILT = installer.build()


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A split bundle that carries the real installer, in volumes of a little more."""
    estate = small()
    estate.artifacts = [artifact for artifact in estate.artifacts if artifact.kind != "installer"]
    estate.installer(BUILT)
    (tmp_path / "medium").mkdir()
    return split(estate, tmp_path / "medium" / "wandb.tar", len(BUILT) * 3 // 2)


def run(python: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [python, "-I", "-S", *arguments]
    return subprocess.run(command, env={}, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", PYTHONS)
def test_a_bare_python_runs_any_volume(running, version):
    before = {path.name: path.stat().st_mtime_ns for path in running.parent.iterdir()}
    for number in (1, 2, len(before)):
        result = run(PYTHONS[version], "-W", "error", volume(running, number), "verify", "wandb.tar", folder=running.parent)
        assert result.returncode == 0, result.stderr
        assert f"whole, {len(before)} volumes" in result.stdout
    assert {path.name: path.stat().st_mtime_ns for path in running.parent.iterdir()} == before, "nothing is left behind"


def test_a_volume_all_alone_checks_itself(running, tmp_path):
    shutil.copy(volume(running, 2), tmp_path / "wandb.tar.002")
    alone = run(PYTHONS[min(PYTHONS)], "wandb.tar.002", "verify", "wandb.tar.002", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.startswith("wandb.tar.002: whole, volume 2 of ")
    result = run(PYTHONS[min(PYTHONS)], "wandb.tar.002", "inspect", "wandb.tar", folder=tmp_path)
    assert result.returncode == 4
    assert "Error: bundle wandb.tar: volumes 1" in result.stderr
    assert "are missing, bring them" in result.stderr


def test_the_installer_in_a_volume_is_the_very_one_of_the_bundle(running):
    for path in running.parent.iterdir():
        assert installer.trailing_zip(path) == BUILT
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert json.loads(archive.comment)["airgapVolume"] == 1


@pytest.fixture
def airgap(capsys, monkeypatch, base):
    """Runs the command line beside the volumes; gives its code, stdout and stderr."""
    from airgap.cli import _run  # noqa: PLC0415

    monkeypatch.chdir(base.parent)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = _run(arguments)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_inspect_shows_the_volumes_by_any_name(airgap):
    for name in ("wandb.tar", "wandb.tar.003"):
        code, out, _ = airgap("inspect", name)
        assert code == 0
        assert "volumes    14 of 3.9 KiB" in out
    volumes = json.loads(airgap("inspect", "wandb.tar", "-o", "json")[1])["volumes"]
    assert [it["number"] for it in volumes] == list(range(1, 15))
    assert volumes[2]["offset"] == 2 * (SIZE - tail())


def test_verify_tells_what_to_bring(airgap, base):
    volume(base, 7).unlink()
    code, out, err = airgap("verify", "wandb.tar", "-q")
    assert code == 4
    assert "volume 7 of 14 is missing, bring it" in out
    assert "Error: bundle wandb.tar: bring volume 7 of 14 again" in err
    assert "airgap mirror wandb.tar --volume 7 --lock airgap.lock" in err
    data = json.loads(airgap("verify", "wandb.tar", "-q", "-o", "json")[1])
    assert (data["whole"], data["bring"], data["volumes"]) == (False, [7], 14)
    assert json.loads(airgap("verify", "wandb.tar.008", "-q", "-o", "json")[1])["volume"]["number"] == 8
    assert airgap("inspect", "wandb.tar.007")[0] == 4
    assert "volume 7 of 14 is missing" in airgap("inspect", "wandb.tar.007")[2]


def test_volumes_elsewhere_are_named_by_volumes(airgap, base, tmp_path):
    other = tmp_path / "second medium"
    other.mkdir()
    for number in (2, 3, 14):
        shutil.move(volume(base, number), other)
    assert airgap("verify", "-q", "wandb.tar")[0] == 4
    assert airgap("verify", "-q", "wandb.tar", "--volumes", str(other))[0] == 0
    assert airgap("inspect", "--volumes", str(other), "wandb.tar.001")[0] == 0
    assert airgap("inspect", "--volumes", str(tmp_path / "absent"), "wandb.tar.001")[0] == 2


def test_a_name_that_means_nothing_is_wrong_usage(airgap):
    code, _, err = airgap("verify", "absent.tar")
    assert code == 2
    assert "does not exist" in err


@pytest.mark.parametrize("verb", ["push", "render", "audit", "serve", "inspect", "verify", "install", "preflight", "load"])
def test_every_verb_takes_volumes(verb):
    command = cli.get_command(None, verb)  # type: ignore[arg-type]
    assert command
    assert "--volumes" in {name for parameter in command.params for name in parameter.opts}
