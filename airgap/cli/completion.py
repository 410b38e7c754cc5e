"""``airgap completion SHELL``: the script that click makes for bash, zsh and fish."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    "completion",
    epilog="""\b
Example:
  airgap completion bash > /etc/bash_completion.d/airgap""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL."""
    from airgap.cli import cli  # noqa: PLC0415 - the group imports its verbs lazily, this one among them

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(cli, {}, "airgap", "_AIRGAP_COMPLETE").source())
