"""Progress that people can trust: what was there is no speed, what is sent again is taken back; as lines, bars and JSON."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from airgap.bundle.crew import Crew, StoppedError
from airgap.cli import events, progress
from airgap.cli.pace import SETTLED, STEP, WINDOW, Current, Pace, duration
from airgap.cli.progress import Bars, Lines, progress_for
from airgap.progress import Progress
from airgap.push.meter import Meter, MeteredWindow
from airgap.transport import Window


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    monkeypatch.setattr(events, "time", made)
    return made


def test_a_resume_promises_nothing_that_is_not_so():
    pace = Pace(1_000_000, 0.0)
    pace.there(900_000)
    assert pace.left(5.0) is None
    pace.moved(10_000, 10.0)
    assert (pace.rate(10.0), pace.left(10.0), pace.done) == (1000.0, 90.0, 910_000)
    pace.moved(-10_000, 20.0)
    assert (pace.rate(20.0), pace.left(20.0), pace.done) == (0.0, None, 900_000)


def test_the_rate_is_that_of_the_last_seconds():
    pace = Pace(10**9, 0.0)
    for second in range(1, 11):
        pace.moved(1_000_000, float(second))
    for second in range(11, 10 + int(WINDOW) + 12):
        pace.moved(1000, second + STEP)
    assert pace.rate(10 + WINDOW + 12) == pytest.approx(1000, rel=0.1)


def test_the_first_small_answers_promise_nothing():
    pace = Pace(10**9, 0.0)
    pace.moved(700, 0.1)
    assert pace.left(0.1) is None
    pace.moved(10**6, SETTLED)
    assert pace.left(SETTLED)


def test_what_is_under_way_is_named_and_forgotten_when_it_is_done(clock, capsys):
    lines = Lines()
    lines.begin("mirror", 3, 3 * 1024 * 1024)
    for name in ("quay.io/a/large:1 3f2a", "b", "c"):
        lines.start(name)
    lines.done("b")
    clock.now += 60
    lines.advance(1024)
    assert capsys.readouterr().err.splitlines()[-1].endswith("; now quay.io/a/large:1 3f2a (+1)")
    lines.begin("push", 1, 1024)
    clock.now += 60
    lines.advance(1)
    assert "now" not in capsys.readouterr().err


def test_a_long_name_keeps_its_end():
    current = Current()
    assert current.told(40) == ""
    current.begin("registry.example/a/very/long/name/of/a/repository:1.2.3 0123456789ab")
    assert current.told(20) == "...1.2.3 0123456789ab"[:3] + ".2.3 0123456789ab"
    current.begin("x")
    assert current.told(20).endswith(" (+1)")
    assert len(current.told(20)) == 20


@pytest.mark.parametrize("size", [(0, 0), (0, 100), (40, 0), (40, 100)])
def test_a_terminal_that_says_it_has_no_size_gets_a_bar_too(size):
    """``ssh -tt`` and ``docker exec -t`` give terminals of no size; a bar as wide as that would be nothing."""
    code = (
        "import time\nfrom airgap.cli.progress import progress_for\n"
        "bars = progress_for(verbose=0, quiet=False, bars=True)\nbars.begin('mirror', 1, 1000)\nbars.start('a')\n"
        "time.sleep(0.2)\nbars.advance(500)\nbars.done('a')\nbars.end()\n"
    )
    terminal, inner = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with subprocess.Popen([sys.executable, "-c", code], stderr=inner) as process:
        os.close(inner)
        told = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while data := os.read(terminal, 65536):
                told += data
    os.close(terminal)
    assert process.returncode == 0, told
    assert b"50%" in told
    assert b"1/1" in told


def test_durations_are_for_people():
    assert [duration(seconds) for seconds in (0.4, 59, 61, 3600 * 2 + 300)] == ["0 s", "59 s", "1 min 1 s", "2 h 05 min"]


def test_lines_say_where_the_whole_stands(clock, capsys):
    lines = Lines()
    lines.begin("push", 2, 3 * 1024 * 1024)
    lines.there(1024 * 1024)
    clock.now += 2
    lines.advance(1024 * 1024)
    lines.done("a", "sent")
    clock.now += 40
    lines.advance(1024 * 512)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "push: 2 items, 3.0 MiB",
        "  1.0 MiB of it were there already",
        "  1/2 a (sent), 2.0 MiB of 3.0 MiB, 512.0 KiB/s, 2 s left",
        told[3],
    ]
    assert told[3].startswith("  1/2 finished, 2.5 MiB of 3.0 MiB")


def test_a_bar_counts_what_was_there_as_its_beginning(capsys):
    bars = Bars()
    bars.begin("push", 2, 1000)
    bars.there(400)
    bars.advance(100)
    bars.advance(-50)
    bar = bars._bar  # tqdm draws when it likes
    assert bar is not None
    assert (bar.n, bar.initial) == (450, 400)
    bars.end()
    assert "push" in capsys.readouterr().err


def test_json_is_one_object_a_line(clock, capsys):
    told = progress_for(verbose=1, quiet=False, bars=True, events=True)
    told.begin("push", 1, 1000)
    told.there(500)
    clock.now += 6
    told.advance(250)
    told.done("a", "sent")
    told.end()
    told.warn("few pulls")
    told.debug("HEAD")
    told.say("up")
    assert isinstance(told, events.Events)
    told.error("no room", "free some", 3)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == [
        "begin",
        "there",
        "progress",
        "done",
        "end",
        "warning",
        "debug",
        "say",
        "error",
    ]
    assert (lines[1]["size"], lines[1]["bytes"]) == (500, 500)
    assert {key: lines[2][key] for key in ("phase", "bytes", "ofBytes", "secondsLeft")} == {
        "phase": "push",
        "bytes": 750,
        "ofBytes": 1000,
        "secondsLeft": 6,
    }
    assert lines[8]["exitCode"] == 3
    assert all(line["time"].endswith("Z") and line["level"] for line in lines)


def test_quiet_json_tells_only_what_must_be_told(capsys):
    told = progress_for(verbose=0, quiet=True, bars=True, events=True)
    told.begin("push", 1, 10)
    told.debug("x")
    told.warn("few pulls")
    assert len(capsys.readouterr().err.splitlines()) == 1


class Sum(Progress):
    def __init__(self) -> None:
        self.before = self.moved = 0

    def there(self, size: int) -> None:
        self.before += size

    def advance(self, size: int) -> None:
        self.moved += size


def test_a_blob_that_is_sent_twice_counts_once():
    told = Sum()
    meter = Meter(Crew(1), told)
    meter.at(0)
    window = MeteredWindow(Window(io.BytesIO(b"x" * 100), 0, 100), meter)
    window.read(60)
    window.rewind()
    assert told.moved == 0
    window.read(60)
    meter.at(40)
    assert (told.moved, meter.position, meter.kept) == (40, 40, 0)


def test_what_an_earlier_run_sent_is_not_counted_as_moved():
    told = Sum()
    meter = Meter(Crew(1), told)
    meter.at(70)
    meter.moved(30)
    assert (told.before, told.moved, meter.kept) == (70, 30, 70)
    meter.at(0)
    meter.moved(100)
    assert (told.before + told.moved, meter.kept) == (100, 0)


def test_a_stopped_crew_begins_no_request_and_waits_for_those_under_way():
    crew = Crew(2, grace=5.0)
    ended: list[int] = []

    def work(number: int) -> None:
        if number:
            raise ValueError(number)
        while not ended:
            try:
                crew.check()
            except StoppedError:
                ended.append(number)

    with pytest.raises(ValueError, match="1"):
        crew.run(range(2), work)
    assert ended == [0]
    with pytest.raises(StoppedError):
        Meter(crew, Progress()).at(0)
