"""Signatures: made by openssl, checked by ourselves, and whatever is not exactly one is refused."""

from __future__ import annotations

import base64
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import ConfigurationError, IntegrityError
from airgap.oci import Digest
from airgap.signature import PublicKey, check, encoded
from airgap.signing import PASSWORD, Signer, read_key, read_small, signature_path
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path

DATA = b'{"kind":"Lock"}'
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run([find_binary("openssl"), *arguments], input=data, check=True, capture_output=True).stdout


def make_key(folder: Path, name: str = "key", curve: str = "P-256") -> Path:
    path = folder / f"{name}.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out", path)
    (folder / f"{name}.pub").write_bytes(openssl("pkey", "-in", path, "-pubout"))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    make_key(made)
    make_key(made, "other")
    return made


@pytest.fixture(scope="module")
def key(folder: Path) -> PublicKey:
    return read_key(folder / "key.pub")


@pytest.fixture(scope="module")
def signature(folder: Path) -> bytes:
    return Signer(folder / "key.pem").sign(DATA)


def test_what_is_signed_is_known_by_its_key_and_by_no_other(folder, key, signature):
    other = read_key(folder / "other.pub")
    assert key.signed(Digest.of(DATA), signature)
    assert not other.signed(Digest.of(DATA), signature)
    assert not key.signed(Digest.of(DATA + b"x"), signature)
    assert check("b.tar", Digest.of(DATA), signature, (other, key)) == key
    with pytest.raises(IntegrityError, match=r"the signature of b\.tar is not by .*other\.pub over sha256:"):
        check("b.tar", Digest.of(DATA), signature, (other,))


def test_openssl_takes_the_same_file(folder, signature, tmp_path):
    (tmp_path / "der").write_bytes(base64.b64decode(signature))
    told = openssl("dgst", "-sha256", "-verify", folder / "key.pub", "-signature", tmp_path / "der", data=DATA)
    assert b"OK" in told


def test_many_signatures_and_keys(tmp_path):
    """Each has its own numbers, with and without a leading zero in DER."""
    for number in range(12):
        path = make_key(tmp_path, str(number))
        public = read_key(tmp_path / f"{number}.pub")
        data = bytes([number]) * 100
        assert public.signed(Digest.of(data), encoded(openssl("dgst", "-sha256", "-sign", path, data=data)))


@settings(max_examples=60)
@given(st.data())
def test_no_bit_of_a_signature_can_be_flipped(key, signature, data):
    der = bytearray(base64.b64decode(signature))
    der[data.draw(st.integers(0, len(der) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert not key.signed(Digest.of(DATA), encoded(bytes(der)))


def der(r: int, s: int, *, behind: bytes = b"", wide: bool = False) -> bytes:
    """Write two numbers as DER; ``wide``: each with a zero too many."""
    body = b""
    for number in (r, s):
        raw = number.to_bytes(max(1, number.bit_length() // 8 + 1), "big")
        raw = b"\0" + raw if wide else raw
        body += bytes([2, len(raw)]) + raw
    return bytes([0x30, len(body)]) + body + behind


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        b"\x30\x02\x02\x00",
        b"\x30\x03\x02\x01\x01",
        b"\x30\x06\x02\x01\x81\x02\x01\x01",
        b"\x30\x06\x03\x01\x01\x02\x01\x01",
        b"\x30\x06\x02\x09\x01\x02\x01\x01",
        der(0, 1),
        der(1, 0),
        der(N, 1),
        der(1, N),
        der(1, 1),
        der(5, 7, wide=True),
        der(5, 7, behind=b"x"),
    ],
)
def test_what_is_no_signature_is_none(key, raw):
    assert not key.signed(Digest.of(DATA), encoded(raw))


def test_the_one_point_at_infinity_is_no_signature():
    """r and s such that the two points cancel out: with G as the key and r = -digest."""
    g = PublicKey(
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        "G",
    )
    digest = Digest.of(DATA)
    assert not g.signed(digest, encoded(der(N - int(digest.hex, 16) % N, 1)))


def test_text_that_is_no_base64_is_none(key):
    assert not key.signed(Digest.of(DATA), b"~~~~")
    assert not key.signed(Digest.of(DATA), "\u00e4".encode())


def test_what_is_no_public_key_is_refused(folder, tmp_path):
    make_key(tmp_path, "p384", "P-384")
    openssl("genpkey", "-algorithm", "ED25519", "-out", tmp_path / "ed.pem")
    (tmp_path / "ed.pub").write_bytes(openssl("pkey", "-in", tmp_path / "ed.pem", "-pubout"))
    good = (folder / "key.pub").read_text()
    raw = bytearray(base64.b64decode("".join(good.splitlines()[1:-1])))
    raw[-1] ^= 1
    bad = base64.b64encode(bytes(raw)).decode()
    (tmp_path / "off.pub").write_text(f"-----BEGIN PUBLIC KEY-----\n{bad}\n-----END PUBLIC KEY-----\n")
    (tmp_path / "padding.pub").write_text("-----BEGIN PUBLIC KEY-----\nabc=d\n-----END PUBLIC KEY-----\n")
    for name in ("p384.pub", "ed.pub", "off.pub", "padding.pub"):
        with pytest.raises(ConfigurationError, match="is not a public key of ECDSA on P-256"):
            read_key(tmp_path / name)
    with pytest.raises(ConfigurationError, match="is not a public key"):
        read_key(folder / "key.pem")
    with pytest.raises(ConfigurationError, match="is not a public key"):
        Signer(tmp_path / "p384.pem")


def test_a_key_with_a_passphrase_is_used_by_the_variable(folder, tmp_path, monkeypatch, key):
    locked = tmp_path / "locked.pem"
    locked.write_bytes(openssl("pkey", "-in", folder / "key.pem", "-aes256", "-passout", "pass:secret"))
    monkeypatch.setenv(PASSWORD, "secret")
    assert key.signed(Digest.of(DATA), Signer(locked).sign(DATA))
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(ConfigurationError, match="openssl cannot use the key"):
        Signer(locked)


def test_a_key_that_anybody_may_write_is_not_used(folder, tmp_path):
    for name in ("key.pem", "key.pub"):
        shutil.copy(folder / name, tmp_path)
        (tmp_path / name).chmod(0o666)
    with pytest.raises(ConfigurationError, match="anybody may write to the key"):
        Signer(tmp_path / "key.pem")
    with pytest.raises(ConfigurationError, match="anybody may write to the key"):
        read_key(tmp_path / "key.pub")


def test_files_that_are_not_there_or_too_large_are_told(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_key(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_small(tmp_path / "none")
    (tmp_path / "large").write_bytes(b"x" * 5000)
    with pytest.raises(ConfigurationError, match="too large"):
        read_small(tmp_path / "large")
    assert signature_path(tmp_path / "b.tar").name == "b.tar.sig"
