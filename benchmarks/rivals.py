"""The commands: how each tool fetches an estate into one file, and fills a registry with what was carried over.

Every tool is used as its manual says, with its own degree of parallelism. Only crane takes many references at once when
pulling; all others are called once an image, as the scripts that people write around them do.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks import floor
from benchmarks.estate import flat
from benchmarks.measure import Step
from benchmarks.world import work

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.estate import Estate
    from benchmarks.measure import Bench
    from tests.world.registries import RunningRegistry

PREFIX = "mirror"


class Rival(Protocol):
    """A tool."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        """Return how the estate becomes one file in the empty folder ``out``."""

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        """Return how the registry is filled from what lies on this side, unpacked."""


def _tar(out: Path) -> Step:
    return Step("tar", ("tar", "cf", str(out / "all.tar"), "-C", str(out), "layout"))


@dataclass(frozen=True)
class Crane:
    """Of go-containerregistry. Its layouts hold one image each, because ``crane push`` takes no name inside a layout."""

    name: str = "crane"

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        del bench
        references = [f"{source.host}/{image.name}" for image in estate.images]
        return [Step("pull", ("crane", "pull", "--format=oci", *references, str(out / "layout"))), _tar(out)]

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        lines = [("crane", "push", str(image.layout), f"{target.host}/{PREFIX}/{image.name}") for image in estate.images]
        return [Step("push", bench.script("crane-push", lines))]


@dataclass(frozen=True)
class Skopeo:
    name: str = "skopeo"

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        check = f"--src-tls-verify={str(not source.plain_http).lower()}"
        copy = ("skopeo", "copy", "--all", "--quiet", check)
        lines = [(*copy, f"docker://{source.host}/{it.name}", f"oci:{out}/layout:{flat(it.name)}") for it in estate.images]
        return [Step("copy", bench.script("skopeo-copy", lines)), _tar(out)]

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        check = f"--dest-tls-verify={str(not target.plain_http).lower()}"
        copy, there = ("skopeo", "copy", "--all", "--quiet", check), f"docker://{target.host}/{PREFIX}"
        lines = [(*copy, f"oci:{estate.layout}:{flat(it.name)}", f"{there}/{it.name}") for it in estate.images]
        return [Step("push", bench.script("skopeo-push", lines))]


@dataclass(frozen=True)
class Oras:
    name: str = "oras"

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        plain = ("--from-plain-http",) if source.plain_http else ()
        copy = ("oras", "cp", "--no-tty", *plain, "--to-oci-layout")
        lines = [(*copy, f"{source.host}/{it.name}", f"{out}/layout:{flat(it.name)}") for it in estate.images]
        return [Step("cp", bench.script("oras-cp", lines)), _tar(out)]

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        plain = ("--to-plain-http",) if target.plain_http else ()
        copy = ("oras", "cp", "--no-tty", *plain, "--from-oci-layout")
        lines = [(*copy, f"{estate.layout}:{flat(it.name)}", f"{target.host}/{PREFIX}/{it.name}") for it in estate.images]
        return [Step("push", bench.script("oras-push", lines))]


@dataclass(frozen=True)
class Regctl:
    name: str = "regctl"

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        copy = ("regctl", *_host(source), "image", "copy")
        lines = [(*copy, f"{source.host}/{it.name}", f"ocidir://{out}/layout:{flat(it.name)}") for it in estate.images]
        return [Step("copy", bench.script("regctl-copy", lines)), _tar(out)]

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        copy, there = ("regctl", *_host(target), "image", "copy"), f"{target.host}/{PREFIX}"
        lines = [(*copy, f"ocidir://{estate.layout}:{flat(it.name)}", f"{there}/{it.name}") for it in estate.images]
        return [Step("push", bench.script("regctl-push", lines))]


@dataclass(frozen=True)
class Airgap:
    """Ours. ``more``: further flags; ``inside``: the bundle runs itself, as it does where nothing is installed."""

    name: str = "airgap"
    more: tuple[str, ...] = ()
    inside: bool = False

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        del source, estate
        manifest = str(bench.folder / "manifest.yaml")
        return [Step("mirror", ("airgap", "mirror", str(out / "bundle.tar"), "-f", manifest, *self.more))]

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        del estate
        bundle = str(bench.folder / "bundle.tar")
        program = (sys.executable, "-I", "-S", bundle) if self.inside else ("airgap",)
        plain = ("--plain-http",) if target.plain_http else ()
        return [Step("push", (*program, "push", bundle, "--registry", f"{target.host}/{PREFIX}", *plain, *self.more))]


@dataclass(frozen=True)
class Floor:
    """No tool: the least that it takes (``floor``), for comparison; over plain HTTP only."""

    name: str = "floor"

    def fetch(self, bench: Bench, estate: Estate, source: RunningRegistry, out: Path) -> list[Step]:
        return [Step("fetch", (*_floor("fetch", bench, source, work(estate)), str(out / "all")))]

    def fill(self, bench: Bench, estate: Estate, target: RunningRegistry) -> list[Step]:
        return [Step("push", _floor("fill", bench, target, work(estate, f"{PREFIX}/")))]


def _floor(verb: str, bench: Bench, registry: RunningRegistry, what: dict[str, Any]) -> tuple[str, ...]:
    told = bench.folder / "work.json"
    told.write_text(json.dumps(what))
    return (sys.executable, "-I", "-S", floor.__file__, verb, registry.url, str(told))


def _host(registry: RunningRegistry) -> tuple[str, ...]:
    return ("--host", f"reg={registry.host},tls=disabled") if registry.plain_http else ()


ALL: tuple[Rival, ...] = (Airgap(), Crane(), Skopeo(), Oras(), Regctl())
