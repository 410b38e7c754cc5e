"""Resolving against real registries: platforms, signatures, what is gone, and how often is asked."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airgap.errors import IntegrityError, NetworkError, NotFoundError, UnauthorizedError
from airgap.lock import LockedImage, Origin, Requirement
from airgap.manifest import Mirror
from airgap.oci import Descriptor, Digest, Platform
from airgap.progress import Progress
from airgap.ref import Reference
from airgap.registry import Registry
from airgap.resolve import Resolution, resolve
from airgap.sources import ImageSources, Places
from airgap.transport import Client, Credential, CredentialStore, HostSettings, RetryPolicy
from tests.world.authority import Authority
from tests.world.images import Drawn, Picture, Pusher, draw
from tests.world.registries import RunningRegistry, start_crane, start_docker_registry
from tests.world.tokens import TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.registry

AMD = Platform("linux", "amd64")
ARM = Platform("linux", "arm64")
BOTH = ("linux/amd64", "linux/arm64")
WHY = (Origin("template", "app-1.0.0", "default", "app/templates/p.yaml", "Pod/p"),)


@dataclass
class Shop:
    """A registry that plays docker.io (or any host) with the images that a test puts in."""

    registry: RunningRegistry

    def put(self, name: str, tags: tuple[str, ...] = ("1",), **more: Any) -> Drawn:
        drawn = draw(Picture(name, tags, **more))
        Pusher(self.registry.url).push(drawn, name.partition("/")[2])
        return drawn

    def sources(self, *hosts: str, **more: Any) -> ImageSources:
        mirrors = {host: Mirror(self.registry.host, plain_http=True) for host in hosts or ("docker.io",)}
        places = Places(mirrors)
        client = Client(hosts=places.settings(), retry=RetryPolicy(attempts=2, base=0.01))
        return ImageSources(client, places, **more)

    def look(self, *references: str, platforms: tuple[Platform, ...] = (AMD,), **more: Any) -> Resolution:
        wanted = [Requirement(Reference.parse(text), WHY) for text in references]
        return resolve(wanted, self.sources(), platforms, **more)

    def one(self, reference: str, platforms: tuple[Platform, ...] = (AMD,)) -> LockedImage:
        return self.look(reference, platforms=platforms).images[0]

    def asked(self, pattern: str) -> list[str]:
        """Return the requests in the registry's access log that match."""
        return re.findall(pattern, self.registry.log)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    config = {"log": {"level": "info", "accesslog": {"disabled": False}}}
    with start_docker_registry(tmp_path_factory.mktemp("shop"), config=config) as registry:
        yield Shop(registry)


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with start_crane(tmp_path_factory.mktemp("modern")) as registry:
        yield Shop(registry)


def digest_of(drawn: Drawn, tag: str = "1") -> str:
    return drawn.tags[tag]


def children(drawn: Drawn, tag: str = "1") -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(drawn.manifests[drawn.tags[tag]][1])["manifests"]
    return listed


def test_a_plain_image_is_taken_as_it_is(shop: Shop):
    drawn = shop.put("docker.io/site/plain")
    image = shop.one("site/plain:1")
    assert str(image.digest) == digest_of(drawn)
    assert image.index is None
    assert image.tree.root.platform == AMD
    assert {str(blob.digest) for blob in image.tree.blobs} == set(drawn.blobs)
    assert (image.notes, image.referrers, image.source, image.origins) == ((), (), "registry", WHY)


def test_of_an_index_the_one_platform_goes_under_the_tag_and_the_index_is_kept_beside(shop: Shop):
    drawn = shop.put("docker.io/site/multi", platforms=BOTH)
    image = shop.one("site/multi:1")
    amd = next(child for child in children(drawn) if child["platform"]["architecture"] == "amd64")
    assert str(image.digest) == amd["digest"]
    assert image.index
    assert str(image.index.digest) == digest_of(drawn)
    assert image.tree.root.platform == AMD
    assert len(image.tree.manifests) == 1


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_all_platforms_carry_the_index_whole(shop: Shop, form: str):
    drawn = shop.put(f"docker.io/site/whole-{form}", platforms=BOTH, form=form, extras=frozenset({"attestation"}))
    image = shop.one(f"site/whole-{form}:1", platforms=())
    assert str(image.digest) == digest_of(drawn)
    assert {str(item.digest) for item in image.tree.manifests} == set(drawn.manifests)
    assert image.tree.manifests[-1] == image.tree.root
    assert {str(blob.digest) for blob in image.tree.blobs} == set(drawn.blobs)
    assert image.tree.absent == ()


def test_several_platforms_keep_the_index_and_say_what_is_left_out(shop: Shop):
    drawn = shop.put("docker.io/site/three", platforms=(*BOTH, "linux/s390x"), extras=frozenset({"attestation"}))
    image = shop.one("site/three:1", platforms=(AMD, ARM))
    assert str(image.digest) == digest_of(drawn)
    left = next(child["digest"] for child in children(drawn) if child["platform"]["architecture"] == "s390x")
    assert [str(digest) for digest in image.tree.absent] == [left]
    assert image.notes == ("1 children of the index are left out (other platforms)",)
    assert len(image.tree.manifests) == 4


def test_an_index_pinned_by_digest_is_carried_whole(shop: Shop):
    drawn = shop.put("docker.io/site/pinned", platforms=BOTH)
    image = shop.one(f"site/pinned@{digest_of(drawn)}")
    assert str(image.digest) == digest_of(drawn)
    assert len(image.tree.manifests) == 3


def test_a_tag_that_moved_away_from_its_digest_is_a_note(shop: Shop):
    old = shop.put("docker.io/site/moved", platforms=("linux/arm64",))
    shop.put("docker.io/site/moved")
    image = shop.one(f"site/moved:1@{digest_of(old)}", platforms=(ARM,))
    assert str(image.digest) == digest_of(old)
    assert "the tag 1 points to sha256:" in image.notes[0]
    gone = shop.one(f"site/moved:never@{digest_of(old)}", platforms=(ARM,))
    assert gone.notes == ("the tag never is gone now; the digest in the reference counts",)


def test_an_image_for_another_platform_is_a_note(shop: Shop):
    shop.put("docker.io/site/arm", platforms=("linux/arm64",))
    assert shop.one("site/arm:1").notes == ("it is for linux/arm64, not for linux/amd64",)


def test_an_index_without_the_platform_is_missing_and_says_what_there_is(shop: Shop):
    shop.put("docker.io/site/arms", platforms=("linux/arm64", "linux/s390x"))
    with pytest.raises(NotFoundError, match=r"not there for linux/amd64, only for linux/arm64, linux/s390x"):
        shop.one("site/arms:1")


def test_signatures_and_sboms_are_carried_for_the_index_and_its_child(shop: Shop):
    drawn = shop.put("docker.io/site/signed", platforms=BOTH, extras=frozenset({"cosign", "referrer"}))
    image = shop.one("site/signed:1")
    name = digest_of(drawn).replace(":", "-")
    assert {item.tag for item in image.referrers} == {name, f"{name}.sig"}
    assert {str(item.subject) for item in image.referrers} == {digest_of(drawn)}
    fallback = next(item for item in image.referrers if item.tag == name)
    assert fallback.tree.root.is_index
    assert len(fallback.tree.manifests) == 2
    assert shop.look("site/signed:1", referrers=False).images[0].referrers == ()


def test_an_attestation_follows_its_subject(shop: Shop):
    drawn = shop.put("docker.io/site/attested", platforms=BOTH, extras=frozenset({"attestation"}))
    image = shop.one("site/attested:1")
    about = next(child for child in children(drawn) if child["platform"]["os"] == "unknown")
    assert [str(item.tree.root.digest) for item in image.referrers] == [about["digest"]]
    assert [item.subject for item in image.referrers] == [image.digest]


class WithReferrersAPI(Registry):
    """A registry that answers the referrers API, which none of the reference registries here does as started."""

    listed: tuple[Descriptor, ...] = ()

    def referrers(self, repository: str, digest: Digest) -> tuple[Descriptor, ...]:
        return self.listed if repository == "site/sbom" and digest.hex else ()


class ModernSources(ImageSources):
    """Sources whose registries answer the referrers API."""

    def locate(self, reference: Reference) -> tuple[Registry, str]:
        registry, repository = super().locate(reference)
        return WithReferrersAPI(registry.client, registry.host), repository


def test_what_the_referrers_api_lists_is_carried_without_a_tag(shop: Shop):
    drawn = draw(Picture("docker.io/site/sbom", ("1",), extras=frozenset({"referrer"})))
    sbom = next(name for name, (_, raw) in drawn.manifests.items() if b'"subject"' in raw)
    drawn.tags = {"1": drawn.tags["1"]}
    Pusher(shop.registry.url).push(drawn, "site/sbom")
    media_type, raw = drawn.manifests[sbom]
    gone = Descriptor(media_type, Digest.of(b"gone"), 4)
    WithReferrersAPI.listed = (Descriptor.of(media_type, raw), gone)
    places = Places({"docker.io": Mirror(shop.registry.host, plain_http=True)})
    sources = ModernSources(Client(hosts=places.settings()), places)
    found = resolve([Requirement(Reference.parse("site/sbom:1"), WHY)], sources, (AMD,))
    image = found.images[0]
    assert [(item.tag, item.subject, str(item.tree.root.digest)) for item in image.referrers] == [("", image.digest, sbom)]


def without(shop: Shop, repository: str, digest: str) -> None:
    """Delete a manifest from the registry."""
    answer = requests.delete(f"{shop.registry.url}/v2/{repository}/manifests/{digest}", timeout=10)
    assert answer.status_code == 202


def test_an_attestation_that_is_not_served_is_a_warning(shop: Shop):
    drawn = shop.put("docker.io/site/halfproxy", platforms=BOTH, extras=frozenset({"attestation"}))
    about = next(child for child in children(drawn) if child["platform"]["os"] == "unknown")
    without(shop, "site/halfproxy", about["digest"])
    found = shop.look("site/halfproxy:1", platforms=())
    assert [str(digest) for digest in found.images[0].tree.absent] == [about["digest"]]
    assert "its attestation" in found.warnings[0]


def test_a_child_that_is_not_served_is_missing(shop: Shop):
    drawn = shop.put("docker.io/site/halfgone", platforms=BOTH)
    without(shop, "site/halfgone", children(drawn)[1]["digest"])
    with pytest.raises(NotFoundError, match="site/halfgone:1"):
        shop.one("site/halfgone:1", platforms=())


def test_all_images_that_are_gone_are_told_at_once_with_who_needs_them(shop: Shop):
    shop.put("docker.io/site/here")
    with pytest.raises(NotFoundError) as caught:
        shop.look("site/gone:1", "site/here:1", "site/here:2")
    message = caught.value.message
    assert message.startswith(
        "2 images are not to be had: docker.io/site/gone:1 (needed by template: app-1.0.0 > profile default"
    )
    assert "docker.io/site/here:2" in message
    assert caught.value.exit_code == 3


def test_what_only_values_name_may_be_gone(shop: Shop):
    shop.put("docker.io/site/there")
    why = (Origin("values", "app-1.0.0", value="a.image"),)
    dead = Requirement(Reference.parse("site/dead:1"), why, ("unrendered",), optional=True)
    found = resolve([dead, Requirement(Reference.parse("site/there:1"), WHY)], shop.sources(), (AMD,))
    assert [str(image.reference) for image in found.images] == ["docker.io/site/there:1"]
    assert found.warnings[0].startswith("docker.io/site/dead:1 is left out:")
    assert "feature unrendered" in found.warnings[0]


def test_many_reasons_are_counted(shop: Shop):
    many = tuple(replace(WHY[0], object=f"Pod/{number}") for number in range(5))
    with pytest.raises(NotFoundError, match="and 2 more places"):
        resolve([Requirement(Reference.parse("site/gone:1"), many)], shop.sources(), (AMD,))


def test_each_manifest_is_fetched_once_and_copied_without_asking_again(tmp_path: Path):
    config = {"log": {"level": "info", "accesslog": {"disabled": False}}}
    with start_docker_registry(tmp_path, config=config) as registry:
        shop = Shop(registry)
        shop.put("docker.io/site/once", ("1", "2"), platforms=BOTH, extras=frozenset({"cosign"}))
        wanted = [Requirement(Reference.parse(f"site/once:{tag}"), WHY) for tag in "12"]
        sources, gets = shop.sources(), r'"GET /v2/site/once/manifests/(sha256:[0-9a-f]+) HTTP'
        found = resolve(wanted, sources, (AMD,), jobs=1)
        assert found.images[0].tree == found.images[1].tree
        for image in found.images:
            root = image.tree.root
            assert Digest.of(sources.manifest(image.reference, root)) == root.digest  # the first time from memory
        asked = shop.asked(gets)
        assert len(set(asked)) == 3
        assert len(asked) == 4
        assert not shop.asked(r'"GET /v2/site/once/manifests/[12] HTTP')


def test_one_token_serves_a_repository(tmp_path: Path):
    authority = Authority.create(tmp_path)
    with (
        TokenServer.start(authority, {"ann": "pass-word"}) as tokens,
        start_docker_registry(tmp_path, token=tokens) as registry,
    ):
        drawn = draw(Picture("docker.io/site/token", ("1",), platforms=BOTH, extras=frozenset({"cosign"})))
        Pusher(registry.url, user=("ann", "pass-word")).push(drawn, "site/token")
        tokens.seen.clear()
        places = Places({"docker.io": Mirror(registry.host, plain_http=True)})
        store = CredentialStore().with_explicit(registry.host, Credential("ann", "pass-word"))
        client = Client(hosts=places.settings(), credentials=store)
        found = resolve([Requirement(Reference.parse("site/token:1"), WHY)], ImageSources(client, places), (AMD,))
        assert found.images[0].referrers
        assert len(tokens.seen) == 1


def test_progress_hears_of_each_image(shop: Shop):
    shop.put("docker.io/site/told")
    heard: list[str] = []

    class Listener(Progress):
        def begin(self, what: str, items: int, size: int = 0) -> None:
            heard.append(f"{what} {items} {size}")

        def done(self, item: str, note: str = "") -> None:
            heard.append(item + note)

    shop.look("site/told:1", progress=Listener())
    assert heard == ["resolve 1 0", "docker.io/site/told:1"]


def test_a_registry_that_cannot_be_reached_ends_the_run(shop: Shop):
    wanted = [Requirement(Reference.parse("quay.io/a/b:1"), WHY)]
    places = Places({"quay.io": Mirror("127.0.0.1:1", plain_http=True)})
    client = Client(hosts=places.settings(), retry=RetryPolicy(attempts=1))
    with pytest.raises(NetworkError) as caught:
        resolve(wanted, ImageSources(client, places), (AMD,))
    assert not isinstance(caught.value, (NotFoundError, UnauthorizedError))


def test_an_image_that_may_not_be_read_is_told_as_such(tmp_path: Path):
    with start_docker_registry(tmp_path, htpasswd={"ann": "pw"}) as registry:
        places = Places({"docker.io": Mirror(registry.host, plain_http=True)})
        client = Client(hosts=places.settings())
        with pytest.raises(UnauthorizedError, match=r"an image is not to be had: docker\.io/site/x:1"):
            resolve([Requirement(Reference.parse("site/x:1"), WHY)], ImageSources(client, places), (AMD,))
        store = CredentialStore().with_explicit(registry.host, Credential("ann", "pw"))
        with_login = Client(hosts={registry.host: HostSettings(plain_http=True)}, credentials=store)
        with pytest.raises(NotFoundError):
            resolve([Requirement(Reference.parse("site/x:1"), WHY)], ImageSources(with_login, places), (AMD,))


def put_manifest(shop: Shop, repository: str, document: dict[str, Any], media_type: str) -> None:
    answer = requests.put(
        f"{shop.registry.url}/v2/{repository}/manifests/1",
        data=json.dumps(document),
        headers={"Content-Type": media_type},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text


def blob(shop: Shop, repository: str, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    opened = requests.post(f"{shop.registry.url}/v2/{repository}/blobs/uploads/", timeout=10)
    place = f"{shop.registry.url}{opened.headers['Location']}"
    assert requests.put(f"{place}?digest={digest}", data=data, timeout=10).status_code == 201
    return {"digest": digest, "size": len(data)}


@pytest.mark.parametrize(
    ("layer", "note"),
    [
        ("application/vnd.docker.image.rootfs.diff.tar.zstd", "zstd layers in a Docker manifest"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "layers that lie outside its registry"),
    ],
)
def test_layers_that_will_make_trouble_are_noted(modern: Shop, layer: str, note: str):
    repository = f"site/{'zstd' if 'zstd' in layer else 'foreign'}"
    config = blob(modern, repository, b'{"os":"linux","architecture":"amd64"}')
    content = blob(modern, repository, b"\x28\xb5\x2f\xfd")
    manifest = "application/vnd.docker.distribution.manifest.v2+json"
    document = {
        "schemaVersion": 2,
        "mediaType": manifest,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **config},
        "layers": [{"mediaType": layer, **content}],
    }
    put_manifest(modern, repository, document, manifest)
    assert any(note in told for told in modern.one(f"{repository}:1").notes)


@pytest.mark.parametrize("config", [b"[]", b'{"os":"linux"}'])
def test_a_config_that_names_no_platform_is_borne(modern: Shop, config: bytes):
    repository = f"site/odd{len(config)}"
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(modern, repository, config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob(modern, repository, b"layer")}],
    }
    put_manifest(modern, repository, document, "application/vnd.oci.image.manifest.v1+json")
    assert modern.one(f"{repository}:1").tree.root.platform is None


def test_an_artifact_is_no_image_and_has_no_platform(modern: Shop):
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", **blob(modern, "site/chart", b"{}")},
        "layers": [{"mediaType": "application/x", **blob(modern, "site/chart", b"layer")}],
    }
    put_manifest(modern, "site/chart", document, "application/vnd.oci.image.manifest.v1+json")
    image = modern.one("site/chart:1")
    assert image.tree.root.platform is None
    assert image.tree.root.digest == Digest.parse(str(image.digest))


def test_an_index_inside_an_index_is_carried_with_all_below_it(modern: Shop):
    inner = modern.put("docker.io/site/nested", ("inner",), platforms=BOTH)
    media_type, raw = inner.manifests[inner.tags["inner"]]
    child = {"mediaType": media_type, "digest": inner.tags["inner"], "size": len(raw)}
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [{**child, "platform": vars(AMD) | {"variant": "v2"}}],
    }
    put_manifest(modern, "site/nested", document, media_type)
    image = modern.one("site/nested:1")
    assert str(image.digest) == inner.tags["inner"]
    assert image.index
    assert len(image.tree.manifests) == 3
    whole = modern.one("site/nested:1", platforms=())
    assert len(whole.tree.manifests) == 4
    assert whole.digest == image.index.digest


def nested(shop: Shop, repository: str, deep: int, *, twice: bool = False) -> None:
    """Put an image under so many indexes, each in the next; ``twice``: each lists the one below two times."""
    inner = shop.put(f"docker.io/{repository}", ("image",))
    media_type, raw = inner.manifests[inner.tags["image"]]
    for _ in range(deep):
        child = {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}", "size": len(raw)}
        platform = {"architecture": "amd64", "os": "linux"}
        media_type = "application/vnd.oci.image.index.v1+json"
        listed = [{**child, "platform": platform}, {**child, "platform": {**platform, "variant": "v2"}}]
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": listed if twice else listed[:1]}
        raw = json.dumps(document).encode()
        put_manifest(shop, repository, document, media_type)


@pytest.mark.parametrize("platforms", [(AMD,), (AMD, ARM), ()])
def test_indexes_in_each_other_fifty_deep_are_refused(modern: Shop, platforms: tuple[Platform, ...]):
    repository = f"site/deep{len(platforms)}"
    nested(modern, repository, 50)
    with pytest.raises((IntegrityError, NotFoundError), match=r"nested more than 8 deep|is not there for linux/arm64"):
        modern.one(f"{repository}:1", platforms=platforms)


def test_an_index_that_lists_each_child_twice_is_walked_once(modern: Shop):
    """Seven levels of two would be 128 ways; each digest is looked at once (F47)."""
    nested(modern, "site/twice", 7, twice=True)
    before = len(modern.asked(r"GET /v2/site/twice/manifests/sha256:"))
    image = modern.one("site/twice:1", platforms=())
    assert len(image.tree.manifests) == 8
    assert len(set(image.tree.manifests)) == 8
    assert len(modern.asked(r"GET /v2/site/twice/manifests/sha256:")) - before <= 9
