"""F43-F45 by chance: whatever is done to a bundle, it is refused in one sentence or told by verify, never taken for whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.bundle import BundleReader, arrange
from airgap.errors import AirgapError, BundleError
from airgap.verify import verify
from tests.bundle.estate import Estate, bundle

if TYPE_CHECKING:
    from pathlib import Path

MANY = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)


def tiny() -> Estate:
    estate = Estate()
    estate.image("a.io/b:1", b"one layer", b"another layer")
    estate.installer()
    return estate


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return bundle(tiny(), tmp_path_factory.mktemp("whole") / "b.tar").read_bytes()


def judged(path: Path, data: bytes) -> list[str]:
    """What is said of a file with these bytes: faults, or the one sentence of a refusal."""
    path.write_bytes(data)
    try:
        with BundleReader.open(path) as reader:
            for descriptor in reader.lock.blobs().values():
                reader.read(descriptor)
    except AirgapError as error:
        sentence(error)
    try:
        return [str(fault) for fault in verify(path, jobs=1).faults]
    except BundleError as error:
        return [sentence(error)]


def sentence(error: AirgapError) -> str:
    assert error.exit_code == 4
    assert error.message
    assert error.message.isprintable()
    return error.message


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with a part of them replaced, removed, repeated, moved or zeroed."""
    start = draw(st.integers(0, len(data) - 1))
    end = min(len(data), start + draw(st.one_of(st.integers(1, 64), st.sampled_from([512, 1024, 1536, 5120]))))
    part = data[start:end]
    kind = draw(st.sampled_from(["replace", "remove", "repeat", "move", "zero", "insert"]))
    if kind == "replace":
        new = draw(st.binary(min_size=len(part), max_size=len(part)))
        return data[:start] + new + data[end:]
    if kind == "remove":
        return data[:start] + data[end:]
    if kind == "repeat":
        return data[:end] + part + data[end:]
    if kind == "zero":
        return data[:start] + bytes(len(part)) + data[end:]
    if kind == "insert":
        return data[:start] + draw(st.binary(min_size=1, max_size=512)) + data[start:]
    rest = data[:start] + data[end:]
    to = draw(st.integers(0, len(rest)))
    return rest[:to] + part + rest[to:]


@MANY
@given(data=st.data())
def test_a_bundle_that_was_changed_anyhow_is_never_taken_for_whole(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    changed = data.draw(mutations(whole))
    told = judged(tmp_path / "b.tar", changed)
    assert bool(told) == (changed != whole), told


@MANY
@given(data=st.data())
def test_a_bundle_that_is_cut_anywhere_is_refused(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    assert judged(tmp_path / "b.tar", whole[: data.draw(st.integers(0, len(whole) - 1))])


FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "type": (156, 1),
    "link": (157, 100),
}
HOSTILE = [
    b"../../x",
    b"/etc/passwd",
    b"\x80" + b"\xff" * 10,
    b"-0000000001",
    b"77777777777",
    b"1",
    b"2",
    b"x",
    b"L",
    b"S",
    b"\xff" * 8,
    b"",
]


@MANY
@given(field=st.sampled_from(sorted(FIELDS)), value=st.sampled_from(HOSTILE) | st.binary(max_size=12), data=st.data())
def test_a_header_that_was_changed_is_refused(
    whole: bytes, tmp_path: Path, field: str, value: bytes, data: st.DataObject
) -> None:
    """One field of one header, its checksum made right again."""
    members = arrange(tiny().lock).members
    start = data.draw(st.sampled_from(members)).start
    offset, width = FIELDS[field]
    head = bytearray(whole[start : start + 512])
    head[offset : offset + width] = value[:width].ljust(width, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    changed = whole[:start] + bytes(head) + whole[start + 512 :]
    told = judged(tmp_path / "b.tar", changed)
    assert bool(told) == (changed != whole), told
