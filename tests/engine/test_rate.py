"""--limit-rate, Docker Hub's count, and what is repeated: one budget for the run."""

from __future__ import annotations

import io
import logging
import time

import pytest

from airgap.errors import RegistryError
from airgap.transport import Client, CredentialStore, HostSettings, Rate, Window
from airgap.transport.quota import Quota, parse_quota
from airgap.transport.rate import Metered, due
from tests.registry.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, in_turn


def client(host: str, **more) -> Client:
    return Client(hosts={host: HostSettings(plain_http=True)}, credentials=CredentialStore(), environ={}, retry=QUICK, **more)


def test_time_that_was_not_used_is_not_saved_up():
    assert due(0.0, 100.0, 50, 100.0) == (100.5, 0.5)
    assert due(100.5, 100.0, 50, 100.0) == (101.0, 1.0)


def test_all_threads_share_one_rate_and_blocks_are_small():
    slept: list[float] = []
    rate = Rate(80_000, sleep=slept.append, clock=lambda: 10.0)
    assert rate.block(1_000_000) == 10_000
    assert Rate(100).block(1_000_000) == 4096
    for _ in range(4):
        rate.take(20_000)
    assert slept == [0.25, 0.5, 0.75, 1.0]
    body = Metered(Window(io.BytesIO(b"x" * 30_000), 0, 30_000), rate)
    assert (len(body), len(body.read()), len(body.read(5))) == (30_000, 10_000, 5)
    body.rewind()
    assert len(body.read(20_000)) == 10_000


def test_both_directions_keep_to_the_rate():
    data = b"x" * 300_000
    with Scripted(lambda seen: Answer(200, body=data if seen.method == "GET" else b"")) as server:
        limited = client(server.host, rate=Rate(600_000))
        begun = time.monotonic()
        assert limited.request("GET", server.url).read(len(data)) == data
        limited.request("PUT", server.url, body=Window(io.BytesIO(data), 0, len(data))).close()
        assert 0.9 < time.monotonic() - begun < 20
        assert server.seen[1].body == data
        assert limited.tally.received >= len(data)


def test_what_is_repeated_is_counted():
    with Scripted(in_turn(Answer(503), Answer(502), Answer(200))) as server:
        one = client(server.host)
        one.request("GET", server.url).close()
        assert one.tally.retried == 2


@pytest.mark.parametrize(
    ("left", "whole", "found"),
    [
        ("7;w=21600", "100;w=21600", Quota(7, 100, 21600)),
        ("0", "", Quota(0)),
        ("3 ; w=60", "x", Quota(3, 0, 60)),
        ("", "100", None),
        ("many", "", None),
    ],
)
def test_the_count_of_pulls_is_read_as_it_comes(left, whole, found):
    assert parse_quota({"ratelimit-remaining": left, "ratelimit-limit": whole}) == found


def test_few_pulls_left_are_told_once(caplog):
    headers = {"ratelimit-remaining": "4;w=21600", "ratelimit-limit": "100;w=21600"}
    with Scripted(in_turn(Answer(200, headers))) as server, caplog.at_level(logging.WARNING, "airgap"):
        one = client(server.host)
        for _ in range(3):
            one.request("GET", server.url).close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "allows 4 of 100 more pulls within 6.0 hours; log in" in told[0]


def test_no_pulls_left_end_the_run_at_once_with_the_time_to_go_on():
    headers = {"ratelimit-remaining": "0;w=21600", "Content-Type": "text/plain"}
    with Scripted(in_turn(Answer(429, headers, b"toomanyrequests"))) as server:
        with pytest.raises(RegistryError) as caught:
            client(server.host).request("GET", server.url)
        assert len(server.seen) == 1
    assert "no request before" in caught.value.hint
    assert "log in" in caught.value.hint


def test_a_retry_after_is_obeyed_by_all_even_where_the_request_is_not_repeated():
    with Scripted(in_turn(Answer(503, {"Retry-After": "1"}), Answer(200))) as server:
        one = client(server.host)
        begun = time.monotonic()
        with pytest.raises(RegistryError):
            one.request("PATCH", server.url, body=b"x")
        one.request("GET", server.url).close()
        assert time.monotonic() - begun >= 0.9
