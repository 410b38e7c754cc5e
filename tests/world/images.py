"""Tiny images, drawn from a few words and pushed by plain HTTP: an upstream that owes nothing to airgap's own code.

>>> drawn = draw(Picture("quay.io/prometheus/prometheus", ("v2",), platforms=("linux/amd64", "linux/arm64")))
>>> len(drawn.manifests), sorted(drawn.tags)
(3, ['v2'])

Invariants: the same Picture gives the same bytes on one machine (compression is zlib's). Manifests come children first.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
TYPES = {
    "oci": (OCI + "index.v1+json", OCI + "manifest.v1+json", OCI + "config.v1+json", OCI + "layer.v1.tar+gzip"),
    "docker": (
        DOCKER + "distribution.manifest.list.v2+json",
        DOCKER + "distribution.manifest.v2+json",
        DOCKER + "container.image.v1+json",
        DOCKER + "image.rootfs.diff.tar.gzip",
    ),
}
"""index, manifest, config and layer as the two families call them."""

DATE = "2024-01-01T00:00:00Z"
TIMEOUT = 30
BASE = b"a layer that several images share\n" * 64


@dataclass(frozen=True)
class Picture:
    """What an image shall look like.

    ``name`` has its registry's host; one platform makes a manifest, several an index. ``form``: oci | docker. ``extras``:
    attestation (a BuildKit child of unknown/unknown), cosign (a signature under ``sha256-<hex>.sig``), referrer (an SBOM
    that names the image as its subject, with the fallback tag). ``base``: shares a layer with the other such images.
    """

    name: str
    tags: tuple[str, ...]
    platforms: tuple[str, ...] = ("linux/amd64",)
    form: str = "oci"
    extras: frozenset[str] = frozenset()
    base: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Picture:
        """Read the form in which lists of images are kept: name, tags, platforms, form, with, base."""
        return cls(
            name=data["name"],
            tags=tuple(data["tags"]),
            platforms=tuple(data.get("platforms") or ("linux/amd64",)),
            form=data.get("form") or "oci",
            extras=frozenset(data.get("with") or ()),
            base=bool(data.get("base")),
        )

    def to_json(self) -> dict[str, Any]:
        """Write that form."""
        own = {"name": self.name, "tags": list(self.tags), "platforms": list(self.platforms)}
        return {**own, "form": self.form, "with": sorted(self.extras), "base": self.base}

    @property
    def host(self) -> str:
        """The registry that serves it; Docker Hub's API has a name of its own."""
        host = self.name.partition("/")[0]
        return "registry-1.docker.io" if host == "docker.io" else host

    @property
    def repository(self) -> str:
        """The path in that registry."""
        return self.name.partition("/")[2]


@dataclass
class Drawn:
    """An image in bytes: ``blobs`` by digest, ``manifests`` as (media type, bytes) by digest, ``tags`` to digests."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def blob(self, media_type: str, data: bytes) -> dict[str, Any]:
        """Keep a blob and return its descriptor."""
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def manifest(self, media_type: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a manifest or index and return its descriptor."""
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}, indent=1).encode()
        self.manifests[digest(data)] = (media_type, data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def digest(data: bytes) -> str:
    """Return sha256:<hex>."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def draw(picture: Picture) -> Drawn:
    """Build the image with everything that hangs on it."""
    drawn = Drawn()
    index_type, manifest_type, _, _ = TYPES[picture.form]
    children = [_child(drawn, picture, platform) for platform in picture.platforms]
    root = children[0]
    if len(children) > 1 or "attestation" in picture.extras:
        if "attestation" in picture.extras:
            children.append(_attestation(drawn, manifest_type, children[0]))
        root = drawn.manifest(index_type, {"manifests": children})
    drawn.tags.update(dict.fromkeys(picture.tags, root["digest"]))
    if "cosign" in picture.extras:
        _signature(drawn, root)
    if "referrer" in picture.extras:
        _referrer(drawn, root)
    return drawn


def _child(drawn: Drawn, picture: Picture, platform: str) -> dict[str, Any]:
    """One platform's manifest: a shared layer if asked for, and one of its own."""
    _, manifest_type, config_type, layer_type = TYPES[picture.form]
    contents = [BASE] if picture.base else []
    contents.append(f"{picture.name} {' '.join(picture.tags)} {platform}\n".encode())
    tars = [_tar(f"layer{number}", content) for number, content in enumerate(contents)]
    layers = [drawn.blob(layer_type, gzip.compress(data, mtime=0)) for data in tars]
    os_name, architecture, *variant = platform.split("/")
    config = {
        "os": os_name,
        "architecture": architecture,
        **({"variant": variant[0]} if variant else {}),
        "created": DATE,
        "config": {"Cmd": ["/layer0"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in tars]},
        "history": [{"created": DATE, "created_by": "tests"} for _ in tars],
    }
    described = drawn.blob(config_type, json.dumps(config).encode())
    where = {"architecture": architecture, "os": os_name, **({"variant": variant[0]} if variant else {})}
    return {**drawn.manifest(manifest_type, {"config": described, "layers": layers}), "platform": where}


def _attestation(drawn: Drawn, manifest_type: str, subject: Mapping[str, Any]) -> dict[str, Any]:
    """What BuildKit puts beside an image: a child for unknown/unknown that points to its subject by annotation."""
    statement = {"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"digest": subject["digest"]}]}
    layer = drawn.blob("application/vnd.in-toto+json", json.dumps(statement).encode())
    config = drawn.blob(OCI + "config.v1+json", b'{"architecture":"unknown","os":"unknown"}')
    made = drawn.manifest(manifest_type, {"config": config, "layers": [layer]})
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject["digest"]}
    return {**made, "platform": {"architecture": "unknown", "os": "unknown"}, "annotations": notes}


def _signature(drawn: Drawn, root: Mapping[str, Any]) -> None:
    """A signature as cosign stores it: a manifest under a tag made of the image's digest."""
    payload = {"critical": {"image": {"docker-manifest-digest": root["digest"]}, "type": "cosign container image signature"}}
    layer = drawn.blob("application/vnd.dev.cosign.simplesigning.v1+json", json.dumps(payload).encode())
    config = drawn.blob(OCI + "config.v1+json", b'{"config":{},"rootfs":{"type":"layers","diff_ids":[]}}')
    signed = {**layer, "annotations": {"dev.cosignproject.cosign/signature": "bm90IHJlYWxseQ=="}}
    made = drawn.manifest(OCI + "manifest.v1+json", {"config": config, "layers": [signed]})
    drawn.tags[root["digest"].replace(":", "-") + ".sig"] = made["digest"]


def _referrer(drawn: Drawn, root: Mapping[str, Any]) -> None:
    """An SBOM with a subject, and the index under the fallback tag for registries without the referrers API."""
    layer = drawn.blob("application/spdx+json", json.dumps({"spdxVersion": "SPDX-2.3", "name": root["digest"]}).encode())
    config = drawn.blob("application/vnd.oci.empty.v1+json", b"{}")
    subject = {key: root[key] for key in ("mediaType", "digest", "size")}
    kind = {"artifactType": "application/spdx+json"}
    made = drawn.manifest(OCI + "manifest.v1+json", {**kind, "config": config, "layers": [layer], "subject": subject})
    index = drawn.manifest(OCI + "index.v1+json", {"manifests": [{**made, **kind}]})
    drawn.tags[root["digest"].replace(":", "-")] = index["digest"]


def _tar(name: str, content: bytes) -> bytes:
    """A tar with one file, without a date."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o755
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@dataclass
class Pusher:
    """Pushes to one registry over one connection: ``url`` is https://HOST; Basic or token, as the registry asks."""

    url: str
    ca_file: str = ""
    user: tuple[str, str] | None = None
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.verify = self.ca_file or True

    def push(self, drawn: Drawn, repository: str, digests: Iterable[str] | None = None) -> None:
        """Push everything of ``drawn``: blobs, manifests by digest, then tags. ``digests`` limits it to these manifests."""
        self._authorize(repository)
        for name, data in drawn.blobs.items():
            opened = self._send("POST", f"{self.url}/v2/{repository}/blobs/uploads/", b"", 202)
            place = opened.headers["Location"]
            place = place if "://" in place else self.url + place
            self._send("PUT", f"{place}{'&' if '?' in place else '?'}digest={name}", data, 201)
        wanted = set(drawn.manifests if digests is None else digests)
        for name, (media_type, data) in drawn.manifests.items():
            if name in wanted:
                self._send("PUT", f"{self.url}/v2/{repository}/manifests/{name}", data, 201, media_type)
        for tag, name in drawn.tags.items():
            if name in wanted:
                media_type, data = drawn.manifests[name]
                self._send("PUT", f"{self.url}/v2/{repository}/manifests/{tag}", data, 201, media_type)

    def _send(
        self, method: str, url: str, data: bytes, status: int, media_type: str = "application/octet-stream"
    ) -> requests.Response:
        answer = self.session.request(method, url, data=data, headers={"Content-Type": media_type}, timeout=TIMEOUT)
        assert answer.status_code == status, f"{method} {url}: {answer.status_code} {answer.text[:300]}"
        return answer

    def _authorize(self, repository: str) -> None:
        """Do what the registry's challenge says, once per repository."""
        self.session.headers.pop("Authorization", None)
        self.session.auth = None
        challenge = self.session.get(f"{self.url}/v2/", timeout=TIMEOUT).headers.get("WWW-Authenticate", "")
        if challenge.lower().startswith("basic"):
            self.session.auth = self.user
        elif challenge:
            words = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
            asked = {"service": words["service"], "scope": f"repository:{repository}:pull,push"}
            answer = self.session.get(words["realm"], params=asked, auth=self.user, timeout=TIMEOUT)
            answer.raise_for_status()
            self.session.headers["Authorization"] = f"Bearer {answer.json()['token']}"
