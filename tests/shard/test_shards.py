"""push --shard: several pushers, each alone, and the registry ends as after one push."""

from __future__ import annotations

import json
import random
import threading

import pytest
from click.testing import CliRunner

from airgap.cli import cli
from airgap.push import divided
from airgap.push.inventory import take
from airgap.ref import Location
from airgap.shard import Shard
from tests.bundle.estate import small
from tests.fetch.conftest import connect
from tests.push.conftest import anyone, asked, path, target  # noqa: F401 - fixtures
from tests.push.test_push import held, send

pytestmark = pytest.mark.registry


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(divided, "LOOKS", (0.0, 0.01))


def inventory(host, prefix):
    """All that lies under a prefix: tags, manifests and blobs of each repository."""
    location = Location.parse(f"{host}/{prefix}")
    return json.loads(take(connect(host), location, locks=[small().lock]).to_bytes())["repositories"]


def test_all_shards_together_are_one_push_in_any_registry(path, anyone):  # noqa: F811
    order = [1, 2, 3, 4]
    random.shuffle(order)
    results = [send(path, anyone.host, shard=Shard(number, 4)) for number in order]
    assert held(anyone.host, small())
    send(path, anyone.host, "whole")
    assert inventory(anyone.host, "mirror") == inventory(anyone.host, "whole")
    assert [bool(result.awaiting) for result in results][-1] is False
    assert results[0].awaiting
    digest = small().images[0].digest
    assert len(connect(anyone.host).referrers("mirror/quay.io/team/app", digest)) == 1
    again = send(path, anyone.host)
    assert (again.sent, again.mounted, again.plan.size) == (0, 0, 0)


def test_shards_at_the_same_time_send_no_blob_twice(path, target):  # noqa: F811
    results = []
    threads = [
        threading.Thread(target=lambda n=number: results.append(send(path, target.host, shard=Shard(n, 3))))
        for number in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert held(target.host, small())
    blobs = sum(len(result.plan.blobs) for result in results)
    puts = [at for method, at, status in asked(target) if method == "PUT" and "/blobs/uploads/" in at and status == 201]
    assert len(puts) + sum(result.mounted for result in results) <= blobs
    assert not send(path, target.host).plan


def test_a_shard_puts_what_is_complete_and_no_tag_before_it(path, target):  # noqa: F811
    first = send(path, target.host, shard=Shard(1, 5))
    notes = {item.what: item.note for item in first.landed}
    assert notes["quay.io/team/app:1.0"] == "waits for other shards"
    assert connect(target.host).tags("mirror/quay.io/team/app") == ()
    assert set(first.digests["mirror/quay.io/team/app"]) < {
        it.digest for tree in small().images[0].trees for it in (*tree.blobs, *tree.manifests)
    }


def test_what_another_shard_put_meanwhile_is_not_claimed(path, target, monkeypatch):  # noqa: F811
    send(path, target.host, shard=Shard(1, 2))
    real = divided.Divided._blobs

    def meanwhile(self, todo):
        told = real(self, todo)
        monkeypatch.setattr(divided.Divided, "_blobs", real)
        send(path, target.host)
        return told

    monkeypatch.setattr(divided.Divided, "_blobs", meanwhile)
    result = send(path, target.host, shard=Shard(2, 2))
    assert {item.note for item in result.landed} <= {"put by another shard", "already there"}
    assert {item.note for item in result.landed if item.what.startswith("quay.io")} == {"put by another shard"}


def run(*argv, **environ):
    return CliRunner().invoke(cli, [str(word) for word in argv], env=environ)


def told(path, host, *more, **environ):  # noqa: F811
    done = run("push", path, "--registry", f"{host}/mirror", "--plain-http", "-q", "-o", "json", *more, **environ)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_command_line_tells_of_the_share(path, target):  # noqa: F811
    dry = told(path, target.host, "--shard", "auto/2", "--dry-run", JOB_COMPLETION_INDEX="0")
    assert {key: dry["shard"][key] for key in ("number", "count", "complete")} == {"number": 1, "count": 2, "complete": False}
    assert "quay.io/team/app:1.0" in dry["shard"]["awaiting"]
    assert not [1 for method, _, _ in asked(target) if method in {"PUT", "POST"}]
    one = told(path, target.host, "--shard", "auto/2", JOB_COMPLETION_INDEX="0")
    two = told(path, target.host, AIRGAP_SHARD="2/2")
    assert dry["plan"]["blobs"] == one["plan"]["blobs"] > 0
    assert (one["shard"]["complete"], two["shard"]["complete"]) == (False, True)
    assert two["shard"]["awaiting"] == []
    whole = told(path, target.host)
    assert (whole["shard"], whole["sent"], whole["mounted"]) == (None, 0, 0)
    text = run("push", path, "--registry", f"{target.host}/mirror", "--plain-http", "-q", "--shard", "1/2").stdout
    assert text.rstrip().endswith("share 1/2: nothing is missing")
