"""Label: what a volume of a split bundle says of itself, and where the bundle is cut. Pure.

A volume is ``slice + tail``: a piece of the very bytes that the bundle has as one file, up to the end of its archive, and
behind it the installer's zip once more, so that each volume runs. The comment of that zip is the label: which bundle, which
volume, where its slice lies, and the slice's digest. It has always LABEL_SIZE bytes: canonical JSON, then blanks.

Invariants: every bit of a label counts. It is read only if it is exactly what ``to_bytes`` would write, its own ``check``
included, so a flipped bit makes it no label. What a label says follows from lock and split size, but for the slice's digest:
each volume can be made, and made again, without the others.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airgap.errors import AirgapError, ConfigurationError
from airgap.oci import Digest, canonical_json

if TYPE_CHECKING:
    from airgap.bundle.arrange import Arrangement

LABEL_SIZE = 1024
"""Bytes of the zip's comment (APPNOTE 4.4.12 allows 65535); the JSON needs some 550."""

VERSION = 1
MOST = 999
"""Volumes of one bundle at most: three digits in their names, and one open file each."""

EOCD = struct.Struct("<4s4H2LH")
"""End of central directory record, the comment's length last (PKWARE APPNOTE 4.3.16)."""

NO_ZIP = EOCD.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)
"""The tail of a volume whose bundle carries no installer: an empty zip."""

LABEL_END = EOCD.size + LABEL_SIZE
"""Bytes from the start of the end record to the end of the volume."""

_MAGIC = b'{"airgapVolume":'


@dataclass(frozen=True)
class Slice:
    """A piece of the archive: volume ``number`` of ``count`` holds ``size`` bytes from ``offset`` of the bundle."""

    number: int
    count: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True)
class Identity:
    """What the volumes of one set have in common.

    ``bundle`` is the lock's digest, ``whole`` the bytes of the archive, ``capacity`` the bytes of each slice but the last.
    """

    bundle: Digest
    whole: int
    capacity: int

    @property
    def count(self) -> int:
        """How many volumes there are."""
        return -(-self.whole // self.capacity)

    @property
    def slices(self) -> tuple[Slice, ...]:
        """Return where it is cut."""
        return tuple(self.slice(number) for number in range(1, self.count + 1))

    def slice(self, number: int) -> Slice:
        """Return the slice of one volume."""
        offset = (number - 1) * self.capacity
        return Slice(number, self.count, offset, min(self.capacity, self.whole - offset))


@dataclass(frozen=True)
class Label:
    """The label of one volume. ``digest`` is the slice's; ``installer`` is the tail's zip's, without a comment."""

    identity: Identity
    number: int
    digest: Digest
    installer: Digest
    installer_size: int

    @property
    def slice(self) -> Slice:
        """Where its bytes lie in the bundle."""
        return self.identity.slice(self.number)

    @property
    def file_size(self) -> int:
        """Bytes of the volume."""
        return self.slice.size + self.installer_size + LABEL_SIZE

    @property
    def carries_installer(self) -> bool:
        """Whether the zip is more than a place for the label."""
        return self.installer_size > len(NO_ZIP)

    def __str__(self) -> str:
        return f"volume {self.number} of {self.identity.count}"

    def to_json(self) -> dict[str, Any]:
        """Return what the volume's label says."""
        identity, piece = self.identity, self.slice
        return {
            "airgapVolume": VERSION,
            "bundle": str(identity.bundle),
            "capacity": identity.capacity,
            "count": identity.count,
            "installer": str(self.installer),
            "installerSize": self.installer_size,
            "number": self.number,
            "offset": piece.offset,
            "size": piece.size,
            "slice": str(self.digest),
            "whole": identity.whole,
        }

    def to_bytes(self) -> bytes:
        """Return the label as it stands in the zip."""
        document = self.to_json()
        return canonical_json({**document, "check": Digest.of(canonical_json(document)).hex}).ljust(LABEL_SIZE)

    @classmethod
    def parse(cls, raw: bytes) -> Label | None:
        """Return the label, or None for anything that is not one, to the last bit."""
        if len(raw) != LABEL_SIZE or not raw.startswith(_MAGIC):
            return None
        try:
            document = json.loads(raw)
            numbers = [document[name] for name in ("whole", "capacity", "number", "installerSize")]
            whole, capacity, number, installer_size = (int(value) for value in numbers)
            bundle, digest, installer = (Digest.parse(document[name]) for name in ("bundle", "slice", "installer"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, AirgapError):
            return None
        identity = Identity(bundle, whole, capacity)
        if min(whole, capacity) < 1 or installer_size < len(NO_ZIP) or not 1 <= number <= identity.count <= MOST:
            return None
        label = cls(identity, number, digest, installer, installer_size)
        return label if label.to_bytes() == raw else None


def zip_for(installer: bytes) -> bytes:
    """Return the zip that a label goes into: the installer, or an empty one. Raises ConfigurationError for no zip."""
    zipped = installer or NO_ZIP
    if zipped[-EOCD.size :][:4] != NO_ZIP[:4]:
        raise ConfigurationError("the installer in the lock is no zip without a comment, which a label could be put on")
    return zipped


def tail(zipped: bytes, label: Label) -> bytes:
    """Return what stands behind a slice: a zip with ``label`` as its comment."""
    return zipped[:-2] + LABEL_SIZE.to_bytes(2, "little") + label.to_bytes()


def label_in(end: bytes) -> Label | None:
    """Return the label in the last LABEL_END bytes of a file; None if that is no (whole) volume."""
    if len(end) != LABEL_END or not end.startswith(NO_ZIP[:4]):
        return None
    *_, length = EOCD.unpack_from(end)
    return Label.parse(end[EOCD.size :]) if length == LABEL_SIZE else None


def tail_size(arrangement: Arrangement) -> int:
    """Return how many bytes of each volume stand behind its slice."""
    return (arrangement.trailer.size if arrangement.trailer else len(NO_ZIP)) + LABEL_SIZE


def divide(arrangement: Arrangement, split: int) -> Identity:
    """Return how a bundle is cut into volumes of ``split`` bytes each, the last as many as are left.

    Raises ConfigurationError when nothing but the tail fits into a volume, or when there would be too many.
    """
    behind = tail_size(arrangement)
    whole, capacity = arrangement.tar_size, split - behind
    least = behind + -(-whole // MOST)
    if capacity <= 0:
        raise ConfigurationError(
            f"--split {split}: each volume carries airgap itself ({behind} bytes), which leaves no room for anything else",
            hint=f"give at least {least} bytes",
        )
    identity = Identity(arrangement.lock.digest, whole, capacity)
    if identity.count > MOST:
        raise ConfigurationError(
            f"--split {split} would make {identity.count} volumes, and {MOST} is the most", hint=f"give at least {least} bytes"
        )
    return identity
