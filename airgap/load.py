"""Load: images of a bundle into a local Docker engine, for a host that has one and no registry.

Invariants: nothing is unpacked to disk: each image is streamed as a docker-archive whose blobs are read at their offsets in the
bundle and verified on the way. An image that the engine has already is not sent. What the engine then holds is compared by its
id with the image's config (or manifest, in engines with containerd's image store). An engine knows what is loaded by tag alone
(reference cases B2): a chart that pins digests needs a registry.

::

    with BundleReader.open(path) as bundle:
        loaded = load(bundle, only=(), environ=os.environ)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airgap.bundle import ustar
from airgap.errors import ConfigurationError, IntegrityError
from airgap.layout import verified
from airgap.oci import Manifest
from airgap.progress import Progress
from airgap.sources.engine import connected, engine_name
from airgap.tools import host_platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from docker import DockerClient

    from airgap.bundle import BundleReader
    from airgap.lock import LockedImage
    from airgap.oci import Descriptor
    from airgap.ref import Reference

END = bytes(2 * ustar.BLOCK)
"""The end of an archive (POSIX ustar)."""


@dataclass(frozen=True)
class Loaded:
    """One image in the engine: the name it has there, its id, and what happened (loaded, already there)."""

    reference: Reference
    name: str
    image_id: str
    note: str


def load(
    bundle: BundleReader, *, only: Sequence[Reference] = (), environ: Mapping[str, str], progress: Progress | None = None
) -> tuple[Loaded, ...]:
    """Load the bundle's images (or ``only`` those) into the engine that DOCKER_HOST or the usual socket leads to.

    Raises ConfigurationError (no such image in the bundle), ToolError (no engine, or no docker library), IntegrityError.
    """
    progress = progress or Progress()
    images = _chosen(bundle, only)
    progress.begin("load", len(images), sum(image.tree.size for image in images))
    loaded = []
    with connected(environ, f"{bundle.path} is to be loaded into it") as engine:
        for image in images:
            loaded.append(_load(bundle, image, engine, progress))
            progress.done(str(image.reference), loaded[-1].note)
    progress.end()
    return tuple(loaded)


def _chosen(bundle: BundleReader, only: Sequence[Reference]) -> tuple[LockedImage, ...]:
    if not only:
        return bundle.lock.images
    found = {reference: bundle.lock.image(reference) for reference in only}
    absent = [str(reference) for reference, image in found.items() if image is None]
    if absent:
        raise ConfigurationError(
            f"{bundle.path} does not hold {', '.join(absent)}", hint="airgap inspect BUNDLE -o name lists it"
        )
    return tuple(image for image in found.values() if image)


def _load(bundle: BundleReader, image: LockedImage, engine: DockerClient, progress: Progress) -> Loaded:
    root, manifest = _manifest(bundle, image)
    name = engine_name(replace(image.reference, tag=image.reference.tag or "latest", digest=None))
    expected = {str(manifest.config.digest), str(root.digest)}
    there = {str(it.id) for it in engine.images.list(name=name)}
    if there & expected:
        return Loaded(image.reference, name, (there & expected).pop(), "already there")
    engine.images.load(_counted(_archive(bundle, manifest, name), progress))  # type: ignore[arg-type]  # requests takes it
    image_id = str(engine.images.get(name).id)
    if image_id not in expected:
        raise IntegrityError(f"the Docker engine has {image_id} as {name}, the bundle {manifest.config.digest}")
    return Loaded(image.reference, name, image_id, "loaded")


def _manifest(bundle: BundleReader, image: LockedImage) -> tuple[Descriptor, Manifest]:
    """Return the manifest for this machine: an engine runs one platform."""
    root = image.tree.root
    parsed = bundle.manifest(root)
    if isinstance(parsed, Manifest):
        return root, parsed
    child = parsed.select(host_platform())
    if child is None or not bundle.has(child.digest):
        raise ConfigurationError(f"{image.reference} is not in the bundle for {host_platform()}")
    chosen = bundle.manifest(child)
    if not isinstance(chosen, Manifest):
        raise ConfigurationError(f"{image.reference} nests an index in an index, which no engine loads")
    return child, chosen


def _archive(bundle: BundleReader, manifest: Manifest, name: str) -> Iterator[bytes]:
    """Yield a docker-archive (``docker load``'s input): config, layers, manifest.json; layers may be compressed."""
    config, layers = f"{manifest.config.digest.hex}.json", [f"{layer.digest.hex}.tar" for layer in manifest.layers]
    files = {config: manifest.config, **dict(zip(layers, manifest.layers, strict=True))}
    for file, descriptor in files.items():
        yield ustar.header(file, descriptor.size)
        yield from verified(bundle.chunks(descriptor), descriptor, f"{name} {file}")
        yield bytes(ustar.padding(descriptor.size))
    listing = json.dumps([{"Config": config, "RepoTags": [name], "Layers": layers}]).encode()
    yield ustar.header("manifest.json", len(listing)) + listing + bytes(ustar.padding(len(listing))) + END


def _counted(chunks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.advance(len(chunk))
        if chunk:  # an empty chunk would end the request
            yield chunk
