"""Resolve: from references to digests and sizes: everything of an image that the bundle will carry.

Invariants: a tag is asked once (HEAD) and each manifest fetched once, by digest; everything after that goes by digest, so what
is locked is one consistent state. All images that cannot be had are told at once, each with who needs it. Indexes,
signatures and referrers keep their bytes. Facts: cases.md L1, L4, R2, B1, B4, B5.

Platforms: one platform and the tag is an index -> the child goes under the tag and the index' bytes are carried beside; an
index pinned by digest, or no platform given (all) -> the whole index; several platforms -> the index byte for byte with the
children left out recorded (sparse). Attestations follow their subject.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.errors import AirgapError, IntegrityError, NotFoundError, UnauthorizedError
from airgap.lock import DOCKER_ENGINE, LockedImage, LockedReferrer, LockedTree
from airgap.oci import DOCKER_MANIFEST, Descriptor, Digest, Index, Manifest, Platform
from airgap.progress import Progress
from airgap.sources.engine import NOTE as ENGINE_NOTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airgap.lock import Requirement
    from airgap.ref import Reference
    from airgap.registry import Registry
    from airgap.sources import ImageSources

JOBS = 8
"""Images resolved at a time: small requests, so latency counts."""
CONFIG_LIMIT = 4 * 1024 * 1024
"""Bytes of a config that is read for its platform."""
COSIGN_SUFFIXES = (".sig", ".att", ".sbom")
"""Tags under which cosign keeps what it says of ``sha256:<hex>``: ``sha256-<hex>.sig`` (cosign, SIGNATURE_SPEC.md)."""
SUBJECT = "vnd.docker.reference.digest"
"""The annotation by which a BuildKit attestation names its subject in an index."""
REASONS = 3
"""Origins that an error names before it only counts them."""

NESTED = 8
"""Indexes in each other at most (faults F47; ours: the conformance program nests two, nobody publishes more)."""

_ABSENT = (NotFoundError, UnauthorizedError)
"""How registries say that an image is not there: Docker Hub answers 401 for a repository that does not exist."""


@dataclass(frozen=True)
class Resolution:
    """The images, in the order of the requirements, and what went by the board with a warning."""

    images: tuple[LockedImage, ...]
    warnings: tuple[str, ...] = ()


@dataclass
class _Gathered:
    """A tree being put together: manifests children first, blobs in order of first use."""

    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: list[Digest] = field(default_factory=list)

    def tree(self, root: Descriptor) -> LockedTree:
        """Return the tree under ``root``."""
        self.manifests.pop(root.digest, None)
        manifests = (*self.manifests.values(), root)
        return LockedTree(root, manifests, tuple(self.blobs.values()), tuple(self.absent))


def resolve(
    requirements: Sequence[Requirement],
    sources: ImageSources,
    platforms: Sequence[Platform],
    *,
    jobs: int = JOBS,
    progress: Progress | None = None,
    referrers: bool = True,
) -> Resolution:
    """Look every image up; ``platforms`` empty means all. ``referrers``: signatures and the like are looked for too.

    Raises NotFoundError or UnauthorizedError naming every image that is not to be had and who needs it (one that only values
    or annotations name is a warning); NetworkError when a registry cannot be asked at all.
    """
    progress = progress or Progress()
    work = _Work(sources, tuple(platforms), progress, referrers=referrers)
    found: dict[Reference, LockedImage] = {}
    gone: list[tuple[Requirement, AirgapError]] = []
    progress.begin("resolve", len(requirements))
    with ThreadPoolExecutor(max(1, jobs)) as pool, ExitStack() as undo:
        undo.callback(pool.shutdown, cancel_futures=True)
        waiting = {pool.submit(work.image, requirement): requirement for requirement in requirements}
        for future in as_completed(waiting):
            requirement = waiting[future]
            try:
                found[requirement.reference] = future.result()
            except _ABSENT as error:
                gone.append((requirement, error))
            progress.done(str(requirement.reference))
    progress.end()
    gone.sort(key=lambda pair: str(pair[0].reference))
    needed = [pair for pair in gone if not pair[0].optional]
    if needed:
        raise _missing(needed)
    warnings = [f"{item.reference} is left out: {error.message} ({_why(item)})" for item, error in gone]
    order = [found[item.reference] for item in requirements if item.reference in found]
    return Resolution(tuple(order), (*warnings, *work.warnings))


def _missing(gone: Sequence[tuple[Requirement, AirgapError]]) -> AirgapError:
    """Return one error for all images that are not to be had."""
    told = "; ".join(f"{item.reference} (needed by {_why(item)}): {error.message}" for item, error in gone)
    kind = NotFoundError if any(isinstance(error, NotFoundError) for _, error in gone) else UnauthorizedError
    count = "an image is" if len(gone) == 1 else f"{len(gone)} images are"
    hint = "leave their feature out, give other values, or say where they are (registries: in the manifest)"
    return kind(f"{count} not to be had: {told}", hint=hint)


def _why(requirement: Requirement) -> str:
    shown = [str(origin) for origin in requirement.origins[:REASONS]]
    more = len(requirement.origins) - len(shown)
    features = f", feature {' or '.join(requirement.features)}" if requirement.features else ""
    return "; ".join(shown) + (f" and {more} more places" if more else "") + features


class _Work:
    """The look-ups of one run."""

    def __init__(self, sources: ImageSources, platforms: tuple[Platform, ...], progress: Progress, *, referrers: bool) -> None:
        self.sources = sources
        self.platforms = platforms
        self.progress = progress
        self.referrers = referrers
        self.warnings: list[str] = []
        self._lock = threading.Lock()

    def warn(self, message: str) -> None:
        """Note a warning once."""
        with self._lock:
            if message not in self.warnings:
                self.warnings.append(message)

    def image(self, requirement: Requirement) -> LockedImage:
        """Resolve one image; raises what the registry says."""
        if requirement.local:
            return self._local(requirement)
        registry, repository = self.sources.locate(requirement.reference)
        place = _Place(self, registry, repository, requirement.reference)
        root, notes = place.root()
        tree, index, more = place.carried(root)
        image = LockedImage(
            reference=requirement.reference,
            tree=tree,
            origins=requirement.origins,
            features=requirement.features,
            index=index,
            notes=(*requirement.notes, *notes, *more, *_layer_notes(tree)),
        )
        if not self.referrers:
            return image
        return replace(image, referrers=tuple(place.referrers(image, root)))

    def _local(self, requirement: Requirement) -> LockedImage:
        saved = self.sources.saved(requirement.reference)
        notes = [ENGINE_NOTE]
        if self.platforms and saved.platform and not any(saved.platform.provides(wanted) for wanted in self.platforms):
            notes.append(_other_platform(saved.platform, self.platforms))
        return LockedImage(
            reference=requirement.reference,
            tree=saved.tree,
            origins=requirement.origins,
            features=requirement.features,
            source=DOCKER_ENGINE,
            notes=(*requirement.notes, *notes),
        )


@dataclass(frozen=True)
class _Place:
    """One repository, for one image."""

    work: _Work
    registry: Registry
    repository: str
    reference: Reference

    def root(self) -> tuple[Manifest | Index, list[str]]:
        """Return what the reference points to; a tag that moved away from the digest beside it is a note (cases.md R2)."""
        head = self.registry.head_manifest(self.repository, self.reference.locator)
        if head is None:
            raise NotFoundError(f"{self.registry.host} has no {self.repository} {self.reference.locator}")
        notes = []
        if self.reference.tag and self.reference.digest:
            now = self.registry.head_manifest(self.repository, self.reference.tag)
            if now is None or now.digest != self.reference.digest:
                what = f"points to {now.digest}" if now else "is gone"
                notes.append(f"the tag {self.reference.tag} {what} now; the digest in the reference counts")
        return self.get(head.digest), notes

    def get(self, digest: Digest) -> Manifest | Index:
        """Return a manifest of this repository."""
        return self.work.sources.read(self.reference, digest)

    def carried(self, root: Manifest | Index) -> tuple[LockedTree, Descriptor | None, list[str]]:
        """Return the tree to carry, the index of which it is one platform's, and notes."""
        platforms = self.work.platforms
        if isinstance(root, Manifest):
            platform = self._platform_of(root)
            notes = []
            if platforms and platform and not any(platform.provides(wanted) for wanted in platforms):
                notes.append(_other_platform(platform, platforms))
            return self._single(root, platform), None, notes
        if not platforms or self.reference.digest:
            return self._whole(root), None, []
        chosen = [self._select(root, platform) for platform in platforms]
        if len(chosen) > 1:
            tree = self._sparse(root, chosen)
            note = [f"{len(tree.absent)} children of the index are left out (other platforms)"] if tree.absent else []
            return tree, None, note
        child = self.get(chosen[0].digest)
        if isinstance(child, Index):
            return self._whole(child), root.descriptor, []
        return self._single(child, chosen[0].platform), root.descriptor, []

    def _select(self, index: Index, platform: Platform) -> Descriptor:
        child = index.select(platform)
        if child is None:
            there = sorted({str(it.platform) for it in index.manifests if it.platform and not it.platform.is_unknown})
            raise NotFoundError(
                f"{self.reference} is not there for {platform}, only for {', '.join(there) or 'no platform that is named'}"
            )
        return child

    def _single(self, manifest: Manifest, platform: Platform | None) -> LockedTree:
        gathered = _Gathered()
        self._add(gathered, manifest)
        return gathered.tree(replace(manifest.descriptor, platform=platform))

    def _whole(self, index: Index) -> LockedTree:
        """Return an index with all its children; those that are not served and not asked for are left out with a warning."""
        gathered = _Gathered()
        self._add_children(gathered, index.manifests)
        if index.manifests and not gathered.manifests:
            raise NotFoundError(f"{self.registry.host} has no child of the index {self.reference} {index.descriptor.digest}")
        return gathered.tree(index.descriptor)

    def _sparse(self, index: Index, chosen: Sequence[Descriptor]) -> LockedTree:
        wanted = {child.digest for child in chosen}
        kept = [it for it in index.manifests if it.digest in wanted or _subject(it) in wanted]
        gathered = _Gathered()
        self._add_children(gathered, kept)
        held = {it.digest for it in kept}
        gathered.absent += [it.digest for it in index.manifests if it.digest not in held]
        return gathered.tree(index.descriptor)

    def _add_children(self, gathered: _Gathered, children: Iterable[Descriptor], depth: int = 1) -> None:
        if depth > NESTED:
            raise IntegrityError(f"{self.reference}: its index is nested more than {NESTED} deep: refused")
        for child in children:
            if child.digest in gathered.manifests:
                continue  # listed twice; a tree of such indexes would be walked for ever
            try:
                self._add(gathered, self.get(child.digest), depth)
            except NotFoundError:
                if not child.is_attestation and self._is_asked_for(child.platform):
                    raise
                what = "attestation" if child.is_attestation else f"child for {child.platform},"
                self.work.warn(f"{self.reference}: its {what} {child.digest.short} is not served; the image counts")
                gathered.absent.append(child.digest)

    def _add(self, gathered: _Gathered, item: Manifest | Index, depth: int = 1) -> None:
        if isinstance(item, Index):
            self._add_children(gathered, item.manifests, depth + 1)
        else:
            for blob in item.blobs:
                gathered.blobs.setdefault(blob.digest, blob)
        gathered.manifests.setdefault(item.descriptor.digest, item.descriptor)

    def _is_asked_for(self, platform: Platform | None) -> bool:
        """Whether an image for ``platform`` has to be there: all platforms are asked for, or one that it provides."""
        wanted = self.work.platforms
        return not wanted or platform is None or any(platform.provides(it) for it in wanted)

    def _platform_of(self, manifest: Manifest) -> Platform | None:
        """Return the platform that the config of a manifest names; None if it is no image's config."""
        config = manifest.config
        if not config.media_type.endswith(("image.config.v1+json", "container.image.v1+json")) or config.size > CONFIG_LIMIT:
            return None
        try:
            data: Any = json.loads(self.registry.read_blob(self.repository, config))
        except ValueError as error:
            raise IntegrityError(f"the config of {self.reference} is no JSON") from error
        if not isinstance(data, dict) or not data.get("os") or not data.get("architecture"):
            return None
        return Platform(str(data["os"]), str(data["architecture"]), str(data.get("variant") or ""))

    def referrers(self, image: LockedImage, root: Manifest | Index) -> Iterator[LockedReferrer]:
        """Yield what speaks about the image: the index, its children that are carried, and the root (cases.md B5)."""
        subjects = [root.descriptor.digest, *(it.digest for it in image.tree.manifests if not it.is_attestation)]
        if isinstance(root, Index) and image.index:
            yield from self._attestations(root, image.tree)
        for subject in dict.fromkeys(subjects):
            seen: set[Digest] = set()
            for tag in self._tags_of(subject):
                tree = self._tree_at(tag)
                if tree:
                    seen |= {it.digest for it in tree.manifests}
                    yield LockedReferrer(subject, tree, tag)
            for descriptor in self.registry.referrers(self.repository, subject):
                tree = None if descriptor.digest in seen else self._tree_at(str(descriptor.digest))
                if tree:
                    yield LockedReferrer(subject, tree)

    def _tags_of(self, subject: Digest) -> tuple[str, ...]:
        """Return the tags under which something about ``subject`` may be kept."""
        name = f"{subject.algorithm}-{subject.hex}"
        return (name, *(f"{name}{suffix}" for suffix in COSIGN_SUFFIXES))

    def _attestations(self, index: Index, tree: LockedTree) -> Iterator[LockedReferrer]:
        """Yield the attestations in an index whose subject is carried without it."""
        for child in index.manifests:
            subject = _subject(child)
            if subject == tree.root.digest:
                found = self._tree_at(str(child.digest))
                if found:
                    yield LockedReferrer(subject, found)

    def _tree_at(self, locator: str) -> LockedTree | None:
        """Return the tree at a tag or digest, or None; what is listed and not served is a warning."""
        try:
            head = self.registry.head_manifest(self.repository, locator)
            if head is None:
                return None
            item = self.get(head.digest)
            if isinstance(item, Index):
                return self._whole(item)
            return self._single(item, None)
        except _ABSENT as error:
            self.work.warn(f"{self.reference}: its referrer {locator} is not to be had: {error.message}")
        except IntegrityError as error:
            self.work.warn(f"{self.reference}: its referrer {locator} is left out: {error.message}")
        return None


def _subject(child: Descriptor) -> Digest | None:
    """Return the digest that an attestation in an index is about."""
    text = child.annotations.get(SUBJECT)
    if not text:
        return None
    try:
        return Digest.parse(text)
    except IntegrityError:
        return None


def _other_platform(found: Platform, wanted: Sequence[Platform]) -> str:
    return f"it is for {found}, not for {' or '.join(str(platform) for platform in wanted)}"


def _layer_notes(tree: LockedTree) -> Iterator[str]:
    """Yield notes on layers that will make trouble inside (cases.md B1, B4)."""
    if any(blob.is_foreign for blob in tree.blobs):
        yield "has layers that lie outside its registry (foreign layers)"
    docker = any(item.media_type == DOCKER_MANIFEST for item in tree.manifests)
    if docker and any(blob.media_type.endswith("zstd") for blob in tree.blobs):
        yield "has zstd layers in a Docker manifest: containerd, CRI-O and podman will not start it"
