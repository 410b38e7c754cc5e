"""The release channel: asked as the operator asks it, and every way in which it says no."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from airgap.errors import (
    ConfigurationError,
    IntegrityError,
    MisledError,
    NetworkError,
    NotFoundError,
    UnauthorizedError,
)
from airgap.manifest import ChannelEntry
from airgap.sources import ChannelRelease, channel, find_license, read_channel
from airgap.sources.channel import ATTEMPTS, saved_release
from airgap.sources.helmrepo import fetch_chart
from airgap.wandb import RepoChart
from tests.sources.conftest import Site, client_for, places_for

if TYPE_CHECKING:
    from pathlib import Path

SPEC = {
    "chart": {"url": "https://charts.wandb.ai", "name": "operator-wandb", "version": "0.43.8"},
    "values": {"app": {"image": {"tag": "0.70.0"}}},
    "metadata": None,
}
LATEST = "/api/v1/operator/channel"


def read(site: Site, licence: str = "", **entry: object) -> ChannelRelease:
    asked = ChannelEntry(url="https://deploy.example", **entry)  # type: ignore[arg-type]
    return read_channel(client_for(site.host), asked, places=places_for(deploy_example=site), licence=licence, pause=0)


def test_the_latest_release_is_asked_for_anonymously_without_a_licence(site: Site):
    site.answers[LATEST] = (200, json.dumps(SPEC).encode())
    release = read(site)
    assert release.spec.chart == RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")
    assert release.source == f"https://deploy.example{LATEST}"
    assert site.asked == [(LATEST, "")]


def test_the_licence_goes_as_the_password_of_the_user_license(site: Site):
    site.answers[LATEST] = (200, json.dumps(SPEC).encode())
    release = read(site, "lic.en.ce")
    assert site.asked == [(LATEST, "Basic " + base64.b64encode(b"license:lic.en.ce").decode())]
    assert "lic.en.ce" not in repr(release) + json.dumps(release.to_json())


def test_a_pinned_release_has_its_own_address(site: Site):
    site.answers[f"{LATEST}/release/a%2Fb"] = (200, json.dumps(SPEC).encode())
    assert read(site, release="a/b").release == "a/b"


def test_what_does_not_answer_is_asked_five_times(site: Site):
    good = (200, json.dumps(SPEC).encode())
    site.answers[LATEST] = [*[(500, b"")] * (ATTEMPTS - 1), good]
    assert read(site).spec.chart
    site.answers[LATEST] = (503, b"down")
    site.asked.clear()
    with pytest.raises(NetworkError, match="did not answer in 5 attempts"):
        read(site)
    assert len(site.asked) == ATTEMPTS


def test_an_unknown_release_is_told_at_once(site: Site):
    with pytest.raises(NotFoundError, match="knows no release 'nope'"):
        read(site, release="nope")
    assert len(site.asked) == 1


def test_an_address_that_is_no_channel_is_told(site: Site):
    with pytest.raises(NotFoundError, match="is no release channel"):
        read(site)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_licence_is_told_from_a_missing_one(site: Site, status: int):
    site.answers[LATEST] = (status, b"no")
    with pytest.raises(UnauthorizedError, match="refuses this licence") as refused:
        read(site, "secret-licence")
    with pytest.raises(UnauthorizedError, match="wants a licence") as missing:
        read(site)
    assert "AIRGAP_LICENSE" in missing.value.hint
    assert "secret-licence" not in f"{refused.value.message} {refused.value.hint}"


def test_a_channel_that_moved_to_another_host_is_followed_without_the_licence(site: Site, other: Site):
    site.redirects[LATEST] = f"http://{other.host}/elsewhere?sig=s1gned"
    other.answers["/elsewhere?sig=s1gned"] = (200, json.dumps(SPEC).encode())
    assert read(site, "lic.en.ce").spec.chart
    assert site.asked[0][1].startswith("Basic ")
    assert other.asked == [("/elsewhere?sig=s1gned", "")], "the licence is the channel's alone (F54)"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://deploy.example/x", "http://169.254.169.254/latest"])
def test_a_channel_that_leads_to_where_nobody_goes_is_refused_at_once(site: Site, target: str):
    site.redirects[LATEST] = target
    with pytest.raises(MisledError, match="refused"):
        read(site)
    assert len(site.asked) == 1


def test_a_spec_without_an_end_is_cut(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(channel, "SPEC_LIMIT", 1000)
    site.answers[LATEST] = (200, b'{"values": "' + b"x" * 5000)
    with pytest.raises(IntegrityError, match="longer than"):
        read(site)


@pytest.mark.parametrize(
    "url", ["file:///etc", "gopher://charts.example", "https:charts", "--repository-config=/etc/passwd", "-x"]
)
def test_a_chart_that_a_spec_names_at_no_web_address_is_refused_before_anything_is_run(site: Site, url: str):
    site.answers[LATEST] = (
        200,
        json.dumps({**SPEC, "chart": {"name": "operator-wandb", "version": "0.43.8", "url": url}}).encode(),
    )
    places = places_for(deploy_example=site)

    def fetch() -> None:
        chart = read(site).spec.chart
        assert isinstance(chart, RepoChart)
        fetch_chart(client_for(site.host), chart.url, chart.name, chart.version, places=places)

    with pytest.raises(ConfigurationError, match=r"not an http:// or https:// URL|takes this for no chart"):
        fetch()
    assert site.paths == [LATEST]


def test_what_is_no_spec_is_told(site: Site):
    site.answers[LATEST] = (200, b"<html>sign in</html>")
    with pytest.raises(ConfigurationError, match="channel spec"):
        read(site)


def test_a_saved_spec_needs_nobody(site: Site, tmp_path: Path):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    release = read(site, path=path)
    assert (release.source, site.asked) == ("spec.json", [])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(site, path=tmp_path / "none.json")


def test_the_lock_keeps_the_release(site: Site):
    site.answers[LATEST] = (200, json.dumps(SPEC).encode())
    release = read(site)
    assert saved_release(release.to_json()) == release
    with pytest.raises(ConfigurationError, match="holds no channel spec"):
        saved_release({})


def test_credentials_in_a_spec_are_used_and_not_kept(site: Site):
    chart = {**SPEC["chart"], "username": "ann", "password": "pw-of-the-chart"}  # type: ignore[dict-item]
    site.answers[LATEST] = (200, json.dumps({**SPEC, "chart": chart}).encode())
    release = read(site)
    assert release.credential
    assert release.credential.password == "pw-of-the-chart"
    assert b"pw-of-the-chart" not in release.spec.raw
    assert release.spec.chart == RepoChart("https://charts.wandb.ai", "operator-wandb", "0.43.8")


def test_the_licence_comes_from_a_file_or_the_environment(tmp_path: Path):
    file = tmp_path / "licence"
    file.write_text("from.the.file\n")
    environ = {"AIRGAP_LICENSE": " from.the.environment "}
    assert find_license(ChannelEntry(license_file=file), environ) == "from.the.file"
    assert find_license(ChannelEntry(), environ) == "from.the.environment"
    assert find_license(ChannelEntry(), {}) == ""
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        find_license(ChannelEntry(license_file=file), environ)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        find_license(ChannelEntry(license_file=tmp_path / "none"), environ)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="it is no text"):
        find_license(ChannelEntry(license_file=file), environ)
