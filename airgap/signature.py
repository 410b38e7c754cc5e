"""Signatures: ECDSA on P-256 over the sha256 of a lock or an inventory, checked here in pure Python.

The form is that of ``openssl dgst -sha256 -sign`` and ``cosign sign-blob --key``: DER, as base64, in a file of its own beside
what is signed; either tool checks it too. What is signed is a digest, and the digest of its lock is what names a bundle, so one
signature speaks for every byte of it, of each of its volumes, and of nothing else.

Invariants: pure; only public values are handled, so nothing depends on how long it takes. Whatever is not exactly a signature
or a key of this kind is refused: other curves, points off the curve, numbers out of range, DER with bytes to spare.

Sources: SEC 1 4.1.4 (verification), SEC 2 2.4.2 (the curve), RFC 5480 (SubjectPublicKeyInfo), RFC 3279 2.2.3 (Ecdsa-Sig-Value).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, IntegrityError

if TYPE_CHECKING:
    from airgap.oci import Digest

SUFFIX = ".sig"
"""What the name of a signature has behind that of what is signed."""
LIMIT = 4096
"""Bytes of a signature or key file; they have some 100 and 180."""

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" + "04")
"""What stands before the two coordinates in the SubjectPublicKeyInfo of an uncompressed point of P-256."""
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END PUBLIC KEY-----\s*")

_Point = tuple[int, int] | None
"""A point of the curve; None: the one at infinity."""


@dataclass(frozen=True)
class PublicKey:
    """A public key of P-256; ``where`` is the file that it came from."""

    x: int
    y: int
    where: str

    @classmethod
    def parse(cls, text: str, where: str) -> PublicKey:
        """Read a PEM file (PUBLIC KEY); raises ConfigurationError."""
        found = _PEM.fullmatch(text.strip())
        try:
            raw = base64.b64decode("".join(found[1].split()), validate=True) if found else b""
        except binascii.Error:
            raw = b""
        if len(raw) == len(_HEAD) + 64 and raw.startswith(_HEAD):
            x, y = (int.from_bytes(raw[start : start + 32], "big") for start in (len(_HEAD), len(_HEAD) + 32))
            if _is_on_curve(x, y):
                return cls(x, y, where)
        raise ConfigurationError(
            f"{where} is not a public key of ECDSA on P-256 in PEM",
            hint="openssl pkey -in KEY.pem -pubout writes the one of a private key; cosign's cosign.pub is one too",
        )

    def signed(self, digest: Digest, signature: bytes) -> bool:
        """Whether ``signature`` (a signature file's bytes) is one of ``digest`` by this key."""
        numbers = _numbers(signature)
        if numbers is None:
            return False
        r, s = numbers
        inverse = pow(s, -1, _N)
        scaled = int(digest.hex, 16) % _N
        point = _sum(_times(scaled * inverse % _N, _G), _times(r * inverse % _N, (self.x, self.y)))
        return point is not None and point[0] % _N == r


def check(what: str, digest: Digest, signature: bytes, keys: tuple[PublicKey, ...]) -> PublicKey:
    """Return the key of ``keys`` that signed ``digest``; raises IntegrityError when none did."""
    for key in keys:
        if key.signed(digest, signature):
            return key
    told = " nor ".join(key.where for key in keys)
    raise IntegrityError(
        f"the signature of {what} is not by {told} over {digest}",
        hint="another key signed it, or it is the signature of another file; bring the right one, and trust neither until then",
    )


def encoded(der: bytes) -> bytes:
    """Return the signature file of a DER signature."""
    return base64.b64encode(der) + b"\n"


def _numbers(signature: bytes) -> tuple[int, int] | None:
    """Return r and s, or None for what is no signature: one way to write each, and both in range."""
    try:
        der = base64.b64decode(signature.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(der) < 2 or der[0] != 0x30 or der[1] != len(der) - 2:  # noqa: PLR2004  # SEQUENCE, short form of its length
        return None
    first = _integer(der, 2)
    second = _integer(der, first[1]) if first else None
    if first is None or second is None or second[1] != len(der):
        return None
    r, s = first[0], second[0]
    return (r, s) if 0 < r < _N and 0 < s < _N else None


def _integer(der: bytes, start: int) -> tuple[int, int] | None:
    """Return the INTEGER at ``start`` and where it ends; None if there is none in its shortest form, or it is negative."""
    if len(der) < start + 3 or der[start] != 2:  # noqa: PLR2004  # tag, length, one byte at least
        return None
    end = start + 2 + der[start + 1]
    body = der[start + 2 : end]
    if not body or end > len(der) or body[0] & 0x80 or (len(body) > 1 and not body[0] and not body[1] & 0x80):
        return None
    return int.from_bytes(body, "big"), end


def _is_on_curve(x: int, y: int) -> bool:
    return x < _P and y < _P and (y * y - (x * x * x - 3 * x + _B)) % _P == 0


def _sum(one: _Point, other: _Point) -> _Point:
    """Add two points."""
    if one is None or other is None:
        return other if one is None else one
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, _P) if x1 == x2 else (y2 - y1) * pow(x2 - x1, -1, _P)
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P


def _times(factor: int, point: _Point) -> _Point:
    """Add ``point`` to itself so many times."""
    out: _Point = None
    while factor:
        if factor & 1:
            out = _sum(out, point)
        point = _sum(point, point)
        factor >>= 1
    return out
