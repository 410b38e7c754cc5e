"""Signed bundles and inventories on the command line (F50): who asks for a signature takes nothing without the right one."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from airgap.bundle import BundleReader
from airgap.fetch import mirror
from airgap.signing import Signer, signature_path
from tests.bundle.estate import bundle, small
from tests.delta.test_cli import airgap
from tests.delta.test_delta import newer, older
from tests.unit.test_signature import make_key
from tests.volumes.conftest import volume
from tests.world.registries import find_binary

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_key(folder)
    make_key(folder, "other")
    return folder


def signed(keys: Path, path: Path) -> Path:
    """Sign the bundle at ``path`` as mirror does."""
    with BundleReader.open(path) as reader:
        signature_path(path).write_bytes(Signer(keys / "key.pem").sign(reader.arrangement.raw))
    return path


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert "Hint:" in done.stderr


def test_a_signed_bundle_is_taken_by_its_key_and_by_no_other(keys, tmp_path):
    path = signed(keys, bundle(small(), tmp_path / "b.tar"))
    done = airgap("verify", path, "--verify-key", keys / "other.pub", "--verify-key", keys / "key.pub")
    assert done.returncode == 0, done.stderr
    assert f"signed by {keys / 'key.pub'}" in done.stdout
    refused(airgap("verify", path, "--verify-key", keys / "other.pub"), "the signature of", "other.pub")
    for verb in (("inspect",), ("load",), ("push", "--registry", "127.0.0.1:1/m", "--plain-http")):
        refused(airgap(verb[0], path, *verb[1:], "--verify-key", keys / "other.pub"), "the signature of")
    assert airgap("inspect", path, "--verify-key", keys / "key.pub").returncode == 0
    assert json.loads(airgap("verify", path, "-o", "json").stdout)["signedBy"] == ""


def test_a_bundle_without_its_signature_or_with_another_s_is_refused(keys, tmp_path):
    path = bundle(small(), tmp_path / "b.tar")
    refused(airgap("verify", path, "--verify-key", keys / "key.pub"), "has no signature", "b.tar.sig")
    other = signed(keys, bundle(newer(), tmp_path / "newer.tar"))
    signature_path(other).rename(signature_path(path))
    refused(airgap("verify", path, "--verify-key", keys / "key.pub"), "is not by")


def test_one_signature_speaks_for_every_volume_by_itself(keys, tmp_path):
    estate = small()
    base = tmp_path / "b.tar"
    mirror(estate.lock, estate, base, split=8000)
    signed(keys, base)
    for path in (base, volume(base, 2)):
        done = airgap("verify", path, "--verify-key", keys / "key.pub")
        assert done.returncode == 0, done.stderr
        assert "signed by" in done.stdout
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (volume(base, 2), signature_path(base)):
        path.rename(alone / path.name)
    assert "signed by" in airgap("verify", alone / "b.tar.002", "--verify-key", keys / "key.pub").stdout
    refused(airgap("verify", alone / "b.tar.002", "--verify-key", keys / "other.pub"), "the signature of")


def test_a_key_is_also_given_by_the_environment_and_must_be_one(keys, tmp_path, monkeypatch):
    path = signed(keys, bundle(small(), tmp_path / "b.tar"))
    monkeypatch.setenv("AIRGAP_VERIFY_KEY", str(keys / "other.pub"))
    refused(airgap("verify", path), "is not by")
    monkeypatch.delenv("AIRGAP_VERIFY_KEY")
    done = airgap("verify", path, "--verify-key", keys / "key.pem")
    assert (done.returncode, "is not a public key" in done.stderr) == (2, True)


@pytest.mark.registry
def test_an_inventory_is_signed_inside_and_asked_for_outside(keys, target, tmp_path):
    plain = ("--registry", f"{target.host}/mirror", "--plain-http")
    assert airgap("push", bundle(older(), tmp_path / "old.tar"), *plain).returncode == 0
    inventory, lock = tmp_path / "inventory.json", tmp_path / "airgap.lock"
    done = airgap("inventory", *plain, "--sign-key", keys / "key.pem")
    assert (done.returncode, "--output-file" in done.stderr) == (2, True)
    done = airgap("inventory", *plain, "--output-file", inventory, "--sign-key", keys / "key.pem")
    assert done.returncode == 0, done.stderr
    (tmp_path / "der").write_bytes(subprocess.check_output([find_binary("base64"), "-d", signature_path(inventory)]))
    openssl = [find_binary("openssl"), "dgst", "-sha256", "-verify", keys / "key.pub", "-signature", tmp_path / "der"]
    assert b"OK" in subprocess.check_output([*openssl, inventory])
    lock.write_bytes(newer().lock.to_bytes())
    asked = ("mirror", tmp_path / "x.tar", "--lock", lock, "--base", inventory, "--dry-run", "--base-key")
    refused(airgap(*asked, keys / "other.pub"), "the signature of", "inventory.json")
    inventory.write_bytes(inventory.read_bytes().replace(b'"tags"', b'"tags" ', 1))
    refused(airgap(*asked, keys / "key.pub"), "the signature of", "inventory.json")
    signature_path(inventory).unlink()
    refused(airgap(*asked, keys / "key.pub"), "has no signature")
    assert not (tmp_path / "x.tar").exists()


def test_an_old_bundle_is_a_base_with_its_signature(keys, tmp_path):
    old, lock = bundle(older(), tmp_path / "old.tar"), tmp_path / "airgap.lock"
    lock.write_bytes(newer().lock.to_bytes())
    asked = ("mirror", tmp_path / "x.tar", "--lock", lock, "--base", old, "--dry-run", "--base-key", keys / "key.pub")
    refused(airgap(*asked), "has no signature")
    signed(keys, old)
    assert "no signature" not in airgap(*asked).stderr


def test_a_folder_has_no_signature(keys, tmp_path):
    done = airgap("audit", tmp_path, "--registry", "reg.lan/x", "--verify-key", keys / "key.pub")
    assert (done.returncode, "a signature is over a bundle" in done.stderr) == (2, True)
