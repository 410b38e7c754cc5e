"""The table's first half: faults between ``airgap push`` and its registry (F1-F24), by the number of the matrix."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.faults.actions import (
    At,
    CutBody,
    Edit,
    Hangup,
    Location,
    LoseAnswer,
    OnlyTheLast,
    Rule,
    Say,
    Twice,
)
from tests.faults.guards import CHALLENGE
from tests.faults.rows import D2, D3, SOME, STORE, Finish, Row, Stop
from tests.faults.world import BIG, LARGE, PIECE

UPLOADS, BLOBS, MANIFESTS = "/blobs/uploads/", "/blobs/sha256", "/manifests/"
SESSION = "/uploads/[^?]"
"""An upload that is under way."""
WHOLE = {D2: BIG, D3: BIG, STORE: PIECE}
"""Bytes again after a break inside of a piece: distribution loses the session (cases.md P13), ours keeps it."""
BROKEN = Stop(3, ("{host} broke off", "PATCH"))
HTML = "<html><body><h1>Bad Gateway</h1>\n<p>a page of a proxy</p></body></html>"
FULL = '{"errors":[{"code":"UNKNOWN","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Err":28}}}]}'


def moved(url: str) -> str:
    """Return an upload URL as another registry would have it."""
    return f"/artifacts-uploads/x{urlsplit(url).path}?k=%2F&{urlsplit(url).query}"


def back(path: str) -> str:
    """Return the real path of a ``moved`` one."""
    return path.replace("/artifacts-uploads/x", "", 1).replace("k=%2F&", "", 1)


BREAKS = (
    Row("F1a", "reset between two PATCHes", (Rule("PATCH", SESSION, Hangup(), first=3),), Finish(), BROKEN),
    Row("F1b", "reset in a PATCH after 1 byte", (Rule("PATCH", SESSION, CutBody(1), first=3),), Finish(WHOLE), BROKEN),
    Row("F1c", "reset in a PATCH at 50 %", (Rule("PATCH", SESSION, CutBody(0.5), first=3),), Finish(WHOLE), BROKEN),
    Row("F1d", "reset in a PATCH at 99 %", (Rule("PATCH", SESSION, CutBody(0.99), first=3),), Finish(WHOLE), BROKEN),
    Row(
        "F1e",
        "reset in a single PUT at 50 %",
        (Rule("PUT", SESSION, CutBody(0.5), when=lambda head: head.length > 0),),
        Finish(PIECE),
        Stop(3, ("{host} broke off", "PUT")),
    ),
    Row(
        "F1f",
        "reset of a manifest's PUT at 50 %",
        (Rule("PUT", MANIFESTS, CutBody(0.5)),),
        Finish(2000),
        Stop(3, ("{host} broke off", "PUT")),
        on=SOME,
    ),
    Row(
        "F1g",
        "reset of the POST that opens a session",
        (Rule("POST", UPLOADS, Hangup()),),
        Finish(),
        Stop(3, ("{host} broke off", "POST"), untouched=True),
        on=SOME,
    ),
    Row(
        "F2",
        "after a break the session's status is 404",
        (Rule("PATCH", SESSION, Hangup(), first=3), Rule("GET", SESSION, Say(404, "BLOB_UPLOAD_UNKNOWN"))),
        Finish(BIG),
        BROKEN,
    ),
    Row(
        "F3a",
        "Range of each PATCH's answer is stale",
        (Rule("PATCH", SESSION, Edit(headers={"Range": "0-0"})),),
        Finish(),
        Finish(),
        on=SOME,
    ),
    Row(
        "F3b",
        "Range with a unit, of the first piece for ever",
        (Rule("PATCH", SESSION, Edit(headers={"Range": f"bytes=0-{PIECE - 1}"})),),
        Finish(),
        Finish(),
        on=SOME,
    ),
    Row("F3c", "no Range at all", (Rule("PATCH|GET", SESSION, Edit(headers={"Range": None})),), Finish(), Finish(), on=SOME),
    Row(
        "F3d",
        "after a break, Range is behind what is there",
        (
            Rule("PATCH", SESSION, Hangup(), first=3, lasts=False),
            Rule("GET", SESSION, Edit(headers={"Range": f"0-{PIECE - 1}"})),
        ),
        Finish(BIG + PIECE),
        Finish(BIG + PIECE),
    ),
    Row(
        "F3e",
        "after a break, Range is beyond what was sent",
        (Rule("PATCH", SESSION, Hangup(), first=3, lasts=False), Rule("GET", SESSION, Edit(headers={"Range": f"0-{BIG * 9}"}))),
        Finish(BIG),
        Finish(BIG),
    ),
    Row(
        "F4",
        "416 to a PATCH in the middle",
        (Rule("PATCH", SESSION, Say(416, "RANGE_INVALID"), first=3),),
        Finish(BIG),
        Finish(BIG),
    ),
)

SESSIONS = (
    Row(
        "F6",
        "401 in the middle of an upload: the token is over",
        (Rule("PATCH", SESSION, Say(401, "UNAUTHORIZED", {"WWW-Authenticate": CHALLENGE}), first=3),),
        Finish(PIECE),
        Stop(3, ("401",)),
        tokens=True,
    ),
    Row(
        "F7",
        "401 before the body is read, then the connection is closed",
        (Rule("PATCH", SESSION, Say(401, "UNAUTHORIZED", {"WWW-Authenticate": CHALLENGE}, early=True), first=3),),
        Finish(PIECE),
        Stop(3),
        tokens=True,
    ),
    Row(
        "F8",
        "each answer has a new Location, the old one is refused",
        (Rule("POST|PATCH|PUT|GET", UPLOADS, OnlyTheLast(), times=None),),
        Finish(),
        Finish(),
    ),
    Row(
        "F9a",
        "Location is relative",
        (Rule("POST|PATCH", UPLOADS, Location(lambda url: url[url.index("/v2/") :]), times=None),),
        Finish(),
        Finish(),
    ),
    Row(
        "F9b",
        "Location is on another path, with a query",
        (
            Rule("POST|PATCH", "^/v2/.*/uploads/", Location(moved), times=None),
            Rule("PATCH", "^/artifacts-uploads/", Location(moved, back), times=None),
            Rule("PUT|GET", "^/artifacts-uploads/", Location(moved, back), times=None),
        ),
        Finish(),
        Finish(),
    ),
    Row(
        "F10a",
        "Location is on another host",
        (Rule("POST", UPLOADS, Location(lambda url: "http://{elsewhere}" + urlsplit(url).path)),),
        Stop(3, ("sends an upload to http://{elsewhere}", "refused", "--upload-host {elsewhere}"), untouched=True),
        Stop(3, ("sends an upload to http://{elsewhere}", "refused"), untouched=True),
    ),
    Row(
        "F10b",
        "in the middle, Location moves to another host",
        (Rule("PATCH", SESSION, Location(lambda url: "http://{elsewhere}" + urlsplit(url).path), first=2),),
        Stop(3, ("sends an upload to http://{elsewhere}", "refused")),
        Stop(3, ("refused",)),
        on=SOME,
    ),
    Row(
        "F10c",
        "Location has lost its port",
        (Rule("POST", UPLOADS, Location(lambda url: "http://127.0.0.1" + urlsplit(url).path)),),
        Stop(3, ("sends an upload to http://127.0.0.1", "refused"), untouched=True),
        Stop(3, ("refused",), untouched=True),
        on=SOME,
    ),
    Row(
        "F11",
        "201 to the closing PUT, with another digest",
        (Rule("PUT", SESSION, Edit(headers={"Docker-Content-Digest": "sha256:" + "0" * 64})),),
        Stop(4, ("stored sha256:0000", "instead of", "no tag was set")),
        Stop(4, ("stored sha256:0000",)),
    ),
    Row(
        "F11b",
        "201 to a manifest, with another digest",
        (Rule("PUT", MANIFESTS, Edit(headers={"Docker-Content-Digest": "sha256:" + "0" * 64})),),
        Stop(4, ("stored sha256:0000",)),
        Stop(4, ("stored sha256:0000",)),
        on=SOME,
    ),
    Row(
        "F12a",
        "the answer to the closing PUT is lost, the blob is there",
        (Rule("PUT", SESSION, LoseAnswer()),),
        Finish(),
        Finish(),
    ),
    Row(
        "F12b",
        "the closing PUT arrives twice",
        (Rule("PUT", SESSION, Twice()),),
        Finish(PIECE),
        Finish(PIECE),
        why="the registry knows the session no more: the blob is looked for, or sent the other way",
    ),
    Row(
        "F12c",
        "504 to the closing PUT, the blob is there",
        (Rule("PUT", SESSION, Say(504, text=HTML, through=True)),),
        Finish(),
        Finish(),
        on=SOME,
    ),
    Row(
        "F12d",
        "the answer to a manifest's PUT is lost",
        (Rule("PUT", MANIFESTS, LoseAnswer()),),
        Finish(2000),
        Stop(3, ("{host} broke off", "PUT")),
        on=SOME,
    ),
    Row("F12e", "a manifest's PUT arrives twice", (Rule("PUT", MANIFESTS, Twice()),), Finish(), Finish(), on=SOME),
    Row(
        "F13a",
        "the answer to the PUT is lost, and HEAD does not see the blob yet",
        (Rule("PUT", SESSION, LoseAnswer(), lasts=False), Rule("HEAD", BLOBS, Say(404, "BLOB_UNKNOWN"), first=6)),
        Finish(BIG),
        Finish(BIG),
        on=SOME,
    ),
    Row(
        "F13b",
        "400 MANIFEST_BLOB_UNKNOWN right after the blobs",
        (Rule("PUT", MANIFESTS, Say(400, "MANIFEST_BLOB_UNKNOWN")),),
        Finish(2000),
        Stop(3, ("MANIFEST_BLOB_UNKNOWN",)),
        on=(D3,),
    ),
)

STATUSES = (
    Row(
        "F14a",
        "429 with Retry-After: 1",
        (Rule("PATCH", SESSION, Say(429, "TOOMANYREQUESTS", {"Retry-After": "1"}), first=2),),
        Finish(PIECE),
        Stop(3, ("429", "no request before")),
        on=(STORE,),
    ),
    Row(
        "F14b",
        "429 with a date",
        (Rule("HEAD|GET", MANIFESTS, Say(429, "", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})),),
        Finish(),
        Stop(3, ("429", "run this again"), untouched=True),
        on=SOME,
    ),
    Row(
        "F14c",
        "429 with Retry-After: 86400",
        (Rule("POST", UPLOADS, Say(429, "TOOMANYREQUESTS", {"Retry-After": "86400"})),),
        Stop(3, ("429", "no request before"), untouched=True),
        Stop(3, ("429", "no request before"), untouched=True),
        on=SOME,
    ),
    Row(
        "F14d",
        "429 without a time, to several at once",
        (Rule("POST|PUT|PATCH", UPLOADS, Say(429, "TOOMANYREQUESTS")),),
        Finish(PIECE),
        Stop(3, ("429",), untouched=True),
        on=SOME,
        jobs=4,
    ),
    Row(
        "F15a",
        "503 to HEAD of a tag",
        (Rule("HEAD", MANIFESTS, Say(503)),),
        Finish(),
        Stop(3, ("503",), untouched=True),
        on=SOME,
    ),
    Row(
        "F15b", "500 to HEAD of a blob", (Rule("HEAD", BLOBS, Say(500)),), Finish(), Stop(3, ("500",), untouched=True), on=SOME
    ),
    Row(
        "F15c",
        "500 to POST",
        (Rule("POST", UPLOADS, Say(500, "UNKNOWN")),),
        Finish(),
        Stop(3, ("500",), untouched=True),
        on=SOME,
    ),
    Row(
        "F15d",
        "502 in HTML to a PATCH",
        (Rule("PATCH", SESSION, Say(502, text=HTML), first=2),),
        Finish(PIECE),
        Stop(3, ("502", "Bad Gateway")),
    ),
    Row(
        "F15e",
        "504 to a PUT that did not get through",
        (Rule("PUT", SESSION, Say(504, text=HTML)),),
        Finish(PIECE),
        Stop(3, ("504",)),
        on=SOME,
    ),
    Row("F15f", "503 to a manifest's PUT", (Rule("PUT", MANIFESTS, Say(503)),), Finish(2000), Stop(3, ("503",)), on=SOME),
    Row(
        "F16a",
        "413 in HTML to bodies over 2 MiB",
        (Rule("PUT|PATCH", SESSION, Say(413, text=HTML), times=None, when=lambda head: head.length > 2 * 1024 * 1024),),
        Finish(LARGE),
        Finish(LARGE),
        large=True,
        piece=None,
        on=SOME,
    ),
    Row(
        "F16b",
        "413 to every body",
        (Rule("PUT|PATCH", SESSION, Say(413, text=HTML)),),
        Stop(3, ("413", "client_max_body_size")),
        Stop(3, ("413", "client_max_body_size")),
        on=SOME,
    ),
    Row(
        "F16c",
        "416 to PATCHes over 1 MiB (GHCR)",
        (
            Rule("PUT", SESSION, Say(404, "BLOB_UNKNOWN"), times=None, when=lambda head: head.length > 0),
            Rule(
                "PATCH",
                SESSION,
                Say(416, "SIZE_INVALID", text="too large"),
                times=None,
                when=lambda head: head.length > 2 * 1024 * 1024,
            ),
        ),
        Finish(3 * LARGE),
        Finish(3 * LARGE),
        large=True,
        piece=None,
        on=SOME,
    ),
    Row(
        "F16d",
        "OCI-Chunk-Min-Length: 256 KiB",
        (Rule("POST", UPLOADS, Edit(headers={"OCI-Chunk-Min-Length": str(2 * PIECE)}), times=None),),
        Finish(),
        Finish(),
        on=SOME,
    ),
    Row(
        "F16e",
        "the connection breaks in bodies over 1 MiB",
        (Rule("PUT|PATCH", SESSION, CutBody(0.5), times=None, when=lambda head: head.length > 1024 * 1024),),
        Finish(2 * LARGE),
        Finish(2 * LARGE),
        large=True,
        piece=None,
        on=SOME,
    ),
)

REFUSALS = (
    Row(
        "F17a",
        "404 NAME_UNKNOWN: there is no such repository",
        (Rule("POST", UPLOADS, Say(404, "NAME_UNKNOWN")),),
        Stop(3, ("1 of 4 repositories", "nothing was sent"), untouched=True),
        Stop(3, ("4 of 4 repositories", "nothing was sent"), untouched=True),
        on=SOME,
    ),
    Row(
        "F17b",
        "403 DENIED: a project that is not ours",
        (Rule("POST", UPLOADS, Say(403, "DENIED")),),
        Stop(3, ("nothing was sent",), untouched=True),
        Stop(3, ("4 of 4 repositories", "nothing was sent"), untouched=True),
        on=SOME,
    ),
    *(
        Row(
            f"F18{letter}",
            f"{status} to moving a tag",
            (Rule("PUT", MANIFESTS + "(1.0|2)$", Say(status, code)),),
            Stop(3, ("may not be overwritten", "forbids moving tags")),
            Stop(3, ("may not be overwritten",)),
            old=True,
            on=(kind,),
        )
        for letter, status, code, kind in (
            ("a", 400, "TAG_INVALID", D3),
            ("b", 403, "DENIED", STORE),
            ("c", 409, "CONFLICT", D3),
            ("d", 412, "PRECONDITION", STORE),
        )
    ),
    Row(
        "F19a",
        "a mount opens a session instead (202)",
        (Rule("POST", "[?]mount=", At(lambda path: path.partition("?")[0])),),
        Finish(60_000),
        Finish(60_000),
    ),
    *(
        Row(
            f"F19{letter}",
            f"{status} to a mount",
            (Rule("POST", "[?]mount=", Say(status, code)),),
            Finish(60_000),
            Finish(60_000),
            on=(kind,),
        )
        for letter, status, code, kind in (
            ("b", 401, "UNAUTHORIZED", D3),
            ("c", 403, "DENIED", STORE),
            ("d", 405, "UNSUPPORTED", D3),
            ("e", 500, "UNKNOWN", STORE),
        )
    ),
    *(
        Row(
            f"F20{letter}",
            f"PATCH is unsupported ({status})",
            (Rule("PATCH", SESSION, Say(status, "UNSUPPORTED")),),
            Finish(PIECE),
            Finish(PIECE),
            on=(kind,),
        )
        for letter, status, kind in (("a", 405, D3), ("b", 404, STORE), ("c", 411, D3))
    ),
    Row(
        "F20d",
        "a single PUT is unsupported (404, Artifactory)",
        (Rule("PUT", SESSION, Say(404, "BLOB_UNKNOWN"), when=lambda head: head.length > 0),),
        Finish(PIECE),
        Finish(PIECE),
    ),
    Row(
        "F22a",
        "405 to a referrer",
        (Rule("PUT", MANIFESTS + "{referrer}", Say(405, "UNSUPPORTED")),),
        Finish(warned="the image counts all the same"),
        Finish(warned="the image counts all the same"),
        on=SOME,
    ),
    Row(
        "F22b",
        "400 to a manifest's media type",
        (Rule("PUT", MANIFESTS + "1.0", Say(400, "MANIFEST_INVALID")),),
        Stop(3, ("400", "MANIFEST_INVALID")),
        Stop(3, ("400", "MANIFEST_INVALID")),
        on=SOME,
    ),
    Row("F23a", "HEAD of a manifest is unsupported (405)", (Rule("HEAD", MANIFESTS, Say(405)),), Finish(), Finish(), on=SOME),
    Row("F23b", "HEAD of a blob is unsupported (405)", (Rule("HEAD", BLOBS, Say(405)),), Finish(), Finish(), on=SOME),
    Row(
        "F23c",
        "HEAD of a manifest says neither digest nor length",
        (Rule("HEAD", MANIFESTS, Edit(headers={"Docker-Content-Digest": None, "Content-Length": "0"})),),
        Finish(),
        Finish(),
        old=True,
        on=SOME,
    ),
    Row(
        "F24a",
        "507: the registry is full",
        (Rule("PATCH", SESSION, Say(507), first=3),),
        Stop(3, ("507", "no room")),
        Stop(3, ("507", "no room")),
        on=SOME,
    ),
    Row(
        "F24b",
        "500 with ENOSPC in it",
        (Rule("PATCH", SESSION, Say(500, text=FULL), first=3),),
        Stop(3, ("500", "no room")),
        Stop(3, ("500", "no room")),
        on=SOME,
    ),
)

PUSHING = (*BREAKS, *SESSIONS, *STATUSES, *REFUSALS)
