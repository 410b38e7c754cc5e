"""The command line: one file per verb; each parses, builds both ends, calls one stage and prints.

Invariants: data goes to stdout and everything else to stderr; an AirgapError becomes one sentence, a hint and its exit code;
a traceback is shown with -vv only. Verbs are imported when they are called, so the receiving side never loads what only the
connected side needs. This is the only layer with click, colours and tqdm.

    python3 -m airgap push wandb.tar --registry reg.lan:5000/mirror
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from airgap import __version__
from airgap.cli.carrier import carried
from airgap.cli.events import Events
from airgap.errors import AirgapError, DiskError, ToolError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, TracebackType

VERBS = {
    "plan": "What would be bundled and why; writes airgap.lock",
    "mirror": "Write the bundle",
    "inspect": "What is inside a bundle",
    "verify": "Check every byte of a bundle against its lock",
    "push": "Push a bundle to the private registry, straight from the tar",
    "render": "Write operator values, custom resource, secrets and node mirrors",
    "audit": "Prove by rendering again that nothing points outside",
    "preflight": "Everything that would stop an install, before anything is changed",
    "install": "Preflight, push, render, audit, apply and wait; with a newer bundle, the upgrade",
    "status": "What runs, what each pod is for, what is wrong and why, what was changed since",
    "rollback": "Back to what the previous receipt describes",
    "console": "The System Console's URL and password, and a way to it without the ingress",
    "verify-install": "The checks of wandb verify, made from inside",
    "uninstall": "Remove what the receipts list; data stays unless --purge",
    "load": "Load images of a bundle into a local Docker engine",
    "inventory": "What the private registry holds already, for the next delta",
    "diff": "What changed between two bundles or locks",
    "serve": "Serve a bundle as registry, chart repository and release channel",
    "config": "Schema, validation and explanation of configuration",
    "demo": "The whole loop on loopback, printing each command",
    "version": "Versions of airgap and of helm",
    "completion": "Shell completion script",
}
"""Each verb with its one line of help; the module of the same name (dashes as underscores) in this package holds it."""

CONNECTED_SIDE = frozenset({"jsonschema", "docker", "oras"})
"""Packages that a bundle does not carry: with them airgap plans and mirrors, which a bundle by itself cannot."""

INTERRUPTED = 130


class _Verbs(click.Group):
    """A group that imports a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"airgap.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        if not isinstance(command, click.Command):  # pragma: no cover - a programming error, not a user's
            raise TypeError(cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb when there is none of this name."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {close[0]}?" if close else "; see airgap --help"))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs in the order of the job, without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "AIRGAP"},
    epilog="""\b
On the connected host:
  airgap mirror wandb.tar
In the disconnected datacenter:
  python3 wandb.tar push wandb.tar --registry reg.lan/wandb
  python3 wandb.tar render wandb.tar --registry reg.lan/wandb --values user.yaml --dir out
  python3 wandb.tar audit wandb.tar --registry reg.lan/wandb --values user.yaml
  python3 wandb.tar install wandb.tar --registry reg.lan/wandb --values user.yaml
""",
)
@click.version_option(__version__, prog_name="airgap")
def cli() -> None:
    """Carry the Weights & Biases Kubernetes Operator across an air gap, and prove that nothing points outside."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit the process with the codes of design.md section 2."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminated)
    sys.excepthook = _unexpected
    verbs = sys.argv[1:] if arguments is None else arguments
    sys.exit(carried(lambda: _run(arguments)) if verbs[:1] in (["push"], ("push",)) else _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command; return its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="airgap", standalone_mode=False)
        sys.stdout.flush()
    except AirgapError as error:
        return _failed(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted; the same command goes on where this one stopped.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read our stdout has gone, e.g. head
        return 0
    except (OSError, ModuleNotFoundError) as error:
        return _failed(_told(error))
    return code if isinstance(code, int) else 0


def _told(error: OSError | ModuleNotFoundError) -> AirgapError:
    """Return what a plain error of Python's means to a user; raises it again when it is none of the user's business."""
    if isinstance(error, OSError):
        return DiskError(f"{error.filename or 'a file'}: {error.strerror or error}")
    if error.name not in CONNECTED_SIDE:
        raise error
    return ToolError(
        f"the package {error.name} is not here: a bundle carries what the disconnected side needs",
        hint="plan, mirror and config run where airgap is installed, on the connected host",
    )


def _failed(error: AirgapError) -> int:
    """Tell an error as one sentence with its hint; return its exit code."""
    if verbose_enough():
        sys.__excepthook__(type(error), error, error.__traceback__)
    if events := _events():
        events.error(printable(error.message), printable(error.hint), error.exit_code)
        return error.exit_code
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {printable(error.message)}", err=True)
    if error.hint:
        click.echo(f"{click.style('Hint:', fg='yellow')} {printable(error.hint)}", err=True)
    return error.exit_code


def _events() -> Events | None:
    """Return where --log-format json has errors told, if it was given."""
    tellers = (getattr(handler, "progress", None) for handler in logging.getLogger("airgap").handlers)
    return next((teller for teller in tellers if isinstance(teller, Events)), None)


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped: names come from charts and registries (faults F53)."""
    return "".join(character if character.isprintable() or character == "\n" else repr(character)[1:-1] for character in text)


def verbose_enough() -> bool:
    """Whether -vv was given anywhere on the command line: then tracebacks are shown."""
    return any(argument.startswith("-v") and argument.count("v") > 1 and argument.strip("-v") == "" for argument in sys.argv)


def _terminated(signum: int, frame: FrameType | None) -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C: partial bundle and journal stay."""
    del frame
    raise SystemExit(128 + signum)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell what no branch foresaw: one sentence; the traceback with -vv."""
    if verbose_enough():
        sys.__excepthook__(kind, error, trace)
        return
    click.echo(f"Error: unexpected {kind.__name__}: {printable(str(error))}", err=True)
    click.echo("Hint: run it again with -vv and report what it prints", err=True)
