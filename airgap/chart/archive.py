"""The bytes of a chart: a .tgz unpacked into memory with care, and packed again the same way every time.

Invariants: limits are helm's own, so what passes here passes helm; links, devices, absolute names, ``..``, control
characters and duplicates are refused (F53). Packing writes no clock, owner or order of a file system.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, cast

from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE_LIMIT = 100 * 1024**2
"""Bytes of an unpacked chart (helm's MaxDecompressedChartSize)."""
FILE_LIMIT = 5 * 1024**2
"""Bytes of one file in a chart (helm's MaxDecompressedFileSize)."""
COUNT_LIMIT = 20_000
"""Files in a chart; ours: operator-wandb has 600."""


class _Bounded:
    """A reader that stops a decompression bomb (F53)."""

    def __init__(self, inner: gzip.GzipFile, where: str) -> None:
        self._inner, self._where, self._left = inner, where, SIZE_LIMIT

    def read(self, size: int = -1) -> bytes:
        """Read at most what the limit leaves; raises ConfigurationError beyond it."""
        data = self._inner.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise ConfigurationError(f"{self._where}: unpacks to more than {SIZE_LIMIT // 1024**2} MiB, which helm refuses")
        return data


def unpack(data: bytes, where: str) -> dict[str, bytes]:
    """Return the files of a .tgz by their path below the chart's folder."""
    files: dict[str, bytes] = {}
    try:
        plain = cast("IO[bytes]", _Bounded(gzip.GzipFile(fileobj=io.BytesIO(data)), where))
        with tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                if member.isdir():
                    continue
                name = _member(member, where)
                if name in files:
                    raise ConfigurationError(f"{where}: {name} is in it twice")
                opened = tar.extractfile(member)
                files[name] = opened.read() if opened else b""
                if len(files) > COUNT_LIMIT:
                    raise ConfigurationError(f"{where}: more than {COUNT_LIMIT} files")
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise ConfigurationError(f"{where} is no readable chart archive (.tgz): {error}") from error
    return files


def _member(member: tarfile.TarInfo, where: str) -> str:
    """Return the path of a member below the chart's folder, or refuse it."""
    shown = ascii(member.name[:100])
    _, _, name = member.name.partition("/")
    if not member.isreg():
        raise ConfigurationError(f"{where}: {shown} is a link or a device, which a chart may not hold")
    if not is_inner_path(name) or member.name.startswith("/"):
        raise ConfigurationError(f"{where}: {shown} lies outside the chart's folder")
    if member.size > FILE_LIMIT:
        raise ConfigurationError(f"{where}: {shown} is larger than {FILE_LIMIT // 1024**2} MiB, which helm refuses")
    return name


def is_inner_path(name: str) -> bool:
    """Whether ``name`` is a plain relative path that stays inside: no ``..``, no empty part, no control character."""
    parts = name.split("/")
    plain = all(part not in {"", ".", ".."} and "\\" not in part and part.isprintable() for part in parts)
    return plain and not re.match(r"[A-Za-z]:", name)


def pack(name: str, files: Mapping[str, bytes]) -> bytes:
    """Pack files as a .tgz: sorted, fixed mode, no owner, no time. Chart.yaml first, as helm does."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(files, key=lambda path: (path != "Chart.yaml", path)):
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size, info.mode, info.mtime = len(files[path]), 0o644, 0
            tar.addfile(info, io.BytesIO(files[path]))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0, filename="") as stream:
        stream.write(plain.getvalue())
    return packed.getvalue()
