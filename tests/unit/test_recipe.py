"""Recipes: rows of text and values, solved for a target."""

from __future__ import annotations

import pytest

from airgap.relocate.recipe import DIGEST, NAME, TAG, WHOLE, Assignments, Candidate, Recipe, Sentinel, read, unknowns

REGISTRY = Candidate(("image", "registry"), "docker.io", NAME)
REPOSITORY = Candidate(("image", "repository"), "bitnami/redis", NAME)
TAG_VALUE = Candidate(("image", "tag"), "7.2", TAG)
PREFIX = Candidate(("global", "prefix"), "mirror/all", NAME)
ORGANISATION = Candidate(("org",), "wandb", NAME)
NAMED = Candidate(("name",), "local", NAME)


def sentinels(*candidates: Candidate) -> list[Sentinel]:
    return [Sentinel(candidate, f"zq{number}qz", f"zq{number}qz") for number, candidate in enumerate(candidates)]


def test_a_rendering_with_sentinels_is_read_as_a_row() -> None:
    recipe = read("zq0qz/zq1qz:zq2qz", sentinels(REGISTRY, REPOSITORY, TAG_VALUE))
    assert recipe == Recipe((REGISTRY, "/", REPOSITORY, ":", TAG_VALUE))
    assert recipe.original == "docker.io/bitnami/redis:7.2"
    assert recipe.name == (REGISTRY, "/", REPOSITORY)


def test_a_text_without_sentinels_has_no_recipe() -> None:
    assert read("quay.io/a/b:1", sentinels(REGISTRY)) is None


def test_a_sentinel_that_came_out_cut_makes_no_recipe() -> None:
    whole = Sentinel(REPOSITORY, "zq0qz:zq0qz", "zq0qz")
    assert read("reg/zq0qz", [whole]) is None


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        (("quay.io:443/", REPOSITORY, ":1"), ("quay.io:443/", REPOSITORY)),
        ((REPOSITORY, "@sha256:abc"), (REPOSITORY,)),
        ((REPOSITORY, ":1.0"), (REPOSITORY,)),
        ((REGISTRY, "/fixed/app:1"), (REGISTRY, "/fixed/app")),
        ((REPOSITORY, TAG_VALUE), (REPOSITORY,)),
        (("reg:5000/", REPOSITORY, ":", Candidate(("d",), "x", DIGEST)), ("reg:5000/", REPOSITORY)),
    ],
)
def test_the_name_ends_before_the_tag_or_digest(pieces: tuple[str | Candidate, ...], name: tuple[str | Candidate, ...]) -> None:
    assert Recipe(pieces).name == name


def test_only_names_and_whole_references_move_an_image() -> None:
    assert not Recipe(("quay.io/a/b:", TAG_VALUE)).moves
    assert Recipe((Candidate(("image",), "a:1", WHOLE),)).moves


@pytest.mark.parametrize(
    ("pieces", "target", "solution"),
    [
        ((REPOSITORY,), "reg/docker.io/bitnami/redis", {REPOSITORY.path: "reg/docker.io/bitnami/redis"}),
        (
            (REGISTRY, "/", REPOSITORY),
            "reg:5000/team/docker.io/bitnami/redis",
            {REGISTRY.path: "reg:5000", REPOSITORY.path: "team/docker.io/bitnami/redis"},
        ),
        ((REGISTRY, "/fixed"), "reg/docker.io/fixed", {REGISTRY.path: "reg/docker.io"}),
        (
            (ORGANISATION, "/", NAMED),
            "reg/docker.io/wandb/local",
            {ORGANISATION.path: "reg/docker.io/wandb", NAMED.path: "local"},
        ),
        (
            (REGISTRY, "/", ORGANISATION, "/", NAMED),
            "reg/t/docker.io/wandb/local",
            {REGISTRY.path: "reg", ORGANISATION.path: "t/docker.io/wandb", NAMED.path: "local"},
        ),
        ((NAMED, "/", NAMED), "ab/ab", {NAMED.path: "ab"}),
        (("quay.io/", REPOSITORY), "reg/quay.io/x", None),
        ((REGISTRY, REPOSITORY), "reg/x", None),
        ((NAMED, "/", NAMED), "ab/cd", None),
        ((NAMED, "/", ORGANISATION, "/", REGISTRY), "a/b", None),
        (("reg/x",), "reg/x", {}),
        (("reg/x",), "reg/y", None),
        ((), "reg", None),
    ],
)
def test_a_row_is_solved_for_its_target(
    pieces: tuple[str | Candidate, ...], target: str, solution: dict[tuple[str, ...], str] | None
) -> None:
    assert Assignments().solve(pieces, target) == solution


def test_a_value_that_has_its_text_keeps_it() -> None:
    names = Assignments()
    names.accept({PREFIX.path: "reg/docker.io"})
    assert names.solve((PREFIX, "/", REPOSITORY), "reg/docker.io/bitnami/redis") == {REPOSITORY.path: "bitnami/redis"}
    assert names.solve((PREFIX, "/", REPOSITORY), "reg/quay.io/x") is None
    assert unknowns((PREFIX, "/", REPOSITORY), names.texts) == 1
