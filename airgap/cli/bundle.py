"""BUNDLE on the command line: a file, any volume of a split bundle, or the name that its volumes share; and --volumes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.bundle import BundleReader
from airgap.bundle.volumes import alone, look, split_name
from airgap.cli import signatures

if TYPE_CHECKING:
    from collections.abc import Callable

Command = TypeVar("Command", bound="Callable[..., Any]")

_FOLDERS = "airgap.cli.bundle.folders"


class BundlePath(click.Path):
    """An existing file, or the name of a split bundle; --volumes says where else its volumes may lie."""

    def __init__(self, *, folder: bool = False) -> None:
        super().__init__(exists=True, dir_okay=folder, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a name without a file is one if there are volumes for it."""
        path, more = Path(value), ctx.meta.get(_FOLDERS, ()) if ctx else ()
        if not path.exists() and any(look(base, more) for base in (path, split_name(path)[0])):
            return path
        return super().convert(value, param, ctx)


def argument(command: Command) -> Command:
    """Add BUNDLE and --volumes."""
    return click.argument("bundle", type=BundlePath())(with_volumes(command))


def optional(command: Command) -> Command:
    """Add BUNDLE, which may be left out, and --volumes."""
    return click.argument("bundle", required=False, type=BundlePath())(with_volumes(command))


def or_folder(command: Command) -> Command:
    """Add BUNDLE, which may be a folder too that ``render`` wrote, and --volumes."""
    return click.argument("bundle", metavar="BUNDLE|DIR", type=BundlePath(folder=True))(with_volumes(command))


def with_volumes(command: Command) -> Command:
    """Add --volumes and --verify-key."""
    command = signatures.verify_option(command)
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    told = "Another folder where volumes of a split bundle lie; repeatable."
    return click.option(
        "--volumes", multiple=True, metavar="DIR", type=kind, is_eager=True, expose_value=False, callback=_keep, help=told
    )(command)


def _keep(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> None:
    del param
    ctx.meta[_FOLDERS] = value


def folders() -> tuple[Path, ...]:
    """Return what --volumes named, of the command that runs."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_FOLDERS, ()) if context else ()


def open_bundle(path: Path) -> BundleReader:
    """Open BUNDLE, with its volumes wherever --volumes says; raises BundleError, DiskError.

    Where --verify-key was given, raises IntegrityError unless the lock in it is signed: nothing else is read before.
    """
    with ExitStack() as undo:
        reader = undo.enter_context(BundleReader.open(path, folders=folders()))
        signatures.refuse_unsigned(reader.volumes.base if reader.volumes else path, reader.digest, folders())
        undo.pop_all()
    return reader


def signed_by(path: Path) -> str:
    """Return the key that signed the bundle at ``path``, or that one volume of it names; empty when none was given.

    Raises as ``open_bundle``.
    """
    if not signatures.asked_for():
        return ""
    base = split_name(path)[0]
    seen = alone(path) or next((it for it in look(path, folders()) if it.label), None)
    if seen and seen.label:
        return signatures.refuse_unsigned(base if path.exists() else path, seen.label.identity.bundle, folders())
    with BundleReader.open(path) as reader:
        return signatures.refuse_unsigned(path, reader.digest, folders())
