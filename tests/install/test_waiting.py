"""When an operator that gave up is told to look again, and when waiting for it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airgap.apply.wait import COMPLETED, INVALID, LOADING, SILENT, STUCK, WAKES, View, _GivenUp
from airgap.progress import Progress


def watched(*, can: bool = True) -> tuple[_GivenUp, list[str]]:
    woken: list[str] = []

    def wake(phase: str) -> bool:
        woken.append(phase)
        return can

    watch: Any = SimpleNamespace(wake=wake, progress=Progress())
    return _GivenUp(watch), woken


def test_it_is_told_three_times_and_then_given_up() -> None:
    given_up, woken = watched()
    now, for_good = 0.0, False
    while not for_good and now < 1000:
        now += 1.0
        for_good = given_up.for_good(View((), INVALID), now)
    assert woken == [INVALID] * WAKES
    assert (WAKES + 1) * STUCK < now < (WAKES + 1) * (STUCK + 3)


@pytest.mark.parametrize("phase", [COMPLETED, "", "none yet"])
def test_a_phase_in_which_it_works_or_is_done_is_left_alone(phase: str) -> None:
    given_up, woken = watched()
    assert not any(given_up.for_good(View((), phase), float(now)) for now in range(500))
    assert woken == []


def test_an_operator_that_takes_it_up_again_has_all_its_time_again() -> None:
    given_up, woken = watched()
    for now in range(400):
        phase = INVALID if now % 30 < STUCK - 1 else LOADING
        assert not given_up.for_good(View((), phase), float(now))
    assert woken == []


def test_a_long_silence_in_loading_is_broken_and_never_ends_the_waiting() -> None:
    given_up, woken = watched()
    assert not any(given_up.for_good(View((), LOADING), float(now)) for now in range(int(SILENT) * (WAKES + 3)))
    assert woken == [LOADING] * WAKES


def test_what_cannot_be_told_is_given_up_at_once() -> None:
    given_up, _ = watched(can=False)
    ended = [now for now in range(100) if given_up.for_good(View((), INVALID), float(now))]
    assert STUCK < ended[0] < STUCK + 3
