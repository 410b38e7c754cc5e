"""Python packages for another Python and platform than this one: real pip, against an index that the test makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from airgap.bundle import BundleReader
from airgap.cli import cli
from airgap.errors import ConfigurationError, IntegrityError, NetworkError, ToolError, UnauthorizedError
from airgap.lock import Lock
from airgap.manifest import WheelEntry
from airgap.oci import Platform
from airgap.serve import Server
from airgap.sources.pip import Pip, Target
from airgap.sources.wheels import Wheel, environment, gather_wheels, tags, targets, walk, wheels_again
from tests.serve.test_wheels import wheel
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sources.conftest import Site

AMD64 = (Platform("linux", "amd64"),)
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def offer(site: Site, *wheels: Path) -> None:
    """Let the site be an index with these wheels and no others."""
    site.answers.clear()
    for path in wheels:
        project = path.name.partition("-")[0].replace("_", "-").lower()
        page = f"/simple/{project}/"
        before = site.answers.get(page, (200, b""))
        assert isinstance(before, tuple)
        site.answers[page] = (200, before[1] + f'<a href="/files/{path.name}">{path.name}</a>\n'.encode())
        site.answers[f"/files/{path.name}"] = (200, path.read_bytes())


def settings(site: Site, home: Path) -> dict[str, str]:
    """The user's settings for pip: this index, nothing kept, no second try."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"http://{site.host}/simple/",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
def pip(site: Site, tmp_path: Path) -> Pip:
    return Pip((sys.executable, "-m", "pip"), settings(site, tmp_path))


def test_what_is_carried_is_what_the_target_needs_and_comes_again_from_the_lock(site: Site, tmp_path: Path, pip: Pip):
    built = tmp_path / "built"
    built.mkdir()
    native = "cp36-cp36m-manylinux_2_17_x86_64"
    client = wheel(
        built,
        "client",
        "1.2",
        'only_old ; python_version < "3.7"',
        'only_new ; python_version >= "3.7"',
        "native[fast]>=1",
        'never ; extra == "all"',
    )
    wheels = [client, wheel(built, "only_old", "1.0"), wheel(built, "only_new", "1.0")]
    wheels += [wheel(built, "native", "2.0", 'quick ; extra == "fast"', tag=native), wheel(built, "quick", "3")]
    wheels += [
        wheel(built, "native", "3.0", tag="cp36-cp36m-win_amd64"),
        wheel(built, "native", "4.0", tag="cp36-cp36m-linux_s390x"),
    ]
    offer(site, *wheels)
    entry = WheelEntry(("client==1.*", "gone ; sys_platform == 'win32'"), "3.6")

    made = gather_wheels([entry], AMD64, tmp_path / "first", pip)

    assert [artifact.locked.name for artifact in made] == [
        client.name,
        f"native-2.0-{native}.whl",
        "only_old-1.0-py3-none-any.whl",
        "quick-3-py3-none-any.whl",
    ]
    lock = Lock("x", AMD64, (), tuple(artifact.locked for artifact in made))
    offer(site, *wheels, wheel(built, "client", "1.3"), wheel(built, "quick", "4"))
    again = wheels_again(Lock.from_bytes(lock.to_bytes()), tmp_path / "again", pip)
    assert {it.locked.name: it.locked.tree for it in again} == {it.locked.name: it.locked.tree for it in made}

    site.answers[f"/files/{client.name}"] = (200, client.read_bytes() + b"more")
    with pytest.raises(IntegrityError, match=r"Python 3\.6 on manylinux_2_28_x86_64.*HASHES"):
        wheels_again(lock, tmp_path / "changed", pip)


def test_what_cannot_be_had_is_one_sentence_on_its_branch(site: Site, tmp_path: Path, pip: Pip):
    wheel(tmp_path, "plain", "1.0")
    site.answers["/simple/plain/"] = (200, b'<a href="/files/plain-1.0.tar.gz">plain-1.0.tar.gz</a>')
    target = Target("3.11", "win_amd64", ("win_amd64",))
    with pytest.raises(ConfigurationError, match=r"no wheels for Python 3\.11 on win_amd64: .*plain") as nothing:
        pip.download(tmp_path / "a", target, ["plain"])
    assert "wheels" in nothing.value.hint

    site.answers["/simple/plain/"] = (401, b"who?")
    with pytest.raises(UnauthorizedError, match="401"):
        pip.download(tmp_path / "b", target, ["plain"])

    closed = Pip(pip.command, {**settings(site, tmp_path), "PIP_INDEX_URL": "http://ann:s3cret@127.0.0.1:9/simple/"})
    with pytest.raises(NetworkError) as unreached:
        closed.download(tmp_path / "c", target, ["plain"])
    assert "s3cret" not in unreached.value.message


def test_a_bundle_brings_packages_that_pip_installs_inside(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in settings(site, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRGAP_HELM", find_binary("helm"))
    built = tmp_path / "built"
    built.mkdir()
    wheels = (wheel(built, "client", "1.2", "helper"), wheel(built, "helper", "1.0"))
    offer(site, *wheels)
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "apiVersion: airgap/v1\nkind: BundleManifest\nmetadata: {name: x}\n"
        f"wheels: [{{requirements: [client], python: '{HERE}', platforms: [manylinux_2_28_x86_64, win_amd64]}}]\n"
    )
    first, second, lock = tmp_path / "a.tar", tmp_path / "b.tar", tmp_path / "x.lock"

    assert "client for Python" in run("plan", "-f", str(manifest), "--lock", str(lock))
    run("mirror", str(first), "-f", str(manifest))
    offer(site, *wheels, wheel(built, "client", "2.0"))
    run("mirror", str(second), "-f", str(manifest), "--lock", str(lock))

    assert first.read_bytes() == second.read_bytes()
    assert "client-1.2-py3-none-any.whl" in run("inspect", str(first))
    with BundleReader.open(first) as bundle, Server(bundle) as server:
        command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--no-cache-dir"]
        command += ["--index-url", f"http://{server.host}/simple/", "--target", str(tmp_path / "site"), "client"]
        done = subprocess.run(command, env=settings(site, tmp_path), capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert {it.name for it in (tmp_path / "site").glob("*.py")} == {"client.py", "helper.py"}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_pip_is_the_one_that_is_named_or_there(tmp_path: Path):
    assert Pip.find({"PATH": str(tmp_path)}).command == (sys.executable, "-m", "pip")
    named = tmp_path / "pip"
    named.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ToolError, match="cannot be run: Permission denied"):
        Pip.find({"AIRGAP_PIP": str(named)})
    named.chmod(0o755)
    with pytest.raises(ToolError, match="answers as pip"):
        Pip.find({"AIRGAP_PIP": str(named)})


def test_a_manifest_without_packages_needs_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRGAP_PIP", str(tmp_path / "none"))
    assert gather_wheels((), AMD64, tmp_path) == ()
    assert wheels_again(Lock("x", AMD64, (), ()), tmp_path) == ()


@pytest.mark.parametrize(
    ("platform", "some"),
    [
        ("manylinux_2_28_x86_64", ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "linux_x86_64")),
        ("manylinux2014_aarch64", ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64")),
        ("musllinux_1_2_x86_64", ("musllinux_1_2_x86_64", "musllinux_1_0_x86_64", "linux_x86_64")),
        ("win_amd64", ("win_amd64",)),
        ("macosx_12_0_arm64", ("macosx_12_0_arm64",)),
    ],
)
def test_a_machine_takes_older_tags_of_its_family(platform: str, some: tuple[str, ...]):
    found = tags(platform)
    assert [tag for tag in found if tag in some] == list(some)
    assert found[0] == some[0]


def test_the_bundles_platforms_decide_unless_the_entry_does():
    entry = WheelEntry(("a",), "3.11")
    assert [it.platform for it in targets(entry, (*AMD64, Platform("linux", "arm64")))] == [
        "manylinux_2_28_x86_64",
        "manylinux_2_28_aarch64",
    ]
    assert [it.platform for it in targets(WheelEntry(("a",), "3.11", ("win32",)), AMD64)] == ["win32"]
    with pytest.raises(ConfigurationError, match="all platforms"):
        targets(entry, ())
    with pytest.raises(ConfigurationError, match="windows/amd64"):
        targets(entry, (Platform("windows", "amd64"),))


@pytest.mark.parametrize(
    ("platform", "told"),
    [
        ("manylinux_2_28_aarch64", ("linux", "aarch64")),
        ("manylinux2014_x86_64", ("linux", "x86_64")),
        ("win_amd64", ("win32", "AMD64")),
        ("macosx_11_0_arm64", ("darwin", "arm64")),
        ("macosx_10_9_x86_64", ("darwin", "x86_64")),
    ],
)
def test_markers_are_read_for_the_target(platform: str, told: tuple[str, str]):
    found = environment(Target("3.12", platform, tags(platform)))
    assert (found["sys_platform"], found["platform_machine"]) == told
    assert found["python_version"] == "3.12"


def at_hand(**needs: tuple[str, ...]) -> Mapping[str, Wheel]:
    return {name: Wheel(Path(f"{name}-1.0-py3-none-any.whl"), name, "1.0", wanted) for name, wanted in needs.items()}


def test_a_walk_ends_in_circles_and_names_what_nothing_fulfils():
    target = Target("3.11", "win_amd64", ("win_amd64",))
    found = walk(["a[x,y]"], at_hand(a=("b>2", "c[q]; extra == 'x'", "a[y]"), b=(), c=("a",), d=()), target)
    assert found.names == ("a", "c")
    assert found.missing == ("b>2",)
    with pytest.raises(ConfigurationError, match=r"a-1\.0-py3-none-any\.whl asks for 'b >> 2', which is no requirement"):
        walk(["a"], at_hand(a=("b >> 2",)), target)


def test_packages_that_never_get_complete_are_told(tmp_path: Path):
    class Other(Pip):
        def download(self, folder: Path, _target: Target, _requirements: object) -> None:
            folder.mkdir(parents=True)
            wheel(folder, "a", "1.0", "b")

    with pytest.raises(ConfigurationError, match="still missing: b"):
        gather_wheels([WheelEntry(("a",), "3.11")], AMD64, tmp_path, Other(("pip",), {}))


def test_what_is_no_wheel_is_refused(tmp_path: Path):
    path = tmp_path / "a-1.0-py3-none-any.whl"
    path.write_bytes(b"<html>sign in</html>")
    with pytest.raises(IntegrityError, match="cannot be read as a wheel"):
        Wheel.read(path)
