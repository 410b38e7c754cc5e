"""The release channel: what W&B says is to be installed, asked as the operator asks it, or read from a file.

Invariants (wandb-v1.md section 1): GET without a body; HTTP Basic with the user ``license`` when there is a licence,
anonymously otherwise; five attempts two seconds apart; anything but 200 is a failure. The licence is never printed or
stored. A spec that carries the credentials of its chart is kept without them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from airgap.errors import (
    ConfigurationError,
    IntegrityError,
    MisledError,
    NetworkError,
    NotFoundError,
    TLSError,
    UnauthorizedError,
)
from airgap.manifest import CHANNEL_PATH, LATEST
from airgap.oci import canonical_json
from airgap.sources.places import Places
from airgap.transport import Credential, redact_url
from airgap.wandb import LICENSE_USER, Spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.manifest import ChannelEntry
    from airgap.transport import Client

LICENSE_VARIABLE = "AIRGAP_LICENSE"
ATTEMPTS = 5
PAUSE = 2.0
"""Attempts, and seconds between them: the operator's own (deployer.go)."""
SPEC_LIMIT = 16 * 1024 * 1024
"""Bytes of a spec; ours: real ones are a few kilobytes."""

_SECRET_KEYS = ("username", "password")


@dataclass(frozen=True)
class ChannelRelease:
    """A spec and where it came from: ``source`` is a URL or a file, ``release`` what was asked for.

    ``credential`` is what the spec said of its chart's repository; it is in none of the bytes.
    """

    spec: Spec
    source: str
    release: str
    credential: Credential | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, str]:
        """Return what the lock keeps: the spec's own bytes among it, so that the same lock needs no channel any more."""
        return {"url": self.source, "release": self.release, "spec": self.spec.raw.decode()}


def find_license(entry: ChannelEntry, environ: Mapping[str, str] | None = None) -> str:
    """Return the licence of the manifest's file, else of AIRGAP_LICENSE, else nothing; raises ConfigurationError."""
    if entry.license_file is None:
        return (os.environ if environ is None else environ).get(LICENSE_VARIABLE, "").strip()
    try:
        text = entry.license_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"licence file {entry.license_file} cannot be read: {reason}") from error
    if not text:
        raise ConfigurationError(f"licence file {entry.license_file} is empty")
    return text


def read_channel(
    client: Client, entry: ChannelEntry, *, places: Places | None = None, licence: str = "", pause: float = PAUSE
) -> ChannelRelease:
    """Return the release that the manifest asks for; ``pause`` is seconds between attempts.

    Raises NotFoundError for an unknown release, UnauthorizedError for a licence that is refused, NetworkError and
    ConfigurationError (a spec that is none).
    """
    if entry.path:
        try:
            raw = entry.path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"channel spec {entry.path} cannot be read: {error.strerror}") from error
        return _release(raw, entry.path.name, entry.release)
    url = f"{entry.url}{CHANNEL_PATH}"
    if entry.release != LATEST:
        url += f"/release/{quote(entry.release, safe='')}"
    raw = _ask(client, (places or Places()).url(url), entry, licence, pause)
    return _release(raw, redact_url(url), entry.release)


def _ask(client: Client, url: str, entry: ChannelEntry, licence: str, pause: float) -> bytes:
    credential = Credential(LICENSE_USER, licence) if licence else None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with client.request(
                "GET",
                url,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                retry=False,
                attempts=1,
                auth=False,
                credential=credential,
                preload=SPEC_LIMIT,
            ) as response:
                return response.read(SPEC_LIMIT)
        except UnauthorizedError as error:
            raise _refused(entry, error, licensed=bool(licence)) from error
        except NotFoundError as error:
            raise _unknown(entry, error) from error
        except (TLSError, IntegrityError, MisledError):
            raise
        except NetworkError as error:
            if attempt == ATTEMPTS:
                message = f"the release channel {entry.url} did not answer in {ATTEMPTS} attempts: {error.message}"
                raise NetworkError(
                    message, hint=error.hint or "a saved answer can be used: channel.path in the manifest"
                ) from error
            time.sleep(pause)
    raise NetworkError(f"the release channel {entry.url} was not asked")  # pragma: no cover  (the loop ends above)


def _refused(entry: ChannelEntry, error: UnauthorizedError, *, licensed: bool) -> UnauthorizedError:
    if licensed:
        what, hint = "refuses this licence", "check that it is whole, current, and for this deployment"
    else:
        what, hint = "wants a licence", f"set channel.licenseFile in the manifest, or {LICENSE_VARIABLE}"
    return UnauthorizedError(f"the release channel {entry.url} {what} ({error.message})", hint=hint)


def _unknown(entry: ChannelEntry, error: NotFoundError) -> NotFoundError:
    if entry.release == LATEST:
        return NotFoundError(f"{entry.url} is no release channel: {error.message}", hint="check channel.url in the manifest")
    return NotFoundError(
        f"the release channel {entry.url} knows no release {entry.release!r}",
        hint="use an id that it lists, or release: latest",
    )


def _release(raw: bytes, source: str, release: str) -> ChannelRelease:
    """Parse a spec; one whose chart brings credentials is written anew without them."""
    spec = Spec.parse(raw, f"channel spec {source}")
    username = getattr(spec.chart, "username", "")
    if not username:
        return ChannelRelease(spec, source, release)
    credential = Credential(username, getattr(spec.chart, "password", ""))
    chart = {key: value for key, value in (spec.chart.to_json() if spec.chart else {}).items() if key not in _SECRET_KEYS}
    clean = canonical_json({"chart": chart, "values": spec.values, "metadata": spec.metadata})
    return ChannelRelease(Spec.parse(clean, f"channel spec {source}"), source, release, credential)


def saved_release(channel: Mapping[str, object]) -> ChannelRelease:
    """Return the release that a lock keeps; raises ConfigurationError."""
    try:
        text, source, release = str(channel["spec"]), str(channel["url"]), str(channel["release"])
    except KeyError as error:
        raise ConfigurationError("the lock holds no channel spec", hint="write a new one with airgap plan") from error
    return ChannelRelease(Spec.parse(text.encode(), "channel spec"), source, release)
