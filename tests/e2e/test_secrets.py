"""Credentials planted wherever a user keeps them, then looked for in everything that was said and written (faults F51)."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import yaml

from airgap.manifest import default_manifest
from tests.e2e.conftest import Bare, Done, well
from tests.world.fixtures import DEMO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.world.fixtures import World

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm, pytest.mark.slow]

PLANTED = {
    "licence": "planted-licence-4f1c",
    "wrong licence": "planted-refused-77aa",
    "auth file": "planted-auth-file-91e0",
    "url": "planted-url-2b3d",
    "netrc": "planted-netrc-0c55",
    "value licence": "planted-value-licence-e8",
    "value password": "planted-value-password-6d",
    "value key": "planted-access-key-a1",
}
"""Each secret, by where it is planted; the private registry's own password comes on top."""


def forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as it could be written: plain, in a URL, in base64 at each of the three alignments."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    for lead in range(3):
        whole = base64.b64encode(b"x" * lead + secret.encode())
        yield whole[4 if lead else 0 : -4]


@dataclass
class Heard:
    """Everything that commands have said."""

    said: list[tuple[str, bytes]] = field(default_factory=list)

    def __call__(self, done: Done) -> Done:
        self.said.append((str(done.args), f"{done.stdout}{done.stderr}".encode()))
        return done

    def leaks(self, secrets: dict[str, str], *folders: Path) -> list[tuple[str, str]]:
        """Return which secret stands where."""
        files = [(str(path), path.read_bytes()) for folder in folders for path in folder.rglob("*") if path.is_file()]
        return [
            (name, where)
            for where, data in (*self.said, *files)
            for name, secret in secrets.items()
            if any(form in data for form in forms(secret))
        ]


@pytest.fixture
def planted(world: World, tmp_path: Path) -> dict[str, str]:
    """Plant what the connected side knows; return the environment."""
    spec = json.loads((DEMO / "channel.json").read_bytes())
    (world.channel / "licenses" / f"{PLANTED['licence']}.json").write_text(json.dumps(spec))
    token = base64.b64encode(f"user:{PLANTED['auth file']}".encode()).decode()
    hosts = ("unrelated.corp.test", "charts.wandb.ai", "github.com")
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: {"auth": token} for host in hosts}}))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine charts.wandb.ai login ann password {PLANTED['netrc']}\n")
    (home / ".netrc").chmod(0o600)
    manifest = default_manifest().read_text()
    place = "https://charts.wandb.ai"
    assert place in manifest
    (tmp_path / "work").mkdir()
    (tmp_path / "manifest.yaml").write_text(manifest.replace(place, f"https://ann:{PLANTED['url']}@charts.wandb.ai"))
    values = yaml.safe_load((DEMO / "values.yaml").read_text())
    values["global"]["license"] = PLANTED["value licence"]
    values["global"]["bucket"]["secretKey"] = PLANTED["value key"]
    values["global"]["mysql"]["password"] = PLANTED["value password"]
    (tmp_path / "user.yaml").write_text(yaml.safe_dump(values))
    return {
        "HOME": str(home),
        "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        "AIRGAP_LICENSE": PLANTED["licence"],
    }


def test_no_planted_secret_is_said_or_written_outside(world: World, planted: dict[str, str], tmp_path: Path) -> None:
    heard, work = Heard(), tmp_path / "work"

    def run(*arguments: str, **more: str) -> Done:
        return heard(world.run("airgap", *arguments, "-vv", folder=work, env={**planted, **more}))

    values = ("--values", str(tmp_path / "user.yaml"))
    assert run("plan", "-f", str(tmp_path / "manifest.yaml"), *values).returncode == 2
    well(run("plan", *values, "--lock", "plain.lock"))
    well(run("plan", *values, "--why", "quay.io/prometheus/prometheus:v2.47.0"))
    assert run("plan", *values, AIRGAP_LICENSE=PLANTED["wrong licence"]).returncode == 3
    well(run("mirror", "b.tar", "--lock", "plain.lock"))
    heard(world.run("airgap", "inspect", "b.tar", "-o", "json", folder=work, env=planted))
    assert heard.leaks(PLANTED, work) == []
    assert PLANTED["licence"] not in json.dumps([asked.path for asked in world.asked])


def test_no_planted_secret_is_said_or_written_inside_but_in_secrets(
    bare: Bare, planted: dict[str, str], tmp_path: Path
) -> None:
    heard = Heard()
    secrets = {**PLANTED, "registry": bare.half.password}
    out = tmp_path / "out"
    values = ("--values", str(tmp_path / "user.yaml"))
    heard(well(bare.signed_in("push", "wandb.tar", "-vv", "--receipt", tmp_path / "work" / "receipt.json", prefix="secret")))
    wrong = ("--username", "robot", "--password-stdin", *bare.at("secret"))
    assert heard(bare.run("push", "wandb.tar", "-vv", *wrong, text=f"{PLANTED['url']}\n")).returncode == 3
    heard(well(bare.signed_in("render", "wandb.tar", "-vv", *values, "--dir", out, "--explain", prefix="secret")))
    heard(bare.signed_in("audit", "wandb.tar", "-vv", *values, "--all", prefix="secret"))
    heard(bare.signed_in("audit", "wandb.tar", "-vv", *values, "--all", "-o", "json", prefix="secret"))
    heard(bare.signed_in("audit", out, "-vv", "--all", prefix="secret"))
    secret_file = out / "secrets.yaml"
    assert secret_file.stat().st_mode & 0o077 == 0, "a file with secrets is its owner's alone"
    held = "\n".join(
        [secret_file.read_text(), *(base64.b64decode(it).decode() for it in values_of_secrets(secret_file.read_text()))]
    )
    moved = {"value licence", "value password", "value key", "registry"}
    assert {name for name in moved if secrets[name] in held} == moved, "nothing is lost on the way"
    shutil.move(secret_file, tmp_path / "taken-away.yaml")
    assert heard.leaks(secrets, out, tmp_path / "work", bare.home) == []


def values_of_secrets(text: str) -> Iterator[str]:
    """Yield the base64 values of every Secret."""
    for document in yaml.safe_load_all(text):
        if document and document["kind"] == "Secret":
            yield from (document.get("data") or {}).values()


def test_a_password_is_never_an_argument(bare: Bare) -> None:
    for verb in ("push", "render", "audit"):
        told = well(bare.run(verb, "--help")).stdout
        assert "--password-stdin" in told
        assert "--password " not in told
