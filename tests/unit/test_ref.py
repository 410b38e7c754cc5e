import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import ConfigurationError
from airgap.oci import Digest
from airgap.ref import DOCKER_HUB, Location, Reference, has_tag_or_digest

D = f"sha256:{'a' * 64}"

HOSTS = st.one_of(
    st.sampled_from(["localhost", "quay.io", "192.168.50.1", "[::1]", "[fd00::1]", "reg.lan"]),
    st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?\.[a-z]{2,4}", fullmatch=True),
).flatmap(lambda host: st.one_of(st.just(host), st.integers(1, 65535).map(lambda port: f"{host}:{port}")))
PARTS = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
TAGS = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=128).filter(lambda tag: tag[0] not in ".-")
DIGESTS = st.binary(max_size=4).map(Digest.of)
REFERENCES = st.builds(
    Reference,
    registry=HOSTS,
    repository=st.lists(PARTS, min_size=1, max_size=4).map("/".join),
    tag=st.one_of(st.just(""), TAGS),
    digest=st.one_of(st.none(), DIGESTS),
).filter(lambda reference: reference.tag or reference.digest)


@given(REFERENCES)
def test_what_is_written_reads_back_the_same(reference):
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(f" docker://{reference} ") == reference


@given(REFERENCES, st.sampled_from(["reg.lan:5000", "reg.lan/team", "[::1]:5000/a/b"]))
def test_a_relocated_reference_is_one_and_lies_inside_with_tag_and_digest(reference, where):
    location = Location.parse(where)
    moved = location.relocate(reference)
    assert Reference.parse(str(moved)) == moved
    assert location.holds(moved)
    assert (moved.tag, moved.digest) == (reference.tag, reference.digest)


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_refused(text):
    try:
        reference = Reference.parse(text)
    except ConfigurationError:
        return
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        # R1: the port is no tag
        ("localhost:5000/app", "localhost:5000", "app", "latest", None),
        ("192.168.50.1:5001/gearman", "192.168.50.1:5001", "gearman", "latest", None),
        ("reg.lan:443/a/b:2.54.3", "reg.lan:443", "a/b", "2.54.3", None),
        (f"localhost:5000/app:1@{D}", "localhost:5000", "app", "1", D),
        ("localhost/app", "localhost", "app", "latest", None),
        ("foo/bar", DOCKER_HUB, "foo/bar", "latest", None),
        # R2: tag and digest together
        (f"docker.io/library/alpine:3.12.1@{D}", DOCKER_HUB, "library/alpine", "3.12.1", D),
        (f"quay.io/a/b@{D}", "quay.io", "a/b", "", D),
        # R4: hosts are case-insensitive
        ("REG.LAN:5000/team/mirror:1", "reg.lan:5000", "team/mirror", "1", None),
        ("docker://LOCALHOST:5000/app", "localhost:5000", "app", "latest", None),
        ("oci://reg.lan/charts/x:1", "reg.lan", "charts/x", "1", None),
        # addresses
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1", None),
        ("[fd00::12]/app", "[fd00::12]", "app", "latest", None),
        # a name that looks like a host but has no path is a Docker Hub image
        ("reg.lan:5000", DOCKER_HUB, "library/reg.lan", "5000", None),
    ],
)
def test_the_grammar(text, registry, repository, tag, digest):
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag) == (registry, repository, tag)
    assert reference.digest == (Digest.parse(digest) if digest else None)


@pytest.mark.parametrize(
    "text",
    ["nginx", "docker.io/nginx", "library/nginx", "index.docker.io/library/nginx", "registry-1.docker.io/library/nginx",
     "nginx:latest", "docker://nginx", "DOCKER.IO/nginx"],
)  # fmt: skip
def test_docker_hub_has_many_names_and_one_identity(text):  # R6
    assert str(Reference.parse(text)) == "docker.io/library/nginx:latest"


def test_a_name_is_no_prefix_of_another():  # R1: foo is not foo:bar/baz:1
    with pytest.raises(ConfigurationError):
        Reference.parse("foo:bar/baz:1/x")
    assert Reference.parse("foo:bar").name != Reference.parse("foo").repository


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("", "is not a repository path", ""),
        ("ghcr.io/OrgName/app:1", "may not hold upper case ('O')", "write ghcr.io/orgname/app:1"),
        ("reg.lan/a//b", "is not a repository path", ""),
        ("reg.lan/a/", "is not a repository path", ""),
        ("reg.lan/-a", "is not a repository path", ""),
        ("r:sha256:" + "a" * 64, "is not a tag", ""),  # R3: a digest joined by a colon
        ("nginx:", "is not a tag", ""),
        ("nginx:.x", "is not a tag", ""),
        ("nginx:" + "a" * 129, "is not a tag", ""),
        ("nginx@sha256:abc", "is not a digest", ""),
        (f"nginx@{D}@{D}", "is not a digest", ""),
        ("https://reg.lan/a", "has a scheme", "write reg.lan/a"),
        ("reg_lan.x/a", "is not a host name", ""),
        ("-reg.lan/a", "is not a host name", ""),
        ("reg.lan:/a", "is not a host name", ""),
        ("quay.io./a", "is not a host name", ""),
        ("[:::]/a", "is not a host name", ""),
        ("reg.lan:99999/a", "port 99999 is larger than 65535", ""),
        ("reg.lan/" + "a" * 250, "longer than the 255 characters", ""),
        ("a b", "is not a repository path", ""),
    ],
)
def test_what_is_none_is_refused_with_the_reason(text, reason, hint):
    with pytest.raises(ConfigurationError) as caught:
        Reference.parse(text)
    assert reason in caught.value.message
    assert caught.value.hint == hint


def test_pinning_keeps_the_tag_and_the_digest_is_asked_for():
    pinned = Reference.parse("quay.io/a/b:1").pinned(Digest.parse(D))
    assert str(pinned) == f"quay.io/a/b:1@{D}"
    assert (pinned.locator, Reference.parse("quay.io/a/b:1").locator) == (D, "1")


@pytest.mark.parametrize(
    ("text", "has"), [("nginx", False), ("reg.lan:5000/nginx", False), ("nginx:1", True), (f"reg.lan:5000/nginx@{D}", True)]
)
def test_an_untagged_reference_is_told_by_its_text(text, has):
    assert has_tag_or_digest(text) is has


class TestLocation:
    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("reg.lan/mirror/", "reg.lan/mirror"),
            ("reg.lan", "reg.lan"),
            ("REG.LAN:5000/team/mirror", "reg.lan:5000/team/mirror"),
            ("oci://reg.lan/mirror", "reg.lan/mirror"),
            ("localhost", "localhost"),
            ("[::1]:5000", "[::1]:5000"),
        ],
    )
    def test_forms(self, text, written):  # R13
        assert str(Location.parse(text)) == written

    @pytest.mark.parametrize(
        ("text", "reason", "hint"),
        [
            ("https://reg.lan/mirror", "has a scheme", "write reg.lan/mirror"),
            ("reg.lan/a//b", "is not a repository path", ""),
            ("reg.lan//", "is not a repository path", ""),
            ("REG.LAN:5000/Team/Mirror", "may not hold upper case ('T')", "write REG.LAN:5000/team/mirror"),
            ("", "is not a host name", ""),
            ("reg.lan:70000", "port 70000", ""),
        ],
    )
    def test_refusals(self, text, reason, hint):
        with pytest.raises(ConfigurationError) as caught:
            Location.parse(text)
        assert reason in caught.value.message
        assert caught.value.hint == hint

    @pytest.mark.parametrize(
        ("where", "source", "inside"),
        [
            ("reg.lan:5000/team", "quay.io/a/b:1", "reg.lan:5000/team/quay.io/a/b:1"),
            ("reg.lan", "nginx:1", "reg.lan/docker.io/library/nginx:1"),
            ("reg.lan", "localhost:5000/a:1", "reg.lan/localhost_5000/a:1"),
            ("reg.lan", "[fd00::1]:5000/a:1", "reg.lan/fd00-0000-0000-0000-0000-0000-0000-0001_5000/a:1"),
            ("reg.lan", "[::1]/a:1", "reg.lan/0000-0000-0000-0000-0000-0000-0000-0001/a:1"),
        ],
    )
    def test_the_source_host_stays_in_the_path(self, where, source, inside):
        assert str(Location.parse(where).relocate(Reference.parse(source))) == inside

    def test_two_sources_never_meet(self):  # R13
        location = Location.parse("reg.lan/mirror")
        one, other = (location.relocate(Reference.parse(text)) for text in ("docker.io/x/app:1", "quay.io/x/app:1"))
        assert one.name != other.name

    def test_what_lies_under_the_prefix_is_held(self):
        location = Location.parse("reg.lan/team")
        assert location.holds(Reference.parse("reg.lan/team/a"))
        assert not location.holds(Reference.parse("reg.lan/teams/a"))
        assert not location.holds(Reference.parse("other.lan/team/a"))
        assert Location.parse("reg.lan").holds(Reference.parse("reg.lan/a"))
        assert location.repository("charts/x") == "team/charts/x"
        assert Location.parse("reg.lan").repository("charts/x") == "charts/x"

    @pytest.mark.parametrize(
        ("layout", "source", "inside"),
        [
            ("path", "quay.io/a/b:1", "reg.lan/team/a/b:1"),
            ("path", "nginx:1", "reg.lan/team/library/nginx:1"),
            ("flat", "quay.io/a/b:1", "reg.lan/team/quay.io--a--b:1"),
            ("flat", "localhost:5000/a--b/c-d---e:1", "reg.lan/team/localhost_5000--a---b--c-d----e:1"),
        ],
    )
    def test_other_layouts_strip_the_host_or_the_slashes(self, layout, source, inside):
        assert str(Location.parse("reg.lan/team", layout).relocate(Reference.parse(source))) == inside

    @given(st.from_regex(r"[a-z]{1,3}(-{1,4}[a-z]{1,2}|/[a-z]|\.[a-z]|__[a-z]){0,6}", fullmatch=True))
    def test_what_is_flat_can_be_read_back(self, path):
        flat = Location.parse("reg.lan/team", "flat")
        repository = flat.repository(path)
        assert repository.count("/") == 1
        assert Reference.parse(f"reg.lan/{repository}").repository == repository
        assert flat.origin(repository) == path

    def test_where_the_host_is_in_the_path_it_is_the_origin(self):
        assert Location.parse("reg.lan/team").origin("team/quay.io/a/b") == "quay.io/a/b"
        assert Location.parse("reg.lan", "path").origin("a/b") == "a/b"

    def test_an_unknown_layout_is_refused(self):
        with pytest.raises(ConfigurationError, match="layout 'deep' is none of host, path, flat"):
            Location.parse("reg.lan", "deep")
