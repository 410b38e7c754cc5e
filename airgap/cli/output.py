"""Data on stdout: a table for people, JSON and YAML for programs (with a schemaVersion), names for pipes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from airgap.values import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA_VERSION = 1
"""Of the JSON that every verb prints; it changes when a field changes its meaning or goes."""


def emit(form: str, *, data: Mapping[str, Any], table: str, names: Sequence[str]) -> None:
    """Print one result in the form that -o asked for."""
    if form == "json":
        click.echo(json.dumps({"schemaVersion": SCHEMA_VERSION, **data}, indent=2, sort_keys=True))
    elif form == "yaml":
        click.echo(dump_yaml({"schemaVersion": SCHEMA_VERSION, **data}), nl=False)
    elif form == "name":
        for name in names:
            click.echo(name)
    else:
        click.echo(table)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under their heads, two blanks apart, the last column as wide as it is."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return "\n".join(lines)
