"""Helm repositories: the version that is meant, addresses in every form, digests, and whose credentials go where."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from airgap.errors import ConfigurationError, IntegrityError, NetworkError, NotFoundError
from airgap.sources import FetchedChart, Places, fetch_chart
from airgap.sources.helmrepo import find_entry
from airgap.transport import Credential, CredentialStore
from tests.sources.conftest import Site, client_for, places_for
from tests.unit.test_chart import tgz

if TYPE_CHECKING:
    from collections.abc import Sequence


def archive(version: str = "1.0.0", name: str = "app") -> bytes:
    return tgz({"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n".encode()})


def index(*entries: tuple[str, Sequence[str], str], name: str = "app") -> bytes:
    """Write an index as helm writes it: version, urls, digest of each entry."""
    lines = [
        "apiVersion: v1",
        "entries:",
        "  another:",
        "  - name: another",
        "    version: 9.9.9",
        "    urls: [x]",
        f"  {name}:",
    ]
    for version, urls, digest in entries:
        lines += [
            "  - apiVersion: v2",
            f"    name: {name}",
            "    description: |",
            "      version: 8.8.8",
            f"    version: {version}",
        ]
        lines += [f"    digest: {digest}"] if digest else []
        lines += [
            "    dependencies:",
            "    - name: dep",
            "      version: 7.7.7",
            "    urls:",
            *(f"    - {url}" for url in urls),
        ]
    return "\n".join([*lines, "generated: x", ""]).encode()


def get(site: Site, version: str = "", **more: Any) -> FetchedChart:
    more.setdefault("places", places_for(charts_example=site))
    hosts = more.pop("hosts", (site.host,))
    client = client_for(*hosts, credentials=more.pop("credentials", None))
    return fetch_chart(client, more.pop("url", "https://charts.example/repo"), "app", version, **more)


def test_the_newest_stable_version_is_taken(site: Site):
    site.answers["/repo/index.yaml"] = (
        200,
        index(("2.0.0-PR1", ["p.tgz"], ""), ("1.0.0", ["a.tgz"], ""), ("1.10.0", ["b.tgz"], ""), ("1.9.0", ["c.tgz"], "")),
    )
    site.answers["/repo/b.tgz"] = (200, archive("1.10.0"))
    fetched = get(site)
    assert (fetched.chart.version, fetched.source) == ("1.10.0", "https://charts.example/repo/b.tgz")
    assert fetched.chart.archive == archive("1.10.0")


def test_a_version_or_a_range_can_be_asked_for(site: Site):
    site.answers["/repo/index.yaml"] = (200, index(("2.0.0-PR1", ["p.tgz"], ""), ("1.0.0", ["a.tgz"], "")))
    site.answers["/repo/p.tgz"] = (200, archive("2.0.0-PR1"))
    site.answers["/repo/a.tgz"] = (200, archive())
    assert get(site, "2.0.0-PR1").chart.version == "2.0.0-PR1"
    assert get(site, "~1").chart.version == "1.0.0"
    with pytest.raises(NotFoundError, match="has no version 3") as caught:
        get(site, "3")
    assert "1.0.0" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("charts/a.tgz", "/repo/charts/a.tgz"),
        ("/root/a.tgz", "/root/a.tgz"),
        ("https://charts.example/else/a.tgz", "/else/a.tgz"),
        ("../up/a.tgz", "/up/a.tgz"),
    ],
)
@pytest.mark.parametrize("url", ["https://charts.example/repo", "https://charts.example/repo/"])
def test_addresses_are_resolved_against_the_index(site: Site, address: str, path: str, url: str):
    site.answers["/repo/index.yaml"] = (200, index(("1.0.0", [address], "")))
    site.answers[path] = (200, archive())
    assert get(site, url=url).source == f"https://charts.example{path}"


def test_addresses_are_tried_in_order(site: Site):
    site.answers["/repo/index.yaml"] = (
        200,
        index(("1.0.0", ["file:///etc/passwd", "http://charts.example/plain.tgz", "gone.tgz", "there.tgz"], "")),
    )
    site.answers["/repo/there.tgz"] = (200, archive())
    assert get(site).source.endswith("/there.tgz")
    assert site.paths == ["/repo/index.yaml", "/repo/gone.tgz", "/repo/there.tgz"]


def test_when_no_address_answers_all_are_told(site: Site):
    site.answers["/repo/index.yaml"] = (200, index(("1.0.0", ["file:///x", "gone.tgz"], "")))
    with pytest.raises(NotFoundError, match=r"app 1\.0\.0 cannot be had: .*refused; .*gone\.tgz"):
        get(site)


def test_the_digest_of_the_index_is_checked(site: Site):
    digest = hashlib.sha256(archive()).hexdigest()
    site.answers["/repo/index.yaml"] = (200, index(("1.0.0", ["a.tgz"], digest)))
    site.answers["/repo/a.tgz"] = (200, archive())
    assert get(site).chart.digest.hex == digest
    site.answers["/repo/a.tgz"] = (200, archive("1.0.1"))
    with pytest.raises(IntegrityError, match="but the index says sha256"):
        get(site)


def test_another_chart_than_the_one_asked_for_is_refused(site: Site):
    site.answers["/repo/index.yaml"] = (200, index(("1.0.0", ["a.tgz"], "")))
    site.answers["/repo/a.tgz"] = (200, archive(name="evil"))
    with pytest.raises(IntegrityError, match=r"is chart evil 1\.0\.0, not app 1\.0\.0"):
        get(site)


def test_credentials_never_go_to_another_host(site: Site, other: Site):
    site.answers["/repo/index.yaml"] = [(401, b""), (200, index(("1.0.0", ["https://files.example/a.tgz"], "")))]
    other.answers["/a.tgz"] = (200, archive())
    store = CredentialStore().with_explicit(site.host, Credential("ann", "pw"))
    places = places_for(charts_example=site, files_example=other)
    get(site, places=places, credentials=store, hosts=(site.host, other.host))
    assert site.asked[-1][1].startswith("Basic ")
    assert other.asked == [("/a.tgz", "")]


def test_credentials_of_the_channel_are_for_the_repository_only(site: Site, other: Site):
    site.answers["/repo/index.yaml"] = (200, index(("1.0.0", ["https://files.example/a.tgz"], ""), ("0.9.0", ["own.tgz"], "")))
    site.answers["/repo/own.tgz"] = (200, archive("0.9.0"))
    other.answers["/a.tgz"] = (200, archive())
    places = places_for(charts_example=site, files_example=other)
    more: Any = {"places": places, "hosts": (site.host, other.host), "credential": Credential("ann", "pw")}
    get(site, **more)
    get(site, "0.9.0", **more)
    assert all(authorization for _, authorization in site.asked)
    assert other.asked == [("/a.tgz", "")]


def test_an_index_with_only_prereleases_says_so(site: Site):
    site.answers["/repo/index.yaml"] = (200, index(("2.0.0-PR1", ["p.tgz"], "")))
    with pytest.raises(NotFoundError, match="only prereleases of app"):
        get(site)


def test_a_repository_that_has_no_such_chart_names_the_nearest(site: Site):
    site.answers["/repo/index.yaml"] = (200, index(("1.0.0", ["p.tgz"], ""), name="apq"))
    with pytest.raises(NotFoundError, match=r"no chart 'app' \(did you mean 'apq'\?\)"):
        get(site)


def test_a_repository_that_cannot_be_reached_is_a_network_error(site: Site):
    site.answers["/repo/index.yaml"] = (500, b"")
    with pytest.raises(NetworkError):
        get(site)


ENTRY = {"version": "1.0.0", "urls": ["a.tgz"]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"entries": {"app": [ENTRY]}}),
        "entries:\n    app:\n        - urls: [a.tgz]\n          version: 1.0.0\n",
        "entries:\n  'app':\n  - version: '1.0.0'\n    urls:\n    - a.tgz\n",
        'apiVersion: v1\nentries:\n  app:\n  - urls:\n    - a.tgz\n    version: "1.0.0"',
        "entries: {app: [{version: 1.0.0, urls: [a.tgz]}]}\n",
    ],
)
def test_an_index_in_any_dress_is_read(text: str):
    entry = find_entry(text.encode(), "app", "", "index.yaml")
    assert (entry.version, entry.urls) == ("1.0.0", ("a.tgz",))


@pytest.mark.parametrize(
    ("text", "told"),
    [("<html>", "is no index"), ("entries: []", "is no index"), ("entries: {app: [{version: 1.0.0}]}", "gives no address")],
)
def test_what_is_no_index_is_told(text: str, told: str):
    with pytest.raises((ConfigurationError, NotFoundError), match=told):
        find_entry(text.encode(), "app", "", "index.yaml")


def test_only_the_wanted_entry_is_parsed():
    broken = index(("1.0.0", ["a.tgz"], ""), ("0.9.0", ["b.tgz"], "")).replace(b"    - b.tgz", b"    - [b.tgz")
    assert find_entry(broken, "app", "", "index.yaml").urls == ("a.tgz",)


def test_places_leave_other_urls_alone():
    assert Places().url("https://x/y?z") == "https://x/y?z"
