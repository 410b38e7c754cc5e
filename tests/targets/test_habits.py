"""Habits: products are known by what they say of themselves, and their limits are told before anything is sent."""

from __future__ import annotations

import pytest

from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError, NotFoundError
from airgap.plan import wanted
from airgap.push import push
from airgap.ref import FLAT, Location
from airgap.registry.habits import HABITS, OTHER, habit_of, recognise
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
