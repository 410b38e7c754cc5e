"""The benchmark's own parts at a tiny size: estates, the measuring process, counting, and the report. Nothing is timed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import helmlog, report, scenes, world
from benchmarks.estate import LARGE, MANY, build, scaled
from benchmarks.measure import Bench, FailedError, Step
from benchmarks.rivals import Airgap
from tests.world.registries import find_binary

TINY = scaled(LARGE, 1 / 8192)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(TINY, tmp_path_factory.mktemp("cache"))


def blobs(layout):
    return {f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}


def test_an_estate_is_what_its_recipe_says_and_every_byte_has_its_digest(tiny):
    contents = blobs(tiny.layout)
    assert len(tiny.images) == 12
    assert all(f"sha256:{hashlib.sha256(data).hexdigest()}" == digest for digest, data in contents.items())
    roots = [json.loads(contents[image.manifests[-1][0]]) for image in tiny.images]
    assert sum("manifests" in root for root in roots) == 4
    assert {digest for image in tiny.images for digest, _ in (*image.blobs, *image.manifests)} == contents.keys()
    shared = [digest for digest in tiny.blobs if sum(digest in dict(image.blobs) for image in tiny.images) > 1]
    assert len(shared) == 3


def test_a_layer_is_a_tar_in_gzip_whose_contents_have_the_digest_that_the_config_says(tiny):
    contents = blobs(tiny.images[0].layout)
    manifest = json.loads(contents[tiny.images[0].manifests[-1][0]])
    diffs = json.loads(contents[manifest["config"]["digest"]])["rootfs"]["diff_ids"]
    for layer, diff in zip(manifest["layers"], diffs, strict=True):
        plain = gzip.decompress(contents[layer["digest"]])
        assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == diff
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            assert [member.isfile() for member in tar] == [True]


def test_the_same_recipe_gives_the_same_estate_and_is_built_once(tiny, tmp_path):
    other = build(TINY, tmp_path)
    assert [image.manifests for image in other.images] == [image.manifests for image in tiny.images]
    before = (other.layout.parent / "estate.json").stat()
    assert build(TINY, tmp_path) == other
    assert (other.layout.parent / "estate.json").stat().st_mtime_ns == before.st_mtime_ns


def test_the_real_estates_are_as_large_as_they_are_said_to_be():
    unique = {seed: size for picture in LARGE.pictures for layers in picture.platforms.values() for seed, size in layers}
    assert 1.4 < sum(unique.values()) / 1024 < 1.5
    assert max(unique.values()) == 400
    assert len(MANY.pictures) == len({picture.name for picture in MANY.pictures}) == 650


def test_a_command_is_measured_by_itself(tmp_path):
    bench = Bench(tmp_path, {"PATH": os.environ["PATH"]})
    program = "import os; data = bytearray(64 * 2**20); data[::4096] = bytes([1]) * (64 * 256); os.times()"
    took = bench.run(Step("one", (sys.executable, "-c", program)), Step("other", ("true",)))
    assert 64 * 2**20 < took["rss"] < 200 * 2**20
    assert took["steps"]["other"]["rss"] < 32 * 2**20
    assert took["seconds"] == pytest.approx(sum(step["seconds"] for step in took["steps"].values()))
    with pytest.raises(FailedError, match="one: false ended with 1"):
        bench.run(Step("one", ("false",)))


@pytest.mark.registry
def test_a_registry_is_filled_counted_and_mirrored_from(tiny, tmp_path):
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    find_binary("helm")
    session = scenes.Session(tmp_path / "work", tmp_path, environment, 1, lambda _: None)
    session.folder.mkdir()
    with session.source(TINY) as (estate, source):
        assert world.asked(source)["PUT"] == sum(len(image.manifests) for image in estate.images) + len(estate.blobs)
        before = len(source.log)
        with session.room() as out:
            session.note("mirror", "airgap", 0, session.bench.run(*Airgap().fetch(session.bench, estate, source, out)))
            names = subprocess.run(["tar", "tf", str(out / "bundle.tar")], capture_output=True, text=True, check=True).stdout
        assert {f"blobs/sha256/{digest[7:]}" for digest in estate.blobs} <= set(names.split())
        assert world.asked(source, before)["GET"] >= len(estate.blobs)
    assert session.runs[0]["rss"] > 0


def test_helm_is_counted_and_the_same_question_is_noticed(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/helm").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "bin/helm").chmod(0o755)
    (tmp_path / "chart").mkdir()
    values = [tmp_path / f"{name}.json" for name in "abc"]
    for path, text in zip(values, ("1", "1", "2"), strict=True):
        path.write_text(text)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with helmlog.counting(tmp_path, environment) as (counted, told):
        for path in values:
            subprocess.run(["helm", "template", "--values", str(path), str(tmp_path / "chart")], env=counted, check=True)
        subprocess.run(["helm", "version"], env=counted, check=True)
    assert (told.count, told.repeated) == (3, 1)


def made_up(**seconds: float):
    """A result in which each tool took so long in every scene."""
    runs = []
    for scene in ("mirror", "push", "many: again"):
        for tool, value in seconds.items():
            one: dict[str, Any] = {
                "scene": scene,
                "tool": tool,
                "seconds": value,
                "user": value,
                "system": 0.0,
                "rss": 50 << 20,
                "load": 1.0,
            }
            one |= {"own": 0, "written": 1000, "requests": {"HEAD": 10, "distinct HEAD": 10}}
            runs += [{**one, "repetition": number} for number in range(3)]
    estates = {"many": {"pairs": 20}}
    return {"runs": runs, "estates": estates, "begun": "now", "minutes": 1, "command": "run"} | {
        "machine": {"cores": 2, "model": "M", "memory": 2**30, "kernel": "6", "python": "3"},
        "versions": {"crane": "1"},
    }


def test_figures_say_what_is_met_and_what_is_not():
    met = {it["name"]: it["met"] for it in report.figures(made_up(airgap=1.0, crane=2.0, skopeo=6.0))}
    assert met["mirror: airgap / crane, seconds"] is True
    assert met["push again: skopeo sync / airgap, seconds"] is True
    assert met["push again: requests"] is True
    missed = {it["name"]: it["met"] for it in report.figures(made_up(airgap=1.9, crane=2.0, skopeo=2.0))}
    assert missed["push: airgap / crane, seconds"] is False
    assert missed["push: processor's seconds"] is True
    assert missed["push again: skopeo sync / airgap, seconds"] is False


def test_the_page_has_every_figure_of_every_run():
    results = [made_up(airgap=1.0, crane=2.0, skopeo=6.0), made_up(airgap=1.9, crane=2.0, skopeo=2.0)]
    for result in results:
        result["figures"] = report.figures(result)
    page = report.markdown(results)
    assert "| mirror: airgap / crane, seconds | <= 0.6 | 0.50 (0.50 to 0.50) | 0.95 (0.95 to 0.95) **NOT MET** |" in page
    assert page.count("## Run") == 2
    assert "NOT MET" in report.text(results[1])
