"""Fetch: everything that a lock lists, from its sources into a bundle, in parallel and in one pass.

Invariants: nothing counts as fetched before its size and digest are right; a blob that is finished is never fetched again, in
this run or the next; what is gone or wrong at its source is collected and reported together, while the rest goes on. The copy
knows neither registries nor files: a Source opens streams, a Sink takes them (style.md, point 5).

::

    result = mirror(lock, sources, Path("wandb.tar"), jobs=6, progress=progress)
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from airgap.bundle import BundleWriter
from airgap.bundle.crew import Crew
from airgap.bundle.foreign import refuse_foreign
from airgap.errors import AirgapError, IntegrityError, NotFoundError
from airgap.lock import LockedArtifact, LockedImage
from airgap.plan import missing
from airgap.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from airgap.bundle import Sink
    from airgap.lock import Lock
    from airgap.oci import Descriptor, Digest
    from airgap.ref import Reference
    from airgap.transport import Room

JOBS = 6
"""Transfers at a time by default: registries and their CDNs serve that many to one client without throttling."""

LISTED = 10
"""How many faults an error names before it only counts them."""


class Source(Protocol):
    """Where the pieces of a lock come from; safe to use from many threads.

    Both raise NotFoundError for what is gone, NetworkError and its branches for the rest, after whatever tries the
    transport's policy allows. Bytes need not be checked: the sink does that.
    """

    def manifest(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """Return the bytes of a manifest or index of the image that ``reference`` names (one of its referrers' included)."""

    def blob(
        self, owner: LockedImage | LockedArtifact, descriptor: Descriptor, offset: int = 0, room: Room | None = None
    ) -> Iterator[bytes | memoryview]:
        """Yield a blob from ``offset``: an image's config or layer, or anything of an artifact (manifest, config, content).

        A piece may lie in ``room()``, and then only until the next one is asked for.
        """


@dataclass(frozen=True)
class MirrorResult:
    """What ``mirror`` did. Sizes in bytes; ``already`` says that the whole bundle stood there before, in ``files``.

    ``held``: blobs that were whole; ``resumed_size``: bytes of others that an earlier run had fetched; ``seconds``: it took.
    """

    path: Path
    digest: Digest
    size: int
    fetched: int
    fetched_size: int
    held: int
    already: bool = False
    files: tuple[Path, ...] = ()
    resumed_size: int = 0
    seconds: float = 0.0


def mirror(
    lock: Lock,
    source: Source,
    path: Path,
    *,
    jobs: int = JOBS,
    progress: Progress | None = None,
    include_foreign: bool = False,
    split: int | None = None,
    volume: int | None = None,
) -> MirrorResult:
    """Write the bundle of ``lock`` to ``path``, or finish the one that an interrupted run left.

    With ``split`` it is written in volumes of so many bytes each, with ``volume`` only that one of them.
    Raises ConfigurationError (layers that lie outside, another half-written bundle), DiskError, NetworkError, IntegrityError;
    whatever was finished by then stays beside ``path``.
    """
    progress, begun_at = progress or Progress(), time.monotonic()
    refuse_foreign(lock, include_foreign=include_foreign)
    with BundleWriter(path, lock, progress, jobs, split=split, volume=volume) as writer:
        arrangement, before = writer.arrangement, writer.held
        left = _in_order(missing(lock, before))
        size, there = sum(descriptor.size for descriptor in left), sum(writer.begun.values())
        if left:
            progress.begin("mirror", len(left), size)
            progress.there(there)
            _Copy(lock, source, writer, progress, jobs).run(left)
            progress.end()
        result = MirrorResult(
            path=path,
            digest=arrangement.lock.digest,
            size=writer.size,
            fetched=len(left),
            fetched_size=size - there,
            resumed_size=there,
            held=len(writer.wanted - arrangement.decided) - len(left),
            files=writer.files,
            already=writer.complete,
        )
        writer.finish()
    return replace(result, seconds=time.monotonic() - begun_at)


class _Copy:
    """The copy of a lock's blobs into one writer."""

    def __init__(self, lock: Lock, source: Source, writer: BundleWriter, progress: Progress, jobs: int) -> None:
        self._source, self._writer, self._progress = source, writer, progress
        self._owners = _owners(lock)
        self._crew = Crew(jobs)
        self._faults: list[AirgapError] = []
        self._noting = threading.Lock()

    def run(self, left: tuple[Descriptor, ...]) -> None:
        """Copy all of ``left``; raise at the end for what was not to be had."""
        self._crew.run(left, self._one)
        if not self._faults:
            return
        first = next((fault for fault in self._faults if isinstance(fault, IntegrityError)), self._faults[0])
        if len(self._faults) == 1:
            raise first
        told = _listed([fault.message for fault in self._faults], "; ")
        raise type(first)(f"{len(self._faults)} of {len(left)} blobs cannot be had: {told}", hint=first.hint)

    def _one(self, descriptor: Descriptor) -> None:
        """Copy one blob, from the first of its owners that has it."""
        owners = self._owners[descriptor.digest]
        name = f"{_called(owners[0])} {descriptor.digest.short}"
        self._progress.start(name)
        for number, owner in enumerate(owners, 1):
            try:
                self._from(owner, descriptor)
            except NotFoundError as error:
                if number == len(owners):
                    self._note(_gone(owner, descriptor, error))
            except IntegrityError as error:
                self._note(type(error)(f"{_called(owner)}: {error.message}", hint=error.hint))
                return
            else:
                self._progress.done(name, "fetched")
                return

    def _from(self, owner: LockedImage | LockedArtifact, descriptor: Descriptor) -> None:
        """Copy one blob from one owner; a blob that comes out wrong is fetched once more from its start (F27)."""
        with self._writer.sink(descriptor) as sink:
            try:
                self._pour(owner, descriptor, sink)
                sink.verify()
            except IntegrityError as error:
                self._progress.debug(f"{_called(owner)}: {error.message}; once more from the start")
                self._progress.advance(-sink.position)
                sink.restart()
                self._pour(owner, descriptor, sink)

    def _pour(self, owner: LockedImage | LockedArtifact, descriptor: Descriptor, sink: Sink) -> None:
        if sink.position == descriptor.size:
            return  # an earlier run had all of it, and the sink will check it
        chunks: Iterable[bytes | memoryview]
        if isinstance(owner, LockedImage) and (descriptor.is_manifest or descriptor.is_index):
            chunks = (self._source.manifest(owner.reference, descriptor),)
        else:
            chunks = self._source.blob(owner, descriptor, sink.position, sink.room)
        for chunk in chunks:
            self._crew.check()
            sink.write(chunk)
            self._progress.advance(len(chunk))

    def _note(self, fault: AirgapError) -> None:
        self._progress.warn(fault.message)
        with self._noting:
            self._faults.append(fault)


def _in_order(left: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """Manifests first, so that an image that is gone shows at once; then the largest, so that none ends alone."""
    return tuple(sorted(left, key=lambda it: (not (it.is_manifest or it.is_index), -it.size)))


def _owners(lock: Lock) -> dict[Digest, list[LockedImage | LockedArtifact]]:
    """Return for each blob all that it belongs to, in the lock's order."""
    owners: dict[Digest, list[LockedImage | LockedArtifact]] = {}
    for artifact in lock.artifacts:
        for descriptor in (*artifact.tree.manifests, *artifact.tree.blobs):
            owners.setdefault(descriptor.digest, []).append(artifact)
    for image in lock.images:
        own = {it.digest for tree in image.trees for it in (*tree.manifests, *tree.blobs)}
        for digest in own | ({image.index.digest} if image.index else set()):
            owners.setdefault(digest, []).append(image)
    return owners


def _called(owner: LockedImage | LockedArtifact) -> str:
    return str(owner.reference) if isinstance(owner, LockedImage) else f"{owner.kind} {owner.name} {owner.version}".rstrip()


def _gone(owner: LockedImage | LockedArtifact, descriptor: Descriptor, error: NotFoundError) -> NotFoundError:
    return NotFoundError(
        f"{_called(owner)}: {descriptor.digest} is no longer served ({error.message})", hint="run airgap plan again"
    )


def _listed(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return separator.join(names[:LISTED]) + more
