"""Reading and writing across volumes, wherever they are cut and whatever is asked for: the bytes of the one file."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from airgap.bundle.arrange import arrange
from airgap.bundle.split import target_for
from airgap.bundle.volumes import Piece, PiecesMedium
from tests.bundle.estate import small

WHOLE = bytes(number % 251 for number in range(2000))
CUTS = st.lists(st.integers(1, len(WHOLE) - 1), max_size=12, unique=True).map(sorted)
PLACES = st.integers(0, len(WHOLE) + 50)


def medium(folder: Path, cuts: list[int], junk: int) -> tuple[PiecesMedium, list[int]]:
    """Lay WHOLE into one file for each piece, each behind ``junk`` other bytes."""
    pieces, fds = [], []
    for number, (start, end) in enumerate(pairwise([0, *cuts, len(WHOLE)])):
        path = folder / str(number)
        path.write_bytes(b"#" * junk + WHOLE[start:end] + b"tail")
        fds.append(os.open(path, os.O_RDONLY))
        pieces.append(Piece(start, end - start, fds[-1], junk, path.name))
    return PiecesMedium("whole", list(reversed(pieces)), len(WHOLE)), fds


@given(CUTS, st.integers(0, 9), st.tuples(PLACES, PLACES, PLACES), st.integers(1, 300))
def test_what_is_read_across_pieces_is_what_the_whole_has_there(cuts, junk, asked, step):
    offset, size, inner = asked
    with tempfile.TemporaryDirectory() as folder:
        made, fds = medium(Path(folder), cuts, junk)
        try:
            assert made.read(offset, size) == WHOLE[offset : offset + size]
            buffer = bytearray(size)
            count = made.read_into(memoryview(buffer), offset)
            assert buffer[:count] == WHOLE[offset : offset + size]
            fits = min(size, max(0, len(WHOLE) - offset))
            with made.window(offset, fits) as window:
                told = b"".join(iter(lambda: window.read(step), b""))
                assert told == WHOLE[offset : offset + fits]
                part = window.part(inner, step)
                start = offset + min(inner, fits)
                assert part.read() == WHOLE[start : min(start + step, offset + fits)]
            if place := made.place(offset, size):
                assert os.pread(place[0], size, place[1]) == WHOLE[offset : offset + size], "what the kernel would send"
        finally:
            for fd in fds:
                os.close(fd)


@given(st.data(), st.integers(1700, 9000))
def test_what_is_written_in_any_order_stands_in_the_volumes_where_it_belongs(data, split):
    arrangement = arrange(small().lock)
    content = bytes(number % 253 for number in range(arrangement.tar_size))
    cuts = data.draw(st.lists(st.integers(1, len(content) - 1), max_size=10, unique=True).map(sorted))
    parts = data.draw(st.permutations(list(pairwise([0, *cuts, len(content)]))))
    with tempfile.TemporaryDirectory() as folder:
        target = target_for(Path(folder) / "b.tar", arrangement, split + 8000)
        target.make_ready(again=False)
        for start, end in parts:
            target.write(memoryview(content)[start:end], start)
        made = target.medium()
        try:
            assert made.size == len(content)
            buffer = bytearray(len(content))
            assert made.read_into(memoryview(buffer), 0) == len(content)
            assert bytes(buffer) == content
        finally:
            target.close()
