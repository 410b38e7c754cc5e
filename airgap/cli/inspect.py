"""``airgap inspect``: what is inside a bundle or a lock; nothing is extracted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from airgap.cli import base, options
from airgap.cli import bundle as bundle_option
from airgap.cli.output import emit, table
from airgap.cli.progress import human
from airgap.lock import Lock

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle.label import Label
    from airgap.lock import LockedArtifact, LockedImage


@click.command(
    "inspect",
    epilog="""\b
Examples:
  airgap inspect wandb.tar
  airgap inspect wandb.tar -o name | sort
  airgap inspect wandb.tar -o json | jq '.images[].digest'""",
)
@bundle_option.argument
@options.output
def command(bundle: Path, output_format: str) -> None:
    """Show what BUNDLE (or an airgap.lock) holds: images, charts, tools, channel, sizes and digests."""
    lock, size, volumes = _open(bundle)
    data = {**_data(lock, size), **({"volumes": [label.to_json() for label in volumes]} if volumes else {})}
    emit(output_format, data=data, table=_table(lock, size, volumes), names=[str(it.reference) for it in lock.images])


def _open(path: Path) -> tuple[Lock, int, tuple[Label, ...]]:
    """Return the lock, the bytes of what it describes and its volumes: ``path`` is a bundle, or a lock by itself."""
    if path.is_file() and _begins_as_lock(path):
        lock = Lock.from_bytes(path.read_bytes(), str(path))
        return lock, sum(blob.size for blob in lock.blobs().values()), ()
    with bundle_option.open_bundle(path) as reader:
        return reader.lock, reader.size, reader.volumes.labels if reader.volumes else ()


def _begins_as_lock(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"{"


def _data(lock: Lock, size: int) -> dict[str, Any]:
    return {"bytes": size, "digest": str(lock.digest), "lock": json.loads(lock.to_bytes()), "images": _images(lock)}


def _images(lock: Lock) -> list[dict[str, Any]]:
    return [
        {
            "reference": str(image.reference),
            "digest": str(image.digest),
            "bytes": image.tree.size,
            "leftOut": sorted(str(blob.digest) for blob in image.tree.blobs if blob.digest in lock.left_out),
            "referrers": len(image.referrers),
            "notes": list(image.notes),
        }
        for image in lock.images
    ]


def _table(lock: Lock, size: int, volumes: tuple[Label, ...] = ()) -> str:
    head = [
        f"bundle     {lock.name}, {human(size)}, {lock.digest}",
        f"platforms  {', '.join(str(platform) for platform in lock.platforms) or 'all'}",
        f"channel    {_channel(lock)}",
        f"features   {', '.join(lock.features) or 'default'}",
        f"made by    {lock.generator or 'unknown'}",
        *([f"builds on  {base.told(lock)}"] if lock.base else []),
        *([f"volumes    {len(volumes)} of {human(max(label.file_size for label in volumes))}"] if volumes else []),
    ]
    parts = [table(("KIND", "NAME", "VERSION", "SIZE", "DIGEST"), [_artifact_row(artifact) for artifact in lock.artifacts])]
    parts.append(table(("IMAGE", "PLATFORM", "SIZE", "DIGEST", "NOTE"), [_image_row(image, lock) for image in lock.images]))
    return "\n\n".join(["\n".join(head), *parts])


def _channel(lock: Lock) -> str:
    return " ".join(f"{key} {value}" for key, value in lock.channel.items() if key != "spec") or "none"


def _artifact_row(artifact: LockedArtifact) -> tuple[str, ...]:
    digest = artifact.content.digest.short
    return artifact.kind, artifact.name, artifact.version, human(artifact.content.size), digest


def _image_row(image: LockedImage, lock: Lock) -> tuple[str, ...]:
    root = image.tree.root
    many = f"{len(image.tree.manifests) - 1} manifests" if root.is_index else str(root.platform or "")
    signed = f"{len(image.referrers)} referrers" if image.referrers else ""
    gone = sum(blob.digest in lock.left_out for blob in image.tree.blobs)
    delta = f"{gone} of {len(image.tree.blobs)} blobs left out" if gone else ""
    note = "; ".join(filter(None, (delta, signed, *image.notes)))
    return str(image.reference), many, human(image.tree.size), image.digest.short, note
