"""Foreign layers: bytes that an image says lie outside any registry (cases.md B1). Refused unless somebody wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from airgap.lock import Lock


def refuse_foreign(lock: Lock, *, include_foreign: bool) -> None:
    """Raise ConfigurationError that names every image with a foreign layer, unless they are to be included."""
    named = [str(image.reference) for image in lock.images if any(it.is_foreign for tree in image.trees for it in tree.blobs)]
    if named and not include_foreign:
        raise ConfigurationError(
            f"{', '.join(named)}: layers lie outside the registry (foreign layers), and nodes would fetch them from there",
            hint="leave the image out, or include foreign layers on purpose",
        )
