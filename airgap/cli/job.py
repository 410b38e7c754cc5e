"""``airgap push --job``: the Kubernetes Job that makes the push that the other flags describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airgap.bundle.volumes import split_name, volume_path
from airgap.cli.options import JOBS
from airgap.errors import ConfigurationError
from airgap.push_job import IMAGE, NAME, PushJob
from airgap.ref import HOST, Location, Reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airgap.oci import Digest

_FLAGS = {"plain_http": "--plain-http", "insecure_skip_tls_verify": "--insecure-skip-tls-verify"}


def text(
    bundle: Path, digest: Digest, flags: dict[str, Any], *, count: int, image: str, claim: str, rest: Sequence[str]
) -> str:
    """Return the YAML of ``count`` pods; ``rest``: arguments of push that are not about reaching a registry.

    Raises ConfigurationError for credentials, which only a Secret may hold.
    """
    told = [name for name in ("password_stdin", "cert", "key") if flags[name]]
    if told:
        raise ConfigurationError(
            f"--{told[0].replace('_', '-')} cannot go into a Job", hint=f"its pods take credentials from the Secret {NAME}"
        )
    layout = flags["place_layout"]
    places = [Location.parse(name, layout) for name in dict.fromkeys(flags["registry_names"])]
    arguments = [word for place in places for word in ("--registry", str(place))]
    arguments += ["--layout", layout] if layout != HOST else []
    arguments += [word for name, word in _FLAGS.items() if flags[name]]
    return PushJob(
        name=f"{NAME}-{digest.hex[:8]}",
        count=count,
        image=image or str(places[0].relocate(Reference.parse(IMAGE))),
        claim=claim,
        file=bundle.name if bundle.exists() else volume_path(split_name(bundle)[0], 1).name,
        bundle=bundle.name,
        hosts=[place.registry for place in places],
        arguments=[*arguments, *rest],
        ca_text=flags["ca_file"].read_text() if flags["ca_file"] else "",
    ).text()


def rest(*, jobs: int, rate: int | None, count: int, include_foreign: bool, upload_hosts: Sequence[str]) -> list[str]:
    """Return what else push was told, for each pod; a rate is for all together."""
    words = ["--jobs", str(jobs)] if jobs != JOBS else []
    words += ["--limit-rate", str(max(1, rate // count))] if rate else []
    words += ["--include-foreign"] if include_foreign else []
    return words + [word for host in upload_hosts for word in ("--upload-host", host)]
