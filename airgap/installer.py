"""The installer: airgap itself and what it needs, as one zip that every Python from 3.10 on runs without anything installed.

Invariants: the same versions give the same bytes on any machine and any Python: members sorted, stored (zlib's output differs
between builds), dated 1980, one mode. Only pure Python goes in. When airgap runs from such a zip, ``build`` returns that very
zip, so a bundle made with a bundle carries the same installer. Importing from it writes nothing anywhere.

The zip stands behind the tar's end-of-archive blocks. Its offsets count from its own start, as Python's zipimport (and unzip)
expect of a zip that something was put in front of.

::

    Path("airgap.pyz").write_bytes(build())      # python3 -I -S airgap.pyz --version
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import io
import re
import zipfile
import zipimport
from pathlib import Path
from typing import TYPE_CHECKING

import airgap
from airgap.bundle.label import EOCD, LABEL_END
from airgap.errors import BundleError, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.abc import Traversable

PACKAGES = {
    "click": "click",
    "requests": "requests",
    "urllib3": "urllib3",
    "idna": "idna",
    "charset_normalizer": "charset-normalizer",
    "yaml": "PyYAML",
    "tqdm": "tqdm",
}
"""What the receiving side imports, and the distribution it comes from (none of it needs its compiled parts)."""

MAIN = b"""\
import sys
if sys.version_info < (3, 10):
    sys.exit("Error: airgap needs Python 3.10 or newer, and this is %d.%d" % sys.version_info[:2])
from airgap.cli import main
sys.exit(main())
"""
"""``__main__`` of the zip; it must parse on any Python, to say what is wrong with an old one."""

CERTIFI = b'''\
"""Stands in for certifi: inside, the site's own certificates count, which airgap.transport loads itself."""
import ssl


def where():
    """Return the system's certificate file, if it has one that is a file."""
    return ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile


def contents():
    """Return the text of that file."""
    with open(where(), encoding="ascii") as file:
        return file.read()
'''
"""requests wants a module of this name; 300 KB of public CAs are of no use in a disconnected datacenter."""

DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip can hold."""

_MODE = 0o100644
_UNIX = 3
_LICENCE = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|AUTHORS)", re.IGNORECASE)
_LEFTOVER = re.compile(r"(\.pyc|\.pyo|\.pyi|\.so|\.pyd|\.orig|\.rej|\.sw[a-z]|~)$|^\.(?!helmignore$)|^__pycache__$")
"""Names that are never wanted: compiled parts, caches, and what editors leave in a checkout."""


def build(main: bytes = MAIN) -> bytes:
    """Return the installer's zip; ``main`` is its ``__main__.py``. Raises ToolError when a package is missing here."""
    if archive := running_from():
        return trailing_zip(archive)
    members = {"__main__.py": main, "certifi/__init__.py": CERTIFI}
    members.update(_files(importlib.resources.files(airgap), "airgap"))
    for package, distribution in PACKAGES.items():
        members.update(_package(package))
        members.update(_licences(package, distribution))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, DATE)
            info.create_system, info.external_attr = _UNIX, _MODE << 16
            target.writestr(info, members[name])
    return out.getvalue()


def running_from() -> Path | None:
    """Return the bundle (or zipapp) that this very code was imported from, or None when it is installed."""
    loader = __spec__.loader if __spec__ else None
    return Path(loader.archive).resolve() if isinstance(loader, zipimport.zipimporter) else None


def trailing_zip(path: Path) -> bytes:
    """Return the zip at the end of ``path``, without whatever stands in front of it; raises BundleError if there is none.

    A volume's label (the zip's comment, airgap.bundle.label) is left out: the zip is the same as that of the whole bundle.
    """
    with path.open("rb") as file:
        end = file.seek(0, io.SEEK_END)
        for behind in (EOCD.size, LABEL_END):
            file.seek(max(0, end - behind))
            record = file.read(EOCD.size)
            if len(record) == EOCD.size and record.startswith(b"PK\5\6") and EOCD.unpack(record)[-1] == behind - EOCD.size:
                break
        else:
            raise BundleError(f"{path} does not end with an installer")
        *_, size, offset, _comment = EOCD.unpack(record)
        start = end - behind - size - offset
        if start < 0:
            raise BundleError(f"{path} ends with an installer that is cut")
        file.seek(start)
        return file.read(size + offset) + record[:-2] + bytes(2)


def _package(package: str) -> dict[str, bytes]:
    try:
        return {name: data for name, data in _files(importlib.resources.files(package), package) if name.endswith(".py")}
    except ModuleNotFoundError as error:
        raise ToolError(
            f"the Python package {PACKAGES[package]} is missing here, and the installer needs it",
            hint=f"pip install {PACKAGES[package]}",
        ) from error


def _files(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if _LEFTOVER.search(entry.name):
            continue
        if entry.is_dir():
            yield from _files(entry, f"{name}/{entry.name}")
        else:
            yield f"{name}/{entry.name}", entry.read_bytes()


def _licences(package: str, distribution: str) -> dict[str, bytes]:
    """Return the licence files of a package: its terms ask that they travel with it."""
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {
        f"licences/{package}/{file.name}": Path(str(file.locate())).read_bytes()
        for file in files
        if ".dist-info" in file.parts[0] and _LICENCE.match(file.name)
    }
