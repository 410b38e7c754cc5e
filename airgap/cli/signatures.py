"""--sign-key, --verify-key and --base-key: who signs, and whose signature is asked for before anything is believed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from airgap.cli.output import write_whole
from airgap.errors import IntegrityError
from airgap.signature import SUFFIX, PublicKey, check
from airgap.signing import Signer, read_key, read_small, signature_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airgap.oci import Digest

Command = TypeVar("Command", bound="Callable[..., Any]")
_log = logging.getLogger(__name__)
_KEYS, _BASE_KEYS = "airgap.cli.signatures.keys", "airgap.cli.signatures.base_keys"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def sign_option(command: Command) -> Command:
    """Add --sign-key."""
    return click.option(
        "--sign-key",
        type=_FILE,
        metavar="KEY.pem",
        envvar="AIRGAP_SIGN_KEY",
        help="Sign what is written (ECDSA on P-256, by openssl): the signature lies beside it, with .sig behind its name.",
    )(command)


def verify_option(command: Command) -> Command:
    """Add --verify-key."""
    told = "Take BUNDLE only with a signature (BUNDLE.sig) by this public key, or by one of several."
    return _keys("--verify-key", _KEYS, told, "AIRGAP_VERIFY_KEY")(command)


def base_option(command: Command) -> Command:
    """Add --base-key."""
    return _keys("--base-key", _BASE_KEYS, "Take --base only with a signature (its name and .sig) by this public key.")(command)


def _keys(name: str, place: str, told: str, variable: str | None = None) -> Callable[[Command], Command]:
    """Return an option whose keys are kept in the command's context, under ``place``."""

    def keep(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> None:
        del param
        ctx.meta[place] = value

    return click.option(
        name,
        multiple=True,
        type=_FILE,
        metavar="KEY.pub",
        envvar=variable,
        is_eager=True,
        expose_value=False,
        callback=keep,
        help=told,
    )


def asked_for(*, base: bool = False) -> bool:
    """Whether the command that runs was given keys."""
    return bool(_given(_BASE_KEYS if base else _KEYS))


def _given(place: str) -> tuple[Path, ...]:
    context = click.get_current_context(silent=True)
    return context.meta.get(place, ()) if context else ()


def refuse_unsigned(path: Path, digest: Digest, folders: Iterable[Path] = (), *, base: bool = False) -> str:
    """Return the file of the key that signed ``path``, whose lock or bytes have ``digest``; empty: no key was given.

    The signature lies beside it or in ``folders``. Raises IntegrityError where there is none, or none by a key that was given;
    ConfigurationError for keys that are none.
    """
    keys: tuple[PublicKey, ...] = tuple(read_key(file) for file in _given(_BASE_KEYS if base else _KEYS))
    if not keys:
        return ""
    places = [signature_path(path), *(folder / f"{path.name}{SUFFIX}" for folder in folders)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise IntegrityError(
            f"{path} has no signature: {places[0]} is not there", hint="bring it too; airgap mirror --sign-key writes it"
        )
    key = check(str(path), digest, read_small(found), keys)
    _log.debug("%s is signed by %s", path, key.where)
    return key.where


def signer(key: Path | None) -> Signer | None:
    """Return who signs; raises ConfigurationError and ToolError before any work is done."""
    return Signer(key) if key else None


def sign(signing: Signer | None, path: Path, data: bytes) -> str:
    """Write the signature of ``data`` beside ``path``; return its name, empty when nobody signs."""
    if signing is None:
        return ""
    place = signature_path(path)
    write_whole(place, signing.sign(data))
    return str(place)
