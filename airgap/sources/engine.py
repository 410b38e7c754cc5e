"""Images that only the local Docker engine has, saved and described as an OCI image.

Invariants: what ``docker save`` gives is no registry's image (cases.md B2): layers lie there uncompressed, so the manifest is
made here, and its digest is ours, not upstream's; the note in the lock says so. The save goes to a scratch file and is read at
its offsets; nothing is unpacked. The same image gives the same manifest. The docker library is imported here only.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import IntegrityError, NotFoundError, ToolError
from airgap.lock import LockedTree
from airgap.oci import OCI_CONFIG, Descriptor, Digest, Manifest, Platform, artifact_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docker import DockerClient

    from airgap.ref import Reference

LAYER = "application/vnd.oci.image.layer.v1.tar"
NOTE = "from the local Docker engine: the digest is not upstream's"
CHUNK = 1024 * 1024
"""Bytes read at a time."""
_MAGIC = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
"""How compressed layers begin (RFC 1952, RFC 8878): the containerd image store of newer engines saves them as they are."""


@dataclass(frozen=True)
class Piece:
    """``size`` bytes at ``offset`` of the saved archive."""

    path: Path
    offset: int
    size: int

    def read(self, skip: int = 0) -> Iterator[bytes]:
        """Yield the bytes from ``skip`` on."""
        left = self.size - skip
        with self.path.open("rb") as file:
            file.seek(self.offset + skip)
            while left > 0 and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                yield data


@dataclass(frozen=True)
class SavedImage:
    """An image of the engine: its manifest (made here), and where its blobs lie."""

    manifest: Manifest
    platform: Platform | None
    pieces: Mapping[Digest, Piece] = field(repr=False, hash=False)

    @property
    def tree(self) -> LockedTree:
        """The tree for the lock."""
        described = self.manifest.descriptor
        root = Descriptor(described.media_type, described.digest, described.size, self.platform)
        return LockedTree(root, (root,), self.manifest.blobs)


def save(reference: Reference, folder: Path, environ: Mapping[str, str]) -> SavedImage:
    """Save an image of the engine (DOCKER_HOST, or the usual socket) into a file in ``folder`` and describe it.

    Raises ToolError (no engine), NotFoundError (it has no such image), IntegrityError (an archive that cannot be understood).
    """
    name = engine_name(reference)
    path = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.tar"
    with connected(environ, f"image {name} is to come from it") as engine, path.open("wb") as file:
        file.writelines(engine.images.get(name).save(named=True))
    return describe(path, str(reference))


@contextmanager
def connected(environ: Mapping[str, str], why: str) -> Iterator[DockerClient]:
    """Give the local Docker engine for the length of the block; ``why`` stands in the errors.

    Raises ToolError (no docker library here, no engine, or it refuses) and NotFoundError (it has no such image).
    """
    try:
        import docker  # noqa: PLC0415  (connected side only, and only when such an image is asked for)
        import docker.errors  # noqa: PLC0415
        import requests  # noqa: PLC0415
    except ImportError as error:
        raise ToolError(
            f"the Python package docker is not here, and the local Docker engine cannot be asked without it ({why})",
            hint="pip install docker; a bundle that runs itself does not bring it",
        ) from error
    try:
        with closing(docker.from_env(environment=dict(environ))) as engine:
            yield engine
    except docker.errors.ImageNotFound as error:
        raise NotFoundError(
            f"the local Docker engine does not have what it was asked for ({why}): {_short(error)}",
            hint="build or load it, or take docker-daemon: off its name",
        ) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise ToolError(
            f"the local Docker engine does not answer ({why}): {_short(error)}", hint="start it, or set DOCKER_HOST"
        ) from error


def engine_name(reference: Reference) -> str:
    """Return the name as the engine shows it: Docker Hub's host and ``library/`` are left out there."""
    name = reference.name.removeprefix("docker.io/library/").removeprefix("docker.io/")
    return f"{name}@{reference.digest}" if reference.digest else f"{name}:{reference.tag}"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."  # noqa: PLR2004  (a glimpse is enough)


def describe(path: Path, what: str) -> SavedImage:
    """Read a ``docker save`` archive with one image; raises IntegrityError."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = {posixpath.normpath(member.name): member for member in tar.getmembers()}
            listed = json.loads(_content(tar, members, "manifest.json", what))
            entry = listed[0]
            config = _piece(path, members, entry["Config"], what)
            layers = [_piece(path, members, name, what) for name in entry["Layers"]]
    except (tarfile.TarError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise IntegrityError(f"what the Docker engine saved of {what} cannot be understood: {error}") from error
    described = [_describe(piece) for piece in layers]
    raw = b"".join(config.read())
    manifest = artifact_manifest(Descriptor.of(OCI_CONFIG, raw), tuple(described))
    _check(raw, described, what)
    pieces = {Digest.of(raw): config, **{layer.digest: piece for layer, piece in zip(described, layers, strict=True)}}
    return SavedImage(manifest, _platform(raw), pieces)


def _content(tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str, what: str) -> bytes:
    opened = tar.extractfile(members[name]) if name in members else None
    if opened is None:
        raise IntegrityError(f"what the Docker engine saved of {what} has no {name}")
    return opened.read()


def _piece(path: Path, members: Mapping[str, tarfile.TarInfo], name: str, what: str) -> Piece:
    """Return where a file of the archive lies; a layer that several images share is a link to the first."""
    name = posixpath.normpath(name)
    for _ in range(2):
        member = members.get(name)
        if member is None or not (member.issym() or member.islnk()):
            break
        base = posixpath.dirname(name) if member.issym() else ""
        name = posixpath.normpath(posixpath.join(base, member.linkname))
    member = members.get(name)
    if member is None or not member.isreg():
        raise IntegrityError(f"what the Docker engine saved of {what} has no {name}")
    return Piece(path, member.offset_data, member.size)


def _describe(piece: Piece) -> Descriptor:
    hashed, start = hashlib.sha256(), b""
    for data in piece.read():
        start = start or data[:4]
        hashed.update(data)
    kind = next((suffix for magic, suffix in _MAGIC.items() if start.startswith(magic)), "")
    return Descriptor(f"{LAYER}{kind}", Digest("sha256", hashed.hexdigest()), piece.size)


def _check(config: bytes, layers: list[Descriptor], what: str) -> None:
    """Compare the uncompressed layers with what the config says of them."""
    told = _loaded(config).get("rootfs", {}).get("diff_ids", [])
    if len(told) != len(layers):
        raise IntegrityError(f"what the Docker engine saved of {what} has {len(layers)} layers, its config names {len(told)}")
    for layer, diff_id in zip(layers, told, strict=True):
        if layer.media_type == LAYER and str(layer.digest) != diff_id:
            raise IntegrityError(f"what the Docker engine saved of {what} has layer {layer.digest} instead of {diff_id}")


def _platform(config: bytes) -> Platform | None:
    data = _loaded(config)
    if not data.get("os") or not data.get("architecture"):
        return None
    return Platform(str(data["os"]), str(data["architecture"]), str(data.get("variant") or ""))


def _loaded(config: bytes) -> dict[str, Any]:
    data = json.loads(config)
    return data if isinstance(data, dict) else {}
