"""Range arithmetic: whatever ranges a server speaks of, only the blob's own bytes are taken, each once and in order."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import AirgapError, IntegrityError, NetworkError
from airgap.oci import Descriptor
from airgap.registry import Registry, ways
from airgap.registry.verbs import GAIN
from airgap.transport import Client, CredentialStore, HostSettings, RetryPolicy
from tests.engine.conftest import Keeping
from tests.registry.conftest import Blob
from tests.registry.shelf import upload
from tests.transport.scripted import Answer, Scripted, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 3 * GAIN + 17
DATA = b"".join(number.to_bytes(4, "big") for number in range(SIZE // 4 + 1))[:SIZE]
DESCRIPTOR = Descriptor.of("application/octet-stream", DATA)
SWIFT = RetryPolicy(attempts=4, base=0.0, cap=0.0)

few = settings(max_examples=60)
"""Each example talks to a server."""


@dataclass(frozen=True)
class Reply:
    """How a server answers a GET: with the whole, or with a range that starts ``shift`` beside what was asked for."""

    whole: bool
    shift: int
    total: int | None
    cut: int | None
    status: int

    def to(self, seen: Seen) -> Answer:
        """Honest about its own range: the bytes are those that its Content-Range speaks of."""
        told = seen.headers.get("range", "")
        if self.status >= 400:
            return Answer(self.status)
        if not told or self.whole:
            return Answer(200, {}, DATA, cut=self.cut)
        start = min(max(0, int(told.removeprefix("bytes=").partition("-")[0]) + self.shift), SIZE - 1)
        total = "*" if self.total is None else self.total
        return Answer(206, {"Content-Range": f"bytes {start}-{SIZE - 1}/{total}"}, DATA[start:], cut=self.cut)


REPLIES = st.builds(
    Reply,
    whole=st.booleans(),
    shift=st.sampled_from([0, 0, 0, 1, -1, 4096]),
    total=st.sampled_from([SIZE, SIZE, None, 0, SIZE + 1]),
    cut=st.one_of(st.none(), st.integers(0, SIZE)),
    status=st.sampled_from([200, 200, 200, 200, 416, 503]),
)


def connect(host: str) -> Registry:
    return Registry(
        Client(hosts={host: HostSettings(plain_http=True)}, credentials=CredentialStore(), environ={}, retry=SWIFT), host
    )


@few
@given(st.lists(REPLIES, min_size=1, max_size=6), st.integers(0, SIZE))
def test_a_download_gives_the_blob_s_own_bytes_or_an_error(replies: list[Reply], offset: int):
    turn: Iterator[Reply] = iter(replies)
    honest = Reply(whole=False, shift=0, total=SIZE, cut=None, status=200)
    got = bytearray()
    with Scripted(lambda seen: next(turn, honest).to(seen)) as server, contextlib.suppress(NetworkError, IntegrityError):
        for piece in connect(server.host).stream_blob("a/b", DESCRIPTOR, offset):
            got += piece
        assert len(got) == SIZE - offset, "it ended without an error, so it must be whole"
    assert bytes(got) == DATA[offset : offset + len(got)], "whatever came is what stands there"
    assert len(server.seen) <= len(replies) + 2 * SWIFT.attempts


LIES = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "nonsense", "bytes=0-", "0-", "-1", "0--5", "1-7", "bytes=0-9", "0-9, 11-12", "0-18446744073709551616"]
    ),
    st.integers(0, 2 * 1024 * 1024).map(lambda end: f"0-{end}"),
    st.integers(0, 2 * 1024 * 1024).map(lambda end: f"bytes=0-{end}"),
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Blob:
    """A blob of a little more than one MiB."""
    data = b"".join(number.to_bytes(8, "big") for number in range(140_000))
    return Blob.make(tmp_path_factory.mktemp("one"), data, "one")


@few
@given(kept=st.integers(0, 300_000), broken=st.integers(0, 3), lies=LIES)
def test_an_upload_arrives_whole_or_ends_in_an_error_wherever_the_registry_says_it_stands(
    one: Blob, kept: int, broken: int, lies: str | None
):
    limits = (ways.FIRST, ways.MOST, ways.LEAST)
    ways.FIRST = ways.MOST = ways.LEAST = 256 * 1024
    try:
        with Scripted(shelf := Keeping(kept=kept, broken=broken, lies=lies)) as server:
            registry = Registry(
                Client(
                    hosts={server.host: HostSettings(plain_http=True)}, credentials=CredentialStore(), environ={}, retry=SWIFT
                ),
                server.host,
                push=True,
            )
            ended = True
            try:
                upload(registry, one)
            except AirgapError:
                ended = False
            sent = sum(len(seen.body) for seen in server.seen)
    finally:
        ways.FIRST, ways.MOST, ways.LEAST = limits
    assert ended == (str(one.descriptor.digest) in shelf.blobs)
    assert all(data == one.data for data in shelf.blobs.values())
    assert ended or broken > 1 or lies is not None, "one break with an honest registry is survived"
    assert sent <= (broken + 2) * len(one.data), "bounded: at most the blob again for each break, and once for a lie"
