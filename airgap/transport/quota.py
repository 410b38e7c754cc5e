"""Quota: how many pulls a registry still allows, as Docker Hub says it in ``ratelimit-*`` headers (cases.md L4). Pure.

>>> parse_quota({"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "3;w=21600"})
Quota(remaining=3, limit=100, window=21600)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600.0
FEW = 10
"""Pulls left at which the user is warned: about what one feature of W&B needs."""
_COUNT = re.compile(r"(\d{1,9})(?:\s*;\s*w=(\d{1,9}))?")


@dataclass(frozen=True)
class Quota:
    """``remaining`` of ``limit`` pulls (0: not said) within ``window`` seconds (0: not said)."""

    remaining: int
    limit: int = 0
    window: int = 0

    @property
    def period(self) -> str:
        """The window for people: ``within 6.0 hours``, or nothing."""
        return f" within {self.window / HOUR:.1f} hours" if self.window else ""


def parse_quota(headers: Mapping[str, str]) -> Quota | None:
    """Return what the headers of an answer say, or None."""
    left = _COUNT.fullmatch(headers.get("ratelimit-remaining", "").strip())
    if not left:
        return None
    whole = _COUNT.fullmatch(headers.get("ratelimit-limit", "").strip())
    window = left[2] or (whole[2] if whole else None) or 0
    return Quota(int(left[1]), int(whole[1]) if whole else 0, int(window))
