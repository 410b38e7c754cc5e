"""The command behind ``./benchmarks/run``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report, scenes, world
from benchmarks.estate import HUGE, LARGE, MANY, scaled
from benchmarks.measure import FailedError
from benchmarks.rivals import ALL, Airgap, Crane
from tests.world.authority import Authority

if TYPE_CHECKING:
    from benchmarks.estate import Recipe
    from benchmarks.rivals import Rival

SCENES = ("mirror", "push", "verify", "tls", "many", "inventory", "jobs", "limit", "huge")
AGAINST = ("crane", "skopeo", "oras", "regctl")
TOOLS = {
    "airgap": ("airgap", "version", "-o", "name"),
    "crane": ("crane", "version"),
    "skopeo": ("skopeo", "--version"),
    "oras": ("oras", "version"),
    "regctl": ("regctl", "version", "--format", "{{.VCSTag}}"),
    "registry": ("registry", "--version"),
    "docker-registry": ("docker-registry", "--version"),
    "helm": ("helm", "version", "--template", "{{.Version}}"),
}


def main() -> int:
    """Run the scenes; tell the result on stdout, what happens on stderr."""
    options = parse()
    session_folder = Path(tempfile.mkdtemp(prefix="airgap-benchmark-", dir=options.work))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airgap" / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    home = session_folder / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}
    session = scenes.Session(session_folder, cache, environment, options.repetitions, say, options.registry)
    begun = time.time()
    try:
        run(session, options)
    except KeyboardInterrupt:
        return 130
    except (FailedError, OSError) as error:
        say(f"run: {error}")
        return 1
    finally:
        shutil.rmtree(session_folder, ignore_errors=True)
    result = {
        "schemaVersion": 1,
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun)),
        "minutes": round((time.time() - begun) / 60, 1),
        "command": " ".join(["./benchmarks/run", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "estates": session.estates,
        "runs": session.runs,
    }
    result["figures"] = report.figures(result)
    if options.result:
        options.result.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1) if options.output == "json" else report.text(result))
    return 0


def run(session: scenes.Session, options: argparse.Namespace) -> None:
    """Run what was asked for."""
    large, many = (scaled(LARGE, 1 / 16), scaled(MANY, 1.0, 65)) if options.quick else (LARGE, MANY)
    only = set(options.only or SCENES)
    if only & {"mirror", "push", "verify", "inventory", "jobs", "limit"}:
        plain(session, large, only, [it for it in ALL if it.name in ("airgap", *(options.against or AGAINST))])
    if "tls" in only or options.tls:
        encrypted(session, large)
    if "many" in only:
        with session.source(many) as (estate, source):
            scenes.many(session, estate, source)
    if "huge" in only:
        with session.source(scaled(HUGE, 1 / 16 if options.quick else 1.0), cache=session.folder / "cache") as (estate, source):
            scenes.huge(session, estate, source)
    if options.plan:
        scenes.plan(session, options.plan)


def plain(session: scenes.Session, recipe: Recipe, only: set[str], rivals: list[Rival]) -> None:
    """Run the scenes with the large estate over plain HTTP."""
    with session.source(recipe) as (estate, source):
        scenes.mirror(session, estate, source, rivals if "mirror" in only else (Airgap(),))
        if "push" in only:
            scenes.push(session, estate, rivals)
        if "verify" in only:
            scenes.verify(session)
        if "inventory" in only:
            scenes.inventory(session)
        if "jobs" in only:
            scenes.jobs(session, estate, source)
        if "limit" in only:
            scenes.limited(session, estate, source)


def encrypted(session: scenes.Session, recipe: Recipe) -> None:
    """Run mirror and push over TLS, with an authority of this run that every tool is told of in the same way."""
    authority = Authority.create(session.folder)
    session.environment["SSL_CERT_FILE"] = str(authority.root)
    with session.source(recipe, authority) as (estate, source):
        scenes.mirror(session, estate, source, (Airgap(), Crane()), "tls: mirror")
        scenes.push(session, estate, (Airgap(), Crane()), "tls: push", authority)
    del session.environment["SSL_CERT_FILE"]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./benchmarks/run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a sixteenth of the bytes and a tenth of the images: does it work?"
    )
    parser.add_argument("--only", action="append", choices=(*SCENES, "plan"), help="this scene; repeatable; default: all")
    parser.add_argument(
        "--against", action="append", choices=AGAINST, help="this tool in mirror and push; repeatable; default: all"
    )
    parser.add_argument("--tls", action="store_true", help="the scenes over TLS, too, when --only names others")
    parser.add_argument(
        "--registry",
        choices=tuple(world.REGISTRIES),
        default="registry",
        help="the registry at both ends (default: %(default)s, version 3)",
    )
    parser.add_argument("--plan", type=Path, metavar="MANIFEST", help="measure airgap plan of this manifest, too")
    parser.add_argument("--repetitions", type=int, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=None, help="where to work, with room for 16 GiB (default: $TMPDIR)")
    parser.add_argument("--result", type=Path, metavar="FILE", help="write the result as JSON, for python -m benchmarks.report")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="what is printed")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "model": model,
        "memory": memory,
        "kernel": platform.release(),
        "python": sys.version.split()[0],
    }


def versions() -> dict[str, str]:
    """Return the version of every tool, as it says itself."""
    found = {}
    for name, command in TOOLS.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = re.search(r"\d+\.\d+[\w.-]*", done.stdout or done.stderr)
        found[name] = said[0] if said else "?"
    return found


if __name__ == "__main__":
    sys.exit(main())
