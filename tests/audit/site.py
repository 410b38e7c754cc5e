"""A site for audits: the umbrella and operator charts of the relocation tests, tiny images in a real registry, values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airgap.audit import AuditOptions, Verdict, audit
from airgap.lock import Lock, LockedImage, LockedTree
from airgap.oci import Descriptor, Digest, Platform
from airgap.ref import Location, Reference
from airgap.registry import Registry
from airgap.relocate import Options, Relocation, relocate
from airgap.transport import Client, HostSettings
from airgap.wandb import read_user_values
from tests.relocate.shapes import helm, operator, references, umbrella
from tests.world.images import Drawn, Picture, Pusher, draw

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from airgap.chart import Chart
    from airgap.tools import Helm
    from tests.world.registries import RunningRegistry

VALUES: dict[str, Any] = {
    "global": {"host": "https://wandb.corp.lan", "license": "x.y.z", "email": {"smtp": {"host": "mail.corp.lan"}}}
}


def drawn(reference: Reference, salt: str = "") -> Drawn:
    return draw(Picture(f"{reference.name}{salt}", (reference.tag or "pinned",)))


def locked(reference: Reference) -> LockedImage:
    image = drawn(reference)
    media_type, raw = image.manifests[image.tags[reference.tag or "pinned"]]
    root = Descriptor.of(media_type, raw)
    return LockedImage(reference, LockedTree(root, (root,), ()))


def lock_of(found: Iterable[Reference]) -> Lock:
    return Lock("site", (Platform.parse("linux/amd64"),), tuple(locked(it) for it in sorted(found)), ())


@dataclass
class Site:
    """One registry with a bundle's images under a prefix, and what ``render`` made for it."""

    running: RunningRegistry
    folder: Path
    values: dict[str, Any] = field(default_factory=lambda: VALUES)
    server: Chart = field(default_factory=umbrella)
    operator: Chart = field(default_factory=operator)
    helm: Helm = field(default_factory=helm)

    @property
    def location(self) -> Location:
        return Location.parse(f"{self.running.host}/team")

    @property
    def registry(self) -> Registry:
        return Registry(Client(hosts={self.running.host: HostSettings(plain_http=True)}, environ={}), self.running.host)

    @property
    def found(self) -> set[Reference]:
        return references(self.operator, {}, self.folder) | references(self.server, self.values, self.folder)

    def push(self, reference: Reference, *, salt: str = "") -> str:
        """Push a reference's image (another one with a salt) where it belongs and return its digest."""
        image = drawn(reference, salt)
        Pusher(self.running.url).push(image, self.location.relocate(reference).repository)
        return image.tags[reference.tag or "pinned"]

    def fill(self, held: Lock) -> None:
        for image in held.images:
            self.push(image.reference)

    def relocated(self, held: Lock, **options: Any) -> Relocation:
        return relocate(
            held,
            operator_chart=self.operator,
            server_chart=self.server,
            spec=None,
            user=read_user_values([("values.yaml", self.values)]),
            location=self.location,
            options=Options(plain_http=True, **options),
            helm=self.helm,
        )

    def audit(self, held: Lock, relocation: Relocation, *, options: AuditOptions | None = None, **change: Any) -> Verdict:
        arguments: dict[str, Any] = {
            "operator_chart": self.operator,
            "server_chart": self.server,
            "operator_values": relocation.operator_values,
            "resource": relocation.resource,
            "location": self.location,
            "registry": self.registry,
            "options": options or AuditOptions(),
            "helm": self.helm,
        }
        return audit(held, **{**arguments, **change})


def with_other_digest(held: Lock, reference: Reference, digest: str) -> Lock:
    """The lock as if ``reference`` had been resolved to another digest."""
    root = Descriptor("application/vnd.oci.image.manifest.v1+json", Digest.parse(digest), 1)
    images = [
        replace(image, tree=LockedTree(root, (root,), ())) if image.reference == reference else image for image in held.images
    ]
    return replace(held, images=tuple(images))
