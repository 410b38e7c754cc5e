"""The field's own clients against both kinds of server: skopeo, crane, regctl, oras, helm."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from airgap.plan import Inventory, plan, wanted
from airgap.ref import Location
from airgap.registry import Registry
from airgap.serve import Options, Rules, Server
from airgap.transport import Client, HostSettings
from tests.serve.shelf import write_chart
from tests.serve.talk import Talk, sha256
from tests.world.authority import Authority
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import requests

    from airgap.bundle import BundleReader

NAME = "quay.io/prometheus/prometheus"
TAG = "v2.47.2"


class Tools:
    """Runs a client with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "DOCKER_CONFIG": str(home),
        }

    def run(self, *command: str, ok: bool = True, environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            [find_binary(command[0]), *command[1:]],
            env={**self.environment, **(environment or {})},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) == ok, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    home = tmp_path / "home"
    home.mkdir()
    (home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return Tools(home)


def digest_of(talk: Talk, name: str = NAME, tag: str = TAG) -> str:
    return talk.get(f"/v2/{name}/manifests/{tag}").headers["Docker-Content-Digest"]


# -- copying from the bundle into the store and out again: each client its own way ---------------------------------------------


def copy_with_skopeo(tools: Tools, source: str, target: str) -> None:
    tools.run(
        *("skopeo", "copy", "--policy", str(tools.home / "policy.json"), "--src-tls-verify=false", "--dest-tls-verify=false"),
        *("--all", f"docker://{source}", f"docker://{target}"),
    )


def copy_with_crane(tools: Tools, source: str, target: str) -> None:
    tools.run("crane", "copy", "--insecure", source, target)


def copy_with_regctl(tools: Tools, source: str, target: str) -> None:
    tools.run("regctl", "registry", "set", "--tls", "disabled", source.partition("/")[0])
    tools.run("regctl", "registry", "set", "--tls", "disabled", target.partition("/")[0])
    tools.run("regctl", "image", "copy", "--referrers", "--digest-tags", source, target)


def copy_with_oras(tools: Tools, source: str, target: str) -> None:
    tools.run("oras", "copy", "-r", "--from-plain-http", "--to-plain-http", source, target)


COPIES = {"skopeo": copy_with_skopeo, "crane": copy_with_crane, "regctl": copy_with_regctl, "oras": copy_with_oras}


@pytest.mark.registry
@pytest.mark.parametrize("program", COPIES)
def test_an_image_goes_from_a_bundle_to_a_store_by_the_fields_clients(
    shelf: Talk, tmp_path: Path, session: requests.Session, tools: Tools, program: str
) -> None:
    with Server(None, tmp_path / "store") as server:
        target = Talk(server, session)
        COPIES[program](tools, f"{shelf.server.host}/{NAME}:{TAG}", f"{server.host}/copy/prometheus:1")
        assert digest_of(target, "copy/prometheus", "1") == digest_of(shelf)
        if program in {"regctl", "oras"}:
            listed = target.get(f"/v2/copy/prometheus/referrers/{digest_of(shelf)}").json()["manifests"]
            assert [entry["artifactType"] for entry in listed] == ["application/spdx+json"]
        COPIES[program](tools, f"{server.host}/copy/prometheus:1", f"{server.host}/mounted/prometheus:1")
        assert digest_of(target, "mounted/prometheus", "1") == digest_of(shelf)


@pytest.mark.registry
def test_crane_validates_every_image_of_a_bundle(shelf: Talk, tools: Tools) -> None:
    names = tools.run("crane", "catalog", shelf.server.host).split()
    assert NAME in names
    for name in names:
        for tag in tools.run("crane", "ls", f"{shelf.server.host}/{name}").split():
            if not tag.startswith("sha256-") and not name.startswith("charts/"):
                assert "PASS" in tools.run("crane", "validate", "--remote", f"{shelf.server.host}/{name}:{tag}")


@pytest.mark.registry
def test_crane_goes_through_tls_and_a_password(tmp_path: Path, tools: Tools, session: requests.Session) -> None:
    authority = Authority.create(tmp_path)
    pair = authority.issue("127.0.0.1")
    session.verify, session.auth = str(authority.root), ("joe", "secret")
    options = Options(users={"joe": "secret"}, rules=Rules(delete=True))
    with Server(None, tmp_path / "store", tls=(pair.certificate, pair.key), options=options) as server:
        digest = Talk(server, session).image("team/app", "1")
        trusted = {"SSL_CERT_FILE": str(authority.root)}
        assert "UNAUTHORIZED" in tools.run("crane", "digest", f"{server.host}/team/app:1", ok=False, environment=trusted)
        tools.run("crane", "auth", "login", server.host, "-u", "joe", "-p", "secret", environment=trusted)
        assert tools.run("crane", "digest", f"{server.host}/team/app:1", environment=trusted).strip() == digest
        tools.run("crane", "delete", f"{server.host}/team/app@{digest}", environment=trusted)
        tools.run("crane", "digest", f"{server.host}/team/app:1", ok=False, environment=trusted)


@pytest.mark.registry
def test_oras_pushes_and_pulls_files(store: Talk, tools: Tools) -> None:
    (tools.home / "file.txt").write_text("content")
    where = f"{store.server.host}/files:1"
    tools.run("oras", "push", "--plain-http", "--artifact-type", "text/x", where, "file.txt:text/plain")
    tools.run("oras", "attach", "--plain-http", "--artifact-type", "text/sig", where, "file.txt:text/plain")
    (tools.home / "file.txt").unlink()
    tools.run("oras", "pull", "--plain-http", where)
    assert (tools.home / "file.txt").read_text() == "content"
    assert "text/sig" in tools.run("oras", "discover", "--plain-http", where)


# -- the store as it lies on disk --------------------------------------------------------------------------------------------


@pytest.mark.registry
def test_the_store_is_an_oci_layout_for_others(
    bundle: BundleReader, tmp_path: Path, session: requests.Session, tools: Tools
) -> None:
    folder = tmp_path / "store"
    with Server(bundle) as source, Server(None, folder) as server:
        copy_with_crane(tools, f"{source.host}/{NAME}:{TAG}", f"{server.host}/team/prometheus:1")
        digest = digest_of(Talk(server, session), "team/prometheus", "1")
    policy = ("--policy", str(tools.home / "policy.json"))
    tools.run("skopeo", "copy", *policy, f"oci:{folder}:team/prometheus:1", f"dir:{tools.home}/taken")
    assert sha256((tools.home / "taken/manifest.json").read_bytes()) == digest
    assert digest in tools.run("oras", "manifest", "fetch", "--oci-layout", "--descriptor", f"{folder}@{digest}")
    assert json.loads(tools.run("regctl", "manifest", "get", "--format", "raw-body", f"ocidir://{folder}@{digest}"))
    with Server(None, tmp_path / "again") as server:
        tools.run("crane", "push", "--insecure", str(folder), f"{server.host}/again:1")
        assert digest_of(Talk(server, session), "again", "1") == digest


# -- helm ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.helm
def test_helm_takes_charts_from_a_bundle_in_every_way(shelf: Talk, tools: Tools) -> None:
    url, host = f"{shelf.server.url}/charts", shelf.server.host
    tools.run("helm", "repo", "add", "inside", url)
    assert "0.3.0-PR7" in tools.run("helm", "search", "repo", "inside/platform", "--devel", "--versions")
    for number, pull in enumerate(
        (
            ("inside/platform",),
            ("--repo", url, "platform"),
            ("--repo", f"{url}/", "platform", "--version", "0.1.0"),
            ("--repo", shelf.server.url, "platform", "--version", "0.1.0+build.5"),
            (f"oci://{host}/charts/platform", "--plain-http"),
            (f"oci://{host}/charts/platform", "--plain-http", "--version", "0.1.0+build.5"),
        )
    ):
        folder = tools.home / f"pull{number}"
        folder.mkdir()
        tools.run("helm", "pull", *pull, "-d", str(folder))
        (packed,) = folder.iterdir()
        assert packed.read_bytes() == shelf.get(f"/charts/{packed.name}").content
    assert 'version: "0.2.0"' in tools.run("helm", "template", "r", f"oci://{host}/charts/platform", "--plain-http")


@pytest.mark.helm
def test_a_chart_that_helm_pushes_is_in_the_chart_repository(store: Talk, tools: Tools) -> None:
    write_chart(tools.home / "platform", "1.2.3")
    tools.run("helm", "package", "platform")
    tools.run("helm", "push", "platform-1.2.3.tgz", f"oci://{store.server.host}/charts", "--plain-http")
    packed = (tools.home / "platform-1.2.3.tgz").read_bytes()
    (tools.home / "platform-1.2.3.tgz").unlink()
    tools.run("helm", "pull", "--repo", f"{store.server.url}/charts", "platform")
    assert (tools.home / "platform-1.2.3.tgz").read_bytes() == packed


# -- our own client ------------------------------------------------------------------------------------------------------------


def test_our_own_client_moves_everything_of_a_bundle_into_a_store(shelf: Talk, store: Talk, bundle: BundleReader) -> None:
    location = Location.parse(f"{store.server.host}/team")
    client = Client(hosts={talk.server.host: HostSettings(plain_http=True) for talk in (shelf, store)}, environ={})
    source, target = Registry(client, shelf.server.host), Registry(client, store.server.host, push=True)
    work = plan(wanted(bundle.lock, location), Inventory())
    for repository in work.repositories:
        target.probe_repository(repository)
    ways = [
        target.upload(copy.repository, copy.descriptor, partial(bundle.window, copy.descriptor), copy.mount_from)
        for copy in work.blobs
    ]
    assert set(ways) == {"sent", "mounted"}
    named = [(copy.repository, str(copy.descriptor.digest), copy.descriptor) for copy in work.manifests]
    named += [(tag.repository, tag.tag, tag.descriptor) for tag in work.tags]
    for repository, locator, descriptor in named:
        raw = bundle.read(descriptor)
        assert target.put_manifest(repository, locator, raw, descriptor.media_type) == descriptor.digest
    for item in wanted(bundle.lock, location):
        outside = item.repository.removeprefix("team/")
        if item.tag:
            assert target.head_manifest(item.repository, item.tag) == source.head_manifest(outside, item.tag)
        assert target.referrers(item.repository, item.tree.root.digest) == source.referrers(outside, item.tree.root.digest)
        for blob in item.tree.blobs:
            assert target.has_blob(item.repository, blob.digest)
            assert target.read_blob(item.repository, blob) == bundle.read(blob)
            assert b"".join(source.stream_blob(outside, blob, 1)) == bundle.read(blob)[1:]
    assert set(target.tags("team/charts/platform")) == {"0.1.0", "0.1.0_build.5", "0.2.0", "0.3.0-PR7"}
