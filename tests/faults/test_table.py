"""Every row of the table, once and always, on each of its registries, judged by all seven invariants."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from airgap.ref import Location
from tests.faults import judge
from tests.faults.actions import Stall
from tests.faults.conftest import SOURCES
from tests.faults.guards import Guard
from tests.faults.proxy import Faulty, matching
from tests.faults.pulling import PULLING
from tests.faults.pushing import PUSHING
from tests.faults.rows import Finish, Row, Stop
from tests.faults.world import BIG, Outcome, Run, estate

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.registry import Registry
    from tests.bundle.estate import Estate
    from tests.faults.actions import Rule
    from tests.faults.conftest import Shop
    from tests.transport.scripted import Scripted

pytestmark = pytest.mark.registry
SLACK = 2000
"""Bytes of the index that lists referrers where the registry has no API for them."""


def cases(rows: tuple[Row, ...]):
    """Each row with each of its registries."""
    return [pytest.param(row, kind, id=f"{row.number}-{kind}") for row in rows for kind in row.on]


def fitted(rules: tuple[Rule, ...], made: Estate) -> tuple[Rule, ...]:
    """Put the digests of the estate where the table says {big} and {referrer}."""
    big = max(made.contents, key=lambda digest: len(made.contents[digest]))
    referrer = made.images[0].referrers[0].tree.root.digest
    words = {"{big}": str(big), "{referrer}": str(referrer)}
    fitting = []
    for rule in rules:
        path = rule.path
        for word, text in words.items():
            path = path.replace(word, text)
        fitting.append(replace(rule, path=path))
    return tuple(fitting)


def needed(run: Run) -> int:
    """Bytes that a push sends: each blob once, each manifest once for each repository."""
    want = run.wanted()
    blobs = {blob.digest: blob.size for item in want for blob in item.tree.blobs}
    manifests = {(item.repository, it.digest): it.size for item in want for it in item.tree.manifests}
    return sum(blobs.values()) + sum(manifests.values()) + SLACK


@dataclass
class Scene:
    """One row on one registry, in one way; ``judged`` applies what holds for every run."""

    row: Row
    how: str
    proxy: Faulty
    run: Run
    elsewhere: Scripted
    log: pytest.LogCaptureFixture

    @property
    def expected(self) -> Finish | Stop:
        return self.row.expected(self.how)

    def words(self, words: tuple[str, ...]) -> list[str]:
        names = {**self.proxy.names, "src": "src.example/team/app:1.0"}
        out = []
        for word in words:
            for name, text in names.items():
                word = word.replace(f"{{{name}}}", text)  # noqa: PLW2901  # name by name
            out.append(word)
        return out

    def judged(self, outcome: Outcome, expected: Finish | Stop) -> None:
        """Judge how a run ended, and I3, I4, I6, I7."""
        if isinstance(expected, Stop):
            assert outcome.error is not None, "it should have stopped"
            judge.i7_one_sentence(outcome.error, expected.code, self.words(expected.words))
        else:
            assert outcome.error is None, f"it should have finished: {outcome.error!r}"
            assert expected.warned in outcome.told
        files = judge.i4_only_beside(self.run.path.parent, self.run.path.name)
        judge.i3_no_secret(outcome.told, self.log.text, files, self.elsewhere.seen)
        judge.i6_bounded(self.proxy.seen, outcome.seconds, expected.within)


@pytest.fixture
def scene(row: Row, kind: str, how: str, shop: Shop, tmp_path: Path, elsewhere: Scripted, caplog):  # noqa: PLR0917  # fixtures
    caplog.set_level(logging.DEBUG, logger="airgap")
    path, made = shop.bundles["large" if row.large else "big"]
    if row.verb == "push":
        (tmp_path / "b.tar").hardlink_to(path)
        prefix = f"{how}-{row.number.lower()}"
    else:
        prefix, made = SOURCES, estate(BIG)
    with Faulty(shop.start(kind), Guard(tokens=row.tokens), {"elsewhere": elsewhere.host}) as proxy:
        hasty = any(isinstance(rule.action, Stall) for rule in row.rules)
        run = Run(proxy.host, prefix, tmp_path / "b.tar", made, row.piece, row.jobs, hasty)
        yield Scene(row, how, proxy, run, elsewhere, caplog)


@pytest.mark.parametrize("how", ["once", "always"])
@pytest.mark.parametrize(("row", "kind"), cases(PUSHING))
def test_push(scene: Scene, kind: str, shop: Shop) -> None:
    row, proxy = scene.row, scene.proxy
    run, registry = scene.run, judge.witness(shop.start(kind))
    old = _put_old(shop, kind, run, registry) if row.old else set()
    proxy.play(*fitted(row.played(scene.how), run.estate))
    outcome = run.push()
    first = list(proxy.seen)
    scene.judged(outcome, scene.expected)
    judge.i1_nothing_wrong(registry, run.wanted(), run.estate, old=old)
    judge.i2_nothing_finished_again(first)
    assert matching([one for one in first if one.hurt], ".*", "/"), "the fault did not happen"
    if isinstance(scene.expected, Finish):
        judge.i2_bytes_sent(first, needed(run), scene.expected.allowed(kind))
        but = {it.tree.root.digest for it in run.wanted() if it.is_referrer} if scene.expected.warned else set()
        judge.i1_all_there(registry, run.wanted(), run.estate, but=but)
    elif scene.expected.untouched:
        assert not [one for one in matching(first, "PUT|PATCH", "/v2/") if one.came], "something was sent"
    proxy.mend()
    again = run.push()
    scene.judged(again, Finish())
    judge.i1_all_there(registry, run.wanted(), run.estate)
    judge.i2_nothing_finished_again(proxy.seen)
    if isinstance(scene.expected, Finish) and not scene.expected.warned:
        assert not matching(proxy.seen[len(first) :], "PUT|PATCH|POST", "/v2/"), "I2: a second push sends nothing"


def _put_old(shop: Shop, kind: str, run: Run, registry: Registry):
    """Put other images under the same tags, past the proxy."""
    from airgap.bundle import BundleReader  # noqa: PLC0415
    from airgap.push import push  # noqa: PLC0415

    path, made = shop.bundles["old"]
    host = shop.start(kind)
    with BundleReader.open(path) as reader:
        push(reader, registry, Location.parse(f"{host}/{run.prefix}"))
    return {image.digest for image in made.images} | {it.tree.root.digest for it in made.artifacts}


@pytest.mark.parametrize("how", ["once", "always"])
@pytest.mark.parametrize(("row", "kind"), cases(PULLING))
def test_mirror(scene: Scene, kind: str) -> None:
    row, proxy = scene.row, scene.proxy
    run = scene.run
    needs = sum(len(data) for data in run.estate.contents.values()) + SLACK
    proxy.play(*fitted(row.played(scene.how), run.estate))
    outcome = run.mirror()
    first = list(proxy.seen)
    assert matching([one for one in first if one.hurt], ".*", "/"), "the fault did not happen"
    scene.judged(outcome, scene.expected)
    judge.i5_no_half_bundle(run.path)
    if isinstance(scene.expected, Finish):
        judge.i1_bundle(run.path, run.estate)
        judge.i2_bytes_fetched(first, needs, scene.expected.allowed(kind))
    else:
        assert not run.path.exists(), "I5: a bundle has its name although the run stopped"
    proxy.mend()
    again = run.mirror()
    second = proxy.seen[len(first) :]
    scene.judged(again, Finish())
    judge.i1_bundle(run.path, run.estate)
    judge.i2_nothing_fetched_again(first, second)
    if isinstance(scene.expected, Finish):
        assert not second, "I2: a bundle that is whole is not asked for"
