r"""Verify: every byte of a bundle against its lock; no network, nothing unpacked.

Invariants: all faults are reported at once; what no other byte vouches for, the lock itself, is vouched for by its name.

::

    verification = verify(Path("wandb.tar"))
    if not verification: print(*verification.faults, sep="\n")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.bundle import BundleReader
from airgap.bundle.reader import VERIFY_JOBS

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.bundle import Verification
    from airgap.progress import Progress


def verify(path: Path, *, jobs: int = VERIFY_JOBS, progress: Progress | None = None) -> Verification:
    """Check the bundle at ``path`` and return what is wrong with it; the result is truthy when it is whole.

    Raises BundleError when there is no lock to check against (no bundle, or cut or damaged before the lock's end), and
    DiskError when the medium cannot be read.
    """
    with BundleReader.open(path, strict=False) as bundle:
        return bundle.verify(progress, jobs)
