"""A certificate authority of the test world, made with the openssl program.

``Authority.create(tmp_path)`` makes a root; ``.issue("reg.lan", "127.0.0.1")`` a certificate, valid now unless dates
say otherwise; ``.issue_client("ann")`` one for a client.
"""

from __future__ import annotations

import ipaddress
import itertools
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONFIG = """
[ca]
default_ca = test
[test]
dir = {folder}
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key, PEM; ``root`` is the certificate of the authority."""

    certificate: Path
    key: Path
    root: Path


@dataclass(frozen=True)
class Authority:
    """A root certificate in ``folder`` and what it has issued."""

    folder: Path
    _number: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    @classmethod
    def create(cls, tmp_path: Path, name: str = "authority") -> Authority:
        """Make a root of its own in ``tmp_path/name``."""
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "index.txt").touch()
        (folder / "ca.conf").write_text(_CONFIG.format(folder=folder))
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"),
            *("-subj", f"/CN=Test root {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(folder / "root.key"), "-out", str(folder / "root.pem")),
        )
        return cls(folder)

    @property
    def root(self) -> Path:
        """The root certificate, PEM: what a client trusts."""
        return self.folder / "root.pem"

    def issue(self, *names: str, start: datetime | None = None, end: datetime | None = None, rsa: bool = False) -> Pair:
        """Issue a server certificate for host names and IP addresses."""
        alternatives = ",".join(f"IP:{name}" if _is_address(name) else f"DNS:{name}" for name in names)
        return self._issue(names[0], f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth", start, end, rsa=rsa)

    def issue_client(self, name: str) -> Pair:
        """Issue a client certificate."""
        return self._issue(name, "extendedKeyUsage=clientAuth", None, None)

    def _issue(self, name: str, extensions: str, start: datetime | None, end: datetime | None, *, rsa: bool = False) -> Pair:
        stem = self.folder / f"issued-{next(self._number)}"
        key, request, certificate = stem.with_suffix(".key"), stem.with_suffix(".csr"), stem.with_suffix(".pem")
        kind = ("-newkey", "rsa:2048") if rsa else ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        _openssl("req", "-new", *kind, "-nodes", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        lines = f"basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n{extensions}\n"
        stem.with_suffix(".ext").write_text(lines)
        now = datetime.now(timezone.utc)
        _openssl(
            *("ca", "-batch", "-notext", "-config", str(self.folder / "ca.conf"), "-in", str(request)),
            *("-out", str(certificate), "-cert", str(self.root), "-keyfile", str(self.folder / "root.key")),
            *("-startdate", _stamp(start or now - timedelta(hours=1)), "-enddate", _stamp(end or now + timedelta(days=7))),
            *("-extfile", str(stem.with_suffix(".ext"))),
        )
        return Pair(certificate, key, self.root)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y%m%d%H%M%SZ")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _openssl(*arguments: str) -> None:
    try:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the program openssl is not installed")
    assert done.returncode == 0, done.stderr
