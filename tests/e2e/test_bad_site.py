"""What can be wrong inside: registries that refuse, values that do not fit, edits that break; one clear sentence each."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Bare, Done, refused, well
from tests.world.authority import Authority
from tests.world.registries import start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.world.registries import RunningRegistry

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]


@dataclass(frozen=True)
class Host:
    """This very machine as a bare host: for registries on its own loopback."""

    bare: Bare

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run the bundle in an empty environment."""
        command = [self.bare.python, "-I", "-S", self.bare.bundle, *arguments]
        environ = {"HOME": str(self.bare.home), "PATH": "/usr/bin:/bin", **(env or {})}
        return subprocess.run(list(map(str, command)), env=environ, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def host(bare: Bare) -> Host:
    return Host(bare)


# -- registries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "registry",
    [
        "https://registry.corp.test:5000/wandb",
        "http://registry.corp.test",
        "registry.corp.test:5000/Upper",
        "registry.corp.test:port",
        "registry.corp.test/wandb:latest",
        "",
    ],
)
@pytest.mark.parametrize("verb", ["push", "render", "audit"])
def test_a_registry_that_is_no_registry_name_is_wrong_usage(bare: Bare, verb: str, registry: str) -> None:
    more = {"render": ("--dir", "never")}.get(verb, ())
    refused(bare.run(verb, "wandb.tar", "--registry", registry, *more), 2, registry)
    assert not (bare.bundle.parent / "never").exists()


def test_a_registry_that_does_not_listen_is_named(host: Host) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(host.run("push", host.bare.bundle, "--registry", f"{name}/wandb"), 3, name, "refused")


def test_a_name_that_does_not_resolve_is_told_as_that(bare: Bare) -> None:
    refused(bare.run("push", "wandb.tar", "--registry", "registry.none.test/wandb"), 3, "registry.none.test")


def test_a_wrong_password_is_told_and_not_repeated(bare: Bare) -> None:
    options = ("--username", bare.half.username, "--password-stdin", *bare.at("denied"))
    done = bare.run("push", "wandb.tar", *options, text="not-the-password\n")
    assert "not-the-password" not in refused(done, 3, bare.half.registry, "Hint: ")


def test_no_password_at_all_is_told_with_the_ways_to_give_one(bare: Bare) -> None:
    told = refused(bare.run("push", "wandb.tar", *bare.at("denied")), 3, bare.half.registry)
    assert "log in with docker, podman" in told


def test_a_user_without_a_password_is_wrong_usage(bare: Bare) -> None:
    refused(bare.run("push", "wandb.tar", "--username", "robot", *bare.at("denied")), 2, "--password-stdin")
    refused(bare.run("push", "wandb.tar", "--password-stdin", *bare.at("denied"), text="word\n"), 2, "--username")


def test_credentials_are_found_where_podman_and_docker_keep_them(bare: Bare, tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    shutil.copy(bare.half.auth_file, tmp_path / ".docker" / "config.json")
    for env in ({"REGISTRY_AUTH_FILE": str(bare.half.auth_file)}, {"HOME": str(tmp_path)}):
        well(bare.run("push", "wandb.tar", "--dry-run", *bare.at("found"), env=env))


def test_an_unknown_authority_is_refused_with_the_flag_that_names_it(bare: Bare) -> None:
    told = refused(bare.run("push", "wandb.tar", "--registry", f"{bare.half.registry}/tls"), 3, bare.half.registry)
    assert "--ca-file" in told


def test_a_certificate_for_another_name_is_refused_with_both_names(bare: Bare) -> None:
    told = refused(
        bare.run("push", "wandb.tar", "--registry", "127.2.0.1:5000/tls", "--ca-file", bare.half.ca_file), 3, "127.2.0.1"
    )
    assert "registry.corp.test" in told


def test_an_expired_certificate_is_refused_with_its_date(host: Host, tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    authority = Authority.create(tmp_path)
    pair = authority.issue("localhost", start=now - timedelta(days=9), end=now - timedelta(days=2))
    with registry_with(tmp_path, pair) as registry:
        done = host.run("push", host.bare.bundle, "--registry", f"{registry.host}/tls", "--ca-file", authority.root)
        told = refused(done, 3, registry.host, "expired")
        assert (now - timedelta(days=2)).strftime("%Y") in told


def test_a_registry_that_speaks_http_is_told_with_the_flag(host: Host, tmp_path: Path) -> None:
    with start_docker_registry(tmp_path) as registry:
        done = host.run("push", host.bare.bundle, "--registry", f"{registry.host}/plain")
        refused(done, 3, registry.host, "--plain-http")
        well(host.run("push", host.bare.bundle, "--registry", f"{registry.host}/plain", "--plain-http", "--dry-run"))


def test_a_ca_file_that_holds_no_certificate_is_wrong_usage(bare: Bare, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    done = bare.run("push", "wandb.tar", "--registry", f"{bare.half.registry}/tls", "--ca-file", tmp_path / "ca.pem")
    assert done.returncode in {2, 3}
    refused(done, done.returncode, "ca.pem")


def test_a_registry_that_went_away_is_open_for_audit_or_an_error_but_never_closed(bare: Bare) -> None:
    done = bare.run("audit", "wandb.tar", "--values", "user.yaml", "--registry", "registry.none.test/wandb")
    assert done.returncode in {3, 5}
    refused(done, done.returncode)
    assert "\nclosed: " not in done.stdout


def test_audit_of_an_empty_registry_is_open_for_every_image(bare: Bare) -> None:
    done = bare.signed_in("audit", "wandb.tar", "--values", "user.yaml", "-o", "json", prefix="empty")
    refused(done, 5, "not closed")
    findings = [it for it in json.loads(done.stdout)["findings"] if it["verdict"] == "open"]
    assert len({it["text"] for it in findings}) > 8
    assert all(it["fix"] for it in findings)


@contextmanager
def registry_with(folder: Path, pair: object) -> Iterator[RunningRegistry]:
    """Start a registry with this certificate on our own loopback."""
    with start_docker_registry(folder, tls=pair) as registry:  # type: ignore[arg-type]
        yield registry


# -- values ------------------------------------------------------------------------------------------------------------------


def judged(bare: Bare, folder: Path, text: str, *more: str) -> dict[str, Done]:
    """Give these values to render and to audit."""
    (folder / "user.yaml").write_text(text)
    values = ("--values", str(folder / "user.yaml"), *more)
    return {
        "render": bare.signed_in("render", "wandb.tar", *values, "--dir", folder / "out"),
        "audit": bare.signed_in("audit", "wandb.tar", *values),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app: {image: wandb/local}\n", ("app.image is a string", "release channel")),
        ("- a list\n", ("user.yaml",)),
        ("a: b: c\n", ("user.yaml, line 1",)),
        ("app: {}\napp: {}\n", ("user.yaml", "app")),
        ("x: !!python/object/apply:os.system [true]\n", ("user.yaml",)),
        ("apiVersion: apps.wandb.com/v2\nkind: WeightsAndBiases\nmetadata: {name: wandb}\n", ("apps.wandb.com/v2",)),
        ("global: {host: [1, 2]}\n", ("operator-wandb",)),
    ],
    ids=["kind", "list", "yaml", "twice", "python", "generation", "template"],
)
def test_values_that_cannot_be_used_are_refused_and_nothing_is_written(
    bare: Bare, tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    for done in judged(bare, tmp_path, text).values():
        refused(done, 2, *words)
    assert not (tmp_path / "out").exists()


def test_a_null_where_the_channel_has_the_key_is_warned_about_and_reaches_nothing(bare: Bare, tmp_path: Path) -> None:
    done = judged(bare, tmp_path, "console: {image: {tag: null}}\n")["render"]
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning: ") and "null" in line]
    assert [line for line in warnings if "console.image.tag" in line], done.stderr
    if done.returncode == 0:
        assert "null" not in (tmp_path / "out" / "wandb.yaml").read_text()


def test_values_from_nowhere_are_wrong_usage(bare: Bare) -> None:
    done = bare.run("render", "wandb.tar", *bare.at(), "--values", "none.yaml", "--dir", "never")
    assert done.returncode == 2
    assert "none.yaml" in done.stderr


# -- a rendered folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(site: Path, tmp_path: Path) -> Path:
    """A rendered folder to spoil."""
    return Path(shutil.copytree(site, tmp_path / "site"))


def test_a_folder_that_render_did_not_write_is_refused(bare: Bare, tmp_path: Path) -> None:
    refused(bare.signed_in("audit", tmp_path), 2, str(tmp_path), "render")


def test_values_beside_a_folder_are_wrong_usage(bare: Bare, folder: Path) -> None:
    refused(bare.signed_in("audit", folder, "--values", "user.yaml"), 2, "--values")


@pytest.mark.parametrize("name", ["wandb.yaml", "operator-values.yaml"])
def test_a_broken_edit_is_told_with_file_and_line_and_a_missing_file_by_name(bare: Bare, folder: Path, name: str) -> None:
    file = folder / name
    text = file.read_text()
    file.write_text(text + "\n  - : :\n\tbroken")
    told = refused(bare.signed_in("audit", folder), 2, name)
    assert "line " in told
    file.unlink()
    done = bare.signed_in("audit", folder)
    assert done.returncode in {1, 2}
    refused(done, done.returncode, name)


def test_a_chart_that_was_exchanged_in_the_folder_is_an_integrity_fault(bare: Bare, folder: Path) -> None:
    chart = next((folder / "bundle").glob("operator-wandb-*.tgz"))
    chart.write_bytes(chart.read_bytes() + b"\0")
    refused(bare.signed_in("audit", folder), 4, chart.name)


def test_render_again_writes_nothing_new_and_a_full_disk_leaves_nothing_half_written(
    bare: Bare, site: Path, tmp_path: Path
) -> None:
    again = well(bare.signed_in("render", "wandb.tar", "--values", "user.yaml", "--dir", "site"))
    assert "nothing new to write" in again.stdout
    place = tmp_path / "small"
    place.mkdir()
    well(bare.half.run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", place))
    try:
        refused(bare.signed_in("render", "wandb.tar", "--values", "user.yaml", "--dir", place / "site"), 1, "No space left")
        listed = well(bare.half.run("find", place, "-type", "f", "-size", "0")).stdout.split()
        assert [name for name in listed if name.endswith((".yaml", ".tgz", ".lock"))] == []
    finally:
        well(bare.half.run("umount", place))
