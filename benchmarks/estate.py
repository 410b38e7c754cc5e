"""Estates: images made of seeded random bytes, the same on every machine, as OCI layouts on disk.

::

    estate = build(LARGE, Path("cache"))
    estate.images[0].name, estate.images[0].layout     # "wandb/local:1.0", a layout that holds this one alone
    estate.layout                                      # all of them, blobs once (hard links)

Layers are valid: a tar with one file of random bytes, in a gzip stream that stores it (real layers are compressed and so is
random data; storing makes an estate of a gigabyte in seconds). An estate is built once and kept.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MIB = 1024 * 1024
OCI = "application/vnd.oci.image."
MANIFEST, INDEX, CONFIG = (OCI + kind for kind in ("manifest.v1+json", "index.v1+json", "config.v1+json"))
LAYER = OCI + "layer.v1.tar+gzip"
DATE = "2024-01-01T00:00:00Z"
VERSION = "3"
"""Of the recipe: another one makes another folder in the cache."""


@dataclass(frozen=True)
class Picture:
    """An image: its name with the tag, and for each platform its layers as (seed, MiB); the same seed is the same layer."""

    name: str
    platforms: Mapping[str, Sequence[tuple[str, float]]]


@dataclass(frozen=True)
class Recipe:
    """An estate on paper. ``scale``: what every layer's size is multiplied with."""

    title: str
    pictures: tuple[Picture, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class Image:
    """An image on disk. ``blobs``: digest and size of all but manifests; ``manifests``: digest and type, children first."""

    name: str
    layout: Path
    manifests: tuple[tuple[str, str], ...]
    blobs: tuple[tuple[str, int], ...]

    @property
    def repository(self) -> str:
        return self.name.partition(":")[0]

    @property
    def tag(self) -> str:
        return self.name.partition(":")[2]


@dataclass(frozen=True)
class Estate:
    """All images, and ``layout``: one that holds them all."""

    title: str
    layout: Path
    images: tuple[Image, ...]

    @property
    def blobs(self) -> dict[str, int]:
        """Every distinct blob with its size."""
        return {digest: size for image in self.images for digest, size in image.blobs}

    @property
    def size(self) -> int:
        """Bytes of all distinct blobs."""
        return sum(self.blobs.values())

    def pairs(self) -> set[tuple[str, str]]:
        """Every (repository, digest) of blobs and manifests: what a registry has to hold."""
        return {(image.repository, digest) for image in self.images for digest, _ in (*image.manifests, *image.blobs)}


def _one(name: str, *layers: tuple[str, float]) -> Picture:
    return Picture(name, {"linux/amd64": layers})


def _two(name: str, amd64: Sequence[tuple[str, float]], arm64: Sequence[tuple[str, float]]) -> Picture:
    return Picture(name, {"linux/amd64": amd64, "linux/arm64": arm64})


def _own(name: str, *sizes: float) -> list[tuple[str, float]]:
    return [(f"{name} {number}", size) for number, size in enumerate(sizes)]


A, B, C = ("base-a", 30.0), ("base-b", 25.0), ("base-c", 20.0)
LARGE = Recipe(
    "large",
    (
        _one("wandb/local:1.0", A, *_own("local", 400, 60, 12, 3)),
        _one("wandb/megabinary:1.0", A, *_own("megabinary", 120, 40, 5)),
        _one("wandb/console:1.0", A, *_own("console", 45, 8)),
        _one("wandb/controller:1.0", B, *_own("controller", 35, 2)),
        _two("library/mysql:8.4", (B, *_own("mysql", 90, 4)), _own("mysql arm", 25, 85, 4)),
        _two("library/redis:7", (C, *_own("redis", 12, 1)), _own("redis arm", 20, 11, 1)),
        _two("prometheus/prometheus:2", _own("prometheus", 2, 1, 50), _own("prometheus arm", 2, 1, 48)),
        _one("bitnami/kafka:3", C, *_own("kafka", 75, 20)),
        _two("minio/minio:1", _own("minio", 15, 40), _own("minio arm", 15, 38)),
        _one("otel/collector:1", *_own("collector", 55)),
        _one("wandb/weave-trace:1.0", A, *_own("weave", 38, 22)),
        _one("library/nginx:1.27", C, *_own("nginx", 14, 0.5, 0.01, 0.01, 0.01)),
    ),
)
"""12 images of which 4 are for two platforms, 1.4 GiB of distinct bytes, shared layers, one layer of 400 MiB."""

KIB = 1 / 1024
MANY = Recipe(
    "many",
    tuple(
        _one(f"team{number % 65:02d}/app:{number // 65}", (f"many-base {number % 10}", 4 * KIB), (f"many {number}", 2 * KIB))
        for number in range(650)
    ),
)
"""650 tiny images in 65 repositories: only latency and requests count."""


HUGE = Recipe("huge", (_one("big/model:1", ("huge", 4096)),))
"""One layer of 4 GiB: memory must not grow with a blob."""


def scaled(recipe: Recipe, scale: float, images: int | None = None) -> Recipe:
    """Return a smaller estate: layers times ``scale``, the first ``images``."""
    return Recipe(recipe.title, recipe.pictures[:images], scale)


def build(recipe: Recipe, cache: Path) -> Estate:
    """Return the estate, from ``cache`` if it was built there before."""
    key = hashlib.sha256(f"{VERSION} {recipe!r}".encode()).hexdigest()[:12]
    folder = cache / f"{recipe.title}-{key}"
    if not (folder / "estate.json").exists():
        partial = cache / f"{folder.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _Builder(recipe, partial).run()
        partial.rename(folder)
    told = json.loads((folder / "estate.json").read_text())
    images = tuple(
        Image(
            one["name"],
            folder / "each" / one["layout"],
            tuple((digest, kind) for digest, kind in one["manifests"]),
            tuple((digest, size) for digest, size in one["blobs"]),
        )
        for one in told
    )
    return Estate(recipe.title, folder / "layout", images)


@dataclass
class _Builder:
    recipe: Recipe
    folder: Path
    _layers: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)

    def run(self) -> None:
        """Write everything; ``estate.json`` last."""
        (self.folder / "layout/blobs/sha256").mkdir(parents=True)
        roots, told = [], []
        for number, picture in enumerate(self.recipe.pictures):
            manifests: list[dict[str, Any]] = []
            blobs: list[dict[str, Any]] = []
            children = [self._child(picture, platform, manifests, blobs) for platform in picture.platforms]
            root = children[0]
            if len(children) > 1:
                root = self._json(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": children})
                manifests.append(root)
            roots.append({**root, "annotations": {"org.opencontainers.image.ref.name": flat(picture.name)}})
            layout = f"{number:03d}"
            self._alone(layout, root, [*manifests, *blobs])
            told.append(
                {
                    "name": picture.name,
                    "layout": layout,
                    "manifests": [(it["digest"], it["mediaType"]) for it in manifests],
                    "blobs": [(it["digest"], it["size"]) for it in {it["digest"]: it for it in blobs}.values()],
                }
            )
        _close_layout(self.folder / "layout", roots)
        (self.folder / "estate.json").write_text(json.dumps(told))

    def _child(
        self, picture: Picture, platform: str, manifests: list[dict[str, Any]], blobs: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Write one platform's layers, config and manifest."""
        layers = [self._layer(seed, round(size * self.recipe.scale * MIB)) for seed, size in picture.platforms[platform]]
        system, _, architecture = platform.partition("/")
        config = {
            "architecture": architecture,
            "os": system,
            "created": DATE,
            "config": {"Cmd": ["/bin/sh"], "Labels": {"name": picture.name}},
            "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
            "history": [{"created": DATE, "created_by": "benchmarks"} for _ in layers],
        }
        described = self._json(CONFIG, config)
        described_layers = [descriptor for descriptor, _ in layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": described_layers}
        blobs += [described, *described_layers]
        manifests.append(self._json(MANIFEST, manifest))
        return {**manifests[-1], "platform": {"architecture": architecture, "os": system}}

    def _layer(self, seed: str, size: int) -> tuple[dict[str, Any], str]:
        """Write a layer, once; return its descriptor and the digest of what is in it."""
        if seed in self._layers:
            return self._layers[seed]
        plain, packed, temporary = hashlib.sha256(), hashlib.sha256(), self.folder / "layout/layer"
        with temporary.open("wb") as file:
            sink = _Hashing(file, packed)
            with gzip.GzipFile("", "wb", 0, sink, mtime=0) as stream:
                for piece in _tar(seed, size):
                    plain.update(piece)
                    stream.write(piece)
        digest = f"sha256:{packed.hexdigest()}"
        descriptor = {"mediaType": LAYER, "digest": digest, "size": temporary.stat().st_size}
        temporary.rename(self._path(digest))
        self._layers[seed] = descriptor, f"sha256:{plain.hexdigest()}"
        return self._layers[seed]

    def _json(self, media_type: str, document: Mapping[str, Any]) -> dict[str, Any]:
        raw = json.dumps(document, separators=(",", ":")).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self._path(digest).write_bytes(raw)
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def _path(self, digest: str) -> Path:
        return self.folder / "layout/blobs/sha256" / digest.partition(":")[2]

    def _alone(self, name: str, root: dict[str, Any], parts: Sequence[Mapping[str, Any]]) -> None:
        """Write a layout with this image alone; its blobs are hard links."""
        folder = self.folder / "each" / name
        (folder / "blobs/sha256").mkdir(parents=True)
        for digest in {part["digest"] for part in parts}:
            os.link(self._path(digest), folder / "blobs/sha256" / digest.partition(":")[2])
        _close_layout(folder, [{**root, "annotations": {"org.opencontainers.image.ref.name": "it"}}])


class _Hashing:
    """A file that hashes what is written."""

    def __init__(self, file: Any, hasher: Any) -> None:
        self._file, self._hasher = file, hasher

    def write(self, data: bytes) -> int:
        self._hasher.update(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()


def _close_layout(folder: Path, roots: Sequence[Mapping[str, Any]]) -> None:
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(roots)}))


def _tar(seed: str, size: int) -> Iterator[bytes]:
    """Yield a tar with one file of ``size`` random bytes."""
    head = tarfile.TarInfo(f"data/{seed.replace(' ', '-')}")
    head.size = size
    yield head.tobuf(tarfile.USTAR_FORMAT)
    source, left = random.Random(f"{VERSION} {seed}"), size  # noqa: S311  # made to be repeatable
    while left:
        piece = source.randbytes(min(left, MIB))
        left -= len(piece)
        yield piece
    yield bytes(-size % 512 + 1024)


def flat(name: str) -> str:
    """Return the name of an image inside a layout, where slashes and colons mean something else."""
    return name.replace("/", "-").replace(":", "-")


def chart(folder: Path, name: str, images: Sequence[str]) -> Path:
    """Write a chart whose templates ask for ``images``; return its folder."""
    (folder / name / "templates").mkdir(parents=True)
    (folder / name / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n")
    values, containers = io.StringIO(), io.StringIO()
    for number, image in enumerate(images):
        repository, _, tag = image.rpartition(":")
        values.write(f"part{number}:\n  image: {{repository: {repository}, tag: '{tag}'}}\n")
        containers.write(
            f"      - name: part{number}\n"
            f'        image: "{{{{ .Values.part{number}.image.repository }}}}:{{{{ .Values.part{number}.image.tag }}}}"\n'
        )
    (folder / name / "values.yaml").write_text(values.getvalue())
    (folder / name / "templates" / "deployment.yaml").write_text(
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n"
        f"    spec:\n      containers:\n{containers.getvalue()}"
    )
    return folder / name
