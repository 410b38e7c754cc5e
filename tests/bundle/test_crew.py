"""The threads of a stage: they end when they like, also between two looks of whoever waits for them."""

from __future__ import annotations

import threading
import time

from airgap.bundle.crew import Crew


class SlowEvent(threading.Event):
    """An event that has long been set by the time that one hears that it was not."""

    def is_set(self) -> bool:
        answer = super().is_set()
        time.sleep(0.02)
        return answer


def test_a_thread_that_ends_while_it_is_looked_at_has_ended(monkeypatch):
    crew = Crew(1)
    monkeypatch.setattr("airgap.bundle.crew.threading.Event", SlowEvent)
    done: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.01)
        done.append(item)

    crew.run([7], work)
    assert done == [7]
