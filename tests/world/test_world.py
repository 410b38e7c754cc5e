"""The world itself: the connected half answers under the real names, the disconnected half reaches nothing."""

from __future__ import annotations

import base64
import json
import os
import sys

import pytest
import yaml

from tests.world.fixtures import LICENSE, Inside, World
from tests.world.images import draw
from tests.world.netns import Namespace
from tests.world.sites import CHANNEL_PATH

pytestmark = [pytest.mark.netns, pytest.mark.registry]

GET = """
import json, sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], headers=json.loads(sys.argv[2]))
try:
    with urllib.request.urlopen(request, timeout=5) as answer:
        sys.stdout.write(f"{answer.status} {answer.url}\\n" + answer.read().decode("latin-1"))
except urllib.error.HTTPError as error:
    sys.stdout.write(f"{error.code} {error.headers.get('WWW-Authenticate')}\\n")
except urllib.error.URLError as error:
    sys.stdout.write(f"failed {type(error.reason).__name__} {getattr(error.reason, 'errno', '')} {error.reason}\\n")
"""


def get(half: World | Inside, url: str, ca_file: str = "", **headers: str) -> tuple[str, str]:
    """Get a URL by the standard library; the first line tells how it went."""
    env = {"SSL_CERT_FILE": ca_file} if ca_file else {}
    done = half.run(sys.executable, "-c", GET, url, json.dumps(headers), env=env)
    assert done.returncode == 0, done.stderr
    first, _, body = done.stdout.partition("\n")
    return first, body


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("host", ["quay.io", "gcr.io", "ghcr.io", "us-docker.pkg.dev"])
def test_a_registry_answers_under_its_own_name_with_tls(world: World, host: str) -> None:
    assert get(world, f"https://{host}/v2/")[0] == f"200 https://{host}/v2/"


def test_docker_hub_asks_for_a_token_of_its_token_server(world: World) -> None:
    first, _ = get(world, "https://registry-1.docker.io/v2/")
    assert first == '401 Bearer realm="https://auth.docker.io:443/token",service="registry.docker.io"'


def test_every_image_of_the_script_is_there_byte_for_byte(world: World) -> None:
    for picture in world.pictures:
        token = {}
        if picture.host == "registry-1.docker.io":
            asked = f"https://auth.docker.io/token?service=registry.docker.io&scope=repository:{picture.repository}:pull"
            token = {"Authorization": f"Bearer {json.loads(get(world, asked)[1])['token']}"}
        drawn = draw(picture)
        for tag, name in drawn.tags.items():
            kind, data = drawn.manifests[name]
            url = f"https://{picture.host}/v2/{picture.repository}/manifests/{tag}"
            first, body = get(world, url, Accept=kind, **token)
            assert first.startswith("200"), f"{url}: {first}"
            assert body.encode("latin-1") == data


def test_skopeo_reads_an_index_of_the_world(world: World, tmp_path) -> None:
    done = world.run("skopeo", "inspect", "--raw", "docker://docker.io/wandb/controller:latest", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    platforms = [child["platform"]["architecture"] for child in json.loads(done.stdout)["manifests"]]
    assert platforms == ["amd64", "arm64", "unknown"]


def test_the_channel_gives_its_spec_to_anybody_and_refuses_an_unknown_licence(world: World) -> None:
    url = f"https://deploy.wandb.ai{CHANNEL_PATH}"
    first, body = get(world, url)
    assert first.startswith("200")
    assert json.loads(body)["chart"]["name"] == "operator-wandb"
    assert get(world, url, Authorization=basic("license", LICENSE))[0].startswith("200")
    assert get(world, url, Authorization=basic("license", "stolen"))[0].startswith("401")
    assert get(world, f"{url}/release/pinned-1")[0].startswith("200")
    assert get(world, f"{url}/release/none")[0].startswith("404")
    assert world.asked[-1].status == 404


def test_the_chart_index_points_to_another_host_and_tempts_with_prereleases(world: World) -> None:
    _, body = get(world, "https://charts.wandb.ai/index.yaml")
    entries = yaml.safe_load(body)["entries"]["operator-wandb"]
    assert entries[0]["version"] == "99.0.0-alpha.1"
    stable = entries[-1]
    first, archive = get(world, stable["urls"][0])
    assert first.startswith("200 https://release-assets.githubusercontent.com/")
    assert archive.encode("latin-1")[:2] == b"\x1f\x8b"


def test_a_name_that_is_not_played_fails_at_once_in_both_halves(world: World, inside: Inside) -> None:
    for half in (world, inside):
        assert get(half, "https://registry.k8s.io/v2/")[0].startswith("failed gaierror")


def test_the_disconnected_half_has_no_route_to_anything(inside: Inside) -> None:
    # 192.0.2.1 is an address of documentation (RFC 5737): without a route nothing is sent to it.
    assert "Network is unreachable" in get(inside, "https://192.0.2.1/")[0]
    for host in ("quay.io", "deploy.wandb.ai", "registry-1.docker.io"):
        assert get(inside, f"https://{host}/")[0].startswith("failed gaierror")


def test_the_upstreams_cannot_be_reached_by_address_from_inside(world: World, inside: Inside) -> None:
    assert "Connection refused" in get(inside, "https://127.1.0.1/")[0]


def test_the_private_registry_wants_its_user(inside: Inside) -> None:
    url = f"https://{inside.registry}/v2/"
    assert get(inside, url)[0].startswith("401 Basic")
    assert get(inside, url, Authorization=basic(inside.username, "wrong"))[0].startswith("401")
    assert get(inside, url, Authorization=basic(inside.username, inside.password))[0] == f"200 {url}"


def test_the_private_registry_is_not_trusted_without_its_authority(inside: Inside) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in get(inside, f"https://{inside.registry}/v2/", ca_file="/dev/null")[0]


def test_a_namespace_ends_with_its_holder(tmp_path) -> None:
    with Namespace.open(tmp_path, {}) as half:
        pid = half.holder.pid
        assert half.run("true").returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert half.run("true").returncode != 0


def test_commands_of_airgap_itself_run_in_a_half(inside: Inside, tmp_path) -> None:
    done = inside.run("airgap", "--version", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
