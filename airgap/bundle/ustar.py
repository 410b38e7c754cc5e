"""Tar headers as airgap writes them, and what is wrong with one that somebody else wrote.

Invariants: pure. A header follows from name and size alone: regular file, mode 0644, owner 0, time 0 (POSIX.1-1988 ustar). Two
things ustar cannot say are said in forms that Go's archive/tar (skopeo, oras), Python's tarfile and GNU tar all read: a
size of 8 GiB or more as a base-256 number in the size field (GNU), a name of more than 100 bytes (a sha512 blob) as a pax
record.

Nothing is parsed to be believed: a header in a bundle must equal the one that the lock asks for, byte for byte.
``difference`` only finds the words for one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 512
"""Bytes; everything in a tar starts at a multiple of this (POSIX.1, pax, "ustar Interchange Format")."""

END = bytes(2 * BLOCK)
"""The end-of-archive mark: two blocks of zeros."""

OCTAL_LIMIT = 8**11
"""Sizes from here on (8 GiB) do not fit into the eleven octal digits of the size field."""

SIZE_LIMIT = 2**63
"""Sizes from here on are no file's: offsets are signed 64-bit numbers everywhere."""

_NAME_LENGTH = 100
_CHECKSUM = slice(148, 156)
_SIZE = slice(124, 136)
_REGULAR = b"0"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a directory",
    b"6": "a FIFO",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"x": "a pax header, which could override name or size",
    b"X": "a pax header, which could override name or size",
    b"g": "a global pax header, which could override names or sizes",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
}
"""Type flags other than a regular file's, as POSIX and GNU tar give them; none has a place in a bundle."""


@dataclass(frozen=True)
class Seen:
    """What a block of 512 bytes says about a member, for messages only. ``kind`` is empty for a regular file."""

    name: str
    size: int
    kind: str


def header(name: str, size: int) -> bytes:
    """Return the header of a regular file: one block, or three where the name is longer than 100 bytes.

    Raises ValueError for a size that no file can have.
    """
    if not 0 <= size < SIZE_LIMIT:
        raise ValueError(f"{size} is no size of a file")
    encoded = name.encode("ascii")
    if len(encoded) <= _NAME_LENGTH:
        return _block(encoded, size, _REGULAR)
    record = _pax_record("path", name)
    pax = _block(b"PaxHeader/path", len(record), b"x") + record + bytes(padding(len(record)))
    return pax + _block(encoded[:_NAME_LENGTH], size, _REGULAR)


def padding(size: int) -> int:
    """Return how many zero bytes follow ``size`` bytes of content, up to the next block."""
    return -size % BLOCK


def see(block: bytes) -> Seen | None:
    """Read a header block; None when it is none (no ustar magic, or a checksum that does not fit)."""
    if len(block) < BLOCK or block[257:262] != b"ustar" or _number(block[_CHECKSUM]) != _checksum(block):
        return None
    name, prefix = _text(block[:100]), _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    kind = "" if block[156:157] in (b"0", b"\0") else _KINDS.get(block[156:157], f"of the unknown type {block[156:157]!r}")
    return Seen(f"{prefix}/{name}" if prefix else name, _number(block[_SIZE]), kind)


def difference(found: bytes, name: str, size: int) -> str:
    """Say what is wrong with the header ``found`` where the one for ``name`` and ``size`` should stand."""
    if not any(found):
        return "there is nothing: the archive ends here"
    seen = see(found[:BLOCK])
    if seen is None:
        return "it is no tar header (damaged, or the file is no tar)"
    told = repr(seen.name[:100])
    answers = (
        (seen.kind, f"there is {seen.kind}, {told}"),
        (seen.name.startswith("/"), f"there is a member with an absolute name, {told}"),
        (".." in seen.name.split("/"), f"there is a member whose name climbs out, {told}"),
        (seen.name != name, f"there is another member, {told}"),
        (seen.size != size, f"it claims {seen.size} bytes instead of {size}"),
        (True, "mode, owner, time or another field is not what airgap writes"),
    )
    return next(answer for applies, answer in answers if applies)


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    fields = (
        name.ljust(_NAME_LENGTH, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        _size_field(size),
        b"00000000000\0",
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(32 + 32),
        b"0000000\0" * 2,
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % _checksum(block) + block[156:]


def _size_field(size: int) -> bytes:
    if size < OCTAL_LIMIT:
        return b"%011o\0" % size
    return b"\x80" + size.to_bytes(11, "big")


def _checksum(block: bytes) -> int:
    return sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")


def _number(field: bytes) -> int:
    """Return an octal or base-256 number; -1 for what is neither."""
    if field[0] == 0x80:  # noqa: PLR2004 - the mark of a base-256 number
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and all(byte in b"01234567" for byte in digits) else -1


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _pax_record(key: str, value: str) -> bytes:
    r"""Return ``length key=value\n``, where length counts itself (POSIX.1, pax extended header)."""
    body = f" {key}={value}\n"
    length = len(body)
    while len(f"{length}{body}") != length:
        length = len(f"{length}{body}")
    return f"{length}{body}".encode()
