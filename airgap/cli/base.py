"""What a delta builds on, and what ``inventory`` and ``diff`` take: a bundle, a lock, or an inventory, by its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.cli import signatures
from airgap.cli.bundle import BundlePath, open_bundle
from airgap.cli.progress import human
from airgap.errors import DiskError
from airgap.inventory import Base, delta, incomplete, left_out, read_base
from airgap.lock import Lock
from airgap.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Command = TypeVar("Command", bound="Callable[..., Any]")


def option(command: Command) -> Command:
    """Add --base and --base-key."""
    command = signatures.base_option(command)
    return click.option(
        "--base",
        "base_file",
        type=BundlePath(),
        help="Carry only what is missing there: an inventory (airgap inventory), or the lock or bundle that was pushed before.",
    )(command)


def lock_of(path: Path) -> Lock:
    """Return the lock at ``path``: a lock by itself, or a bundle's; raises ConfigurationError, BundleError, DiskError."""
    if is_json(path):
        data = path.read_bytes()
        signatures.refuse_unsigned(path, Digest.of(data))
        return Lock.from_bytes(data, str(path))
    with open_bundle(path) as reader:
        return reader.lock


def base_of(path: Path | None) -> Base | None:
    """Return what --base names: an inventory, a lock, or the lock of a bundle; None without it. Raises as ``lock_of``."""
    if path is None:
        return None
    if is_json(path):
        data = path.read_bytes()
        signatures.refuse_unsigned(path, Digest.of(data), base=True)
        return read_base(data, str(path))
    lock = lock_of(path)
    signatures.refuse_unsigned(path, lock.digest, base=True)
    return Base.of_lock(lock)


def rebased(lock: Lock, base: Base | None) -> Lock:
    """Return the delta of ``lock`` on --base, or ``lock`` as it is."""
    return delta(lock, base) if base else lock


def told(lock: Lock) -> str:
    """Say what a delta builds on; empty for a bundle that holds everything."""
    if lock.base is None:
        return ""
    gone = left_out(lock)
    size = human(sum(blob.size for blob in gone))
    return f"{lock.base.kind} {lock.base.name}, {lock.base.digest}: {len(gone)} blobs, {size} left out"


def cannot(lock: Lock) -> str:
    """Say what a delta cannot do by itself; empty for a bundle that holds everything."""
    images = incomplete(lock)
    if not images:
        return ""
    return (
        f"this bundle is a delta on {told(lock)}; push, render and audit work as ever, but {len(images)} of {len(lock.images)} "
        f"images are not whole in it and cannot be pulled from it: {', '.join(images)}"
    )


def is_json(path: Path) -> bool:
    """Whether a file begins like JSON, as locks and inventories do and bundles do not; raises DiskError."""
    if not path.is_file():
        return False  # the name of a split bundle
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError as error:
        raise DiskError(f"{path} cannot be read: {error.strerror}") from error
