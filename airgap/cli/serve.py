"""``airgap serve``: the bundle as registry, chart repository and release channel."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from airgap import serve as stage
from airgap.cli import base, options
from airgap.cli import bundle as bundle_option
from airgap.errors import ConfigurationError
from airgap.ref import HOST, LAYOUTS

if TYPE_CHECKING:
    from airgap.serve import Access

DEFAULT_ADDRESS = "127.0.0.1:5000"


@click.command(
    "serve",
    epilog="""\b
Examples:
  airgap serve wandb.tar --address 0.0.0.0:5000 --tls-cert site.pem --tls-key site.key
  airgap serve --store /srv/registry --users users.txt      # a registry where a site has none
  helm pull oci://127.0.0.1:5000/charts/operator-wandb --plain-http""",
)
@bundle_option.optional
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Take pushes too, into this OCI layout.")
@click.option("--address", default=DEFAULT_ADDRESS, show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option(
    "--prefix", default="", help="Path before every repository of the bundle, as push --registry HOST/PREFIX puts it."
)
@click.option("--layout", type=click.Choice(LAYOUTS), default=HOST, show_default=True, help="As push --layout puts it.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its key (PEM).")
@click.option("--users", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File of user:password lines.")
@click.option("--anonymous-pull", is_flag=True, help="With --users: whoever has no password may still read.")
@click.option("--immutable-tags", is_flag=True, help="With --store: a tag, once pushed, never moves.")
@options.common
def command(bundle: Path | None, store: Path | None, address: str, **flags: Any) -> None:
    """Serve BUNDLE (read-only, straight from the tar) and, with --store, a registry that takes pushes.

    /v2/ is the registry, /charts/index.yaml the chart repository, /api/v1/operator/channel the release channel; /simple/ lists
    the bundle's Python packages, for pip --index-url.
    """
    if bundle is None and store is None:
        raise ConfigurationError("there is nothing to serve", hint="name a bundle, or a folder with --store, or both")
    progress = options.progress(flags)
    cert, key = flags.pop("tls_cert"), flags.pop("tls_key")
    if bool(cert) != bool(key):
        raise ConfigurationError("--tls-cert and --tls-key belong together")
    users = flags.pop("users")
    settings = stage.Options(
        users=stage.load_users(users) if users else None,
        anonymous_pull=flags.pop("anonymous_pull"),
        prefix=flags.pop("prefix"),
        layout=flags.pop("layout"),
        rules=stage.Rules(immutable_tags=flags.pop("immutable_tags")),
    )

    def log(access: Access) -> None:
        progress.debug(str(access))

    with ExitStack() as stack:
        reader = stack.enter_context(bundle_option.open_bundle(bundle)) if bundle else None
        if reader and (warning := base.cannot(reader.lock)):
            progress.warn(f"{warning}{' (unless --store has them)' if store else ''}")
        tls = (cert, key) if cert else None
        server = stage.Server(reader, store, address=_address(address), tls=tls, options=settings, access_log=log)
        server.serve_forever(lambda url: click.echo(f"serving on {url} (Ctrl-C ends it)", err=True))


def _address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT, an IPv6 host in brackets; raises ConfigurationError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest TCP port
        raise ConfigurationError(f"--address {text!r} is not of the form HOST:PORT", hint="e.g. 0.0.0.0:5000")
    return host.strip("[]"), int(port)
