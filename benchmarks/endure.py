"""Endurance: a large bundle goes through mirror, mirror --split and push, is killed again and again, and comes out the same.

What is done is what a user does: ``airgap plan``, ``airgap mirror``, ``airgap push`` as processes, real registries (CNCF
distribution) at both ends, kill -9 at moments that a seed decides. The images are made on the spot as sparse files in the
source registry's own storage: each MiB begins with a page of its own, the rest is zeros. What was written here and is whole is
given back to the file system by punching holes where zeros are (``fallocate --dig-holes``), so the disk holds one bundle at a
time.

Counted are bytes that the registries write, as the kernel counts them (/proc/PID/io): to clients by the source, to its disk
by the private one. "again" is what was moved a second time because of a kill.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.endure_estate import GIB, KIB, MIB, Served, Storage, estate, fetched, hashed, registry, same, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

POLL = 0.002
"""Seconds between two looks at a run that is to be killed."""
ROOT = Path(__file__).resolve().parents[1]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}
"""airgap is this checkout's."""
UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}
MOST = 0.97
"""Share of a stage at which it is killed at the latest: later ones would often be over."""


def size_of(text: str) -> int:
    """Return ``text`` (20G, 4000M) in bytes."""
    found = re.fullmatch(r"(\d+)([KMG]?)(?:i?B)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no size")
    return int(found[1]) * UNITS[found[2]]


def shown(size: float) -> str:
    """Return bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < KIB:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= KIB
    return f"{size:.2f} GiB"


@dataclass
class Told:
    """What a run says on stderr, as JSON lines: how much of the phase was left at its begin, and what was there of that."""

    path: Path
    phase: str
    begun: bool = False
    left: int = 0
    there: int = 0
    _read: int = 0
    _rest: str = ""

    def look(self) -> None:
        """Read what came since the last look."""
        with self.path.open(encoding="utf-8", errors="replace") as file:
            file.seek(self._read)
            text = self._rest + file.read()
            self._read = file.tell()
        *lines, self._rest = text.split("\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: str) -> None:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("phase") != self.phase:
            return
        if event["event"] == "begin":
            self.begun, self.left = True, event["bytes"]
        elif event["event"] == "there":
            self.there += event["size"]


@dataclass
class Kill:
    """One kill: ``done`` bytes of the stage by then, ``again`` of them moved once more afterwards (known later)."""

    stage: str
    number: int
    group: bool
    seconds: float
    phase: str
    done: int
    total: int = 0
    again: int = 0

    def __str__(self) -> str:
        who = "whole group" if self.group else "process"
        share = f"{self.done / self.total:6.1%}" if self.total else "   0.0%"
        return (
            f"{self.stage:<7}kill {self.number:>2} of the {who:<12}{self.seconds:7.2f} s after its start, {self.phase:<12}"
            f"{shown(self.done):>11} done ({share}), moved again afterwards {shown(self.again)}"
        )


@dataclass(frozen=True)
class Moment:
    """When to kill: when ``share`` of the stage is done, or ``seconds`` after the start where that is earlier (0: never)."""

    share: float
    seconds: float
    group: bool


def moments(count: int, chance: random.Random, seconds: float) -> list[Moment]:
    """Return seeded moments: shares of the stage, one in each of ``count`` equal parts; every fourth by the clock instead.

    One of them is a kill of the whole process group, as by a power cut: nothing is left that could end a piece.
    """
    ends = [MOST * (number + 1) / count for number in range(count)]
    shares = [MOST * (number + chance.random()) / count for number in range(count)]
    whole = chance.randrange(count)
    return [
        Moment(end if number % 4 == 3 else share, chance.uniform(0.05, seconds) if number % 4 == 3 else 0.0, number == whole)
        for number, (share, end) in enumerate(zip(shares, ends, strict=True))
    ]


@dataclass
class Stage:
    """A command that is killed. ``moved``: bytes that its registry has moved; ``own``: those of the process count instead."""

    name: str
    phase: str
    command: Sequence[str]
    folder: Path
    moved: Callable[[], int]
    own: bool
    say: Callable[[str], None] = print
    kills: list[Kill] = field(default_factory=list)
    total: int = 0
    _runs: int = 0

    def under_fire(self, chosen: Sequence[Moment]) -> str:
        """Run the command, kill it at each moment, run it to its end; return what it printed."""
        for moment in chosen:
            if not self._killed(moment):
                break
        return self.run()

    def run(self) -> str:
        """Run the command to its end; return what it printed."""
        process, told = self._start(subprocess.PIPE)
        out, _ = process.communicate()
        told.look()
        self._judge(told)
        if process.returncode:
            raise SystemExit(f"{' '.join(self.command)} ended with {process.returncode}: {told.path.read_text()[-3000:]}")
        return str(out)

    def _start(self, out: int) -> tuple[subprocess.Popen[str], Told]:
        self._runs += 1
        path = self.folder / f"{self.name}-{self._runs}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                self.command, stdout=out, stderr=log, text=True, start_new_session=True, cwd=self.folder, env=ENVIRON
            )
        return process, Told(path, self.phase)

    def _killed(self, moment: Moment) -> bool:
        """Start the command and kill it at ``moment``; False when it was faster."""
        process, told = self._start(subprocess.DEVNULL)
        begun, before, start, done = time.monotonic(), 0, 0, 0
        while process.poll() is None:
            told.look()
            if told.begun and not start:
                self.total = self.total or told.left
                start, before = max(1, written(process.pid)), self.moved()
            if start:
                here = written(process.pid) - start if self.own else self.moved() - before
                done = self.total - told.left + told.there + max(0, here)
            if self._due(moment, time.monotonic() - begun, done):
                break
            time.sleep(POLL)
        seconds = time.monotonic() - begun
        if process.poll() is not None:
            self._judge(told)
            return False
        (os.killpg if moment.group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        told.look()
        self._judge(told)
        phase = self._phase(told)
        done = done if start else self._last()
        self.kills.append(Kill(self.name, len(self.kills) + 1, moment.group, seconds, phase, done, self.total))
        return True

    def _due(self, moment: Moment, seconds: float, done: int) -> bool:
        late = bool(moment.seconds) and seconds >= moment.seconds
        return late or (bool(self.total) and done >= moment.share * self.total)

    def _phase(self, told: Told) -> str:
        lines = [json.loads(line) for line in told.path.read_text().splitlines() if line.startswith("{")]
        phases = [line["phase"] for line in lines if line.get("phase")]
        return f"in {phases[-1].split()[0]}" if phases else "at its start"

    def _last(self) -> int:
        return self.kills[-1].done - self.kills[-1].again if self.kills else 0

    def _judge(self, told: Told) -> None:
        """Say what the kill before this run cost, now that the run has said where it went on."""
        if not self.kills or self.kills[-1].again or not told.begun:
            return
        went_on = self.total - told.left + told.there
        self.kills[-1].again = max(0, self.kills[-1].done - went_on)


@dataclass(frozen=True)
class Options:
    """Sizes in bytes; ``kills`` of each stage; ``rate``: --limit-rate of what is killed, empty: none."""

    folder: Path
    program: str
    size: int = 20 * GIB
    largest: int = 10 * GIB
    split: int = 4000 * MIB
    kills: int = 8
    seed: int = 1
    jobs: int = 6
    rate: str = ""
    clock: float = 4.0
    dig: bool = True
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class Outcome:
    """What a trial showed."""

    kills: tuple[Kill, ...]
    moved_again: Mapping[str, int]
    seconds: Mapping[str, float]
    bundle: str
    lock: str
    checked: int


class Trial:
    """See the module."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.say = options.say
        self.folder = options.folder / "work"
        self.folder.mkdir(parents=True)
        self.chance = random.Random(options.seed)  # noqa: S311  # moments, no secrets
        self.kills: list[Kill] = []
        self.again: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def run(self) -> Outcome:
        """Run all of it; raises SystemExit with the reason when anything is not as it must be."""
        options = self.options
        with ExitStack() as stack:
            source = stack.enter_context(self._source())
            lock = self._plan(source)
            plain = self._undisturbed(lock)
            self._mirror(source, lock, plain)
            base = self._split(source, lock, plain)
            private = stack.enter_context(registry(options.program, options.folder / "private"))
            checked = self._push(private, base)
        digest = hashed(plain)
        self.say(f"bundle {digest}, lock {lock_digest(lock)}")
        return Outcome(tuple(self.kills), self.again, self.seconds, digest, lock_digest(lock), checked)

    @contextmanager
    def _source(self) -> Iterator[Served]:
        options, begun = self.options, time.monotonic()
        storage = Storage(options.folder / "source" / "storage")
        self.images = estate(storage, options.size, options.largest, options.seed)
        self.served = sum(blob.size for image in self.images for blob in (image.manifest, *image.blobs))
        self.say(f"source: {len(self.images)} images, {shown(self.served)}, made in {time.monotonic() - begun:.0f} s")
        with registry(options.program, options.folder / "source") as served:
            yield served

    def _airgap(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "airgap", *(str(argument) for argument in arguments)]

    def _plan(self, source: Served) -> Path:
        manifest = {
            "apiVersion": "airgap/v1",
            "kind": "BundleManifest",
            "metadata": {"name": "endurance"},
            "images": [f"trial.example/{image.repository}:{image.tag}" for image in self.images],
            "registries": {"trial.example": {"mirror": source.host, "plainHTTP": True}},
        }
        (self.folder / "manifest.yaml").write_text(json.dumps(manifest), encoding="utf-8")
        subprocess.run(
            self._airgap("plan", "-f", "manifest.yaml", "--lock", "airgap.lock", "-q", "-o", "name"),
            cwd=self.folder,
            env=ENVIRON,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return self.folder / "airgap.lock"

    def _mirror_command(self, name: str, *more: str) -> list[str]:
        options = self.options
        rate = ("--limit-rate", options.rate) if options.rate else ()
        fixed = ("-f", "manifest.yaml", "--lock", "airgap.lock", "--jobs", str(options.jobs))
        return self._airgap("mirror", name, *fixed, *rate, *more, "--log-format", "json", "-o", "json")

    def _undisturbed(self, lock: Path) -> Path:
        begun = time.monotonic()
        stage = Stage("plain", "mirror", self._mirror_command("plain.tar"), self.folder, lambda: 0, own=True)
        told = json.loads(stage.run())
        self.seconds["undisturbed"] = time.monotonic() - begun
        self.say(f"undisturbed: {shown(told['bytes'])} in {told['seconds']:.1f} s")
        self._dig(self.folder / "plain.tar")
        del lock
        return self.folder / "plain.tar"

    def _fire(self, stage: Stage, counted: Callable[[], int], needed: int) -> dict[str, Any]:
        """Run a stage under fire and report it."""
        begun, before = time.monotonic(), counted()
        chosen = moments(self.options.kills, self.chance, self.options.clock)
        told: dict[str, Any] = json.loads(stage.under_fire(chosen))
        self.seconds[stage.name] = time.monotonic() - begun
        self.again[stage.name] = counted() - before - needed
        for kill in stage.kills:
            self.say(str(kill))
        self.kills += stage.kills
        self.say(
            f"{stage.name}: done after {len(stage.kills)} kills in {self.seconds[stage.name]:.0f} s; its registry moved "
            f"{shown(counted() - before)}, {shown(self.again[stage.name])} more than the {shown(needed)} that are in it"
        )
        return told

    def _mirror(self, source: Served, lock: Path, plain: Path) -> None:
        stage = Stage("mirror", "mirror", self._mirror_command("killed.tar"), self.folder, source.written, own=True)
        told = self._fire(stage, source.written, self.served)
        must(told["digest"] == lock_digest(lock), "the bundle says that it is of another lock")
        must(same(plain, self.folder / "killed.tar", 0), "the bundle differs from the undisturbed one")
        self.say("mirror: the bundle is the undisturbed one, byte for byte")
        (self.folder / "killed.tar").unlink()

    def _split(self, source: Served, lock: Path, plain: Path) -> Path:
        more = ("--split", str(self.options.split))
        stage = Stage("split", "mirror", self._mirror_command("volumes.tar", *more), self.folder, source.written, own=True)
        told = self._fire(stage, source.written, self.served)
        must(told["digest"] == lock_digest(lock), "the volumes say that they are of another lock")
        base = self.folder / "volumes.tar"
        for file in map(Path, told["files"]):
            label = json.loads(self._out("verify", file, "-q", "-o", "json"))["volume"]
            must(same(plain, self.folder / file, label["offset"], label["size"]), f"{file} differs from the undisturbed bundle")
            self._dig(self.folder / file)
        self.say(f"split: {len(told['files'])} volumes, each whole by itself and a slice of the undisturbed bundle")
        return base

    def _push(self, private: Served, base: Path) -> int:
        options = self.options
        rate = ("--limit-rate", options.rate) if options.rate else ()
        where = ("--registry", f"{private.host}/mirror", "--plain-http", "--receipt", "receipt.json")
        command = self._airgap(
            "push", base.name, *where, *rate, "--jobs", str(options.jobs), "--log-format", "json", "-o", "json"
        )
        stage = Stage("push", "push", command, self.folder, private.written, own=False)
        needed = int(
            json.loads(self._out("push", base.name, *where[:3], "--dry-run", "--probe", "-q", "-o", "json"))["plan"]["bytes"]
        )
        stage.total = needed
        self._fire(stage, private.written, needed)
        again = json.loads(self._out("push", base.name, *where[:3], "-q", "-o", "json"))
        must(again["counts"]["sent"] == 0, "a second push sends something")
        return self._registry_holds(private)

    def _registry_holds(self, private: Served) -> int:
        """Get every manifest and every blob, and hash them: by urllib, not by what is tried here."""
        count, begun = 0, time.monotonic()
        for image in self.images:
            url = f"http://{private.host}/v2/mirror/trial.example/{image.repository}"
            must(fetched(f"{url}/manifests/{image.tag}") == image.manifest.digest, f"{image.repository}: another manifest")
            for blob in image.blobs:
                must(fetched(f"{url}/blobs/{blob.digest}") == blob.digest, f"{image.repository}: {blob.digest} is wrong")
                count += 1
        self.say(
            f"registry: {len(self.images)} tags and {count} blobs read back and hashed in {time.monotonic() - begun:.0f} s"
        )
        return count

    def _out(self, *arguments: str | Path) -> str:
        command = self._airgap(*arguments)
        return subprocess.run(command, cwd=self.folder, env=ENVIRON, check=True, stdout=subprocess.PIPE, text=True).stdout

    def _dig(self, path: Path) -> None:
        """Give back the zeros of a whole file."""
        if self.options.dig and (program := shutil.which("fallocate")):
            subprocess.run([program, "--dig-holes", str(path)], check=True)


def must(fact: bool, otherwise: str) -> None:
    """End the trial unless ``fact``."""
    if not fact:
        raise SystemExit(f"FAILED: {otherwise}")


def lock_digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def options_from(arguments: Sequence[str]) -> tuple[Options, bool]:
    """Read the command line; the second is whether to keep the folder."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/endurance", description="A bundle that is killed again and again, and what it costs."
    )
    parser.add_argument("--size", type=size_of, default=20 * GIB, metavar="SIZE", help="bytes of all images (20G)")
    parser.add_argument("--layer", type=size_of, default=10 * GIB, metavar="SIZE", help="bytes of the largest layer (10G)")
    parser.add_argument("--split", type=size_of, default=4000 * MIB, metavar="SIZE", help="bytes of a volume (4000M)")
    parser.add_argument("--kills", type=int, default=8, metavar="N", help="kills of each of the three stages (8)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides contents and moments (1)")
    parser.add_argument("--jobs", type=int, default=6, metavar="N", help="transfers at a time (6)")
    parser.add_argument("--limit-rate", default="", metavar="SIZE", help="airgap's own --limit-rate (none)")
    parser.add_argument("--folder", type=Path, help="where to work; about 1.2 times --size is needed there (a temporary one)")
    parser.add_argument("--registry", default="", metavar="PROGRAM", help="CNCF distribution (registry, or docker-registry)")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    chosen = parser.parse_args(arguments)
    program = shutil.which(chosen.registry) if chosen.registry else shutil.which("registry") or shutil.which("docker-registry")
    if not program:
        raise SystemExit("no registry: scripts/get-tools brings one; put it on PATH, or name it with --registry")
    folder = Path(tempfile.mkdtemp(prefix="endurance-", dir=chosen.folder))
    made = Options(
        folder=folder,
        program=program,
        size=chosen.size,
        largest=chosen.layer,
        split=chosen.split,
        kills=chosen.kills,
        seed=chosen.seed,
        jobs=chosen.jobs,
        rate=chosen.limit_rate,
    )
    return made, chosen.keep


def main(arguments: Sequence[str]) -> int:
    """Run the trial and tell it line by line."""
    must(find_spec("click") is not None, f"{sys.executable} has not what airgap needs: take the Python of its venv")
    options, keep = options_from(arguments)
    free = shutil.disk_usage(options.folder).free
    must(free > 1.2 * options.size, f"{options.folder} has {shown(free)} free, and 1.2 times --size is needed")
    begun = time.monotonic()
    try:
        outcome = Trial(options).run()
    finally:
        if not keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    print(
        f"PASSED: {len(outcome.kills)} kills, {shown(sum(outcome.moved_again.values()))} moved again in all, "
        f"{outcome.checked} blobs right, in {time.monotonic() - begun:.0f} s"
    )
    return 0
