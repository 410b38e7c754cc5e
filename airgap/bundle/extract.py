"""Extract: the one blob that must be a file of its own, such as helm, out of a bundle into a private folder.

Invariants: the file appears under its name only when its digest is right (written aside, then renamed), with the digest in the
name, readable and executable by its owner alone; one that stands there already is checked again before it is trusted.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.errors import DiskError, IntegrityError
from airgap.layout import Verifier, verified

if TYPE_CHECKING:
    from airgap.bundle.reader import BundleReader
    from airgap.lock import LockedArtifact

CHUNK = 1024 * 1024
"""Bytes read at a time when a file is checked."""


def extract(bundle: BundleReader, artifact: LockedArtifact, folder: Path) -> Path:
    """Return the path of ``artifact``'s content in ``folder``, written unless it is there; raises DiskError, IntegrityError."""
    descriptor = artifact.content
    path = folder / f"{artifact.name}-{artifact.version}-{descriptor.digest.short}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _holds(path, artifact):
            return path
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            partial = Path(scratch) / path.name
            with partial.open("wb") as file:
                file.writelines(verified(bundle.chunks(descriptor), descriptor, f"{artifact.kind} {artifact.name}"))
            partial.chmod(0o700)
            partial.replace(path)
    except OSError as error:
        raise DiskError(
            f"{artifact.name} cannot be taken out of the bundle into {folder}: {error.strerror or error}",
            hint="set XDG_CACHE_HOME to a folder that can be written and from which programs may run",
        ) from error
    return path


def _holds(path: Path, artifact: LockedArtifact) -> bool:
    """Whether ``path`` is our own regular file with the right bytes: others may not have put it there."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
                return False
            check = Verifier(artifact.content, str(path))
            for piece in iter(lambda: file.read(CHUNK), b""):
                check.update(piece)
            check.finish()
    except (FileNotFoundError, IntegrityError):
        return False
    return True
