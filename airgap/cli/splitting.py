"""``mirror --split`` and ``--volume``: a bundle in volumes, and one volume of it made again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.bundle.room import FAT_HINT, FAT_LIMIT
from airgap.bundle.split import reaching_into, split_beside
from airgap.cli.connected import Planned, planned_from
from airgap.cli.progress import human
from airgap.cli.sizes import Size
from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airgap.cli.connected import Upstream
    from airgap.fetch import MirrorResult
    from airgap.lock import Lock, LockedArtifact
    from airgap.progress import Progress
    from airgap.tools import Helm

Command = TypeVar("Command", bound="Callable[..., Any]")


def options(command: Command) -> Command:
    """Add --split and --volume."""
    split = click.option(
        "--split",
        type=Size(),
        metavar="SIZE",
        help="Write volumes BUNDLE.001, BUNDLE.002, ... of SIZE each: 4000M, 4GiB (1024s), 650MB (1000s).",
    )
    volume = click.option(
        "--volume",
        type=click.IntRange(1),
        metavar="N",
        help="Make only this volume again, from its --lock; --split as before, unless other volumes lie here.",
    )
    return split(volume(command))


def warn_of_fat(split: int | None, progress: Progress) -> None:
    """Warn of volumes that do not fit on what sticks are formatted with."""
    if split and split > FAT_LIMIT:
        progress.warn(f"volumes of {human(split)} do not fit on a FAT32 medium, which holds less than 4 GiB a file; {FAT_HINT}")


def split_of(bundle: Path, lock: Lock | None, split: int | None) -> tuple[Lock, int]:
    """Return the lock and the bytes of each volume, for --volume; raises ConfigurationError when one is not known."""
    if lock is None:
        raise ConfigurationError(
            "--volume needs the lock with which the bundle was made", hint="give it with --lock airgap.lock"
        )
    beside = split_beside(bundle, lock)
    if beside and split and split != beside:
        raise ConfigurationError(
            f"--split {split}: the volumes of {bundle} that lie here have {beside} bytes",
            hint=f"leave --split out, or give {beside}",
        )
    if not (found := split or beside):
        raise ConfigurationError(
            f"no other volume of this lock's bundle lies at {bundle}, so its size is not known",
            hint="give the --split with which the bundle was made",
        )
    return lock, found


def planned_volume(upstream: Upstream, lock: Lock, helm: Helm, bundle: Path, *, split: int, volume: int) -> Planned:
    """Find the sources of what lies in one volume: nothing else is asked for."""
    needed = reaching_into(bundle, lock, split, volume)

    def lies_in(artifact: LockedArtifact) -> bool:
        return any(blob.digest in needed for blob in (*artifact.tree.manifests, *artifact.tree.blobs))

    artifacts = tuple(artifact for artifact in lock.artifacts if lies_in(artifact))
    names = {artifact.name for artifact in artifacts}
    manifest = replace(
        upstream.manifest,
        files=tuple(entry for entry in upstream.manifest.files if entry.name in names),
        charts=tuple(entry for entry in upstream.manifest.charts if entry.name in names),
    )
    found = planned_from(replace(upstream, manifest=manifest), replace(lock, artifacts=artifacts), helm)
    return replace(found, lock=lock)


def told(result: MirrorResult, split: int | None, volume: int | None) -> str:
    """Return how to call what was written."""
    if volume:
        return str(result.files[0])
    return f"{result.path}.001 to {result.files[-1].suffix}" if split else str(result.path)
