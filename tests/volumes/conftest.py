"""A bundle as one file, and the same in volumes of 4000 bytes each."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from airgap.bundle.arrange import arrange
from airgap.bundle.label import LABEL_SIZE, tail_size
from airgap.bundle.label import tail as sealed_tail
from airgap.bundle.medium import read
from airgap.bundle.volumes import open_medium, see
from airgap.fetch import mirror
from tests.bundle.estate import Estate, bundle, small

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle.label import Label
    from airgap.oci import Digest

SIZE = 4000
"""Bytes of a volume in these tests: 14 of them, the last one smaller."""


def split(estate: Estate, path: Path, size: int = SIZE, **more) -> Path:
    """Write the bundle of ``estate`` in volumes."""
    mirror(estate.lock, estate, path, split=size, **more)
    return path


def volume(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}.{number:03d}")


def volumes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def joined(path: Path, **more) -> bytes:
    """All that a reader sees of a bundle."""
    medium = open_medium(path, **more)
    try:
        return read(medium, 0, medium.size)
    finally:
        medium.close()


def label_of(path: Path) -> Label:
    """What a volume says of itself."""
    label = see(path).label
    assert label
    return label


def seal_as(path: Path, bundle_digest: Digest) -> None:
    """Give a volume a label that is right but for the bundle that it names."""
    data, label = path.read_bytes(), label_of(path)
    identity = dataclasses.replace(label.identity, bundle=bundle_digest)
    sealed = sealed_tail(data[label.slice.size : -LABEL_SIZE], dataclasses.replace(label, identity=identity))
    path.write_bytes(data[: label.slice.size] + sealed)


def newer() -> Estate:
    """The next release: everything of the small estate, and one image more."""
    estate = small()
    estate.image("a.io/new:1", b"new" * 2000)
    return estate


def tail() -> int:
    return tail_size(arrange(small().lock))


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of the bundle in one file."""
    path = bundle(small(), tmp_path / "whole.tar")
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The name of a split bundle of 14 volumes."""
    folder = tmp_path / "medium"
    folder.mkdir()
    return split(small(), folder / "wandb.tar")
