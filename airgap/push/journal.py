"""Where the uploads of one bundle to one registry are noted, so that another run goes on with them.

Invariants: beside the bundle if that can be written, else in the cache folder, else nowhere: a push never fails because its
journal cannot be written. A push that ends well leaves no journal.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.registry.sessions import SavedSessions, Sessions, journal_name
from airgap.shard import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airgap.oci import Digest
    from airgap.ref import Location
    from airgap.shard import Shard

_log = logging.getLogger(__name__)
_VOLUME = re.compile(r"\.\d{3,}$")


@contextmanager
def noted_uploads(
    bundle: Path, digest: Digest, location: Location, environ: Mapping[str, str], shard: Shard = WHOLE
) -> Iterator[Sessions]:
    """Give the sessions of the pushes of ``bundle`` (a file, or one of its volumes) to ``location``; each shard has its own.

    Raises DiskError when another run has them.
    """
    for path in places(bundle, digest, location, environ, shard):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            sessions = SavedSessions(path)
        except OSError as error:
            _log.debug("uploads cannot be noted in %s: %s", path, error.strerror)
            continue
        _log.debug("uploads are noted in %s", path)
        with sessions:
            yield sessions
            sessions.clear()
        return
    yield Sessions()


def places(
    bundle: Path, digest: Digest, location: Location, environ: Mapping[str, str], shard: Shard = WHOLE
) -> tuple[Path, ...]:
    """Return where the journal may lie, the best place first (XDG base directory specification for the cache). Pure."""
    target = str(location) if shard.is_whole else f"{location} {shard}"
    beside = bundle.with_name(journal_name(_VOLUME.sub("", bundle.name), target))
    home = environ.get("HOME", "")
    cache = environ.get("XDG_CACHE_HOME", "") or (str(Path(home) / ".cache") if home else "")
    if not Path(cache).is_absolute():
        return (beside,)
    return (beside, Path(cache) / "airgap" / journal_name(digest.hex[:16], target))
