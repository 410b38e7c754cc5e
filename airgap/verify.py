r"""Verify: every byte of a bundle against its lock; no network, nothing unpacked.

Invariants: all faults are reported at once; what no other byte vouches for, the lock itself, is vouched for by its name.

::

    verification = verify(Path("wandb.tar"))
    if not verification: print(*verification.faults, sep="\n")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.bundle.reader import VERIFY_JOBS
from airgap.bundle.volume_check import verify_bundle
from airgap.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airgap.bundle import Verification


def verify(
    path: Path, *, jobs: int = VERIFY_JOBS, progress: Progress | None = None, folders: Sequence[Path] = ()
) -> Verification:
    """Check the bundle at ``path`` and return what is wrong with it; the result is truthy when it is whole.

    A volume of a split bundle is checked by itself, with nothing but its bytes; the name that volumes share means all of them,
    looked for beside it and in ``folders``. Raises BundleError when there is no lock to check against (no bundle, or cut or
    damaged before the lock's end), and DiskError when the medium cannot be read.
    """
    return verify_bundle(path, folders, jobs, progress or Progress())
