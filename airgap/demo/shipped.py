"""The files that the demonstration ships: read-only, small, the same from a folder and from a zip.

Invariants: nothing here touches the network or writes; ``Upload`` is one repository's worth of a registry's content, in the
order in which it may be pushed (blobs, then children before parents, tags last).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.abc import Traversable


@dataclass(frozen=True)
class Put:
    """A manifest as it is put: ``locator`` is a tag or its digest."""

    locator: str
    media_type: str
    raw: bytes = field(repr=False)


@dataclass(frozen=True)
class Upload:
    """What one repository of a source registry (``docker.io``) holds."""

    registry: str
    repository: str
    blobs: tuple[bytes, ...] = field(repr=False)
    manifests: tuple[Put, ...]


class Push(Protocol):
    """Whoever takes an upload: a registry on loopback, several real ones, a list in a test."""

    def __call__(self, upload: Upload, /) -> None:
        """Put the blobs, then the manifests in their order."""


def read(name: str) -> bytes:
    """Return one file of the demonstration's data, e.g. ``values.yaml``."""
    return (_root() / name).read_bytes()


def chart_files(name: str) -> dict[str, bytes]:
    """Return the files of a chart by their path below the chart's folder."""
    return dict(_walk(_root() / "charts" / name, ""))


def _root() -> Traversable:
    return files("airgap.demo") / "data"


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        else:
            yield name, entry.read_bytes()
