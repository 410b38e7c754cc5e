"""What is measured. Each scene adds runs to the result: tools take turns within a repetition, so that noise hits them alike.

A run is a dictionary: ``scene``, ``tool``, ``repetition``, what ``measure.Bench`` tells, and where a registry was asked,
``requests`` (how often each method was used, and how many distinct paths).
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import helmlog, world
from benchmarks.estate import build, chart
from benchmarks.measure import Bench, FailedError, Step
from benchmarks.rivals import ALL, PREFIX, Airgap, Crane, Floor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.estate import Estate, Recipe
    from benchmarks.rivals import Rival
    from tests.world.authority import Authority
    from tests.world.registries import RunningRegistry

RATE = 128 * 1024 * 1024
"""Bytes per second to which ``limited`` holds a run."""


@dataclass
class Session:
    """One run of the benchmark: where it works, how often it repeats, and what it has found."""

    folder: Path
    cache: Path
    environment: dict[str, str]
    repetitions: int
    say: Any
    registry: str = "registry"
    runs: list[dict[str, Any]] = field(default_factory=list)
    estates: dict[str, Any] = field(default_factory=dict)

    @property
    def bench(self) -> Bench:
        return Bench(self.folder, self.environment)

    def note(self, scene: str, tool: str, repetition: int, took: dict[str, Any], **more: Any) -> None:
        """Keep a run and tell it."""
        self.runs.append({"scene": scene, "tool": tool, "repetition": repetition, **took, **more})
        self.say(
            f"{scene:14} {tool:14} {took['seconds']:7.2f} s  cpu {took['user'] + took['system']:6.2f} s  "
            f"{took['rss'] / 2**20:6.1f} MiB  load {took['load']:.1f}"
        )

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Give an empty folder; it goes afterwards."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        try:
            yield out
        finally:
            shutil.rmtree(out)

    @contextmanager
    def target(self, tls: Authority | None = None) -> Iterator[RunningRegistry]:
        """Give an empty registry; its contents go afterwards."""
        registry = world.start(self.folder / "targets", self.registry, tls=tls)
        try:
            yield registry
        finally:
            registry.stop()
            shutil.rmtree(registry.folder)

    @contextmanager
    def source(
        self, recipe: Recipe, tls: Authority | None = None, *, cache: Path | None = None
    ) -> Iterator[tuple[Estate, RunningRegistry]]:
        """Give an estate and a registry that serves it; ``manifest.yaml`` in the folder is about it."""
        self.say(f"estate {recipe.title}")
        estate = build(recipe, cache or self.cache)
        home = estate.layout.parent
        self.estates[estate.title] = {"images": len(estate.images), "blobs": len(estate.blobs), "bytes": estate.size}
        registry = world.start(self.folder / "sources", self.registry, storage=home / "storage", tls=tls)
        try:
            if not (home / "filled").exists():
                world.fill(registry, estate)
                (home / "filled").touch()
            write_manifest(self.folder, estate, registry)
            yield estate, registry
        finally:
            registry.stop()
            shutil.rmtree(registry.folder)


def write_manifest(folder: Path, estate: Estate, source: RunningRegistry) -> None:
    """Write a manifest of all images of the estate and of three charts that use some of them."""
    shutil.rmtree(folder / "charts", ignore_errors=True)
    parts = [[f"docker.io/{image.name}" for image in estate.images[number::3]][:4] for number in range(3)]
    charts = [chart(folder / "charts", f"chart{number}", images) for number, images in enumerate(parts)]
    reached = {"mirror": source.host, **({"plainHTTP": True} if source.plain_http else {"caFile": str(source.ca_file)})}
    document = {
        "apiVersion": "airgap/v1",
        "kind": "BundleManifest",
        "metadata": {"name": "benchmark"},
        "charts": [{"name": path.name, "path": str(path)} for path in charts],
        "images": [f"docker.io/{image.name}" for image in estate.images],
        "platforms": ["all"],
        "registries": {"docker.io": reached},
    }
    (folder / "manifest.yaml").write_text(json.dumps(document, indent=1))  # JSON is YAML


def mirror(
    session: Session, estate: Estate, source: RunningRegistry, rivals: Sequence[Rival] = ALL, scene: str = "mirror"
) -> None:
    """Fetch everything into one file. ``airgap --lock`` is given what to fetch, as the others are; ``airgap`` finds it out."""
    bench, lock = session.bench, session.folder / "airgap.lock"
    tools: list[Rival] = [*rivals, Airgap("airgap --lock", ("--lock", str(lock))), *([] if source.ca_file else [Floor()])]
    bench.run(Step("plan", ("airgap", "plan", "-f", str(session.folder / "manifest.yaml"), "--lock", str(lock))))
    for repetition in range(session.repetitions):
        for rival in tools:
            with session.room() as out:
                took = bench.run(*rival.fetch(bench, estate, source, out))
                if isinstance(rival, (Airgap, Floor)):
                    session.note(scene, rival.name, repetition, took)
                else:  # ours ends when the disk has it; how much longer that takes here is told, and not counted
                    after = bench.run(Step("sync", ("sync", str(out / "all.tar"))), rested=False)
                    session.note(scene, rival.name, repetition, took, durable=took["seconds"] + after["seconds"])
                if rival.name == "airgap":
                    (out / "bundle.tar").replace(session.folder / "bundle.tar")


def push(
    session: Session, estate: Estate, rivals: Sequence[Rival] = ALL, scene: str = "push", tls: Authority | None = None
) -> None:
    """Fill an empty registry. All start from files that are in the page cache; what the receiving host writes is counted."""
    bench = session.bench
    tools: list[Rival] = [*rivals, Airgap("python3 bundle", inside=True), *([] if tls else [Floor()])]
    for repetition in range(session.repetitions):
        for rival in tools:
            with session.target(tls) as target:
                warm(session, estate)
                took = bench.run(*rival.fill(bench, estate, target))
                if not repetition:
                    holds(target, estate, session)
                session.note(scene, rival.name, repetition, took, requests=world.asked(target), registry=world.worked(target))


def warm(session: Session, estate: Estate) -> None:
    """Read what is going to be pushed."""
    for path in (session.folder / "bundle.tar", *(estate.layout / "blobs/sha256").iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def holds(target: RunningRegistry, estate: Estate, session: Session) -> None:
    """Check by crane that the registry holds what it was to hold: a tool that was quick because it did less does not count."""
    for image in (estate.images[0], estate.images[-1]):
        for prefix in (f"{PREFIX}/docker.io/", f"{PREFIX}/"):
            try:
                session.bench.run(
                    Step("check", ("crane", "validate", "--remote", f"{target.host}/{prefix}{image.name}", "--fast"))
                )
            except FailedError:
                continue
            break
        else:
            raise RuntimeError(f"{image.name} is not in {target.host}")


def again(session: Session, estate: Estate, source: RunningRegistry) -> None:
    """Push what is there already. skopeo syncs from registry to registry, its only way for many images in one call."""
    bench = session.bench
    images: dict[str, list[str]] = {}
    for image in estate.images:
        images.setdefault(image.repository, []).append(image.tag)
    listed = session.folder / "sync.yaml"
    listed.write_text(json.dumps({source.host: {"tls-verify": False, "images": images}}))
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(session.target()) for _ in range(2))
        sync = ("skopeo", "sync", "--all", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false", str(listed))
        commands = {
            "airgap": (ours, Airgap().fill(bench, estate, ours)),
            "skopeo": (theirs, [Step("sync", (*sync, f"{theirs.host}/{PREFIX}"))]),
        }
        for tool, (_, steps) in commands.items():
            session.note("many: push", tool, 0, bench.run(*steps))
        for repetition in range(session.repetitions):
            for tool, (target, steps) in commands.items():
                before = len(target.log)
                took = bench.run(*steps)
                session.note("many: again", tool, repetition, took, requests=world.asked(target, before))
    session.estates[estate.title]["pairs"] = len(estate.pairs())


def many(session: Session, estate: Estate, source: RunningRegistry) -> None:
    """The estate in which only latency counts, once: hundreds of starts of the tools that take one image at a time."""
    bench = session.bench
    rivals: tuple[Rival, ...] = (Airgap(), Crane())
    for rival in rivals:
        with session.room() as out:
            session.note("many: mirror", rival.name, 0, bench.run(*rival.fetch(bench, estate, source, out)))
            if rival.name == "airgap":
                (out / "bundle.tar").replace(session.folder / "bundle.tar")
    again(session, estate, source)


def huge(session: Session, estate: Estate, source: RunningRegistry) -> None:
    """A large blob through every command, once: for the memory, not for the time."""
    bench = session.bench
    with session.room() as out, session.target() as target:
        session.note("huge: mirror", "airgap", 0, bench.run(*Airgap().fetch(bench, estate, source, out)))
        (out / "bundle.tar").replace(session.folder / "bundle.tar")
        took = bench.run(Step("verify", ("airgap", "verify", str(session.folder / "bundle.tar"))))
        session.note("huge: verify", "airgap", 0, took)
        session.note("huge: push", "airgap", 0, bench.run(*Airgap().fill(bench, estate, target)))


def verify(session: Session) -> None:
    """Check every byte of the bundle."""
    for repetition in range(session.repetitions):
        took = session.bench.run(Step("verify", ("airgap", "verify", str(session.folder / "bundle.tar"))))
        session.note("verify", "airgap", repetition, took)


def inventory(session: Session) -> None:
    """Plan against an inventory: the receiving registry is not asked. It listens all the same, so that asking would show."""
    bench, told = session.bench, session.folder / "inventory.json"
    with session.target() as target:
        bench.run(*Airgap().fill(bench, None, target))  # type: ignore[arg-type]  # ours needs no estate
        registry = (f"{target.host}/{PREFIX}", "--plain-http")
        bundle = str(session.folder / "bundle.tar")
        bench.run(Step("inventory", ("airgap", "inventory", bundle, "--registry", *registry, "--output-file", str(told))))
        before = len(target.log)
        plan = ("airgap", "plan", "-f", str(session.folder / "manifest.yaml"), "--base", str(told), "--dry-run")
        session.note("plan --base", "airgap", 0, bench.run(Step("plan", plan)), requests=world.asked(target, before))


def jobs(session: Session, estate: Estate, source: RunningRegistry) -> None:
    """The one budget: mirror and push with so many transfers at a time."""
    bench = session.bench
    for count in ("1", "2", "6", "12"):
        with session.room() as out, session.target() as target:
            took = bench.run(*Airgap(more=("--jobs", count)).fetch(bench, estate, source, out))
            session.note("jobs: mirror", f"--jobs {count}", 0, took)
            warm(session, estate)
            session.note(
                "jobs: push", f"--jobs {count}", 0, bench.run(*Airgap(more=("--jobs", count)).fill(bench, estate, target))
            )


def limited(session: Session, estate: Estate, source: RunningRegistry) -> None:
    """The line's budget: the same with one job as with twelve."""
    bench = session.bench
    for count in ("1", "12"):
        more = ("--limit-rate", str(RATE), "--jobs", count)
        with session.room() as out, session.target() as target:
            took = bench.run(*Airgap(more=more).fetch(bench, estate, source, out))
            session.note("limit: mirror", f"--jobs {count}", 0, took, limit=RATE)
            session.note(
                "limit: push", f"--jobs {count}", 0, bench.run(*Airgap(more=more).fill(bench, estate, target)), limit=RATE
            )


def plan(session: Session, manifest: Path) -> None:
    """Plan of a manifest of the user's (W&B's, say), and how often helm was run, and how often for the same question."""
    arguments = ("airgap", "plan", "-f", str(manifest.absolute()), "--lock", str(session.folder / "plan.lock"))
    for repetition in range(session.repetitions):
        session.note("plan", "airgap", repetition, session.bench.run(Step("plan", arguments)))
    with helmlog.counting(session.folder, session.environment) as (environment, told):
        Bench(session.folder, environment).run(Step("plan", arguments))
    session.estates["plan"] = {"manifest": manifest.name, "renders": told.count, "repeated": told.repeated}
