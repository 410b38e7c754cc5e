"""manifests/push-job.yaml: accepted by a real API server, and its very command line run by processes that play the pods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from airgap.cli import cli
from airgap.errors import ConfigurationError
from airgap.installer import build
from airgap.push_job import CLAIM, IMAGE, NAME, PushJob
from tests.bundle.estate import bundle
from tests.engine.conftest import relay  # noqa: F401 - a fixture
from tests.engine.test_killed import arrived, make
from tests.push.conftest import path, target  # noqa: F401 - fixtures

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "manifests" / "push-job.yaml"
LIMIT = 120.0
EXAMPLE = PushJob(
    name=NAME,
    count=4,
    image=f"registry.example.com/wandb/{IMAGE}",
    claim=CLAIM,
    file="wandb.tar",
    bundle="wandb.tar",
    hosts=["registry.example.com"],
    arguments=["--registry", "registry.example.com/wandb"],
)


def printed(path, *more):  # noqa: F811
    done = CliRunner().invoke(cli, ["push", str(path), *map(str, more)])
    assert done.exit_code == 0, done.output
    return list(yaml.safe_load_all(done.stdout))


def container(job):
    return job["spec"]["template"]["spec"]["containers"][0]


def test_the_manifest_is_what_push_job_prints():
    assert MANIFEST.read_text() == EXAMPLE.text()


def test_everything_that_push_was_told_is_in_the_job(path, tmp_path):  # noqa: F811
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n")
    places = ["--registry", "reg.lan:5000/air", "--registry", "two.lan/x"]
    job, authority = printed(path, *places, "--job", 3, "--ca-file", ca, "--layout", "flat", "--limit-rate", "3M")
    words = container(job)["command"]
    assert words[:6] == ["python3", "-I", "-S", "/bundle/wandb.tar", "push", "/bundle/wandb.tar"]
    assert [*places, "--layout", "flat", "--limit-rate", str(1024 * 1024)] == words[6:14]
    assert words[14:] == ["--shard", "auto/3", "--no-progress"]
    assert container(job)["image"] == "reg.lan:5000/air/docker.io--library--python:3.12-slim"
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["completionMode"]) == (3, 3, "Indexed")
    assert authority["data"]["ca.crt"] == ca.read_text()
    items = next(it for it in job["spec"]["template"]["spec"]["volumes"] if it["name"] == "ca")["configMap"]["items"]
    assert [it["path"] for it in items] == ["reg.lan:5000/ca.crt", "two.lan/ca.crt"]


def test_a_password_does_not_go_into_a_job(path):  # noqa: F811
    done = CliRunner().invoke(cli, ["push", str(path), "--registry", "r.lan", "--job", "2", "--password-stdin"])
    assert isinstance(done.exception, ConfigurationError)
    assert "--password-stdin cannot go into a Job" in done.exception.message


@pytest.mark.cluster
@pytest.mark.parametrize("count", [None, 3])
def test_a_real_api_server_takes_it_and_makes_its_pods(cluster, namespace, path, count):  # noqa: F811
    told = ["--registry", "reg.lan:5000/air", "--job", count]
    text = json.dumps(printed(path, *told)[0]) if count else MANIFEST.read_text()
    cluster.add_volume(f"bundle-of-{namespace}")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": CLAIM, "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    strict = ("apply", "--server-side", "--validate=strict", "-n", namespace, "-f", "-")
    said = cluster.kubectl(*strict, text=text)
    assert "Warning" not in said
    name = said.split()[0]
    cluster.kubectl("wait", "--for=condition=Complete", name, "-n", namespace, "--timeout=60s")
    pods = cluster.objects("pods", namespace, "app.kubernetes.io/name=airgap-push")
    index = "batch.kubernetes.io/job-completion-index"
    assert sorted(pod["metadata"]["annotations"][index] for pod in pods) == [str(it) for it in range(count or 4)]
    assert "JOB_COMPLETION_INDEX" in {it["name"] for it in container({"spec": {"template": pods[0]}})["env"]}


@pytest.fixture
def start():
    """Start a pod that does not outlive the test."""
    started = []

    def begin(*told):
        started.append(play(*told))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def play(job, index, folder, log):
    """Play a pod: the container's own command line and environment, with the paths of its mounts mapped."""
    made = container(job)
    own = folder / f"tmp-{index}"
    own.mkdir(exist_ok=True)
    mapped = {"/bundle": str(folder), "/auth": str(folder / "auth"), "/tmp": str(own)}  # noqa: S108

    def local(word):
        place = next((place for place in mapped if word == place or word.startswith(f"{place}/")), "")
        return mapped[place] + word.removeprefix(place) if place else word

    environ = {it["name"]: local(it["value"]) for it in made["env"]}
    environ |= {"JOB_COMPLETION_INDEX": str(index), "PATH": os.environ["PATH"]}
    python, *words = made["command"]
    assert python == "python3"
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, *map(local, words)], env=environ, stdout=out, stderr=out, start_new_session=True
        )


@pytest.mark.registry
def test_pods_that_start_late_or_are_killed_end_well_and_the_registry_is_whole(tmp_path, target, relay, start):  # noqa: F811
    estate = make(30)
    folder, logs = tmp_path / "claim", [tmp_path / f"pod-{index}.log" for index in range(3)]
    (folder / "auth").mkdir(parents=True)
    (folder / "auth" / ".dockerconfigjson").write_text('{"auths": {}}')
    estate.installer(build())
    whole = bundle(estate, folder / "wandb.tar")
    counted = relay(target.port)
    (job,) = printed(whole, "--registry", f"{counted.host}/m", "--plain-http", "--job", 3, "--limit-rate", "18M")
    killed, other = start(job, 0, folder, logs[0]), start(job, 1, folder, logs[1])
    until(lambda: counted.up > 6_000_000 or killed.poll() is not None)
    assert killed.poll() is None, logs[0].read_text()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait(LIMIT)
    assert other.wait(LIMIT) == 0, logs[1].read_text()
    for index in (2, 0):
        assert start(job, index, folder, logs[index]).wait(LIMIT) == 0, logs[index].read_text()
    assert "nothing is missing" in logs[0].read_text(), "the last one finishes"
    arrived(estate, target.host, "m/docker.io/big")


def until(true):
    deadline = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
