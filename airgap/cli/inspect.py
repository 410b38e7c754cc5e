"""``airgap inspect``: what is inside a bundle or a lock; nothing is extracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap.bundle import BundleReader
from airgap.cli import options
from airgap.cli.output import emit, table
from airgap.cli.progress import human
from airgap.lock import Lock

if TYPE_CHECKING:
    from airgap.lock import LockedArtifact, LockedImage


@click.command(
    "inspect",
    epilog="""\b
Examples:
  airgap inspect wandb.tar
  airgap inspect wandb.tar -o name | sort
  airgap inspect wandb.tar -o json | jq '.images[].digest'""",
)
@click.argument("bundle", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options.output
def command(bundle: Path, output_format: str) -> None:
    """Show what BUNDLE (or an airgap.lock) holds: images, charts, tools, channel, sizes and digests."""
    lock, size = _open(bundle)
    emit(output_format, data=_data(lock, size), table=_table(lock, size), names=[str(it.reference) for it in lock.images])


def _open(path: Path) -> tuple[Lock, int]:
    """Return the lock and the bytes of the file it describes: ``path`` is a bundle, or a lock by itself."""
    with path.open("rb") as file:
        if file.read(1) == b"{":
            lock = Lock.from_bytes(path.read_bytes(), str(path))
            return lock, sum(blob.size for blob in lock.blobs().values())
    with BundleReader.open(path) as reader:
        return reader.lock, reader.size


def _data(lock: Lock, size: int) -> dict[str, Any]:
    return {"bytes": size, "digest": str(lock.digest), "lock": json.loads(lock.to_bytes()), "images": _images(lock)}


def _images(lock: Lock) -> list[dict[str, Any]]:
    return [
        {
            "reference": str(image.reference),
            "digest": str(image.digest),
            "bytes": image.tree.size,
            "referrers": len(image.referrers),
            "notes": list(image.notes),
        }
        for image in lock.images
    ]


def _table(lock: Lock, size: int) -> str:
    head = [
        f"bundle     {lock.name}, {human(size)}, {lock.digest}",
        f"platforms  {', '.join(str(platform) for platform in lock.platforms) or 'all'}",
        f"channel    {_channel(lock)}",
        f"features   {', '.join(lock.features) or 'default'}",
        f"made by    {lock.generator or 'unknown'}",
    ]
    parts = [table(("KIND", "NAME", "VERSION", "SIZE", "DIGEST"), [_artifact_row(artifact) for artifact in lock.artifacts])]
    parts.append(table(("IMAGE", "PLATFORM", "SIZE", "DIGEST", "NOTE"), [_image_row(image) for image in lock.images]))
    return "\n\n".join(["\n".join(head), *parts])


def _channel(lock: Lock) -> str:
    return " ".join(f"{key} {value}" for key, value in lock.channel.items() if key != "spec") or "none"


def _artifact_row(artifact: LockedArtifact) -> tuple[str, ...]:
    digest = artifact.content.digest.short
    return artifact.kind, artifact.name, artifact.version, human(artifact.content.size), digest


def _image_row(image: LockedImage) -> tuple[str, ...]:
    root = image.tree.root
    many = f"{len(image.tree.manifests) - 1} manifests" if root.is_index else str(root.platform or "")
    signed = f"{len(image.referrers)} referrers" if image.referrers else ""
    note = "; ".join(filter(None, (signed, *image.notes)))
    return str(image.reference), many, human(image.tree.size), image.digest.short, note
