"""Sizes on the command line, in the units of ``split`` (coreutils): 4G and 4GiB are 4 * 1024^3 bytes, 4GB is 4 * 1000^3.

>>> parse_size("4000M"), parse_size("650MB"), parse_size("1.5GiB")
(4194304000, 650000000, 1610612736)
"""

from __future__ import annotations

import re
from typing import Any

import click

_SIZE = re.compile(r"(?P<number>\d{1,15}(\.\d{1,6})?) *(?P<unit>([KMGT]?)(i?B)?)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Return bytes; raises ValueError for anything that is no size."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size")
    unit = found["unit"].upper()
    letter = unit.removesuffix("B").removesuffix("I")
    base = 1000 if unit == f"{letter}B" else 1024
    whole, _, fraction = found["number"].partition(".")
    factor: int = base ** _POWERS[letter]
    return int(whole) * factor + int(fraction or 0) * factor // int(10 ** len(fraction))


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A size in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes that a text means."""
        try:
            return int(value) if isinstance(value, int) else parse_size(str(value))
        except ValueError as error:
            self.fail(f"{error}; write 4000M, 4GiB or 650MB", param, ctx)
