"""The endurance trial in small: killed some twenty times in mirror, mirror --split and push, the digests are the same.

The large one is ``benchmarks/endurance``; this is its code with 24 MiB instead of 20 GiB.
"""

from __future__ import annotations

import pytest

from benchmarks.endure import Options, Trial
from benchmarks.endure_estate import MIB
from tests.world.registries import find_binary

pytestmark = [pytest.mark.registry, pytest.mark.helm, pytest.mark.slow]


def test_a_bundle_that_is_killed_again_and_again_comes_out_the_same(tmp_path):
    program = find_binary("registry", "distribution3", "docker-registry")
    said: list[str] = []
    options = Options(
        folder=tmp_path,
        program=program,
        size=24 * MIB,
        largest=12 * MIB,
        split=40 * MIB,
        kills=7,
        seed=5,
        rate="80M",
        clock=2.0,
        dig=False,
        say=said.append,
    )
    outcome = Trial(options).run()  # it ends with SystemExit where a byte, a digest or a count is not right
    told = "\n".join(said)
    assert outcome.checked == 13, told
    stages = {kill.stage for kill in outcome.kills}
    assert stages == {"mirror", "split", "push"}, told
    assert len(outcome.kills) >= 12, told  # on a slow machine a run may be over before its moment is seen
    again = sum(kill.again for kill in outcome.kills if not kill.group)
    assert again <= 4 * MIB * len(outcome.kills), told  # a chunk for each job at most, not the blob
