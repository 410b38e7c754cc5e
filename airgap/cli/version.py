"""``airgap version``: what runs here."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import click

from airgap import __version__
from airgap.cli import options
from airgap.cli.output import emit
from airgap.errors import ToolError
from airgap.lock import SCHEMA_VERSION
from airgap.tools import Helm

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "version",
    epilog="""\b
Example:
  airgap version -o json""",
)
@options.output
@options.helm
def command(output_format: str, helm_path: Path | None, kube_version: str) -> None:
    """Print the versions of airgap, Python and helm, and of the lock's schema."""
    del kube_version
    try:
        helm = Helm.find(helm_path).version
    except ToolError:
        helm = "not found"
    data = {"airgap": __version__, "python": platform.python_version(), "helm": helm, "lockSchema": SCHEMA_VERSION}
    lines = "\n".join(f"{name} {value}" for name, value in data.items())
    emit(output_format, data=data, table=lines, names=[__version__])
