"""Pulled: what each container of a pod really runs, against what was installed. Pure.

A name proves nothing: what counts is the digest that the node reports (``imageID``), held against the digests of the receipts.

>>> known = Known(Location.parse("reg.lan"), {"reg.lan/docker.io/a/b:1": "sha256:" + "0" * 64})
>>> status = [{"name": "c", "imageID": "reg.lan/docker.io/a/b@sha256:" + "0" * 64}]
>>> pod = {"spec": {"containers": [{"name": "c", "image": "reg.lan/docker.io/a/b:1"}]}, "status": {"containerStatuses": status}}
>>> [it.verdict for it in pulled(pod, known)]
['known']
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import AirgapError
from airgap.oci import Digest
from airgap.ref import Location, Reference
from airgap.trouble.words import items, label, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airgap.values import Json

KNOWN, MIRRORED, PENDING, UNKNOWN, OUTSIDE = "known", "mirrored", "pending", "unknown", "outside"
"""Verdicts: the receipt's digest; the receipt's digest under an outside name; not pulled yet; inside, but no receipt has this
digest; from elsewhere."""

_SECTIONS = (
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
    ("ephemeralContainers", "ephemeralContainerStatuses"),
)
_PULLING = re.compile(r'(?:Pulling image|Successfully pulled image|Container image) "([^"]+)"')


@dataclass(frozen=True)
class Known:
    """What was installed: images by their name in the registry, with the digest that each must have."""

    location: Location
    images: Mapping[str, str] = field(hash=False)

    def wanted(self, reference: Reference) -> frozenset[str]:
        """Return the digests that were installed for a repository."""
        found = set()
        for name, digest in self.images.items():
            try:
                parsed = Reference.parse(name)
            except AirgapError:
                continue
            if parsed.name == reference.name:
                found.add(digest)
        return frozenset(found)


def named(pods: Iterable[Mapping[str, Json]]) -> set[str]:
    """Return the images that pods name, those of init containers included."""
    lists = (items(dict(pod), "spec", key) for pod in pods for key in ("containers", "initContainers"))
    return {text(container, "image") for containers in lists for container in containers}


def together(installs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the images of several installs, oldest first, as of one; the older digests of a tag that moved stay beside it."""
    found: dict[str, str] = {}
    for images in installs:
        for name, digest in images.items():
            before = found.get(name, digest)
            if before != digest:
                found[f"{name}@{before}"] = before
            found[name] = digest
    return found


@dataclass(frozen=True, order=True)
class Pulled:
    """One container: ``image`` as the pod names it, ``digest`` as the node reports it (empty: not reported)."""

    namespace: str
    object: str
    container: str
    image: str
    digest: str
    verdict: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Return all fields."""
        return dict(vars(self))


def pulled(pod: dict[str, Json], known: Known) -> tuple[Pulled, ...]:
    """Return every container of a pod, judged; init and ephemeral ones too."""
    found = []
    for section, statuses in _SECTIONS:
        ids = {text(it, "name"): text(it, "imageID") for it in items(pod, "status", statuses)}
        for container in items(pod, "spec", section):
            name, image = text(container, "name"), text(container, "image")
            digest = _digest(ids.get(name, ""))
            verdict, reason = judge(image, digest, known, was_pulled=bool(ids.get(name)))
            found.append(Pulled(text(pod, "metadata", "namespace"), label(pod), name, image, digest, verdict, reason))
    return tuple(found)


def judge(image: str, digest: str, known: Known, *, was_pulled: bool = True) -> tuple[str, str]:
    """Return verdict and reason for an image as a pod names it and the digest that the node reports for it."""
    try:
        reference = Reference.parse(image)
    except AirgapError as error:
        return OUTSIDE, error.message
    if reference.registry == known.location.registry:
        return _inside(reference, digest, known, was_pulled=was_pulled)
    if digest and digest in known.images.values():
        return MIRRORED, "an outside name, but the bytes are the bundle's: the node's mirror brought them"
    how = "it was pulled from" if was_pulled else "it would be pulled from"
    return OUTSIDE, f"{how} {reference.registry}, which is not the private registry"


def _inside(reference: Reference, digest: str, known: Known, *, was_pulled: bool) -> tuple[str, str]:
    wanted = known.wanted(reference)
    if digest in wanted or (reference.digest and str(reference.digest) in wanted):
        return KNOWN, ""
    if not was_pulled:
        return PENDING, "the node has not pulled it yet"
    if not digest:
        return UNKNOWN, "the node does not say which digest it runs, and the pod does not pin one"
    has = f"it runs {digest}, the receipt has {' or '.join(sorted(wanted))}"
    return UNKNOWN, has if wanted else f"no receipt has {reference.name}"


def of_events(events: list[dict[str, Json]], known: Known) -> Iterator[Pulled]:
    """Yield images that kubelets' events tell of, also of pods that are gone; judged by their names."""
    for event in events:
        match = _PULLING.match(text(event, "message"))
        if match and text(event, "involvedObject", "kind") == "Pod":
            pod = text(event, "involvedObject", "name")
            verdict, reason = judge(match[1], "", known)
            if verdict == UNKNOWN and known.wanted(Reference.parse(match[1])):
                verdict, reason = KNOWN, ""  # past: the name was installed, and no node says the digest any more
            yield Pulled(text(event, "involvedObject", "namespace"), f"Pod/{pod}", "", match[1], "", verdict, reason)


def _digest(image_id: str) -> str:
    """Return the digest of an imageID (``docker-pullable://`` taken off); a bare one is the config's and says nothing."""
    _, at, digest = image_id.rpartition("@")
    try:
        return str(Digest.parse(digest)) if at else ""
    except AirgapError:
        return ""
