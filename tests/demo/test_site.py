from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import requests
import yaml

from airgap.demo.site import CHANNEL, CHARTS, RELEASES, WEB_HOSTS, packed_chart, pages
from airgap.demo.web import serving

if TYPE_CHECKING:
    from pathlib import Path


def test_the_index_lists_a_newer_prerelease_an_older_release_and_both_kinds_of_url() -> None:
    entries = yaml.safe_load(pages()[f"{CHARTS}/index.yaml"])["entries"]
    assert [entry["version"] for entry in entries["operator"]] == ["1.5.0-PR12.1", "1.4.0", "1.3.0"]
    assert [entry["version"] for entry in entries["operator-wandb"]] == ["0.44.0-PR7.1", "0.43.0", "0.42.0"]
    assert entries["operator"][1]["urls"] == ["operator-1.4.0.tgz"]
    assert entries["operator-wandb"][1]["urls"] == [f"https://{RELEASES}/operator-wandb-0.43.0.tgz"]


def test_every_archive_is_where_the_index_says_with_the_digest_it_says() -> None:
    found = pages()
    for entries in yaml.safe_load(found[f"{CHARTS}/index.yaml"])["entries"].values():
        for entry in entries:
            (url,) = entry["urls"]
            place = url.removeprefix("https://") if "://" in url else f"{CHARTS}/{url}"
            assert hashlib.sha256(found[place]).hexdigest() == entry["digest"]


def test_the_channel_tells_the_stable_chart_and_answers_for_its_release_id() -> None:
    found = pages()
    answer = json.loads(found[CHANNEL])
    assert answer["chart"]["version"] == packed_chart("operator-wandb").metadata["version"]
    assert found[f"{CHANNEL}/release/{answer['metadata']['release']}"] == found[CHANNEL]


def test_a_chart_is_packed_the_same_each_time() -> None:
    assert packed_chart("operator").archive == packed_chart("operator").archive
    assert packed_chart("operator", "9.9.9").metadata["version"] == "9.9.9"


@pytest.mark.helm
def test_helm_pulls_the_newest_stable_chart_from_the_served_repository(helm: str, tmp_path: Path) -> None:
    with serving(pages()) as host:
        subprocess.run(
            [helm, "pull", "operator", "--repo", f"http://{host}/{CHARTS}", "--destination", str(tmp_path)],
            check=True,
            timeout=60,
            env={"HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"},
        )
    assert (tmp_path / "operator-1.4.0.tgz").read_bytes() == packed_chart("operator").archive


def test_the_server_knows_only_its_pages_and_is_gone_afterwards() -> None:
    with requests.Session() as session:
        session.trust_env = False
        with serving({"a.test/page": b"words"}) as host:
            assert session.get(f"http://{host}/a.test/page?query", timeout=10).content == b"words"
            head = session.head(f"http://{host}/a.test/page", timeout=10)
            assert (head.headers["Content-Length"], head.content) == ("5", b"")
            assert session.get(f"http://{host}/a.test/other", timeout=10).status_code == 404
            assert session.post(f"http://{host}/a.test/page", timeout=10).status_code == 501
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://{host}/a.test/page", timeout=10)


def test_the_hosts_of_the_pages_are_the_hosts_that_the_manifest_replaces() -> None:
    assert {place.partition("/")[0] for place in pages()} == set(WEB_HOSTS)
