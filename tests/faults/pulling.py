"""The table's second half: faults between ``airgap mirror`` and its registry (F25-F33), by the number of the matrix."""

from __future__ import annotations

from functools import partial

from tests.faults.actions import (
    CutAnswer,
    Edit,
    Endless,
    Hangup,
    Head,
    Ignorant,
    Rule,
    Say,
    Stall,
    flipped,
    longer,
    zipped,
)
from tests.faults.rows import ALL, D3, SOME, STORE, Finish, Stop
from tests.faults.rows import Row as AnyRow
from tests.faults.world import BIG

Row = partial(AnyRow, verb="mirror")
BIG_BLOB = "/blobs/{big}"
MANIFESTS = "/manifests/sha256"
CUT = Rule("GET", BIG_BLOB, CutAnswer(0.5), lasts=False)


def ranged(head: Head) -> bool:
    return "range" in head.headers


CHUNK = 256 * 1024
"""Bytes of a read that was under way when it stalled."""
EARLY = Stop(3, ("{host}",))

PULLING = (
    Row(
        "F25a",
        "a blob's body ends at 50 % of its Content-Length",
        (Rule("GET", BIG_BLOB, CutAnswer(0.5)),),
        Finish(),
        EARLY,
        why="always: it goes on by halves until they bring too little",
    ),
    Row("F25b", "a blob's body ends after 1000 bytes", (Rule("GET", BIG_BLOB, CutAnswer(1000)),), Finish(), EARLY),
    Row(
        "F25c",
        "a body in chunked coding ends in a chunk",
        (Rule("GET", BIG_BLOB, CutAnswer(0.5, chunked=True)),),
        Finish(BIG),
        EARLY,
        on=SOME,
    ),
    Row(
        "F25d",
        "reset in the middle of a body",
        (Rule("GET", BIG_BLOB, CutAnswer(0.5, reset=True)),),
        Finish(BIG),
        Stop(3),
        on=SOME,
    ),
    Row("F25e", "reset before the answer", (Rule("GET", BIG_BLOB, Hangup()),), Finish(), Stop(3, ("{host} broke off",))),
    Row(
        "F25f",
        "a manifest's body is cut",
        (Rule("GET", MANIFESTS, CutAnswer(0.5)),),
        Finish(),
        Stop(3, ("{host} broke off",)),
        on=SOME,
    ),
    Row(
        "F26a",
        "a request for the rest is answered with the whole",
        (CUT, Rule("GET", BIG_BLOB, Ignorant(), when=ranged)),
        Finish(BIG),
        Finish(BIG),
    ),
    Row(
        "F26b",
        "with another range",
        (CUT, Rule("GET", BIG_BLOB, Edit(headers={"Content-Range": f"bytes 0-999/{BIG}"}), when=ranged)),
        Finish(BIG),
        Finish(BIG),
    ),
    Row(
        "F26c",
        "with another total",
        (CUT, Rule("GET", BIG_BLOB, Edit(headers={"Content-Range": f"bytes {BIG // 2}-{BIG - 1}/{BIG + 7}"}), when=ranged)),
        Finish(BIG),
        Finish(BIG),
        on=SOME,
    ),
    Row(
        "F26d",
        "with 416",
        (CUT, Rule("GET", BIG_BLOB, Say(416, "RANGE_INVALID"), when=ranged)),
        Finish(BIG),
        Finish(BIG),
        on=SOME,
    ),
    Row(
        "F26e",
        "with 206 and no Content-Range",
        (CUT, Rule("GET", BIG_BLOB, Edit(headers={"Content-Range": None}), when=ranged)),
        Finish(BIG),
        Finish(BIG),
        on=SOME,
    ),
    Row(
        "F27",
        "right length, one byte wrong",
        (Rule("GET", BIG_BLOB, Edit(body=flipped)),),
        Finish(BIG),
        Stop(4, ("{src}", "digest")),
    ),
    Row(
        "F28",
        "the lock's digest is no longer served",
        (Rule("GET", MANIFESTS, Say(404, "MANIFEST_UNKNOWN")),),
        Stop(3, ("is no longer served", "run airgap plan again")),
        Stop(3, ("run airgap plan again",)),
        on=SOME,
    ),
    Row(
        "F28b",
        "a layer is no longer served",
        (Rule("GET", BIG_BLOB, Say(404, "BLOB_UNKNOWN")),),
        Stop(3, ("is no longer served", "run airgap plan again")),
        Stop(3, ("is no longer served",)),
        on=SOME,
    ),
    Row(
        "F29a",
        "other bytes for a manifest's digest",
        (Rule("GET", MANIFESTS, Edit(body=flipped)),),
        Finish(),
        Stop(4, ("sha256:",)),
    ),
    Row(
        "F29b",
        "Docker-Content-Digest lies",
        (Rule("GET", MANIFESTS, Edit(headers={"Docker-Content-Digest": "sha256:" + "0" * 64})),),
        Finish(),
        Finish(),
    ),
    Row(
        "F30a",
        "Content-Encoding: gzip is claimed",
        (Rule("GET", "/blobs/|/manifests/", Edit(headers={"Content-Encoding": "gzip"})),),
        Finish(),
        Finish(),
    ),
    Row(
        "F30b",
        "a blob is really compressed on the way",
        (Rule("GET", BIG_BLOB, Edit(headers={"Content-Encoding": "gzip"}, body=zipped)),),
        Finish(BIG),
        Stop(4, ("{src}",)),
    ),
    Row(
        "F31a",
        "a blob without an end",
        (Rule("GET", BIG_BLOB, Endless()),),
        Finish(16 * 1024 * 1024),
        Stop(4, ("{src}",)),
        on=SOME,
    ),
    Row(
        "F31b",
        "a blob longer than its descriptor",
        (Rule("GET", BIG_BLOB, Edit(body=longer)),),
        Finish(BIG),
        Stop(4, ("{src}",)),
        on=SOME,
    ),
    Row(
        "F31c", "a manifest without an end", (Rule("GET", MANIFESTS, Endless()),), Finish(), Stop(4, ("longer than",)), on=SOME
    ),
    Row(
        "F32a",
        "a redirect that leads to itself",
        (Rule("GET", BIG_BLOB, Say(307, headers={"Location": "http://{host}{path}"}), times=6),),
        Stop(3, ("redirected more than 5 times",)),
        Stop(3, ("redirected more than 5 times",)),
        on=SOME,
    ),
    Row(
        "F32b",
        "a redirect to file:",
        (Rule("GET", BIG_BLOB, Say(307, headers={"Location": "file:///etc/passwd"})),),
        Stop(3, ("refused",)),
        Stop(3, ("refused",)),
        on=SOME,
    ),
    Row(
        "F32c",
        "a redirect to a store elsewhere, which has the blob",
        (Rule("GET", BIG_BLOB, Say(307, headers={"Location": "http://{elsewhere}/store?X-Amz-Signature=s1gned"})),),
        Finish(),
        Finish(),
        on=SOME,
    ),
    Row(
        "F32d",
        "a redirect to where nobody listens",
        (Rule("GET", BIG_BLOB, Say(307, headers={"Location": "http://127.0.0.1:1/store?X-Amz-Signature=s1gned"})),),
        Finish(),
        Stop(3, ("127.0.0.1:1",)),
        on=SOME,
    ),
    Row("F33a", "a blob stops in the middle", (Rule("GET", BIG_BLOB, Stall(0.5)),), Finish(CHUNK), EARLY, on=SOME),
    Row(
        "F33b", "a blob drips, a byte at a time", (Rule("GET", BIG_BLOB, Stall(0.5, drip=0.02)),), Finish(CHUNK), EARLY, on=SOME
    ),
    Row(
        "F33c", "no answer at all", (Rule("GET", BIG_BLOB, Stall(None)),), Finish(BIG), Stop(3, ("nothing came for",)), on=SOME
    ),
    Row("F33d", "a blob stops after its head", (Rule("GET", BIG_BLOB, Stall(0.0)),), Finish(), Stop(3), on=ALL),
    Row(
        "F14e",
        "429 to a blob, without a time",
        (Rule("GET", BIG_BLOB, Say(429, "TOOMANYREQUESTS")),),
        Finish(),
        Stop(3, ("429",)),
        on=(D3,),
    ),
    Row(
        "F14f",
        "429 to a manifest until tomorrow",
        (Rule("GET", MANIFESTS, Say(429, "TOOMANYREQUESTS", {"Retry-After": "86400"})),),
        Stop(3, ("429", "no request before")),
        Stop(3, ("429", "no request before")),
        on=(STORE,),
    ),
    Row("F15g", "503 to a blob", (Rule("GET", BIG_BLOB, Say(503)),), Finish(), Stop(3, ("503",)), on=SOME),
    Row("F15h", "500 to a manifest", (Rule("GET", MANIFESTS, Say(500)),), Finish(), Stop(3, ("500",)), on=SOME),
)
