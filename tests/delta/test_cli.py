"""diff, inspect and serve on the command line, with small bundles."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airgap.chart.archive import pack
from airgap.inventory import Base
from tests.bundle.estate import bundle, small
from tests.delta.test_delta import newer, older, write

if TYPE_CHECKING:
    from pathlib import Path

CRD = (
    "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\n"
    "spec: {versions: [%s]}\n"
)


def airgap(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "airgap", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def with_chart(version: str, path: Path) -> Path:
    estate = small()
    estate.artifacts = [it for it in estate.artifacts if it.kind != "chart"]
    files = {
        "Chart.yaml": f"apiVersion: v2\nname: things\nversion: {version}\n".encode(),
        "crds/things.yaml": (CRD % "".join(f"{{name: v{number}}}," for number in range(1, int(version[0]) + 1))).encode(),
    }
    estate.chart("things", version, pack("things", files))
    return bundle(estate, path)


def test_a_diff_of_bundles_tells_charts_and_crds_and_exits_as_git_does(tmp_path):
    old, new = with_chart("1.0.0", tmp_path / "old.tar"), with_chart("2.0.0", tmp_path / "new.tar")
    done = airgap("diff", old, new, "--exit-code", "-o", "json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert [(it["name"], it["how"]) for it in found["charts"]] == [("things", "changed")]
    assert found["crds"][0]["name"] == "things: things.example.com"
    assert found["crds"][0]["old"].startswith("v1 sha256:")
    assert found["crds"][0]["new"].startswith("v1,v2 sha256:")
    assert found["images"] == []
    assert airgap("diff", old, new).returncode == 0
    assert airgap("diff", old, old, "--exit-code").returncode == 0
    assert "CRD" in airgap("diff", old, new).stdout


def test_a_diff_of_locks_says_what_it_cannot_know(tmp_path):
    for name, estate in (("old", older()), ("new", newer())):
        (tmp_path / name).write_bytes(estate.lock.to_bytes())
    done = airgap("diff", tmp_path / "old", tmp_path / "new", "--exit-code")
    assert done.returncode == 1, done.stderr
    assert "quay.io/team/big" in done.stdout
    assert "quay.io/other/mover:1" in done.stdout
    assert "to carry" in done.stdout
    assert "CRDs are not known of a lock" in done.stdout
    assert airgap("diff", tmp_path / "old", tmp_path / "none").returncode == 2


def test_inspect_and_serve_say_what_a_delta_cannot_do(tmp_path):
    write(newer(), Base.of_lock(older().lock), tmp_path / "delta.tar")
    shown = airgap("inspect", tmp_path / "delta.tar")
    assert "builds on  lock estate, sha256:" in shown.stdout
    assert "blobs left out" in shown.stdout
    command = [sys.executable, "-m", "airgap", "serve", str(tmp_path / "delta.tar"), "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        told = server.stderr.readline()
        server.send_signal(signal.SIGINT)
        told += server.stderr.read()
    assert "is a delta on lock estate" in told
    assert "cannot be pulled from it: " in told
    assert "quay.io/team/big:2" in told


def test_what_is_no_base_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"kind": "Recipe"}')
    (tmp_path / "airgap.lock").write_bytes(older().lock.to_bytes())
    done = airgap("mirror", tmp_path / "y.tar", "--lock", tmp_path / "airgap.lock", "--base", tmp_path / "x.json")
    assert done.returncode == 2
    assert "x.json: not an Inventory" in done.stderr
    assert not (tmp_path / "y.tar").exists()


@pytest.mark.registry
def test_an_inventory_is_printed_and_written_the_same(target, tmp_path):
    plain = ("--registry", f"{target.host}/mirror", "--plain-http")
    done = airgap("push", bundle(older(), tmp_path / "old.tar"), *plain)
    assert done.returncode == 0, done.stderr
    done = airgap("inventory", *plain, "-o", "json", "--output-file", tmp_path / "inventory.json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "inventory.json").read_bytes())
    by_lock = airgap("inventory", tmp_path / "old.tar", *plain, "-o", "name")
    assert by_lock.stdout.split() == sorted(json.loads(done.stdout)["repositories"])
    assert "quay.io/team/big" in airgap("inventory", *plain).stdout
