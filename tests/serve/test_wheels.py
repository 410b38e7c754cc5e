"""pip takes Python packages out of a served bundle, with no other index in sight."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
import requests

from airgap.bundle import BundleReader
from airgap.lock import FILE_TYPE
from airgap.oci import OCI_EMPTY
from airgap.serve import Server
from airgap.serve.wheels import project_of
from tests.serve.shelf import Content

if TYPE_CHECKING:
    from pathlib import Path


def wheel(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> Path:
    """A wheel of one module, as small as they get."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {it}\n" for it in needs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with two packages, one of which needs the other, and a file that is none."""
    folder, content = tmp_path_factory.mktemp("wheels"), Content()
    notes = folder / "notes.txt"
    notes.write_text("no package")
    for path in (wheel(folder, "Client_Of.It", "1.2", "helper-of-it>=1"), wheel(folder, "helper_of_it", "1.0"), notes):
        config = content.add(OCI_EMPTY, b"{}")
        content.artifact("file", path.name, "", config, content.add(FILE_TYPE, path.read_bytes()))
    return content.write(folder / "files.tar")


def test_pip_installs_a_package_and_what_it_needs(served: Path, tmp_path: Path):
    with BundleReader.open(served) as bundle, Server(bundle) as server:
        command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir"]
        command += ["--index-url", f"http://{server.host}/simple/", "--target", str(tmp_path / "site"), "client.of-it"]
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {it.name for it in (tmp_path / "site").glob("*.py")} == {"Client_Of.It.py", "helper_of_it.py"}


def test_pages_carry_digests_and_only_packages_are_listed(served: Path):
    with BundleReader.open(served) as bundle, Server(bundle) as server, requests.Session() as session:
        session.trust_env = False
        page = session.get(f"http://{server.host}/simple/helper-of-it/").text
        assert "helper_of_it-1.0-py3-none-any.whl#sha256=" in page
        assert session.get(f"http://{server.host}/simple/").text.count("<a ") == 2
        assert session.get(f"http://{server.host}/simple/notes.txt/").status_code == 404
        assert session.get(f"http://{server.host}/simple/helper-of-it/other.whl").status_code == 404
        assert f"http://{server.host}/simple/" in session.get(f"http://{server.host}/").text


def test_a_bundle_without_packages_says_nothing_of_them(bundle: BundleReader, session: requests.Session):
    with Server(bundle) as server:
        assert "/simple/" not in session.get(f"http://{server.host}/").text
        assert session.get(f"http://{server.host}/simple/").text.count("<a ") == 0


@pytest.mark.parametrize(
    ("file", "project"),
    [
        ("wandb-0.18.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "wandb"),
        ("PyYAML-6.0.2-1-cp311-cp311-linux_x86_64.whl", "pyyaml"),
        ("sentry_sdk-2.0.0.tar.gz", "sentry-sdk"),
        ("ruamel.yaml-0.18.zip", "ruamel-yaml"),
        ("wandb.whl", ""),
        ("backup.tar.gz", ""),
    ],
)
def test_a_files_name_says_which_project_it_is_of(file: str, project: str):
    assert project_of(file) == project
