"""Auth files of docker and podman, and their helpers, which are real programs here."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest

from airgap.errors import ConfigurationError
from airgap.transport import Credential, CredentialStore
from airgap.transport.helper import ask_helper


def encoded(user: str, word: str) -> str:
    return base64.b64encode(f"{user}:{word}".encode()).decode()


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def user_of(store: CredentialStore, host: str, repository: str = "") -> str:
    found = store.lookup(host, repository)
    return found.username if found else ""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Make helpers of shell scripts; the folder is first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        path = folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return make


@pytest.fixture
def of(tmp_path):
    """Make a store of one config.json."""

    def make(data: object) -> CredentialStore:
        return CredentialStore((write(tmp_path / "config.json", data),))

    return make


@pytest.mark.parametrize("key", ["reg.lan:5000", "https://reg.lan:5000", "https://reg.lan:5000/v2/", "http://REG.lan:5000/v1/"])
def test_a_key_may_have_a_scheme_and_a_version(of, key):
    store = of({"auths": {key: {"auth": encoded("ann", "se:cret")}}})
    assert store.lookup("reg.lan:5000") == Credential("ann", "se:cret")
    assert store.lookup("reg.lan") is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", "index.docker.io"])
@pytest.mark.parametrize("asked", ["docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names_and_one_entry(of, key, asked):
    assert of({"auths": {key: {"auth": encoded("ann", "x-secret")}}}).lookup(asked) == Credential("ann", "x-secret")


def test_the_most_specific_key_wins(of):
    store = of({"auths": {name: {"auth": encoded(name, "word")} for name in ("reg.lan", "reg.lan/team", "reg.lan/team/app")}})
    for repository, user in (
        ("team/app", "reg.lan/team/app"),
        ("team/other", "reg.lan/team"),
        ("team", "reg.lan/team"),
        ("teams/app", "reg.lan"),
        ("", "reg.lan"),
    ):
        assert user_of(store, "reg.lan", repository) == user


def test_an_identity_token_and_a_plain_user_and_password_are_read(of):
    store = of({"auths": {"a.lan": {"identitytoken": "idt"}, "b.lan": {"username": "u", "password": "p"}, "c.lan": {}}})
    assert store.lookup("a.lan") == Credential(identity_token="idt")
    assert store.lookup("b.lan") == Credential("u", "p")
    assert store.lookup("c.lan") is None


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"auths": []}', '{"auths": {"reg.lan": 5}}', "\xff"])
def test_a_file_that_cannot_be_understood_holds_nothing(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    assert CredentialStore((path,)).lookup("reg.lan") is None


def test_a_broken_file_is_warned_about_without_its_content(tmp_path, caplog):
    path = tmp_path / "config.json"
    path.write_text('{"auths": {"reg.lan": {"auth": "c2VjcmV0"')
    CredentialStore((path,)).lookup("reg.lan")
    assert str(path) in caplog.text
    assert "c2VjcmV0" not in caplog.text


def test_an_auth_that_is_no_base64_is_warned_about_without_its_content(of, caplog):
    assert of({"auths": {"reg.lan": {"auth": "!!secret!!"}}}).lookup("reg.lan") is None
    assert "reg.lan" in caplog.text
    assert "!!secret!!" not in caplog.text


def test_the_places_are_asked_in_their_order(tmp_path):
    environ = {
        "REGISTRY_AUTH_FILE": str(tmp_path / "named.json"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "HOME": str(tmp_path / "home"),
    }
    places = [
        tmp_path / "home" / ".docker" / "config.json",
        tmp_path / "docker" / "config.json",
        tmp_path / "run" / "containers" / "auth.json",
        tmp_path / "named.json",
    ]
    write(places[3], {})
    for number, path in enumerate(places):  # the last one is written last and wins over all before
        write(path, {"auths": {"reg.lan": {"auth": encoded(f"user{number}", "word")}}})
        assert user_of(CredentialStore.from_environment(environ), "reg.lan") == f"user{number}"
    store = CredentialStore.from_environment(environ).with_explicit("REG.lan", Credential("given", "word"))
    assert user_of(store, "reg.lan") == "given"
    assert store.sources("reg.lan") == "the credentials given for it"


def test_a_place_that_lacks_the_host_passes_on_to_the_next(tmp_path):
    write(tmp_path / "run/containers/auth.json", {"auths": {"other.lan": {"auth": encoded("other", "word")}}})
    write(tmp_path / ".docker/config.json", {"auths": {"reg.lan": {"auth": encoded("ann", "word")}}})
    store = CredentialStore.from_environment({"XDG_RUNTIME_DIR": str(tmp_path / "run")}, tmp_path)
    assert user_of(store, "reg.lan") == "ann"


def test_without_a_runtime_folder_podmans_other_place_is_asked(tmp_path):
    store = CredentialStore.from_environment({}, tmp_path)
    assert f"/run/containers/{os.getuid()}/auth.json" in store.sources("reg.lan")


def test_an_auth_file_that_was_named_and_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"REGISTRY_AUTH_FILE names .*gone.json"):
        CredentialStore.from_environment({"REGISTRY_AUTH_FILE": str(tmp_path / "gone.json")})


def test_a_helper_gets_the_host_on_stdin_and_answers(of, programs, tmp_path):
    programs("ours", f'cat > {tmp_path}/asked; echo "$@" > {tmp_path}/argv; echo \'{{"Username": "ann", "Secret": "s3cret"}}\'')
    store = of({"credHelpers": {"reg.lan:5000": "ours"}})
    assert store.lookup("reg.lan:5000", "a/b") == Credential("ann", "s3cret")
    assert (tmp_path / "asked").read_text() == "reg.lan:5000"
    assert (tmp_path / "argv").read_text() == "get\n"
    assert store.lookup("reg.lan") is None


def test_the_helper_of_docker_hub_is_asked_by_its_old_name(of, programs, tmp_path):
    programs("ours", f'cat > {tmp_path}/asked; echo \'{{"Username": "ann", "Secret": "s3cret"}}\'')
    assert user_of(of({"credsStore": "ours"}), "docker.io") == "ann"
    assert (tmp_path / "asked").read_text() == "https://index.docker.io/v1/"


def test_a_helper_for_the_host_comes_before_the_store_and_both_before_the_file(of, programs):
    programs("one", 'cat >/dev/null; echo \'{"Username": "one", "Secret": "s3cret"}\'')
    programs("two", 'cat >/dev/null; echo \'{"Username": "two", "Secret": "s3cret"}\'')
    data = {
        "credHelpers": {"a.lan": "one"},
        "credsStore": "two",
        "auths": {"a.lan": {"auth": encoded("file", "w")}, "b.lan": {"auth": encoded("file", "w")}},
    }
    assert user_of(of(data), "a.lan") == "one"
    assert user_of(of(data), "b.lan") == "two"


def test_a_user_named_token_means_an_identity_token(of, programs):
    programs("ours", 'cat >/dev/null; echo \'{"Username": "<token>", "Secret": "idt-s3cret"}\'')
    assert of({"credsStore": "ours"}).lookup("reg.lan") == Credential("<token>", identity_token="idt-s3cret")


def test_a_missing_helper_is_a_warning_and_the_file_is_asked(of, caplog):
    store = of({"credsStore": "nowhere-to-be-found", "auths": {"reg.lan": {"auth": encoded("ann", "word")}}})
    assert user_of(store, "reg.lan") == "ann"
    assert "docker-credential-nowhere-to-be-found" in caplog.text
    assert user_of(store, "reg.lan") == "ann"
    assert caplog.text.count("nowhere-to-be-found") == 1


def test_a_helper_that_knows_nothing_is_no_warning(of, programs, caplog):
    programs("ours", "cat >/dev/null; echo credentials not found in native keychain; exit 1")
    store = of({"credsStore": "ours", "auths": {"reg.lan": {"auth": encoded("ann", "word")}}})
    assert user_of(store, "reg.lan") == "ann"
    assert caplog.text == ""


@pytest.mark.parametrize(
    "script",
    [
        "cat >/dev/null; echo top-s3cret; exit 1",
        "cat >/dev/null; echo top-s3cret",
        "cat >/dev/null; echo '{\"Username\": 5}'",
        "echo top-s3cret >&2; exit 3",
        "cat >/dev/null; exec yes top-s3cret",
        "cat >/dev/null; echo '[]'",
    ],
)
def test_a_helper_that_fails_is_a_warning_without_its_words(programs, script, caplog):
    programs("bad", script)
    assert ask_helper("bad", "reg.lan") is None
    assert "docker-credential-bad" in caplog.text
    assert "top-s3cret" not in caplog.text


def test_a_helper_that_hangs_is_ended_with_its_children(programs, tmp_path, caplog):
    programs("slow", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    start = time.monotonic()
    assert ask_helper("slow", "reg.lan", time_limit=0.5) is None
    assert time.monotonic() - start < 10
    assert "did not answer" in caplog.text
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the helper's child lives on")


@pytest.mark.parametrize("name", ["../evil", "a b", "", "x\ny", "-x"])
def test_a_helper_whose_name_is_none_is_not_run(name, caplog):
    assert ask_helper(name, "reg.lan") is None
    assert "no name of a program" in caplog.text


def test_a_helper_that_may_not_be_run_is_a_warning(tmp_path, monkeypatch, caplog):
    path = tmp_path / "docker-credential-locked"
    path.write_text("no program at all")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_helper("locked", "reg.lan") is None
    assert "cannot be run" in caplog.text


def test_a_credential_does_not_show_itself():
    shown = repr(Credential("ann", "pass-word", "idt-secret", "rt-secret"))
    assert "ann" in shown
    for secret in ("pass-word", "idt-secret", "rt-secret"):
        assert secret not in shown
