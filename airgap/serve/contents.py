"""What a registry holds, whoever keeps it: the protocol that the endpoints read from, and one repository's table.

Invariants: ``Repository`` is plain data; who changes it holds the keeper's lock. A repository knows its blobs by name, as
the distribution-spec wants it: a blob in one repository is unknown in the next until it is mounted there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from airgap.oci import Digest, Index, Manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from airgap.oci import Descriptor
    from airgap.transport.body import Window


class Contents(Protocol):
    """The reading side of a registry. Repositories are known by their full path; unknown ones are simply empty."""

    def repositories(self) -> Collection[str]:
        """Return the names of all repositories."""
        ...

    def find(self, repository: str, locator: str | Digest) -> Descriptor | None:
        """Return the manifest or index under a tag or digest."""
        ...

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes, verified; raises IntegrityError."""
        ...

    def blob(self, repository: str, digest: Digest) -> Window | None:
        """Return where a blob's bytes lie."""
        ...

    def tags(self, repository: str) -> Collection[str]:
        """Return the tags, in any order."""
        ...

    def referrers(self, repository: str, digest: Digest) -> Sequence[Descriptor]:
        """Return what speaks about ``digest``, as the referrers API lists it."""
        ...


@dataclass
class Repository:
    """One repository's table: tags and manifests by digest, blobs, and who refers to whom."""

    tags: dict[str, Descriptor] = field(default_factory=dict)
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    blobs: set[Digest] = field(default_factory=set)
    speaks_about: dict[Digest, tuple[Digest, Descriptor]] = field(default_factory=dict)

    def add(self, descriptor: Descriptor, document: Manifest | Index | None = None, tags: Iterable[str] = ()) -> None:
        """Note a manifest, its tags, and (if ``document`` has a subject) what it speaks about."""
        self.manifests[descriptor.digest] = descriptor
        for tag in tags:
            self.tags[tag] = descriptor
        if document and document.subject:
            self.speaks_about[descriptor.digest] = (document.subject.digest, listing(descriptor, document))

    def remove(self, digest: Digest) -> None:
        """Forget a manifest and every tag that points to it."""
        self.manifests.pop(digest, None)
        self.speaks_about.pop(digest, None)
        self.tags = {tag: descriptor for tag, descriptor in self.tags.items() if descriptor.digest != digest}

    def find(self, locator: str | Digest) -> Descriptor | None:
        """Return the manifest under a tag or digest."""
        return self.manifests.get(locator) if isinstance(locator, Digest) else self.tags.get(locator)

    def referrers(self, digest: Digest) -> list[Descriptor]:
        """Return the listing of what speaks about ``digest``, sorted."""
        found = [entry for subject, entry in self.speaks_about.values() if subject == digest]
        return sorted(found, key=lambda entry: entry.digest)

    def copy(self) -> Repository:
        """Return a copy that can be changed or thrown away."""
        return Repository(dict(self.tags), dict(self.manifests), set(self.blobs), dict(self.speaks_about))

    def __bool__(self) -> bool:
        """Whether anything is in it."""
        return bool(self.tags or self.manifests or self.blobs)


def listing(descriptor: Descriptor, document: Manifest | Index) -> Descriptor:
    """Return the descriptor that the referrers API shows (distribution-spec, "Listing Referrers").

    ``artifactType`` is the document's own, else the media type of a manifest's config; annotations are the document's.
    """
    kind = document.artifact_type
    if not kind and isinstance(document, Manifest):
        kind = document.config.media_type
    return replace(descriptor, artifact_type=kind, annotations=dict(document.annotations), platform=None)


class Stacked:
    """Several contents read as one; the first that knows something wins."""

    def __init__(self, layers: Sequence[Contents]) -> None:
        self._layers = tuple(layers)

    def repositories(self) -> Collection[str]:
        """Return the names of all repositories."""
        return {name for layer in self._layers for name in layer.repositories()}

    def find(self, repository: str, locator: str | Digest) -> Descriptor | None:
        """Return the manifest or index under a tag or digest."""
        found = (layer.find(repository, locator) for layer in self._layers)
        return next((descriptor for descriptor in found if descriptor), None)

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes from the first that has it; raises FileNotFoundError if nobody has."""
        for layer in self._layers[:-1]:
            try:
                return layer.read(descriptor)
            except (FileNotFoundError, KeyError):
                continue
        return self._layers[-1].read(descriptor)

    def blob(self, repository: str, digest: Digest) -> Window | None:
        """Return where a blob's bytes lie."""
        found = (layer.blob(repository, digest) for layer in self._layers)
        return next((window for window in found if window is not None), None)

    def tags(self, repository: str) -> Collection[str]:
        """Return the tags, in any order."""
        return {tag for layer in self._layers for tag in layer.tags(repository)}

    def referrers(self, repository: str, digest: Digest) -> Sequence[Descriptor]:
        """Return what speaks about ``digest``, each once."""
        found = {entry.digest: entry for layer in self._layers for entry in layer.referrers(repository, digest)}
        return [found[key] for key in sorted(found)]
