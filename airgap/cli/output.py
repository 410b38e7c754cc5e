"""Data on stdout: a table for people, JSON and YAML for programs (with a schemaVersion), names for pipes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap.errors import DiskError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA_VERSION = 1
"""Of the JSON that every verb prints; it changes when a field changes its meaning or goes."""


def emit(form: str, *, data: Mapping[str, Any], table: str, names: Sequence[str]) -> None:
    """Print one result in the form that -o asked for."""
    if form == "json":
        click.echo(json.dumps({"schemaVersion": SCHEMA_VERSION, **data}, indent=2, sort_keys=True))
    elif form == "yaml":
        from airgap.values import dump_yaml  # noqa: PLC0415  (a good part of the start of a short command)

        click.echo(dump_yaml({"schemaVersion": SCHEMA_VERSION, **data}), nl=False)
    elif form == "name":
        for name in names:
            click.echo(name)
    else:
        click.echo(table)


class OutputFile(click.Path):
    """The type of a file that is written at the end of the work: what would stop that is a usage error before it begins."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fails where its folder is none, or takes no files."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.parent
        if not folder.is_dir():
            self.fail(f"the folder {str(folder)!r} of {path.name!r} does not exist; make it first.", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"the folder {str(folder)!r} of {path.name!r} takes no files from this user.", param, ctx)
        return path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there (an older one stays until then); raises DiskError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DiskError(
            f"{path} cannot be written: {error.strerror or error}", hint="make room there, or choose another place"
        ) from error


def written_json(data: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON file for people and programs: sorted, two blanks deep."""
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under their heads, two blanks apart, the last column as wide as it is."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return "\n".join(lines)
