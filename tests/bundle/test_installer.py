"""The bundle runs itself: the same zip everywhere, on a host with python3 and nothing else."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from airgap import installer
from airgap.errors import BundleError, ToolError
from tests.bundle.estate import Estate, bundle, small

ROOT = Path(__file__).resolve().parents[2]

MAIN = b"""\
import sys
from pathlib import Path
from airgap import installer
from airgap.verify import verify
import click, requests, tqdm, urllib3, yaml
import airgap.fetch, airgap.push, airgap.registry
found = verify(Path(sys.argv[2]))
print(bool(found), *found.faults)
import hashlib
print(hashlib.sha256(installer.build()).hexdigest(), installer.running_from())
print(*sorted({str(getattr(m, "__file__", None)) for n, m in sys.modules.items() if n.split(".")[0] in installer.PACKAGES}))
"""


def runs(python: str) -> bool:
    return not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode


def pythons():
    """Every Python from 3.10 on that can be started here, by version."""
    versions = [f"3.{minor}" for minor in range(10, 20)]
    found = {version: shutil.which(f"python{version}") for version in versions}
    folders = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for folder in sorted(folders.glob("3.*")):
        version = ".".join(folder.name.split(".")[:2])
        if version in versions:
            found[version] = str(folder / "bin" / "python3")
    found[f"3.{sys.version_info[1]}"] = sys.executable
    return {version: path for version, path in found.items() if path and runs(path)}


PYTHONS = pythons()


@pytest.fixture(scope="module")
def built():
    return installer.build(MAIN)


@pytest.fixture
def self_running(built, tmp_path):
    """A bundle that carries an installer whose main verifies the bundle it is given."""
    estate = small()
    estate.artifacts = [artifact for artifact in estate.artifacts if artifact.kind != "installer"]
    estate.installer(built)
    return bundle(estate, tmp_path / "wandb.tar")


def test_the_same_versions_give_the_same_zip(built):
    assert installer.build(MAIN) == built
    assert installer.build() != built, "the entry point is part of it"


def build_with(python, source):
    """The digest of what ``python`` builds out of the package in ``source``."""
    code = "import hashlib; from airgap import installer; print(hashlib.sha256(installer.build()).hexdigest())"
    result = subprocess.run(
        [python, "-B", "-S", "-c", code],
        env={"PYTHONPATH": os.pathsep.join((str(source), sysconfig.get_paths()["purelib"]))},
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_python_builds_the_same_zip(tmp_path):
    shutil.copytree(ROOT / "airgap", tmp_path / "airgap", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "airgap" / "bundle" / "editor.py~").write_text("left by an editor")
    digests = {version: build_with(python, tmp_path) for version, python in PYTHONS.items()}
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("version", PYTHONS)
def test_a_bare_python_runs_the_bundle_and_leaves_nothing_behind(self_running, tmp_path, version, built):
    here, temporary = tmp_path / "here", tmp_path / "tmp"
    here.mkdir()
    temporary.mkdir()
    result = subprocess.run(
        [PYTHONS[version], "-I", "-S", "-W", "error", self_running, "verify", self_running],
        env={"TMPDIR": str(temporary)},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    verdict, own, modules = result.stdout.splitlines()
    assert verdict == "True"
    assert own == f"{hashlib.sha256(built).hexdigest()} {self_running}", "it can build itself again"
    assert all(module.startswith(f"{self_running}/") for module in modules.split()), "nothing comes from site-packages"
    assert list(here.iterdir()) == list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "tmp", "wandb.tar"]


@pytest.mark.parametrize("version", PYTHONS)
def test_python_finds_the_zip_behind_nine_gibibytes(tmp_path, version):
    path = tmp_path / "huge.tar"
    estate = Estate()
    estate.installer()
    with path.open("wb") as file:
        file.truncate(9 * 2**30)
        file.seek(0, os.SEEK_END)
        file.write(estate.contents[estate.artifacts[0].content.digest])
    result = subprocess.run([PYTHONS[version], "-I", "-S", path], capture_output=True, text=True, check=False)
    assert result.stdout == "the bundle runs\n", result.stderr


@pytest.mark.parametrize("version", PYTHONS)
def test_the_command_line_runs_out_of_the_bundle(tmp_path, version):
    estate = small()
    estate.artifacts = [artifact for artifact in estate.artifacts if artifact.kind != "installer"]
    estate.installer(installer.build())
    path = bundle(estate, tmp_path / "wandb.tar")
    result = subprocess.run(
        [PYTHONS[version], "-I", "-S", path, "verify", path], env={}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert str(path) in result.stdout
    with path.open("r+b") as file:
        file.seek(9000)
        file.write(b"damage")
    result = subprocess.run(
        [PYTHONS[version], "-I", "-S", path, "verify", path], env={}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 4, result.stderr
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_zip_holds_licences_and_no_compiled_part_nor_certificates(built, tmp_path):
    (tmp_path / "x.pyz").write_bytes(built)
    with zipfile.ZipFile(tmp_path / "x.pyz") as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    assert names == sorted(names)
    assert {"licences/requests/LICENSE", "airgap/py.typed", "airgap/bundle/reader.py", "yaml/__init__.py"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".pyc", ".pem")) or "__pycache__" in name]
    assert {(info.date_time, info.compress_type, info.external_attr >> 16) for info in infos} == {
        ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 0o100644)
    }
    assert len(built) < 8_000_000


def test_every_folder_of_ours_is_a_package_for_zipimport_knows_no_other(built, tmp_path):
    (tmp_path / "x.pyz").write_bytes(built)
    with zipfile.ZipFile(tmp_path / "x.pyz") as archive:
        modules = {name for name in archive.namelist() if name.startswith("airgap/") and name.endswith(".py")}
    folders = {name.rpartition("/")[0] for name in modules}
    assert not {folder for folder in folders if f"{folder}/__init__.py" not in modules}


def test_the_trailing_zip_is_found_or_its_absence_is_told(self_running, built, tmp_path):
    assert installer.trailing_zip(self_running) == built
    assert installer.running_from() is None
    (tmp_path / "x").write_bytes(b"PK\5\6 too short")
    with pytest.raises(BundleError, match="does not end with an installer"):
        installer.trailing_zip(tmp_path / "x")
    (tmp_path / "y").write_bytes(built[-100:])
    with pytest.raises(BundleError, match="is cut"):
        installer.trailing_zip(tmp_path / "y")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(installer.PACKAGES, "no_such_package", "No-Such-Package")
    with pytest.raises(ToolError, match="No-Such-Package is missing") as caught:
        installer.build()
    assert caught.value.hint == "pip install No-Such-Package"


OLD = sorted((Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob("[23].[6789].*/bin/python"))


def test_the_entry_point_parses_on_any_python_3():
    assert ast.parse(installer.MAIN, feature_version=(3, 0))
    assert b"f'" not in installer.MAIN


@pytest.mark.parametrize("python", OLD, ids=lambda path: path.parts[-3])
def test_an_old_python_is_told_which_one_is_needed(tmp_path, python):
    (tmp_path / "x.pyz").write_bytes(installer.build())
    result = subprocess.run([python, tmp_path / "x.pyz"], capture_output=True, text=True, check=False)
    assert "needs Python 3.10 or newer, and this is " in result.stderr
    assert result.returncode == 1
