"""Rollback: back to what an earlier receipt describes, when the registry still has everything that it needs.

::

    target = choose(receipts, current, number=0)
    missing = absent(registry, target)                    # empty: every digest is still there
    operator, server = charts(registry, target)           # as they were pushed

What is applied then passes the same audit as an install, with ``as_lock`` in place of the bundle's lock: a receipt says of each
image under which name and with which digest it was installed.

Invariants: nothing is changed here; a digest that the registry no longer has stops the rollback before anything is applied.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from airgap.chart import Chart
from airgap.errors import ClusterError, ConfigurationError, IntegrityError, NotFoundError
from airgap.lock import Lock, LockedImage, LockedTree
from airgap.oci import HELM_CHART, OCI_MANIFEST, Descriptor, Digest, Manifest
from airgap.plan import CHARTS, chart_tag
from airgap.ref import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airgap.receipt import Receipt
    from airgap.ref import Location
    from airgap.registry import Registry

JOBS = 8
"""Questions to the registry at a time; each is one HEAD."""
OPERATOR, SERVER = "operator", "operator-wandb"
ROLLBACK = "rollback"
"""The stage by which a rollback's receipt is told from an install's."""


def choose(receipts: Sequence[Receipt], current: Receipt | None, number: int = 0) -> Receipt:
    """Return the receipt to go back to: ``number``, or the one before what was begun last, of those that came to run.

    An upgrade that did not finish leads back to what ran before it, a rollback that did not to where it was going. Raises
    ClusterError when there is none.
    """
    if number:
        found = next((it for it in receipts if it.number == number), None)
        if found is None:
            there = ", ".join(str(it.number) for it in receipts) or "none"
            raise ClusterError(f"there is no receipt {number} (there are: {there})", hint="airgap rollback --list shows them")
        return found
    if current is None:
        raise ClusterError("nothing was installed here by airgap, so there is nothing to go back to", hint="airgap install")
    latest = max(receipts, key=lambda it: it.number, default=current)
    if not latest.is_done and ROLLBACK not in latest.stages and latest.number > current.number:
        return current
    earlier = [it for it in receipts if it.is_done and it.number < current.number and it.identity != current.identity]
    before = next((it for it in earlier if it.number == current.previous), None) or max(
        earlier, key=lambda it: it.number, default=None
    )
    if before is None:
        raise ClusterError(
            f"receipt {current.number} is the first one that came to run: there is nothing before it",
            hint="airgap rollback --list shows the receipts; --to takes one of them",
        )
    return before


def absent(registry: Registry, receipt: Receipt) -> tuple[str, ...]:
    """Return the images of a receipt whose digest the registry no longer has; raises NetworkError."""

    def held(item: tuple[str, str]) -> bool:
        return registry.head_manifest(Reference.parse(item[0]).repository, item[1]) is not None

    wanted = sorted(receipt.images.items())
    with ThreadPoolExecutor(JOBS) as pool:
        return tuple(
            f"{name}@{digest}" for (name, digest), there in zip(wanted, pool.map(held, wanted), strict=True) if not there
        )


def moved(registry: Registry, receipt: Receipt) -> tuple[str, ...]:
    """Return the tags that lead to another digest now than the receipt's: what is pulled by tag would be something else."""

    def now(item: tuple[str, str]) -> str:
        reference = Reference.parse(item[0])
        found = registry.head_manifest(reference.repository, reference.tag) if reference.tag and not reference.digest else None
        return str(found.digest) if found else item[1]

    wanted = sorted(receipt.images.items())
    with ThreadPoolExecutor(JOBS) as pool:
        return tuple(name for (name, digest), there in zip(wanted, pool.map(now, wanted), strict=True) if there != digest)


def charts(registry: Registry, receipt: Receipt) -> tuple[Chart, Chart]:
    """Return the operator's and the server's chart as they were pushed; raises NotFoundError, IntegrityError."""
    location = receipt.place
    return (
        chart(registry, location, OPERATOR, receipt.operator_version),
        chart(registry, location, SERVER, receipt.server_version, receipt.chart_digest),
    )


def chart(registry: Registry, location: Location, name: str, version: str, digest: str = "") -> Chart:
    """Return a chart as it was pushed; raises NotFoundError, and IntegrityError if it is not the one of ``digest``."""
    repository = location.repository(f"{CHARTS}/{name}")
    try:
        manifest = registry.get_manifest(repository, chart_tag(version))
    except NotFoundError as error:
        raise NotFoundError(
            f"the registry no longer holds chart {name} {version} ({location.registry}/{repository})",
            hint="push the bundle again that was installed then",
        ) from error
    layers = [it for it in manifest.layers if it.media_type == HELM_CHART] if isinstance(manifest, Manifest) else []
    if len(layers) != 1:
        raise IntegrityError(f"{location.registry}/{repository}:{chart_tag(version)} is no chart", hint="push the bundle again")
    if digest and digest != str(layers[0].digest):
        raise IntegrityError(
            f"{location.registry}/{repository}:{chart_tag(version)} is {layers[0].digest} now, and {digest} was installed",
            hint="push the bundle again that was installed then",
        )
    return Chart.from_bytes(registry.read_blob(repository, layers[0]), f"chart {name} {version} of the registry")


def as_lock(receipt: Receipt, location: Location) -> Lock:
    """Return a lock that says of each image what the receipt says: where it lies and its digest."""
    images = []
    for name, digest in sorted(receipt.images.items()):
        reference = Reference.parse(name)
        if not location.holds(reference):
            raise ConfigurationError(f"receipt {receipt.number} has an image that is not under {location}: {name}")
        host, _, repository = location.origin(reference.repository).partition("/")
        root = Descriptor(OCI_MANIFEST, Digest.parse(digest), 0)
        images.append(LockedImage(replace(reference, registry=host, repository=repository), LockedTree(root, (root,), ())))
    return Lock(receipt.bundle, (), tuple(images), ())


def asked(registry: Registry, location: Location, image: str) -> str:
    """Return the digest that the private registry has for an image as a pod names it; empty: not there, or not its own."""
    reference = Reference.parse(image)
    if reference.registry != location.registry:
        return ""
    found = registry.head_manifest(reference.repository, reference.locator)
    return str(found.digest) if found else ""
