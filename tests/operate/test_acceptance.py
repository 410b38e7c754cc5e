"""Does what was installed work: each check against a real server over HTTPS, each fault found by the check that is for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airgap.acceptance import FAILED, PASSED, SKIPPED, WARNING, Report, Server, accept
from airgap.progress import Progress
from airgap.transport import Client, RetryPolicy
from tests.operate.server import KEY, Serving, World
from tests.world.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def world(authority: Authority) -> Iterator[World]:
    with Serving(authority.issue("127.0.0.1")) as world:
        yield world


def accepted(world: World, authority: Authority, *faults: str, key: str = KEY) -> Report:
    world.faults |= set(faults)
    environ = {"REQUESTS_CA_BUNDLE": str(authority.root)}
    with Client(environ=environ, retry=RetryPolicy(attempts=1)) as client:
        return accept(Server(client, world.server, key), Progress(), large=2_000_000, wait=1.0)


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def only(report: Report, verdict: str) -> str:
    found = [check for check in report.checks if check.verdict == verdict]
    assert len(found) == 1, report
    return f"{found[0].name}: {found[0].sentence}; {found[0].fix}"


def test_everything_works_and_nothing_is_left_behind(world, authority):
    report = accepted(world, authority)
    names = ("host", "https", "login", "version", "large payload", "upload", "bucket https", "cors", "download")
    assert verdicts(report) == dict.fromkeys(names, PASSED)
    assert report
    assert report.versions == {"server": "0.70.1", "oldestClient": "0.10", "newestClient": "0.20"}
    assert world.objects
    assert (world.projects, world.runs) == ({}, {})


def test_a_wrong_key_is_said_and_nothing_else_is_tried(world, authority):
    report = accepted(world, authority, key="wrong")
    assert "login: the server does not take the API key" in only(report, FAILED)
    assert world.operations == []


def test_without_a_key_host_and_certificate_are_checked(world, authority):
    report = accepted(world, authority, key="")
    assert verdicts(report) == {"host": PASSED, "https": PASSED, "login": SKIPPED}
    assert report


def test_a_proxy_that_lets_no_large_request_through_gets_its_annotation_named(world, authority):
    assert "proxy-body-size" in only(accepted(world, authority, "small-proxy"), FAILED)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("wrong-cors", "does not allow pages of https://127.0.0.1"),
        ("no-cors", "does not allow pages of"),
        ("not-put-cors", "but not PUT"),
    ],
)
def test_a_bucket_that_browsers_cannot_use_is_a_warning_with_the_rule_to_set(world, authority, fault, says):
    told = only(accepted(world, authority, fault), WARNING)
    assert says in told
    assert "methods GET, HEAD and PUT" in told


def test_a_bucket_that_refuses_the_signed_url_fails_the_upload_and_shows_no_signature(world, authority):
    report = accepted(world, authority, "refused-put")
    told = only(report, FAILED)
    assert told.startswith("upload: the bucket refuses the signed URL")
    assert "X-Signature=" not in str(report)
    assert (world.projects, world.runs) == ({}, {})


def test_a_bucket_whose_notifications_do_not_arrive(world, authority):
    assert "does not know the file 1 s after" in only(accepted(world, authority, "lost"), FAILED)


def test_a_bucket_that_gives_back_something_else(world, authority):
    assert "not what was put there" in only(accepted(world, authority, "changed"), FAILED)


def test_a_login_page_instead_of_the_api(world, authority):
    assert "something else than JSON" in only(accepted(world, authority, "login-page"), FAILED)


def test_a_certificate_that_nobody_trusts_is_the_hosts_fault_and_stops_the_rest(world, authority, tmp_path):
    other = Authority.create(tmp_path)
    report = accepted(world, other)
    assert verdicts(report) == {"host": FAILED, "rest": SKIPPED}
    assert "certificate" in report.failed[0].sentence


def test_plain_http_is_a_warning(authority):
    with Serving(None) as world:
        report = accepted(world, authority)
    assert verdicts(report)["https"] == verdicts(report)["bucket https"] == WARNING
    assert report


def test_wandbs_own_cloud_is_refused():
    with Client() as client:
        report = accept(Server(client, "https://api.wandb.ai", KEY), Progress())
    assert "W&B's own cloud" in report.failed[0].sentence


def command(*more: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(
        [sys.executable, "-m", "airgap", "verify-install", *more],
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_needs_no_cluster_when_the_host_is_named(world, authority):
    done = command("--host", world.server, "--ca-file", str(authority.root), "-o", "json", WANDB_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["schemaVersion"], answer["healthy"]) == (1, True)
    assert KEY not in done.stdout + done.stderr


def test_the_command_fails_with_6_and_one_sentence(world, authority):
    world.faults.add("refused-put")
    done = command("--host", world.server, "--ca-file", str(authority.root), WANDB_API_KEY=KEY)
    assert done.returncode == 6
    assert "Error: https://127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
