"""Referrers: signatures, attestations and SBOMs, pushed last; one that is refused is a warning, not a failure (cases.md P9).

Invariants: the image counts whatever happens here. After a referrer was put, the registry must list it; where it does not (it
knows no ``subject``), the index under the fallback tag ``sha256-<hex>`` is written as distribution-spec ("Referrers Tag
Schema") asks of clients, with whatever stood in it kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airgap.errors import RegistryError
from airgap.oci import OCI_INDEX, Descriptor, Index, canonical_json
from airgap.plan import after, digest_tag, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airgap.bundle import BundleReader
    from airgap.bundle.crew import Crew
    from airgap.oci import Digest
    from airgap.plan import Inventory, Wanted
    from airgap.push.send import Sender
    from airgap.registry import Registry


class ReferrerSender:
    """Sends the referrers of one bundle; ``warnings`` collects what was refused."""

    def __init__(self, bundle: BundleReader, registry: Registry, sender: Sender, crew: Crew) -> None:
        self._bundle, self._registry, self._sender, self._crew = bundle, registry, sender, crew
        self.warnings: list[str] = []

    def send(self, want: Sequence[Wanted], inventory: Inventory) -> None:
        """Push all of ``want`` that is not in ``inventory``, then see to it that they can be found.

        Those of one repository go one after the other: they share blobs (the empty config), which are sent once, and CNCF
        distribution 2 refuses a manifest while one of its blobs is being linked a second time (run: 400 DIGEST_INVALID).
        """
        accepted: dict[tuple[str, Digest], list[Descriptor]] = {}
        shelves: dict[str, list[Wanted]] = {}
        for item in want:
            shelves.setdefault(item.repository, []).append(item)

        def one(shelf: Sequence[Wanted]) -> None:
            there = inventory
            for item in shelf:
                if self._sent(item, there):
                    there = after(there, plan([item], there))
                    root = self._bundle.manifest(item.tree.root)
                    if root.subject and not item.tag:
                        known = accepted.setdefault((item.repository, root.subject.digest), [])
                        known.append(_described(root.descriptor, root))

        self._crew.run(shelves.values(), one)
        self._crew.run(accepted.items(), lambda pair: self._findable(*pair[0], pair[1]))

    def _sent(self, item: Wanted, inventory: Inventory) -> bool:
        """Push one referrer; False, with a warning, when the registry refuses it."""
        try:
            self._sender.send_alone(plan([item], inventory), dict(inventory.tags))
        except RegistryError as error:
            self.warnings.append(f"{item.what}: refused by the registry, the image counts all the same ({error.message})")
            return False
        return True

    def _findable(self, repository: str, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        try:
            listed = self._registry.referrers(repository, subject)
            known = {descriptor.digest for descriptor in listed}
            if all(descriptor.digest in known for descriptor in referrers):
                return
            tag = digest_tag(subject)
            there = self._existing(repository, tag)
            merged = {descriptor.digest: descriptor for descriptor in (*there, *referrers)}
            raw = canonical_json(
                {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [it.to_json() for it in merged.values()]}
            )
            self._sender.put(repository, tag, raw, OCI_INDEX)
        except RegistryError as error:
            self.warnings.append(f"{repository}@{subject}: its referrers cannot be listed there ({error.message})")

    def _existing(self, repository: str, tag: str) -> tuple[Descriptor, ...]:
        if self._registry.head_manifest(repository, tag) is None:
            return ()
        index = self._registry.get_manifest(repository, tag)
        return index.manifests if isinstance(index, Index) else ()


def _described(descriptor: Descriptor, root: object) -> Descriptor:
    """Return the entry for a referrers list: with the artifact type (or the config's type) and the annotations."""
    artifact_type = getattr(root, "artifact_type", "") or getattr(getattr(root, "config", None), "media_type", "")
    annotations = dict(getattr(root, "annotations", {}))
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, None, annotations, artifact_type)
