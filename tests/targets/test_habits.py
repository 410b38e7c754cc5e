"""Habits: products are known by what they say of themselves, and their limits are told before anything is sent."""

from __future__ import annotations

import pytest

from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError, NotFoundError, UnauthorizedError
from airgap.plan import wanted
from airgap.push import push
from airgap.ref import FLAT, Location
from airgap.registry.habits import HABITS, OTHER, habit_of, recognise
from airgap.registry.ways import Way, Ways
from tests.bundle.estate import bundle, small
from tests.fetch.conftest import connect
from tests.push.conftest import KINDS

BEARER = "Bearer realm="


@pytest.mark.parametrize(
    ("host", "headers", "name"),
    [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", {}, "Amazon ECR"),
        ("europe-docker.pkg.dev", {}, "Google Artifact Registry"),
        ("eu.gcr.io", {}, "Google Artifact Registry"),
        ("corp.azurecr.io", {}, "Azure Container Registry"),
        ("ghcr.io", {}, "GitHub Container Registry"),
        ("docker.io", {}, "Docker Hub"),
        ("registry.gitlab.com", {}, "GitLab"),
        ("reg.lan:5050", {"gitlab-container-registry-version": "4.1"}, "GitLab"),
        ("reg.lan", {"WWW-Authenticate": f'{BEARER}"https://git.lan/jwt/auth",service="container_registry"'}, "GitLab"),
        ("reg.lan", {"Www-Authenticate": f'{BEARER}"https://reg.lan/service/token",service="harbor-registry"'}, "Harbor"),
        ("reg.lan", {"Www-Authenticate": f'{BEARER}"https://reg.lan/service/token", service="harbor-registry"'}, "Harbor"),
        ("corp.jfrog.io", {}, "Artifactory"),
        ("art.lan:8443", {"X-JFrog-Version": "Artifactory/7.98.9 79809900"}, "Artifactory"),
        ("nexus.lan:8082", {"Server": "Nexus/3.70.1-02 (OSS)"}, "Nexus"),
        ("nexus.lan", {"WWW-Authenticate": 'BASIC realm="Sonatype Nexus Repository Manager"'}, "Nexus"),
        ("quay.lan", {"WWW-Authenticate": f'{BEARER}"https://quay.lan/v2/auth",service="quay.lan"'}, "Quay"),
        ("zot.lan", {"WWW-Authenticate": 'Basic realm="Authorization Required"'}, "zot"),
        ("[fd00::1]:5000", {"Content-Type": "application/json; charset=utf-8"}, "distribution 2"),
        ("reg.lan", {"Content-Type": "text/html"}, "a registry"),
        ("notghcr.io.lan", {}, "a registry"),
    ],
)
def test_products_are_recognised(host, headers, name):
    assert recognise(host, headers).name == name


def test_each_row_says_where_it_was_seen():
    assert all(len(habit.source) > 20 for habit in HABITS)
    assert len({habit.name for habit in HABITS}) == len(HABITS)


@pytest.mark.registry
@pytest.mark.parametrize("kind", KINDS)
def test_real_registries_are_told_apart(kind, tmp_path):
    with KINDS[kind](tmp_path) as running:
        told = {"distribution2": "distribution 2", "distribution3": "distribution 3", "crane": "a registry"}[kind]
        assert habit_of(connect(running.host).client, running.host).name == told


def test_who_does_not_answer_is_known_by_name_alone():
    assert habit_of(connect("localhost:1").client, "localhost:1") is OTHER


def named(name):
    return next(habit for habit in HABITS if habit.name == name)


@pytest.mark.parametrize(
    ("name", "place", "layout", "told"),
    [
        ("GitLab", "reg.lan/group/project", "host", "at most 2 parts below a project"),
        ("GitLab", "reg.lan/group/project", "flat", ""),
        ("Docker Hub", "docker.io/corp", "host", "at most 2 parts"),
        ("Docker Hub", "docker.io/corp", "flat", ""),
        ("Google Artifact Registry", "eu-docker.pkg.dev/project", "flat", "at least 3 parts"),
        ("Google Artifact Registry", "eu-docker.pkg.dev/project/repository", "host", ""),
        ("Harbor", "reg.lan/team", "host", ""),
    ],
)
def test_depth_is_known_before_anything_is_sent(name, place, layout, told):
    location = Location.parse(place, layout)
    message, hint = named(name).trouble([it.repository for it in wanted(small().lock, location)], location)
    assert (told in message) if told else not message
    assert bool(hint) == bool(message)


def test_the_hint_for_a_missing_repository_is_the_product_s():
    assert (
        named("Amazon ECR")
        .missing(["b/x", "a/y"])
        .startswith("aws ecr create-repository --repository-name a/y; aws ecr create-repository --repository-name b/x")
    )
    assert named("Harbor").missing(["team/x", "team/y"]).startswith("create the project team; a robot")
    assert "Nexus: a repository key" in OTHER.missing(["team/x"])


@pytest.mark.registry
def test_a_registry_that_calls_itself_gitlab_refuses_depth_and_takes_flat(proxy, tmp_path):
    version = {"GitLab-Container-Registry-Version": "4.1", "Content-Type": "application/json"}
    proxy.before = lambda method, path: (200, version, b"{}") if (method, path) == ("GET", "/v2/") else None
    with BundleReader.open(bundle(small(), tmp_path / "x.tar")) as reader:
        with pytest.raises(ConfigurationError, match=r"GitLab at .* takes no repository as deep as") as caught:
            push(reader, connect(proxy.host), Location.parse(f"{proxy.host}/group/project"))
        assert "--layout flat" in caught.value.hint
        assert {method for method, _ in proxy.seen} == {"GET", "HEAD"}, "nothing was sent"
        assert push(reader, connect(proxy.host), Location.parse(f"{proxy.host}/group/project", FLAT)).sent


@pytest.mark.registry
def test_a_harbor_without_the_project_says_so(proxy, tmp_path):
    challenge = {"Www-Authenticate": f'{BEARER}"http://{proxy.host}/service/token",service="harbor-registry"'}

    def harbor(method, path):
        if (method, path) == ("GET", "/v2/"):
            return 401, challenge, b"{}"
        return (404, {}, b'{"errors":[{"code":"NAME_UNKNOWN"}]}') if method == "POST" else None

    proxy.before = harbor
    with BundleReader.open(bundle(small(), tmp_path / "x.tar")) as reader, pytest.raises(NotFoundError) as caught:
        push(reader, connect(proxy.host), Location.parse(f"{proxy.host}/team"))
    assert "create the project team" in caught.value.hint


def test_a_registry_that_is_known_to_take_small_pieces_gets_them_from_the_first_on(proxy, tmp_path):
    """GHCR: 4 MiB to a PATCH. The ladder need not find that out by sending 64 MiB in vain."""
    challenge = {"Www-Authenticate": 'Bearer realm="https://ghcr.io/token",service="ghcr.io"'}
    sent: list[int] = []

    def ghcr(method, path):
        if (method, path) == ("GET", "/v2/"):
            return 401, challenge, b"{}"
        sent.extend([0] if method == "PATCH" else [])
        return None

    proxy.before = ghcr
    estate = small()
    estate.image("quay.io/team/large:1", bytes(9 * 1024 * 1024))
    with BundleReader.open(bundle(estate, tmp_path / "x.tar")) as reader:
        assert push(reader, connect(proxy.host), Location.parse(f"{proxy.host}/team")).sent
    assert len(sent) == 3, "4 MiB, 4 MiB, and the rest"


def test_pieces_are_bounded_by_what_the_product_takes():
    ways = Ways()
    ways.bound(*named("Amazon ECR").patch)
    ways.way = Way(cap=1024 * 1024)
    assert ways.piece(10**9) == 5 * 1024 * 1024, "ECR takes no less"
    ghcr = Ways()
    ghcr.bound(*named("GitHub Container Registry").patch)
    assert ghcr.piece(10**9) == 4 * 1024 * 1024
    found = Ways(Way(whole=True))
    found.bound(0, 4 * 1024 * 1024)
    assert found.way == Way(whole=True), "what was found out counts more"


def test_a_login_that_ends_in_the_middle_is_told_as_such():
    assert named("Amazon ECR").ended().startswith("logins to Amazon ECR last 12 hours: log in again")
    assert "get-login-password" in named("Amazon ECR").ended()
    assert "last 1 hour:" in named("Google Artifact Registry").ended()
    assert named("zot").ended() == ""


@pytest.mark.registry
def test_a_push_that_is_refused_after_it_had_begun_says_that_the_login_may_be_over(proxy, tmp_path):
    challenge = {"Www-Authenticate": 'Bearer realm="https://corp.azurecr.io/oauth2/token",service="corp.azurecr.io"'}
    taken: list[str] = []

    def azure(method, path):
        if (method, path) == ("GET", "/v2/"):
            return 401, challenge, b"{}"
        if method == "PUT":
            taken.append(path)
        return (403, {}, b'{"errors":[{"code":"DENIED"}]}') if method == "PUT" and len(taken) > 2 else None

    proxy.before = azure
    with BundleReader.open(bundle(small(), tmp_path / "x.tar")) as reader, pytest.raises(UnauthorizedError) as caught:
        push(reader, connect(proxy.host), Location.parse(f"{proxy.host}/team"), jobs=1)
    assert "logins to Azure Container Registry last 3 hours" in caught.value.hint
