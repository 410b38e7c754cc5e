"""A second crossing: the inventory comes back, only what is missing goes in, and the delta installs like any bundle."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Bare, Done, Steps, refused, well
from tests.unit.test_signature import make_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.world.fixtures import World

pytestmark = [pytest.mark.netns, pytest.mark.registry, pytest.mark.helm]

EXTRA = "quay.io/prometheus/prometheus"


@pytest.fixture(scope="session")
def inventory(bare: Bare, pushed: Done) -> Path:
    """What the registry inside holds, written by the bundle that was pushed there."""
    done = well(bare.signed_in("inventory", "--output-file", "inventory.json"))
    assert "written to inventory.json" in done.stdout
    return bare.bundle.parent / "inventory.json"


@pytest.fixture(scope="session")
def delta(world: World, crossing: Steps, inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same lock once more, on the inventory."""
    folder = tmp_path_factory.mktemp("again")
    os.link(inventory, folder / "inventory.json")
    done = well(world.run("airgap", "mirror", "delta.tar", "--lock", crossing.lock, "--base", "inventory.json", folder=folder))
    assert "builds on inventory" in done.stdout
    return folder / "delta.tar"


@pytest.fixture(scope="session")
def second(bare: Bare, delta: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """The delta inside, on a host that has nothing else."""
    folder = tmp_path_factory.mktemp("second")
    os.link(delta, folder / "wandb.tar")
    os.link(bare.bundle.parent / "user.yaml", folder / "user.yaml")
    return Bare(bare.half, folder / "wandb.tar", tmp_path_factory.mktemp("home"))


def test_the_inventory_is_small_and_canonical(inventory: Path, crossing: Steps) -> None:
    document = json.loads(inventory.read_bytes())
    assert inventory.read_bytes() == json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert len(inventory.read_bytes()) < 30_000
    lock = json.loads(crossing.lock.read_bytes())
    assert {"charts/operator", "charts/operator-wandb"} < document["repositories"].keys()
    wanted = {blob["digest"] for image in lock["images"] for blob in image["tree"]["blobs"]}
    assert wanted <= {digest for it in document["repositories"].values() for digest in it["blobs"]}


def test_a_delta_of_what_is_there_carries_no_layer(delta: Path, crossing: Steps, world: World) -> None:
    lock = json.loads(crossing.lock.read_bytes())
    blobs = {it["digest"]: it["size"] for image in lock["images"] for it in image["tree"]["blobs"]}
    signed = {
        it["digest"]: it["size"]
        for image in lock["images"]
        for more in image.get("referrers", ())
        for it in more["tree"]["blobs"]
    }
    saved = sum((blobs | signed).values())
    assert delta.stat().st_size <= crossing.bundle.stat().st_size - saved
    shown = well(world.run("airgap", "inspect", delta, "-o", "json", folder=delta.parent))
    document = json.loads(shown.stdout)
    assert document["lock"]["base"]["kind"] == "inventory"
    assert sum(len(image["leftOut"]) for image in document["images"]) >= len(blobs)
    assert "builds on  inventory" in well(world.run("airgap", "inspect", delta, folder=delta.parent)).stdout


def test_a_lock_or_a_bundle_is_a_base_too(world: World, crossing: Steps, tmp_path: Path) -> None:
    sizes = set()
    for base in (crossing.lock, crossing.bundle):
        done = well(
            world.run(
                "airgap", "mirror", "x.tar", "--dry-run", "-o", "json", "--lock", crossing.lock, "--base", base, folder=tmp_path
            )
        )
        document = json.loads(done.stdout)
        assert document["base"]["kind"] == "lock"
        sizes.add((document["bytes"], document["base"]["bytes"]))
    assert len(sizes) == 1


def test_plan_shows_the_saving(world: World, inventory: Path, tmp_path: Path) -> None:
    done = well(world.run("airgap", "plan", "--base", inventory, folder=tmp_path))
    assert " left out: " in done.stdout
    assert " to carry instead of " in done.stdout
    assert json.loads((tmp_path / "airgap.lock").read_bytes())["base"]["kind"] == "inventory"


def test_a_delta_is_whole_pushes_renders_and_closes(second: Bare) -> None:
    assert "whole" in well(second.run("verify", "wandb.tar")).stdout
    done = well(second.signed_in("push", "wandb.tar", "-o", "json"))
    assert json.loads(done.stdout)["sent"] == 0
    well(second.signed_in("render", "wandb.tar", "--values", "user.yaml", "--dir", "site"))
    well(second.signed_in("audit", "site"))


def test_a_delta_is_refused_where_nothing_is(second: Bare) -> None:
    told = refused(second.signed_in("push", "wandb.tar", prefix="empty"), 4, "nothing was sent", "to be brought", EXTRA)
    assert "airgap inventory" in told


def test_nothing_differs_between_a_bundle_and_its_delta_but_the_way(world: World, crossing: Steps, delta: Path) -> None:
    done = world.run("airgap", "diff", crossing.bundle, delta, "--exit-code", folder=delta.parent)
    assert well(done).stdout.strip() == "nothing changed"


def test_another_base_does_not_finish_what_was_begun(world: World, crossing: Steps, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.json"
    nothing.write_text('{"kind":"Inventory","schemaVersion":1,"registry":"reg.lan","layout":"host","repositories":{}}')
    (tmp_path / "x.tar.partial").write_bytes(b"")
    lock = crossing.lock.read_bytes()
    from airgap.oci import Digest  # noqa: PLC0415

    (tmp_path / "x.tar.partial.journal").write_bytes(
        b"\n".join([b"airgap-journal 1 %s" % str(Digest.of(lock)).encode(), lock, b""])
    )
    told = refused(
        world.run("airgap", "mirror", "x.tar", "--base", crossing.lock, folder=tmp_path), 2, "was begun before, and not on"
    )
    assert "to begin anew" in told
    same = world.run("airgap", "mirror", "x.tar", "--base", nothing, "--dry-run", folder=tmp_path)
    assert same.returncode == 0, same.stderr


def test_a_delta_in_volumes_is_made_checked_pushed_and_one_volume_made_again(
    world: World, crossing: Steps, inventory: Path, bare: Bare, tmp_path: Path
) -> None:
    """By the command line: one layer is not at the site, so the delta carries that, split."""
    document = json.loads(inventory.read_bytes())
    lock = json.loads(crossing.lock.read_bytes())
    layer = max((it for image in lock["images"] for it in image["tree"]["blobs"]), key=lambda it: int(it["size"]))["digest"]
    for holding in document["repositories"].values():
        holding["blobs"] = [it for it in holding["blobs"] if it != layer]
    (tmp_path / "base.json").write_text(json.dumps(document))
    make_key(tmp_path)
    how = ("--lock", crossing.lock, "--base", "base.json", "--split", "30M", "--sign-key", "key.pem")
    made = json.loads(well(world.run("airgap", "mirror", "delta.tar", *how, "-o", "json", folder=tmp_path)).stdout)
    files = [tmp_path / name for name in made["files"]]
    assert len(files) > 2
    assert made["base"]["kind"] == "inventory"
    assert "volume 2 of" in well(world.run("airgap", "verify", "delta.tar.002", folder=tmp_path)).stdout
    second = files[1].read_bytes()
    files[1].unlink()
    refused(world.run("airgap", "verify", "delta.tar", folder=tmp_path), 4, "volume 2")
    well(world.run("airgap", "mirror", "delta.tar", "--volume", "2", *how, folder=tmp_path))
    assert files[1].read_bytes() == second
    inside = bare.bundle.parent
    for file in (*files, tmp_path / "delta.tar.sig", tmp_path / "key.pub"):
        os.link(file, inside / file.name.replace("delta.tar", "split"))
    told = well(bare.run("verify", "split.002", "--verify-key", "key.pub")).stdout
    assert "signed by key.pub" in told, "checked by the bundle itself, without openssl"
    done = well(bare.signed_in("push", "split.002", "-o", "json", "--verify-key", "key.pub"))
    assert json.loads(done.stdout)["sent"] == 0, "the site has all of it"
    shown = json.loads(well(bare.run("inspect", "split.001", "-o", "json")).stdout)
    assert shown["lock"]["base"]["kind"] == "inventory"
