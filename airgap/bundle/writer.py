"""BundleWriter: a bundle written in one pass, each blob straight to its final place, by many threads.

Invariants: the bundle appears under its name only when every byte of it is right (written, checked, fsynced, renamed: design.md
decision 11). Until then there are ``BUNDLE.partial`` and ``BUNDLE.partial.journal``, and another run with the same lock goes
on with them: what the journal claims is hashed again, and only what holds is kept; a blob that was begun goes on where it was,
with what is there of it read back into the hash. Nothing is written before the room for all of it was found. One run at a time
(``BUNDLE.partial.lock``).

::

    with BundleWriter(Path("wandb.tar"), lock) as writer:
        for descriptor in plan.missing(lock, writer.held):
            with writer.sink(descriptor) as sink:
                for chunk in source:
                    sink.write(chunk)
        writer.finish()
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from airgap.bundle import ustar
from airgap.bundle.arrange import Arrangement, Member, arrange
from airgap.bundle.claim import Claim
from airgap.bundle.crew import Crew
from airgap.bundle.journal import Journal, read_journal, remove_journal
from airgap.bundle.medium import chunks, read
from airgap.bundle.pages import LEAST, Pages
from airgap.bundle.room import disk_error
from airgap.bundle.split import target_for, volumes_begun
from airgap.bundle.target import Target, partial_path
from airgap.bundle.verification import tree_faults
from airgap.errors import BundleError, ConfigurationError, DiskError, IntegrityError
from airgap.layout import Verifier, check
from airgap.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from airgap.bundle.medium import Medium
    from airgap.lock import Lock
    from airgap.oci import Descriptor, Digest

NOTE_SIZE, NOTE_TIME = 1024 * 1024, 1.0
"""Bytes and seconds after which the journal hears how far a blob is: what a killed run has to fetch again of each."""
REHASH_JOBS = 4
"""Threads that check what a partial bundle holds: as ``reader.VERIFY_JOBS``."""


def journal_path(path: Path) -> Path:
    """Return the name of its journal."""
    return path.with_name(f"{path.name}.partial.journal")


def interrupted(path: Path) -> Lock | None:
    """Return the lock of the half-written bundle that an earlier run left for ``path``, or None."""
    story = read_journal(journal_path(path))
    return story.lock if story and (partial_path(path).exists() or volumes_begun(path)) else None


class BundleWriter:
    """The writer of the bundle of ``lock`` at ``path``; a context manager.

    Partial and journal stay for the next run unless ``finish`` was called. ``complete`` says that the bundle stands there
    already, with the same lock: there is nothing to do.
    """

    def __init__(
        self,
        path: Path,
        lock: Lock,
        progress: Progress | None = None,
        jobs: int = REHASH_JOBS,
        *,
        split: int | None = None,
        volume: int | None = None,
    ) -> None:
        """Claim the output, look for room, lay out the files and check again what an interrupted run left.

        ``split``: bytes of each volume of a split bundle; ``volume``: only this one is written. Raises DiskError (no room,
        another run, something else under that name) and ConfigurationError (a partial bundle of another lock or split).
        """
        self.path = path
        self.arrangement: Arrangement = arrange(lock)
        self._progress, self._jobs = progress or Progress(), jobs
        self._held: set[Digest] = set()
        self._begun: dict[Digest, int] = {}
        self._guard = threading.Lock()
        self._open_sinks = 0
        self._target: Target = target_for(path, self.arrangement, split, volume)
        self._closing = False
        self._rooms: list[Pages] = []
        self._journal: Journal | None = None
        self._claim = Claim(self._target.path.with_name(f"{self._target.path.name}.partial.lock"), self._target.path)
        with ExitStack() as undo:
            undo.callback(self.close)
            self.complete = self._target.stands()
            if self.complete:
                self._held.update(self.arrangement.blobs)
                self._tidy()
            else:
                self._begin(jobs)
            undo.pop_all()

    @property
    def size(self) -> int:
        """Bytes of all files that are written."""
        return self._target.size

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are written, by their final names."""
        return self._target.files

    @property
    def wanted(self) -> frozenset[Digest]:
        """The blobs that are to be written: all, or those of the one volume."""
        return frozenset(digest for digest, member in self.arrangement.blobs.items() if self._target.wants(member))

    @property
    def held(self) -> frozenset[Digest]:
        """The blobs that are written and checked."""
        with self._guard:
            return frozenset(self._held)

    @property
    def begun(self) -> dict[Digest, int]:
        """Bytes that are there of blobs that were begun: a claim, which the blob's digest will prove or not."""
        with self._guard:
            return {digest: offset for digest, offset in self._begun.items() if digest not in self._held}

    def sink(self, descriptor: Descriptor) -> Sink:
        """Return where the bytes of a blob go; raises BundleError for one that the lock does not list."""
        member = self.arrangement.blobs.get(descriptor.digest)
        if member is None or member.size != descriptor.size:
            raise BundleError(f"the lock of {self.path} lists no blob {descriptor.digest} of {descriptor.size} bytes")
        return Sink(self, member)

    def finish(self) -> None:
        """Add the installer, check the manifests against the lock, make it durable and give it its name.

        Raises BundleError when blobs are missing or contradict the lock, DiskError when the disk fails; the partial stays then.
        """
        if self.complete:
            return
        missing = self.arrangement.blobs.keys() - self.held
        if missing:
            raise BundleError(f"{self.path} is not whole: {len(missing)} blobs are missing, {min(missing)} for one")
        medium = self._target.medium()
        try:
            installer = self._settle(medium) if len(self.wanted) == len(self.arrangement.blobs) else b""
            self._target.seal(installer, self._jobs, self._progress)
            self._target.publish()
            if self._journal:
                self._journal.remove()
        except OSError as error:
            raise disk_error(error, self.path, 0) from error
        finally:
            medium.close()
        self.complete = True

    def close(self) -> None:
        """Let go of everything; what is not finished stays for the next run."""
        with self._guard:
            self._closing = True
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _tidy(self) -> None:
        """Delete the journal that a run left which was ended between naming the bundle and deleting it."""
        if not self._target.begun():
            remove_journal(journal_path(self._target.path))

    def _begin(self, jobs: int) -> None:
        partial, journal = partial_path(self._target.path), journal_path(self._target.path)
        story = read_journal(journal)
        rivals = self._target.rivals() if story else ()
        story = story if self._target.begun() else None
        if story and story.lock.digest != self.arrangement.lock.digest:
            raise ConfigurationError(
                f"{partial} is the beginning of another bundle than this lock's",
                hint=f"finish it with its own lock, or delete {partial} and {journal}",
            )
        if rivals:
            raise ConfigurationError(
                f"{rivals[0].name} is the beginning of a bundle with another --split, or without",
                hint=f"finish it as it was begun, or delete {journal} and what begins with {partial}",
            )
        try:
            self._target.make_ready(again=story is not None)
            self._lay_out()
            if story:
                self._check_again(story.finished, jobs)
                self._begun.update(self._credible(story.begun))
            self._journal = Journal(journal, self.arrangement.raw, self.held, self.begun)
        except OSError as error:
            raise disk_error(error, partial, self._target.size) from error

    def _lay_out(self) -> None:
        """Write all that the lock decides: headers, index.json, the lock, the end of the archive. Padding stays a hole."""
        for member in self.arrangement.members:
            self._write(member.start, member.header + (member.content or b""))
            if member.digest and (member.content is not None or not self._target.wants(member)):
                self._held.add(member.digest)
        self._write(self.arrangement.tar_size - len(ustar.END), ustar.END)

    def _check_again(self, claimed: frozenset[Digest], jobs: int) -> None:
        """Hash what the journal claims; keep what holds, forget the rest."""
        members = [member for member in self.arrangement.members if member.digest in claimed and member.content is None]
        members = [member for member in members if self._target.holds(member)]
        if not members:
            return
        medium = self._target.medium()
        crew = Crew(jobs)

        def look(member: Member) -> None:
            assert member.descriptor is not None  # noqa: S101  # claimed digests are blobs
            verifier = Verifier(member.descriptor)
            try:
                for chunk in chunks(medium, member.offset, member.size):
                    crew.check()
                    verifier.update(chunk)
                    self._progress.advance(len(chunk))
                verifier.finish()
            except IntegrityError as error:
                self._progress.warn(f"{error.message}: it will be fetched again")
            else:
                self._keep(member)
                self._progress.done(member.name, "already there")

        self._progress.begin("check what is already there", len(members), sum(member.size for member in members))
        try:
            crew.run(members, look)
        finally:
            medium.close()
        self._progress.end()

    def _credible(self, claimed: Mapping[Digest, int]) -> dict[Digest, int]:
        """Return what the journal says of blobs that were begun, where it can be so."""
        members = {digest: self.arrangement.blobs.get(digest) for digest in claimed}
        return {
            digest: claimed[digest]
            for digest, member in members.items()
            if member and 0 < claimed[digest] <= member.size and self._target.wants(member) and self._target.holds(member)
        }

    def _settle(self, medium: Medium) -> bytes:
        """Compare the manifests with the lock; return the installer."""
        for fault in tree_faults(self.arrangement, lambda descriptor: self._read(medium, descriptor)):
            raise BundleError(f"the lock of {self.path} does not fit what was fetched: {fault}", hint="run airgap plan again")
        trailer = self.arrangement.trailer
        return self._read(medium, trailer) if trailer else b""

    def _read(self, medium: Medium, descriptor: Descriptor) -> bytes:
        member = self.arrangement.blobs[descriptor.digest]
        return check(read(medium, member.offset, member.size), descriptor)

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of ``data``; raises DiskError with what is still missing."""
        try:
            self._target.write(memoryview(data), offset)
        except OSError as error:
            raise disk_error(error, partial_path(self._target.path), self._left()) from error

    def _write_pages(self, data: memoryview, offset: int) -> None:
        try:
            self._target.write_pages(data, offset)
        except OSError as error:
            raise disk_error(error, partial_path(self._target.path), self._left()) from error

    def _take_pages(self, member: Member, position: int) -> Pages | None:
        """Return pages for a blob that goes on at ``position``; None: it is written as it comes."""
        if not self._target.direct or member.size - position < LEAST:
            return None
        with self._guard:
            pages = self._rooms.pop() if self._rooms else Pages(self._write_pages)
        pages.begin(member.offset + position)
        return pages

    def _give_back(self, pages: Pages | None) -> None:
        if pages:
            with self._guard:
                self._rooms.append(pages)

    def _left(self) -> int:
        """Return how many bytes of blobs are still missing."""
        held = self.held
        return sum(member.size for digest, member in self.arrangement.blobs.items() if digest not in held)

    def _keep(self, member: Member) -> None:
        assert member.digest is not None  # noqa: S101  # only blobs have sinks
        with self._guard:
            self._held.add(member.digest)

    def _read_back(self, member: Member) -> Verifier:
        """Return a verifier that has seen what is there of a blob that was begun."""
        assert member.descriptor is not None  # noqa: S101  # only blobs have sinks
        verifier = Verifier(member.descriptor)
        offset = self.begun.get(member.descriptor.digest, 0)
        if offset:
            medium = self._target.medium()
            try:
                for chunk in chunks(medium, member.offset, offset):
                    verifier.update(chunk)
            finally:
                medium.close()
        return verifier

    def _note(self, member: Member, offset: int) -> None:
        """Note how far a blob is; 0: it has to begin anew."""
        assert member.digest is not None  # noqa: S101  # only blobs have sinks
        with self._guard:
            self._begun[member.digest] = offset
        if self._journal:
            try:
                self._journal.note(member.digest, offset)
            except OSError as error:
                raise disk_error(error, journal_path(self._target.path), self._left()) from error

    def _committed(self, member: Member) -> None:
        self._keep(member)
        if self._journal and member.digest:
            try:
                self._journal.finish(member.digest)
            except OSError as error:
                raise disk_error(error, journal_path(self._target.path), self._left()) from error

    def _enter_sink(self) -> None:
        with self._guard:
            if self._closing:
                raise DiskError(f"{self.path} is not being written any more")
            self._open_sinks += 1

    def _leave_sink(self) -> None:
        with self._guard:
            self._open_sinks -= 1
            self._let_go()

    def _let_go(self) -> None:
        """Close the files once nobody writes: a number that is closed too early may be another file's by then."""
        if not self._closing or self._open_sinks:
            return
        self._target.close()
        if self._journal:
            self._journal.close()
        self._claim.release()


class Sink:
    """Where one blob goes: ``write`` puts bytes at their final place and hashes them, a clean exit checks size and digest.

    Raises IntegrityError when they are not right (the blob then counts as not there) and DiskError. ``position`` is how far
    it got, this time or in an earlier run; ``restart`` forgets everything written, for a second attempt.
    """

    def __init__(self, writer: BundleWriter, member: Member) -> None:
        assert member.descriptor is not None  # noqa: S101  # the writer looked it up by digest
        self._writer, self._member, self._descriptor = writer, member, member.descriptor
        self._verifier = Verifier(member.descriptor)
        self._pages: Pages | None = None
        self._noted, self._noted_at = 0, 0.0

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._verifier.position

    def room(self) -> memoryview:
        """Return memory in which the next bytes may lie when ``write`` is told of them; empty: there is none."""
        return self._pages.room if self._pages else memoryview(b"")

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the blob."""
        start = self._verifier.position
        self._verifier.update(data)
        if self._pages:
            self._pages.put(data)
        else:
            self._writer._write(self._member.offset + start, data)  # noqa: SLF001 - writer and sink are one thing in two parts
        late = time.monotonic() - self._noted_at >= NOTE_TIME
        if late:
            self._flush()
        if late or self._written - self._noted >= (LEAST if self._pages else NOTE_SIZE):  # pages are large already
            self._note(self._written)

    @property
    def _written(self) -> int:
        """Bytes that are in the file."""
        return self._pages.offset - self._member.offset if self._pages else self.position

    def _flush(self) -> None:
        if self._pages:
            self._pages.flush()

    def verify(self) -> None:
        """Raise IntegrityError unless the blob is whole and right; a clean exit does the same."""
        self._verifier.finish()

    def restart(self) -> None:
        """Begin the blob anew."""
        self._verifier = Verifier(self._descriptor)
        if self._pages:
            self._pages.begin(self._member.offset)
        if self._noted:
            self._note(0)

    def _note(self, position: int) -> None:
        self._noted, self._noted_at = position, time.monotonic()
        self._writer._note(self._member, position)  # noqa: SLF001

    def __enter__(self) -> Self:
        self._writer._enter_sink()  # noqa: SLF001
        with ExitStack() as undo:
            undo.callback(self._writer._leave_sink)  # noqa: SLF001
            self._verifier = self._writer._read_back(self._member)  # noqa: SLF001
            self._pages = self._writer._take_pages(self._member, self.position)  # noqa: SLF001
            undo.pop_all()
        self._noted, self._noted_at = self.position, time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._verifier.finish()
                self._flush()
                self._writer._committed(self._member)  # noqa: SLF001
            elif isinstance(error, IntegrityError):
                self._note(0)
            elif not isinstance(error, DiskError):
                self._flush()
                if self._written > self._noted:
                    self._note(self._written)
        finally:
            self._writer._give_back(self._pages)  # noqa: SLF001
            self._writer._leave_sink()  # noqa: SLF001
