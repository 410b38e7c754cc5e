"""What is repeated, how long it is waited, and that both end."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from airgap.errors import NetworkError, RegistryError
from airgap.transport.retry import Backoff, RetryPolicy, retry_after
from tests.transport.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, in_turn

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
POLICY = RetryPolicy(attempts=4, base=1.0, cap=3.0, retry_after_cap=60.0)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_waited_for(status):
    assert POLICY.decide(1, safe=True, status=status) is not None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 412, 413, 416, 501, 505])
def test_a_status_that_will_not_pass_is_final(status):
    assert POLICY.decide(1, safe=True, status=status) is None


def test_waits_double_up_to_the_cap_and_vary():
    for attempt, full in ((1, 1.0), (2, 2.0), (3, 3.0)):
        waits = {POLICY.decide(attempt, safe=True, status=503) or 0.0 for _ in range(20)}
        assert all(full / 2 <= wait <= full for wait in waits)
        assert len(waits) > 1
    assert POLICY.decide(4, safe=True, status=503) is None


def test_what_changes_something_is_repeated_only_when_it_was_not_looked_at():
    assert POLICY.decide(1, safe=False, status=503) is None
    assert POLICY.decide(1, safe=False) is None
    assert POLICY.decide(1, safe=False, status=429) is not None
    assert POLICY.decide(1, safe=False, reached=False) is not None


def test_a_host_that_cannot_be_reached_is_tried_three_times_not_six():
    policy = RetryPolicy()
    assert policy.decide(2, safe=True, reached=False) is not None
    assert policy.decide(3, safe=True, reached=False) is None
    assert policy.decide(3, safe=True, reached=True) is not None


def test_retry_after_is_obeyed_up_to_the_cap_and_not_beyond():
    assert 20 <= (POLICY.decide(1, safe=True, status=429, retry_after=20.0) or 0.0) <= 21
    assert POLICY.decide(1, safe=True, status=429, retry_after=86400.0) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Wed, 25 Nov 2026 12:00:30 -0000", 30.0),
        ("99999999999999999999", 999999999.0),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text, seconds):
    assert retry_after({"Retry-After": text}, NOW) == seconds


def test_one_host_that_is_overloaded_is_left_alone_by_everybody():
    clock = [100.0]
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    backoff = Backoff(sleep, lambda: clock[0])
    backoff.pause("a", 5.0)
    backoff.pause("a", 3.0)
    backoff.wait("b")
    assert slept == []
    backoff.wait("a")
    backoff.wait("a")
    assert slept == [5.0]


def test_a_503_that_passes_is_not_seen_by_the_caller(plain):
    with Scripted(in_turn(Answer(503), Answer(500, body=b"<html>oops"), Answer(200, body=b"here"))) as server:
        with plain(server.host).request("GET", server.url) as response:
            assert response.read(10) == b"here"
        assert len(server.seen) == 3


def test_a_503_that_stays_ends_after_the_policys_attempts(plain):
    with Scripted(in_turn(Answer(503, {"Content-Type": "text/html"}, b"<h1>Down\x1b[31m for maintenance</h1>"))) as server:
        with pytest.raises(RegistryError, match="503 Service Unavailable") as caught:
            plain(server.host).request("GET", server.url)
        assert len(server.seen) == QUICK.attempts
    assert caught.value.status == 503
    assert "\x1b" not in caught.value.message


def test_a_post_is_not_repeated_after_500_unless_the_caller_says_it_may(plain):
    with Scripted(in_turn(Answer(500))) as server:
        client = plain(server.host)
        with pytest.raises(RegistryError):
            client.request("POST", server.url, body=b"x")
        assert len(server.seen) == 1
        with pytest.raises(RegistryError):
            client.request("POST", server.url, body=b"x", retry=True)
        assert len(server.seen) == 1 + QUICK.attempts


def test_a_post_is_not_repeated_when_the_connection_breaks_without_an_answer(plain):
    with Scripted(in_turn(Answer(hang_up=True))) as server:
        with pytest.raises(NetworkError, match="broke off"):
            plain(server.host).request("POST", server.url, body=b"x")
        assert len(server.seen) == 1


def test_a_get_is_repeated_when_the_connection_breaks_without_an_answer(plain):
    with (
        Scripted(in_turn(Answer(hang_up=True), Answer(200, body=b"x"))) as server,
        plain(server.host).request("GET", server.url) as response,
    ):
        assert response.read(1) == b"x"


def test_a_body_that_is_cut_is_asked_for_again_when_it_is_part_of_the_request(plain):
    with Scripted(in_turn(Answer(200, body=b"0123456789", cut=4), Answer(200, body=b"0123456789"))) as server:
        with plain(server.host).request("GET", server.url, preload=100) as response:
            assert response.read(100) == b"0123456789"
        assert len(server.seen) == 2


def test_too_many_requests_with_a_wait_that_is_too_long_ends_at_once_with_the_time(plain):
    with Scripted(in_turn(Answer(429, {"Retry-After": "86400"}, b"toomanyrequests"))) as server:
        start = time.monotonic()
        with pytest.raises(RegistryError, match="429") as caught:
            plain(server.host).request("GET", server.url)
        assert time.monotonic() - start < 2
        assert len(server.seen) == 1
    assert f"{datetime.now(timezone.utc) + timedelta(days=1):%Y-%m-%d}" in caught.value.hint


def test_too_many_requests_is_waited_for_as_long_as_the_server_says_by_all_threads(plain):
    times: list[float] = []
    first = threading.Event()

    def answer(_: object) -> Answer:
        times.append(time.monotonic())
        if not first.is_set():
            first.set()
            return Answer(429, {"Retry-After": "1"})
        return Answer(200)

    with Scripted(answer) as server:
        client = plain(server.host)
        one = threading.Thread(target=lambda: client.request("GET", server.url).close())
        one.start()
        first.wait(5)
        time.sleep(0.2)  # the answer is on its way
        two = threading.Thread(target=lambda: client.request("GET", server.url).close())
        two.start()
        one.join()
        two.join()
    assert len(times) == 3
    assert all(at - times[0] >= 1.0 for at in times[1:])


def test_too_many_requests_is_repeated_even_for_a_post(plain):
    with Scripted(in_turn(Answer(429, {"Retry-After": "0"}), Answer(201))) as server:
        plain(server.host).request("POST", server.url, body=b"once", ok=(201,)).close()
        assert [one.body for one in server.seen] == [b"once", b"once"]


def test_a_port_where_nobody_listens_is_named(plain):
    with Scripted(in_turn(Answer())) as server:
        host = server.host
    with pytest.raises(NetworkError, match=f"{host} cannot be reached: the connection is refused"):
        plain(host).request("GET", f"http://{host}/")


def test_a_name_that_does_not_resolve_is_said_to(plain):
    with pytest.raises(NetworkError, match=r"no-such-name\.invalid cannot be reached: its name does not resolve"):
        plain().request("GET", "https://no-such-name.invalid/v2/")
