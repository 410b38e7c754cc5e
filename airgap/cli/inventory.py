"""``airgap inventory``: what the receiving registry holds, for the next delta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from airgap.cli import options, signatures
from airgap.cli.base import lock_of
from airgap.cli.bundle import BundlePath, with_volumes
from airgap.cli.output import OutputFile, emit, table, write_whole
from airgap.errors import ConfigurationError
from airgap.push.inventory import take
from airgap.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.inventory import RegistryInventory


@click.command(
    "inventory",
    epilog="""\b
Examples:
  airgap inventory --registry reg.lan/wandb --output-file inventory.json
  python3 wandb.tar inventory wandb.tar --registry ghe.lan/team      # a registry that lists no repositories
  airgap inventory --registry reg.lan/wandb --output-file inventory.json --sign-key site.pem     # mirror --base-key site.pub
  airgap mirror next.tar --base inventory.json                       # outside, with the file that was carried back""",
)
@click.argument("bundles", metavar="[BUNDLE|LOCK]...", nargs=-1, type=BundlePath())
@with_volumes
@options.registry
@click.option("--output-file", type=OutputFile(), help="Write the inventory there, to be carried.")
@signatures.sign_option
@options.jobs
@options.output
@options.common
def command(bundles: tuple[Path, ...], output_file: Path | None, jobs: int, output_format: str, **flags: Any) -> None:
    """Ask --registry which manifests and layers it holds under its prefix: by its catalog, or in the places of a BUNDLE.

    The file holds digests, tags and repository names, nothing else; whoever can read it knows the registry's name.
    """
    progress = options.progress(flags)
    signing = signatures.signer(flags.pop("sign_key"))
    if signing and not output_file:
        raise ConfigurationError("--sign-key signs a file", hint="give --output-file inventory.json too")
    target = options.target(flags, jobs=jobs)
    registry = Registry(target.client, target.location.registry)
    locks = [lock_of(path) for path in bundles]
    found = take(registry, target.location, locks=locks, jobs=jobs, progress=progress)
    if output_file:
        write_whole(output_file, found.to_bytes())
        signatures.sign(signing, output_file, found.to_bytes())
    emit(output_format, data=found.to_json(), table=_table(found, output_file), names=sorted(found.repositories))


def _table(found: RegistryInventory, written: Path | None) -> str:
    rows = [
        (name, str(len(it.tags)), str(len(it.manifests)), str(len(it.blobs))) for name, it in sorted(found.repositories.items())
    ]
    told = f"{found.location}: {len(rows)} repositories, {len(found.digests)} digests"
    where = f"; written to {written}" if written else "; --output-file keeps it for mirror --base"
    return "\n\n".join([*([table(("REPOSITORY", "TAGS", "MANIFESTS", "BLOBS"), rows)] if rows else []), told + where])
