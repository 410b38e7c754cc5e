"""The outside world of the demonstration: a registry that holds every source host under its name, charts and a channel.

Invariants: everything comes from the package's own data; nothing but loopback is spoken to. A manifest reaches it by the same
``registries:`` and ``hosts:`` that a bank uses for its proxy repositories, so no other code path is shown than the real one.

    with serving(pages()) as web:
        fill(IntoRegistry(Registry(client, "127.0.0.1:5000")))
        manifest = bundle_manifest(web, "127.0.0.1:5000")
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airgap.demo.images import recipes, uploads
from airgap.demo.site import WEB_HOSTS
from airgap.oci import Descriptor
from airgap.transport import Window

if TYPE_CHECKING:
    from airgap.demo.shipped import Push, Upload
    from airgap.registry import Registry

_BLOB = "application/octet-stream"
EXTRA_IMAGE = "docker.io/library/busybox:1.36"
"""An image that no chart names, as a site adds one for debugging."""


@dataclass(frozen=True)
class IntoRegistry:
    """Pushes into one registry, the source host as the first part of the path: ``quay.io/a/b`` to ``HOST/quay.io/a/b``."""

    registry: Registry

    def __call__(self, upload: Upload) -> None:
        """Put one repository's content."""
        repository = f"{upload.registry}/{upload.repository}"
        for data in upload.blobs:
            self.registry.upload(repository, Descriptor.of(_BLOB, data), _Opener(data))
        for put in upload.manifests:
            self.registry.put_manifest(repository, put.locator, put.raw, put.media_type)


@dataclass(frozen=True)
class _Opener:
    data: bytes

    def __call__(self, offset: int) -> Window:
        return Window(io.BytesIO(self.data), offset, len(self.data) - offset)


def fill(push: Push) -> None:
    """Hand every image of the demonstration to ``push``."""
    for upload in uploads():
        push(upload)


def source_hosts() -> tuple[str, ...]:
    """Return the registries that the charts' images come from, sorted."""
    return tuple(sorted({recipe.reference.registry for recipe in recipes()}))


def bundle_manifest(web: str, registry: str, features: str | list[str] = "default") -> dict[str, Any]:
    """Return a manifest for the real names, with every host played by ``web`` and ``registry`` (HOST:PORT, plain HTTP)."""
    return {
        "apiVersion": "airgap/v1",
        "kind": "BundleManifest",
        "metadata": {"name": "wandb-demo"},
        "channel": {"url": "https://deploy.wandb.ai", "release": "latest"},
        "charts": [
            {"name": "operator", "repository": "https://charts.wandb.ai"},
            {"name": "operator-wandb", "from": "channel"},
        ],
        "images": [EXTRA_IMAGE],
        "features": features,
        "platforms": ["linux/amd64"],
        "hosts": _played(WEB_HOSTS, web),
        "registries": _played(source_hosts(), registry),
    }


def _played(sources: tuple[str, ...], by: str) -> dict[str, Any]:
    return {source: {"mirror": f"{by}/{source}", "plainHTTP": True} for source in sources}
