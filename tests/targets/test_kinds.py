"""Kinds of data: what the distribution-spec's conformance program stores makes the round trip mirror -> push byte for byte.

Each kind is put into a source by plain HTTP, resolved and mirrored by airgap, pushed into registries that are real, and read
back by plain HTTP: manifests, blobs, tags.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airgap.bundle import BundleReader
from airgap.errors import NotFoundError, RegistryError
from airgap.fetch import mirror
from airgap.lock import Lock, Requirement
from airgap.manifest import Mirror
from airgap.oci import Platform
from airgap.push import push
from airgap.ref import Location, Reference
from airgap.resolve import resolve
from airgap.serve import Options, Rules, Server
from airgap.sources import ImageSources, Places
from airgap.transport import Client, RetryPolicy
from airgap.verify import verify
from tests.fetch.conftest import connect
from tests.world.images import OCI, digest
from tests.world.registries import start_crane, start_distribution3, start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG, MANIFEST, INDEX = (f"{OCI}{name}.v1+json" for name in ("config", "manifest", "index"))
LAYER, ZSTD = f"{OCI}layer.v1.tar+gzip", f"{OCI}layer.v1.tar+zstd"
FOREIGN = f"{OCI}layer.nondistributable.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
NAME = "quay.io/kinds/data"
ZSTD_FRAME = b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51"  # an empty frame


@dataclass
class Data:
    """One kind: blobs and manifests by digest (children first), and what the tag ``1`` points to."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    root: str = ""
    foreign: bool = False
    sparse: bool = False

    def blob(
        self, media_type: str, data: bytes, *, algorithm: str = "sha256", keep: bool = True, **more: Any
    ) -> dict[str, Any]:
        name = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        if keep:
            self.blobs[name] = data
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    def document(self, media_type: str, *, keep: bool = True, **content: Any) -> dict[str, Any]:
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, **content}, indent=3).encode()
        if keep:
            self.manifests[digest(raw)] = (media_type, raw)
            self.root = digest(raw)
        return {"mediaType": media_type, "digest": digest(raw), "size": len(raw)}

    def image(self, text: str = "image", *, config: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        layers = more.pop("layers", None)
        layers = [self.blob(LAYER, gzip.compress(text.encode() * 99, mtime=0))] if layers is None else layers
        described = self.blob(
            CONFIG, json.dumps({"os": "linux", "architecture": "amd64", "text": text, **(config or {})}).encode()
        )
        return self.document(MANIFEST, config=described, layers=layers, **more)

    def child(self, text: str, architecture: str = "amd64", **more: Any) -> dict[str, Any]:
        return {**self.image(text, **more), "platform": {"os": "linux", "architecture": architecture}}


def image(data: Data) -> None:
    data.image()


def index(data: Data) -> None:
    data.document(INDEX, manifests=[data.child("a"), data.child("b", "arm64")])


def nested_index(data: Data) -> None:
    inner = data.document(INDEX, manifests=[data.child("a"), data.child("b", "arm64")])
    data.document(INDEX, manifests=[inner, data.child("c", "s390x")], annotations={"nested": "yes"})


def sparse_index(data: Data) -> None:
    data.sparse = True
    other = Data()
    absent = other.child("never pushed", "riscv64")
    data.document(INDEX, manifests=[data.child("a"), absent])


def empty_index(data: Data) -> None:
    data.document(INDEX, manifests=[])


def artifact(data: Data) -> None:
    data.document(
        MANIFEST,
        artifactType="application/vnd.example.thing",
        config=data.blob(EMPTY, b"{}"),
        layers=[
            data.blob("application/vnd.example.thing+text", b"things", annotations={"org.opencontainers.image.title": "t"})
        ],
    )


def missing_subject(data: Data) -> None:
    subject = Data().image("not here")
    data.image("speaks about what is not here", subject=subject, artifactType="application/vnd.example.sbom")


def index_with_subject(data: Data) -> None:
    child = data.child("a")
    data.document(INDEX, manifests=[child], subject=Data().image("elsewhere"), artifactType="application/vnd.example.set")


def descriptors_with_data(data: Data) -> None:
    data.document(
        MANIFEST,
        config=data.blob(EMPTY, b"{}") | {"data": "e30="},
        layers=[data.blob("text/plain", b"inline") | {"data": "aW5saW5l"}],
        artifactType="application/vnd.example.inline",
    )


def nondistributable_layers(data: Data) -> None:
    data.foreign = True
    layers = [data.blob(LAYER, b"near"), data.blob(FOREIGN, b"far", urls=["https://store.example/far"])]
    data.image(layers=layers)


def custom_fields(data: Data) -> None:
    data.image(layers=[data.blob(LAYER, b"x", newField="kept")], newManifestField={"a": [1, 2.50, "\u00e9"]})


def no_layers(data: Data) -> None:
    data.image(layers=[])


def empty_blob(data: Data) -> None:
    data.image(layers=[data.blob(LAYER, b""), data.blob(LAYER, b"more")])


def zstd_layers(data: Data) -> None:
    data.image(layers=[data.blob(ZSTD, ZSTD_FRAME)])


def config_over_4_mib(data: Data) -> None:
    data.image(config={"history": ["x" * 1000] * 4600})
    assert max(len(blob) for blob in data.blobs.values()) > 4 * 1024 * 1024


def sha512_blobs(data: Data) -> None:
    data.image(layers=[data.blob(LAYER, b"longer", algorithm="sha512")])


def many_layers(data: Data) -> None:
    data.image(layers=[data.blob(LAYER, b"layer %d" % number) for number in range(127)])


def the_same_layer_twice(data: Data) -> None:
    layer = data.blob(LAYER, b"again")
    data.image(layers=[layer, data.blob(LAYER, b"between"), layer])


DATA = (
    image,
    index,
    nested_index,
    sparse_index,
    artifact,
    missing_subject,
    index_with_subject,
    descriptors_with_data,
    nondistributable_layers,
    custom_fields,
    no_layers,
    empty_blob,
    zstd_layers,
    config_over_4_mib,
    sha512_blobs,
    many_layers,
    the_same_layer_twice,
)
SPARSE = Options(rules=Rules(sparse=True))
LENIENT = {
    "validation": {
        "manifests": {"urls": {"allow": [r"^https://store\.example/"]}, "indexes": {"platforms": "none"}},
    }
}
"""Foreign layers have to be allowed in distribution, and so have (in 3) indexes whose children are not there."""

TARGETS: dict[str, Callable[[Path], Any]] = {
    "distribution2": lambda folder: start_docker_registry(folder, config=LENIENT),
    "distribution3": lambda folder: start_distribution3(folder, config=LENIENT),
    "crane": start_crane,
    "airgap": lambda folder: Server(None, folder / "target", options=SPARSE),
}
REFUSED = {("distribution2", "sparse_index"), ("crane", "sparse_index")}
"""What a registry takes under no circumstances: an index whose children it lacks."""


def put(url: str, data: Data) -> None:
    """Fill a source by plain HTTP."""
    for name, content in data.blobs.items():
        opened = requests.post(f"{url}/v2/kinds/data/blobs/uploads/", timeout=30)
        place = opened.headers["Location"]
        place = place if "://" in place else url + place
        done = requests.put(f"{place}{'&' if '?' in place else '?'}digest={name}", data=content, timeout=30)
        assert done.status_code == 201, done.text
    for locator, (media_type, raw) in [*data.manifests.items(), ("1", data.manifests[data.root])]:
        done = requests.put(
            f"{url}/v2/kinds/data/manifests/{locator}", data=raw, headers={"Content-Type": media_type}, timeout=30
        )
        assert done.status_code == 201, done.text


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """A source that takes every kind: our own registry, which the conformance program has passed."""
    with Server(None, tmp_path / "source", options=SPARSE) as server:
        yield server.url


def carried(url: str, data: Data, path: Path) -> Path:
    """Resolve and mirror ``NAME:1`` from ``url``: all platforms, or, where a child is missing there, the very index."""
    places = Places({"quay.io": Mirror(url.partition("://")[2], plain_http=True)})
    sources = ImageSources(Client(hosts=places.settings(), retry=RetryPolicy(attempts=2, base=0.01)), places)
    name, platforms = (f"{NAME}:1@{data.root}", (Platform("linux", "amd64"),)) if data.sparse else (f"{NAME}:1", ())
    found = resolve([Requirement(Reference.parse(name))], sources, platforms)
    assert bool(found.warnings) == data.sparse
    mirror(Lock("kinds", (), found.images, ()), sources, path, include_foreign=data.foreign)
    return path


def same(url: str, data: Data, repository: str) -> None:
    """Compare every byte that ``url`` serves with what was put into the source."""
    accept = {"Accept": f"{MANIFEST}, {INDEX}", "Accept-Encoding": "identity"}
    for locator, (media_type, raw) in [*data.manifests.items(), ("1", data.manifests[data.root])]:
        got = requests.get(f"{url}/v2/{repository}/manifests/{locator}", headers=accept, timeout=30)
        assert got.status_code == 200, got.text
        assert got.content == raw
        assert got.headers["Content-Type"] == media_type
    for name, content in data.blobs.items():
        got = requests.get(f"{url}/v2/{repository}/blobs/{name}", headers=accept, timeout=30)
        assert got.status_code == 200, got.text
        assert got.content == content


@pytest.mark.registry
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("make", DATA, ids=lambda make: make.__name__)
def test_every_kind_arrives_byte_for_byte(make, kind, source, tmp_path):
    data = Data()
    make(data)
    put(source, data)
    path = carried(source, data, tmp_path / "kinds.tar")
    assert verify(path)
    with TARGETS[kind](tmp_path) as running, BundleReader.open(path) as bundle:
        host = running.url.partition("://")[2]
        if (kind, make.__name__) in REFUSED:
            with pytest.raises((RegistryError, NotFoundError)) as caught:
                push(bundle, connect(host), Location.parse(f"{host}/in"))
            assert kind == "crane" or "one --platform" in caught.value.hint
            return
        push(bundle, connect(host), Location.parse(f"{host}/in"), include_foreign=data.foreign)
        same(running.url, data, "in/quay.io/kinds/data")
        again = push(bundle, connect(host), Location.parse(f"{host}/in"), include_foreign=data.foreign)
        assert again.sent == 0


@pytest.mark.registry
def test_a_registry_that_takes_no_foreign_layers_says_what_to_change(source, tmp_path, target):
    data = Data()
    nondistributable_layers(data)
    put(source, data)
    path = carried(source, data, tmp_path / "kinds.tar")
    with BundleReader.open(path) as bundle, pytest.raises(RegistryError) as caught:
        push(bundle, connect(target.host), Location.parse(f"{target.host}/in"), include_foreign=True)
    assert "validation.manifests.urls.allow" in caught.value.hint


@pytest.mark.registry
def test_an_immutable_tag_that_is_right_already_is_left_alone_and_another_is_refused(source, tmp_path):
    first, second = Data(), Data()
    first.image("the first")
    second.image("another")
    rules = Options(rules=Rules(immutable_tags=True))
    with Server(None, tmp_path / "target", options=rules) as running:
        host = running.url.partition("://")[2]
        for number, data in enumerate((first, first, second)):
            put(source, data)
            with BundleReader.open(carried(source, data, tmp_path / f"{number}.tar")) as bundle:
                if data is first:
                    push(bundle, connect(host), Location.parse(host))
                    continue
                with pytest.raises(RegistryError, match="may not be overwritten"):
                    push(bundle, connect(host), Location.parse(host))
        same(running.url, first, "quay.io/kinds/data")
