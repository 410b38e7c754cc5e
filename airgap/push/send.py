"""Sender: carries out a plan: blobs, then manifests (children first), then tags.

Invariants: a registry never gets a manifest before what it names, nor a tag before its manifest; every manifest's digest is
checked with the registry's answer (``Registry.put_manifest``). A root that gets a tag is put under the tag at once, which is
one request less. Counting is thread-safe.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airgap.errors import BundleError, IntegrityError, NotFoundError, RegistryError
from airgap.layout import verified
from airgap.oci import Manifest
from airgap.push.base import Relay
from airgap.push.meter import Meter, MeteredWindow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.bundle import BundleReader
    from airgap.bundle.crew import Crew
    from airgap.oci import Descriptor, Digest, Index
    from airgap.plan import Copy, Plan, Tag
    from airgap.progress import Progress
    from airgap.registry import Registry
    from airgap.transport import Window

REFUSED_TAG = frozenset({400, 403, 409, 412})
"""Statuses with which registries refuse to move an immutable tag (cases.md P1)."""

SPARSE_HINT = (
    "the index names children that are not in the bundle (other platforms), and this registry takes no such index: mirror with "
    "one --platform, or with --platform all"
)
FOREIGN_HINT = (
    "the image has layers with URLs of their own, which some registries refuse (distribution: list them in "
    "validation.manifests.urls.allow), or leave the image out"
)


class Sender:
    """Sends parts of one bundle to one registry.

    ``elsewhere``: repositories of the registry that hold what a delta leaves out.
    """

    def __init__(
        self,
        bundle: BundleReader,
        registry: Registry,
        crew: Crew,
        progress: Progress,
        *,
        elsewhere: Mapping[Digest, str] | None = None,
    ) -> None:
        self._bundle, self._registry, self._crew, self._progress = bundle, registry, crew, progress
        self._elsewhere = elsewhere or {}
        self._counting = threading.Lock()
        self.sent = self.sent_size = self.mounted = self.kept_size = 0
        self.refused_tags: list[RegistryError] = []

    def send(self, plan: Plan, tags_there: dict[tuple[str, str], Digest]) -> None:
        """Carry out ``plan`` with the whole crew; tags that may not be moved are collected and raised together at the end."""
        self._crew.run(_by_digest(plan.blobs), self._spread)
        self._crew.run(_by_repository(plan), lambda part: self._manifests(*part, tags_there))
        if self.refused_tags:
            raise _all(self.refused_tags)

    def send_alone(self, plan: Plan, tags_there: dict[tuple[str, str], Digest]) -> None:
        """Carry out a small plan in this thread (a referrer's)."""
        for group in _by_digest(plan.blobs):
            self._spread(group)
        for manifests, tags in _by_repository(plan):
            self._manifests(manifests, tags, tags_there)

    def put(self, repository: str, locator: str, raw: bytes, media_type: str) -> None:
        """Put bytes that are no bundle's (a referrers index) and count them."""
        self._registry.put_manifest(repository, locator, raw, media_type)
        self._count("sent", len(raw))
        self._progress.advance(len(raw))

    def _spread(self, copies: Sequence[Copy]) -> None:
        """Bring one blob into all its repositories: sent to the first, mounted from there into the others."""
        for copy in copies:
            self._crew.check()
            name = f"{copy.repository} {copy.descriptor.digest.short}"
            self._progress.start(name)
            how = self._upload(copy.repository, copy.descriptor, copy.mount_from)
            self._progress.done(name, how)

    def _upload(self, repository: str, descriptor: Descriptor, mount_from: Sequence[str] = ()) -> str:
        """Bring one blob into one repository, and count it."""
        meter = Meter(self._crew, self._progress)

        def open_window(offset: int) -> Window:
            meter.at(offset)
            return MeteredWindow(self._window(descriptor, offset), meter)

        try:
            how = self._registry.upload(repository, descriptor, open_window, mount_from)
        except (RegistryError, IntegrityError) as error:
            self._blame_bundle(descriptor, error)
            raise
        meter.moved(descriptor.size - meter.position)
        self._count(how, descriptor.size - meter.kept, meter.kept)
        return how

    def _window(self, descriptor: Descriptor, offset: int) -> Window:
        """Return the blob from the bundle, or, where a delta leaves it out, from where the registry holds it."""
        if descriptor.digest in self._elsewhere:
            return Relay(self._registry, self._elsewhere[descriptor.digest], descriptor, offset)
        return self._bundle.window(descriptor, offset)

    def _blame_bundle(self, descriptor: Descriptor, error: Exception) -> None:
        """Say so if a blob that the registry refused is damaged on the medium."""
        if descriptor.digest in self._elsewhere:
            return
        try:
            for _ in verified(self._bundle.chunks(descriptor), descriptor, f"blob {descriptor.digest} in {self._bundle.path}"):
                self._crew.check()
        except IntegrityError as fault:
            raise BundleError(
                f"bundle {self._bundle.path} is damaged: {fault.message}", hint="bring it again; airgap verify lists all faults"
            ) from error

    def _manifests(self, copies: Sequence[Copy], tags: Sequence[Tag], tags_there: dict[tuple[str, str], Digest]) -> None:
        """Put the manifests of one repository in order, then its tags."""
        tagged = {tag.descriptor.digest for tag in tags}
        for copy in copies:
            self._crew.check()
            if copy.descriptor.digest not in tagged:
                self._put(copy.repository, str(copy.descriptor.digest), copy.descriptor)
        for tag in tags:
            self._crew.check()
            try:
                self._put(tag.repository, tag.tag, tag.descriptor)
            except RegistryError as error:
                if (tag.repository, tag.tag) not in tags_there or error.status not in REFUSED_TAG:
                    raise
                self._note(error)

    def _put(self, repository: str, locator: str, descriptor: Descriptor) -> None:
        manifest = self._bundle.manifest(descriptor)
        try:
            self._registry.put_manifest(repository, locator, manifest.raw, descriptor.media_type)
        except (RegistryError, NotFoundError) as error:
            if "BLOB_UNKNOWN" not in error.message or not isinstance(manifest, Manifest):
                error.hint = _why(manifest, error) or error.hint
                raise
            self._progress.debug(f"{repository}: {error.message}; looking at its blobs once more")
            self._again(repository, manifest)
            self._registry.put_manifest(repository, locator, manifest.raw, descriptor.media_type)
        self._count("sent", descriptor.size)
        self._progress.advance(descriptor.size)
        self._progress.done(f"{repository}{'@' if ':' in locator else ':'}{locator}", "sent")

    def _again(self, repository: str, manifest: Manifest) -> None:
        """Send the blobs that the registry really lacks (F13, P16)."""
        for blob in manifest.blobs:
            if not self._registry.has_blob(repository, blob.digest):
                self._upload(repository, blob)

    def _count(self, how: str, size: int, kept: int = 0) -> None:
        with self._counting:
            if how == "mounted":
                self.mounted += 1
            else:
                self.sent += 1
                self.sent_size += size
                self.kept_size += kept

    def _note(self, error: RegistryError) -> None:
        with self._counting:
            self.refused_tags.append(error)


def _why(manifest: Manifest | Index, error: RegistryError | NotFoundError) -> str:
    """Return what to do about a manifest that a registry refuses for what it names; empty: nothing is known."""
    if isinstance(manifest, Manifest):
        return FOREIGN_HINT if any(layer.urls for layer in manifest.layers) else ""
    return SPARSE_HINT if "BLOB_UNKNOWN" in error.message else ""


def _by_digest(copies: Iterable[Copy]) -> list[list[Copy]]:
    """Group the copies of each blob; the largest first, so that no single one ends alone."""
    groups: dict[Digest, list[Copy]] = {}
    for copy in copies:
        groups.setdefault(copy.descriptor.digest, []).append(copy)
    return sorted(groups.values(), key=lambda group: -group[0].descriptor.size)


def _by_repository(plan: Plan) -> list[tuple[list[Copy], list[Tag]]]:
    """Return manifests and tags of each repository; repositories do not depend on each other, what is in one does."""
    parts: dict[str, tuple[list[Copy], list[Tag]]] = {}
    for copy in plan.manifests:
        parts.setdefault(copy.repository, ([], []))[0].append(copy)
    for tag in plan.tags:
        parts.setdefault(tag.repository, ([], []))[1].append(tag)
    return list(parts.values())


def _all(errors: Sequence[RegistryError]) -> RegistryError:
    first = errors[0]
    return RegistryError("; ".join(it.message for it in errors), hint=first.hint, status=first.status, code=first.code)
