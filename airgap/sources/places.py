"""Places: where hosts are really reached. The manifest may replace registries and other hosts; names stay what they were.

Invariants: pure. References and URLs in the lock keep their own hosts; only the wire sees the mirror. The credentials used are
those of the host that is really asked.

>>> places = Places({"docker.io": Mirror("artifactory.corp", "dockerhub")}, {})
>>> places.image(Reference.parse("nginx"))
('artifactory.corp', 'dockerhub/library/nginx')
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from airgap.manifest import Mirror
from airgap.ref import Reference
from airgap.transport import HostSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.manifest import BundleManifest

__all__ = ["Mirror", "Places", "Reference"]


@dataclass(frozen=True)
class Places:
    """The replacements: ``registries`` by the host in references, ``hosts`` by the host in URLs."""

    registries: Mapping[str, Mirror] = field(default_factory=dict)
    hosts: Mapping[str, Mirror] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: BundleManifest) -> Places:
        """Return the places of a manifest."""
        return cls(manifest.registries, manifest.hosts)

    def image(self, reference: Reference) -> tuple[str, str]:
        """Return the registry and the repository where an image is asked for."""
        return self.repository(reference.registry, reference.repository)

    def repository(self, host: str, repository: str) -> tuple[str, str]:
        """Return where a repository of the registry ``host`` is reached."""
        mirror = self.registries.get(host, Mirror())
        return mirror.host or host, f"{mirror.prefix}/{repository}" if mirror.prefix else repository

    def url(self, url: str) -> str:
        """Return the URL that is asked in place of ``url``."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower()
        mirror = self.hosts.get(host)
        if mirror is None:
            return url
        path = f"/{mirror.prefix}{parts.path}" if mirror.prefix else parts.path
        scheme = "http" if mirror.plain_http else "https"
        return urlunsplit((scheme, mirror.host or host, path, parts.query, ""))

    def settings(self) -> dict[str, HostSettings]:
        """Return how the mirrors are spoken to, for the Client; keys are the hosts that are really asked."""
        return {
            mirror.host or host: HostSettings(plain_http=mirror.plain_http, ca_file=mirror.ca_file)
            for replaced in (self.hosts, self.registries)
            for host, mirror in replaced.items()
        }
