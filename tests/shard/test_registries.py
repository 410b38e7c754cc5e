"""--registry more than once: push fills all, one that fails stops no other; the other verbs take exactly one."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from airgap.cli import cli
from tests.bundle.estate import small
from tests.push.conftest import KINDS, path, target  # noqa: F401 - fixtures
from tests.push.test_push import held

pytestmark = pytest.mark.registry
NOBODY = "127.0.0.1:9"
"""The discard port, where nothing listens."""


@pytest.fixture
def other(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    with KINDS["distribution2"](folder) as running:
        yield running


def push(path, *hosts, more=()):  # noqa: F811
    places = [word for host in hosts for word in ("--registry", f"{host}/mirror")]
    return CliRunner().invoke(cli, ["push", str(path), *places, "--plain-http", "-q", *more])


def test_all_registries_get_everything(path, target, other, tmp_path):  # noqa: F811
    receipt = tmp_path / "receipt.json"
    done = push(path, target.host, other.host, target.host, more=["-o", "json", "--receipt", str(receipt)])
    assert done.exit_code == 0, done.output
    for host in (target.host, other.host):
        assert held(host, small())
    told = json.loads(done.stdout)
    assert told["kind"] == "PushReceipts"
    assert [it["registry"] for it in told["registries"]] == [f"{target.host}/mirror", f"{other.host}/mirror"]
    assert all(it["sent"] for it in told["registries"])
    written = json.loads(receipt.read_text())
    assert [it["kind"] for it in written["receipts"]] == ["PushReceipt"] * 2
    assert written["failed"] == []


def test_one_that_fails_does_not_stop_the_others(path, target, tmp_path):  # noqa: F811
    receipt = tmp_path / "receipt.json"
    done = push(path, NOBODY, target.host, more=["-o", "json", "--receipt", str(receipt)])
    assert done.exception.exit_code == 3
    assert "1 of 2 registries did not get everything" in done.exception.message
    assert NOBODY in done.exception.message
    assert held(target.host, small())
    failed, fine = json.loads(done.stdout)["registries"]
    assert (failed["registry"], failed["error"]["exitCode"]) == (f"{NOBODY}/mirror", 3)
    assert fine["sent"]
    written = json.loads(receipt.read_text())
    assert ([it["registry"] for it in written["failed"]], len(written["receipts"])) == ([f"{NOBODY}/mirror"], 1)


def test_one_password_is_not_given_to_several(path):  # noqa: F811
    done = push(path, "a.test", "b.test", more=["--username", "robot", "--password-stdin"])
    assert done.exception.exit_code == 2
    assert "cannot be meant for 2 registries (a.test/mirror, b.test/mirror)" in done.exception.message


def test_a_broken_name_among_them_is_told_before_anything_is_sent(path, target):  # noqa: F811
    done = push(path, target.host, "https://b.test")
    assert done.exception.exit_code == 2
    assert "PUT" not in target.log


@pytest.mark.parametrize("verb", ["render", "audit", "install", "preflight", "inventory"])
def test_the_other_verbs_take_one(path, verb, tmp_path):  # noqa: F811
    done = CliRunner().invoke(cli, [verb, str(path), "--registry", "a.test", "--registry", "b.test"])
    assert done.exit_code == 2
    assert f"given 2 times (a.test, b.test); {verb} takes one" in done.output
