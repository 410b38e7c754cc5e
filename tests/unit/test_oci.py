import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap import oci
from airgap.errors import ConfigurationError, IntegrityError
from airgap.oci import Descriptor, Digest, Index, Manifest, Platform, artifact_manifest, canonical_json, parse_manifest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
A = f"sha256:{'a' * 64}"
B = f"sha256:{'b' * 64}"


def descriptor(digest=A, size=3, media_type="application/octet-stream", **more):
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def manifest(**more):
    return {"schemaVersion": 2, "config": descriptor(A), "layers": [descriptor(B)], **more}


def raw(data):
    return json.dumps(data).encode()


class TestDigest:
    def test_of_nothing(self):
        assert str(Digest.of(b"")) == EMPTY
        assert Digest.of(b"").short == "e3b0c44298fc"

    @given(st.binary())
    def test_is_what_hashlib_says_and_parses_back(self, data):
        digest = Digest.of(data)
        assert digest.hex == hashlib.sha256(data).hexdigest()
        assert Digest.parse(str(digest)) == digest

    def test_sha512_is_registered_too_and_hashes_with_its_own_algorithm(self):
        digest = Digest.parse("sha512:" + hashlib.sha512(b"x").hexdigest())
        hasher = digest.hasher()
        hasher.update(b"x")
        assert hasher.hexdigest() == digest.hex

    @pytest.mark.parametrize(
        "text",
        ["", "sha256", "sha256:", "sha256:abc", f"sha256:{'A' * 64}", f"sha256:{'g' * 64}", f"md5:{'a' * 32}",
         f"sha256:../{'a' * 61}", f"{A}\n", f"sha512:{'a' * 64}", "sha256:" + "\u0663" * 64],
    )  # fmt: skip
    def test_anything_else_is_refused(self, text):
        with pytest.raises(IntegrityError, match="is not a digest"):
            Digest.parse(text)


class TestPlatform:
    @pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64/v8", "windows/amd64"])
    def test_reads_and_writes_the_same(self, text):
        assert str(Platform.parse(text)) == text

    @pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "Linux/amd64", "a/b/c/d", "linux/amd 64"])
    def test_other_forms_are_refused(self, text):
        with pytest.raises(ConfigurationError, match="os/architecture"):
            Platform.parse(text)

    @pytest.mark.parametrize(
        ("image", "wanted", "runs"),
        [
            ("linux/amd64", "linux/amd64", True),
            ("linux/arm64/v8", "linux/arm64", True),
            ("linux/arm64", "linux/arm64/v8", True),
            ("linux/arm/v6", "linux/arm/v7", False),
            ("linux/arm/v7", "linux/arm/v7", True),
            ("linux/arm64", "linux/amd64", False),
            ("windows/amd64", "linux/amd64", False),
        ],
    )
    def test_what_runs_where(self, image, wanted, runs):
        assert Platform.parse(image).provides(Platform.parse(wanted)) is runs

    def test_unknown_marks_an_attestation(self):
        assert Platform("unknown", "unknown").is_unknown
        assert Platform("linux", "unknown").is_unknown
        assert not Platform("linux", "amd64").is_unknown


class TestDescriptor:
    def test_reads_and_writes_all_fields(self):
        data = descriptor(
            platform={"architecture": "arm64", "os": "linux", "variant": "v8"},
            annotations={"b": "2", "a": "1"},
            artifactType="application/x",
            urls=["https://outside.example/x"],
        )
        read = Descriptor.from_json(data)
        assert read.to_json() == data
        assert list(read.to_json()["annotations"]) == ["a", "b"]
        assert read.platform == Platform("linux", "arm64", "v8")

    def test_leaves_empty_fields_out(self):
        assert Descriptor.from_json(descriptor(platform={"os": "linux", "architecture": "amd64"})).to_json() == descriptor(
            platform={"os": "linux", "architecture": "amd64"}
        )
        assert Descriptor.from_json(descriptor(platform="linux", annotations=None, urls=None)).to_json() == descriptor()

    def test_describes_bytes(self):
        assert Descriptor.of("text/plain", b"", artifact_type="x") == Descriptor(
            "text/plain", Digest.parse(EMPTY), 0, artifact_type="x"
        )

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            ([], "must be an object, not list"),
            ({"digest": A, "size": 1}, "lacks a media type"),
            (descriptor(size="3"), "lacks a media type or a size"),
            (descriptor(size=True), "lacks a media type or a size"),
            (descriptor(size=-1), "lacks a media type or a size"),
            (descriptor(size=1.5), "lacks a media type or a size"),
            (descriptor(digest=None), "is not a digest"),
            (descriptor(urls="https://x"), "wrong kind"),
            (descriptor(annotations=[]), None),
            (descriptor(annotations=["a"]), "wrong kind"),
        ],
    )
    def test_what_is_none_is_refused(self, data, reason):
        if reason is None:
            assert Descriptor.from_json(data).annotations == {}
            return
        with pytest.raises(IntegrityError, match=reason):
            Descriptor.from_json(data)

    def test_kinds(self):
        assert [Descriptor.from_json(descriptor(media_type=kind)).is_index for kind in oci.ACCEPT] == [True, True, False, False]
        assert [Descriptor.from_json(descriptor(media_type=kind)).is_manifest for kind in oci.ACCEPT] == [
            False,
            False,
            True,
            True,
        ]

    def test_a_foreign_layer_is_known_by_its_type_or_by_its_urls(self):
        assert Descriptor.from_json(descriptor(media_type=oci.FOREIGN_LAYER_TYPES[0])).is_foreign
        assert Descriptor.from_json(descriptor(urls=["https://outside.example/layer"])).is_foreign
        assert not Descriptor.from_json(descriptor()).is_foreign

    def test_an_attestation_is_known_by_its_annotation_or_by_its_platform(self):
        assert Descriptor.from_json(
            descriptor(annotations={"vnd.docker.reference.type": "attestation-manifest"})
        ).is_attestation
        assert Descriptor.from_json(descriptor(platform={"os": "unknown", "architecture": "unknown"})).is_attestation
        assert not Descriptor.from_json(descriptor(platform={"os": "linux", "architecture": "amd64"})).is_attestation
        assert not Descriptor.from_json(descriptor()).is_attestation


class TestParseManifest:
    def test_a_manifest_keeps_its_bytes_because_the_digest_is_theirs(self):
        written = b' {"schemaVersion":2,\n"config":' + raw(descriptor(A)) + b',"layers":[' + raw(descriptor(B)) + b"]}"
        parsed = parse_manifest(written)
        assert isinstance(parsed, Manifest)
        assert parsed.descriptor == Descriptor(oci.OCI_MANIFEST, Digest.of(written), len(written))
        assert [str(blob.digest) for blob in parsed.blobs] == [A, B]

    def test_a_blob_that_stands_twice_is_listed_once(self):
        parsed = parse_manifest(raw(manifest(layers=[descriptor(A), descriptor(B), descriptor(B)])))
        assert isinstance(parsed, Manifest)
        assert [str(blob.digest) for blob in parsed.blobs] == [A, B]

    def test_an_index_selects_the_first_child_for_a_platform(self):
        children = [
            descriptor(A),
            descriptor(A, platform={"os": "linux", "architecture": "arm64"}),
            descriptor(B, platform={"os": "linux", "architecture": "amd64"}),
        ]
        parsed = parse_manifest(raw({"manifests": children}))
        assert isinstance(parsed, Index)
        assert parsed.media_type == oci.OCI_INDEX
        assert parsed.select(Platform("linux", "amd64")) == parsed.manifests[2]
        assert parsed.select(Platform("windows", "amd64")) is None
        assert parsed.descriptor.digest == Digest.of(parsed.raw)

    def test_subject_artifact_type_and_annotations_are_read(self):
        more = {"subject": descriptor(B), "artifactType": "application/x", "annotations": {"a": "b"}}
        for parsed in (parse_manifest(raw(manifest(**more))), parse_manifest(raw({"manifests": [], **more}))):
            assert parsed.subject == Descriptor.from_json(descriptor(B))
            assert (parsed.artifact_type, parsed.annotations) == ("application/x", {"a": "b"})

    @pytest.mark.parametrize(
        ("data", "served", "kind"),
        [
            (manifest(), "", oci.OCI_MANIFEST),
            (manifest(), f"{oci.DOCKER_MANIFEST}; charset=utf-8", oci.DOCKER_MANIFEST),
            (manifest(mediaType=oci.OCI_MANIFEST), oci.DOCKER_MANIFEST, oci.OCI_MANIFEST),
            ({"manifests": []}, oci.DOCKER_INDEX, oci.DOCKER_INDEX),
            ({"manifests": None}, "", oci.OCI_INDEX),
        ],
    )
    def test_the_documents_own_media_type_wins_over_how_it_was_served(self, data, served, kind):
        assert parse_manifest(raw(data), served).media_type == kind

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (manifest(manifests=[]), "both manifests and layers"),
            ({"manifests": [], "config": descriptor()}, "both manifests and layers"),
            ({"schemaVersion": 1, "fsLayers": []}, "is no image manifest"),
            ({"mediaType": "text/html"}, "type text/html is no image manifest"),
            (manifest(mediaType=oci.OCI_INDEX), "calls itself"),
            ({"manifests": [], "mediaType": oci.OCI_MANIFEST}, "calls itself"),
            (manifest(layers={"a": 1}), "layers of a manifest must be a list"),
            (manifest(annotations=["x"]), "annotations an object"),
            ([], None),
            ("x", "must be a JSON object"),
        ],
    )
    def test_what_is_neither_or_both_is_refused(self, data, reason):
        with pytest.raises(IntegrityError, match=reason):
            parse_manifest(raw(data))

    @pytest.mark.parametrize("text", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN'])
    def test_what_is_no_json_is_refused_with_its_beginning(self, text):
        with pytest.raises(IntegrityError, match="is not JSON"):
            parse_manifest(text)

    def test_what_no_registry_would_take_is_refused(self):
        with pytest.raises(IntegrityError, match="larger than"):
            parse_manifest(b" " * (oci.MANIFEST_LIMIT + 1))


class TestOurOwnManifests:
    def test_canonical_json_has_one_form(self):
        assert canonical_json({"b": 1, "a": {"d": "é", "c": []}}) == '{"a":{"c":[],"d":"é"},"b":1}'.encode()

    def test_an_artifact_says_its_media_type_and_reads_back(self):
        config, layer = Descriptor.of(oci.HELM_CONFIG, b"{}"), Descriptor.of(oci.HELM_CHART, b"tgz")
        made = artifact_manifest(config, (layer,), {"title": "x"}, "application/x")
        assert parse_manifest(made.raw) == made
        assert json.loads(made.raw)["mediaType"] == oci.OCI_MANIFEST

    def test_an_artifact_without_extras_has_no_empty_fields(self):
        made = artifact_manifest(Descriptor.of(oci.OCI_EMPTY, b"{}"), ())
        assert set(json.loads(made.raw)) == {"schemaVersion", "mediaType", "config", "layers"}
        assert parse_manifest(made.raw) == made
