"""Layouts: the same bundle under three ways of calling repositories, in real registries and in ``serve``."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from airgap.audit.names import ByOurName, answering
from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError, NetworkError
from airgap.inventory import Base, delta
from airgap.lock import Lock
from airgap.plan import wanted
from airgap.push import push
from airgap.push.inventory import take
from airgap.ref import FLAT, LAYOUTS, PATH, Location, Reference
from airgap.relocate import MirrorOptions
from airgap.relocate.mirrors import CONTAINERD, mirror_files, resolve
from airgap.serve import Options, Server
from tests.bundle.estate import Estate, bundle, small
from tests.fetch.conftest import connect
from tests.push.conftest import KINDS, asked
from tests.relocate.test_mirrors import NAMES, REFERENCES
from tests.world.registries import find_binary

OTHERS = (PATH, FLAT)


@pytest.mark.parametrize("place", ["reg.lan", "reg.lan:8443/team/deep"])
@pytest.mark.parametrize("layout", OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_node_mirrors_lead_where_push_puts_it(place, layout, name):
    location, reference = Location.parse(place, layout), Reference.parse(name)
    found = resolve(mirror_files(REFERENCES, location, MirrorOptions()), reference)
    if layout == FLAT:
        assert not found.pop(CONTAINERD), "containerd's format cannot say it"
    assert set(found.values()) == {location.relocate(reference).name}


@pytest.mark.registry
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_arrives_byte_for_byte_in_any_registry(kind, layout, tmp_path):
    estate = small()
    with KINDS[kind](tmp_path) as running, BundleReader.open(bundle(estate, tmp_path / "x.tar")) as reader:
        location = Location.parse(f"{running.host}/team", layout)
        result = push(reader, connect(running.host), location)
        assert result.receipt()["layout"] == layout
        registry = connect(running.host)
        for item in wanted(estate.lock, location):
            assert registry.get_manifest(item.repository, item.tag or str(item.tree.root.digest)).descriptor == replace(
                item.tree.root, platform=None, annotations={}, artifact_type=""
            )
            for blob in item.tree.blobs:
                assert registry.read_blob(item.repository, blob) == estate.contents[blob.digest]
        found = take(connect(running.host), location)
        assert found.location.layout == layout
        assert {location.under(name) for name in found.repositories} == {it.repository for it in wanted(estate.lock, location)}
        if layout == FLAT:
            assert not any("/" in name for name in found.repositories)
            assert {location.origin(location.under(name)) for name in found.repositories} == {
                "charts/operator",
                "docker.io/library/busybox",
                "ghcr.io/org/multi",
                "quay.io/team/app",
            }
        assert delta(estate.lock, Base.of_inventory(found)).left_out


@pytest.mark.registry
def test_sources_that_meet_are_refused_before_the_registry_is_asked_anything(target, tmp_path):
    estate = Estate()
    estate.image("quay.io/x/app:1", b"one")
    estate.image("ghcr.io/x/app:1", b"two")
    estate.installer()
    with BundleReader.open(bundle(estate, tmp_path / "x.tar")) as reader:
        before = len(asked(target))
        with pytest.raises(ConfigurationError, match="layout path leads both"):
            push(reader, connect(target.host), Location.parse(target.host, PATH))
        assert len(asked(target)) == before
        assert push(reader, connect(target.host), Location.parse(target.host, FLAT)).sent


@pytest.mark.registry
@pytest.mark.helm
@pytest.mark.parametrize("layout", LAYOUTS)
def test_helm_pulls_a_chart_from_every_layout(layout, target, tmp_path):
    helm = find_binary("helm")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "Chart.yaml").write_text("apiVersion: v2\nname: things\nversion: 1.0.0\n")
    subprocess.run([helm, "package", "things"], cwd=tmp_path, check=True, capture_output=True)
    estate = small()
    estate.chart("things", "1.0.0", (tmp_path / "things-1.0.0.tgz").read_bytes())
    location = Location.parse(f"{target.host}/team", layout)
    with BundleReader.open(bundle(estate, tmp_path / "x.tar")) as reader:
        push(reader, connect(target.host), location)
    url = f"oci://{target.host}/{location.repository('charts/things')}"
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [helm, "pull", url, "--version", "1.0.0", "--plain-http", "-d", "out"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (pulled,) = (tmp_path / "out").iterdir()
    assert pulled.read_bytes() == (tmp_path / "things-1.0.0.tgz").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", ["", "team"])
def test_serve_calls_repositories_as_push_does(layout, prefix, tmp_path):
    estate = small()
    with (
        BundleReader.open(bundle(estate, tmp_path / "x.tar")) as reader,
        Server(reader, options=Options(prefix=prefix, layout=layout)) as server,
    ):
        host = server.url.partition("://")[2]
        registry, location = connect(host), Location("x", prefix, layout)
        for item in wanted(estate.lock, location):
            if item.tag and not item.is_referrer:
                held = registry.head_manifest(item.repository, item.tag)
                assert held
                assert held.digest == item.tree.root.digest
        short = registry.head_manifest("busybox", "1.36")  # Docker's registry-mirrors ask so
        assert short
        assert short.digest == estate.images[1].digest


class TestPullRegistry:
    @pytest.mark.registry
    def test_a_name_that_answers_is_asked_itself(self, target):
        theirs = connect(target.host)
        chosen, told = answering(theirs, Location(target.host, "a"), connect(target.host), Location(target.host, "b"))
        assert chosen is theirs
        assert not told

    @pytest.mark.registry
    def test_a_name_out_of_reach_is_asked_for_under_ours(self, target, tmp_path):
        estate, ours = small(), Location.parse(f"{target.host}/pushed")
        with BundleReader.open(bundle(estate, tmp_path / "x.tar")) as reader:
            push(reader, connect(target.host), ours)
        pull = Location.parse("localhost:1/nodes")
        chosen, told = answering(connect("localhost:1"), pull, connect(target.host), ours)
        assert isinstance(chosen, ByOurName)
        assert "localhost:1/nodes cannot be reached from here" in told
        assert f"checked at {target.host}/pushed" in told
        inside = pull.relocate(estate.images[0].reference)
        found = chosen.head_manifest(inside.repository, inside.tag)
        assert found
        assert found.digest == estate.images[0].digest
        assert chosen.head_manifest("other/quay.io/team/app", "1.0") is None
        with pytest.raises(NetworkError):
            connect("localhost:1").ping()


def test_a_lock_without_images_has_no_places():
    assert wanted(Lock("x", (), (), ()), Location("reg.lan", "", FLAT)) == ()
