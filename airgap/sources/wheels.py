"""Wheels: the Python packages of a manifest with everything that they need, and the same ones again from a lock.

Invariants: what is carried depends on the target's Python and platform, not on this machine's. pip chooses versions, but reads
environment markers (``tomli; python_version < "3.11"``) for the Python that it runs on (pypa/pip issues 6117 and 11010); so
what came is walked with the target's own environment: what is lacking is asked for by name, what nobody needs there is left
out. From a lock, pip is given names, versions and digests, and decides nothing.

::

    artifacts = gather_wheels(manifest.wheels, manifest.platforms, scratch)     # a mirror's first run
    artifacts = wheels_again(lock, scratch)                                     # mirror --lock
"""

from __future__ import annotations

import email
import re
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, IntegrityError
from airgap.progress import Progress
from airgap.sources.artifacts import wheel_artifact
from airgap.sources.pip import Pip, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from packaging.requirements import Requirement

    from airgap.lock import Lock
    from airgap.manifest import WheelEntry
    from airgap.oci import Platform
    from airgap.sources.artifacts import Artifact

PYTHON, PLATFORM = "dev.airgap.wheel.python", "dev.airgap.wheel.platform"
"""Annotations of a package: the target that it was chosen for."""
GETTING = "getting Python packages"
ROUNDS = 10
"""Times that pip is asked for what the target needs and this machine would not; each round finds at least one project more."""
METADATA_LIMIT = 16 * 1024 * 1024
"""Bytes of a wheel's METADATA, which holds the project's whole description."""

DEFAULT_GLIBC = "manylinux_2_28"
"""RHEL 8, Debian 10, Ubuntu 20.04 and later."""
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
"""Architectures in OCI's words to those of wheel tags (PEP 600)."""
_OLD_NAMES = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
"""Wheel tags from before PEP 600, and the glibc 2.x that each means."""
_SYSTEMS = {
    "win": {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"},
    "macosx": {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"},
}
_LINUX = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"}
_WINDOWS_MACHINES = {"win_amd64": "AMD64", "win_arm64": "ARM64", "win32": "x86"}
_TAG = re.compile(r"(?P<family>manylinux|musllinux)_(?P<major>\d+)_(?P<minor>\d+)_(?P<machine>\w+)")


@dataclass(frozen=True)
class Wheel:
    """A wheel that was downloaded, and what its metadata says; ``needs`` are requirements as written there."""

    path: Path
    name: str
    version: str
    needs: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Read a wheel's METADATA (PEP 427, PEP 566); raises IntegrityError."""
        try:
            with zipfile.ZipFile(path) as archive:
                names = [it for it in archive.namelist() if it.count("/") == 1 and it.endswith(".dist-info/METADATA")]
                info = archive.getinfo(names[0])
                if info.file_size > METADATA_LIMIT:
                    raise IntegrityError(f"{path.name} has {info.file_size} bytes of metadata: refused")
                told = email.message_from_bytes(archive.read(info))
        except (zipfile.BadZipFile, OSError, IndexError, EOFError) as error:
            raise IntegrityError(f"{path.name} cannot be read as a wheel: {error}") from error
        return cls(path, canonical(str(told["Name"])), str(told["Version"]), tuple(told.get_all("Requires-Dist") or ()))


def canonical(name: str) -> str:
    """Return a project's normalised name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def tags(platform: str) -> tuple[str, ...]:
    """Return all tags that a machine of ``platform`` takes, the best first (PEP 600, PEP 656).

    >>> tags("musllinux_1_1_x86_64")
    ('musllinux_1_1_x86_64', 'musllinux_1_0_x86_64', 'linux_x86_64')
    """
    old, _, machine = platform.partition("_")
    if old in _OLD_NAMES:
        platform = f"manylinux_2_{_OLD_NAMES[old]}_{machine}"
    found = _TAG.fullmatch(platform)
    if not found:
        return (platform,)
    named = {minor: name for name, minor in _OLD_NAMES.items() if found["family"] == "manylinux"}
    names: list[str] = []
    for minor in range(int(found["minor"]), min(named, default=0) - 1, -1):
        names.append(f"{found['family']}_{found['major']}_{minor}")
        names += [named[minor]] if minor in named else []
    return tuple(f"{name}_{found['machine']}" for name in (*names, "linux"))


def targets(entry: WheelEntry, platforms: Sequence[Platform]) -> tuple[Target, ...]:
    """Return whom an entry's packages are for; raises ConfigurationError where the bundle's platforms do not tell it."""
    named = list(entry.platforms)
    for platform in () if named else platforms:
        machine = _MACHINES.get(platform.architecture)
        if platform.os != "linux" or machine is None:
            raise ConfigurationError(
                f"no wheel tag is known for {platform}", hint="give platforms under wheels: in the manifest"
            )
        named.append(f"{DEFAULT_GLIBC}_{machine}")
    if not named:
        raise ConfigurationError(
            "the bundle is for all platforms, so it is not known which wheels to take",
            hint="give platforms under wheels: in the manifest, such as [manylinux_2_28_x86_64]",
        )
    return tuple(Target(entry.python, platform, tags(platform)) for platform in dict.fromkeys(named))


def environment(target: Target) -> dict[str, str]:
    """Return the target's environment, as markers ask for it (PEP 508)."""
    family = re.split(r"[_\d]", target.platform)[0]
    tag = _TAG.fullmatch(tags(target.platform)[0])
    machine = tag["machine"] if tag else _WINDOWS_MACHINES.get(target.platform) or target.platform.split("_", 3)[-1]
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{target.python}.0",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_version": "",
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        **_SYSTEMS.get(family, _LINUX),
    }


@dataclass(frozen=True)
class Needed:
    """What a walk found: the projects that are needed, and the requirements that nothing at hand fulfils."""

    names: tuple[str, ...]
    missing: tuple[str, ...]


def walk(roots: Iterable[str], wheels: Mapping[str, Wheel], target: Target) -> Needed:
    """Follow requirements through the wheels that are there, as the target would; raises ConfigurationError."""
    known = environment(target)
    waiting = [(text, "the manifest", "") for text in roots]
    seen: dict[tuple[str, str], None] = {}
    missing: dict[str, None] = {}
    while waiting:
        text, by, extra = waiting.pop(0)
        need = _requirement(text, by)
        if need.marker and not need.marker.evaluate({**known, "extra": extra}):
            continue
        name = canonical(need.name)
        wheel = wheels.get(name)
        if wheel is None or not need.specifier.contains(wheel.version, prereleases=True):
            missing[_without_marker(need)] = None
            continue
        for wanted in ("", *sorted(need.extras)):
            if (name, wanted) not in seen:
                seen[name, wanted] = None
                waiting += [(inner, wheel.path.name, wanted) for inner in wheel.needs]
    return Needed(tuple(dict.fromkeys(name for name, _ in seen)), tuple(missing))


def _requirement(text: str, by: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  (connected side only)

    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise ConfigurationError(f"{by} asks for {text!r}, which is no requirement: {str(error).splitlines()[0]}") from error


def _without_marker(need: Requirement) -> str:
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"{need.name}{extras}{need.specifier}"


def gather_wheels(
    entries: Sequence[WheelEntry],
    platforms: Sequence[Platform],
    scratch: Path,
    pip: Pip | None = None,
    progress: Progress | None = None,
) -> tuple[Artifact, ...]:
    """Download what the manifest asks for, into ``scratch``; a wheel that serves several targets is carried once.

    Raises ConfigurationError, ToolError, NetworkError, UnauthorizedError, IntegrityError.
    """
    wanted = [(target, entry) for entry in entries for target in targets(entry, platforms)]
    if not wanted:
        return ()
    pip, progress = pip or Pip.find(), progress or Progress()
    made: dict[str, Artifact] = {}
    progress.begin(GETTING, len(wanted))
    for number, (target, entry) in enumerate(wanted):
        wheels = _gathered(pip, entry, target, scratch / f"wheels-{number}")
        progress.done(f"{', '.join(entry.requirements)} for {target}", f"{len(wheels)} wheels")
        for wheel in wheels:
            made.setdefault(wheel.path.name, _artifact(wheel, target))
    progress.end()
    return tuple(made.values())


def _gathered(pip: Pip, entry: WheelEntry, target: Target, folder: Path) -> list[Wheel]:
    """Return the wheels that one target needs for one entry, sorted."""
    asked = walk(entry.requirements, {}, target).missing
    for number in range(ROUNDS):
        place = folder / str(number)
        if asked:
            pip.download(place, target, asked)
        wheels = {wheel.name: wheel for wheel in _read(place)}
        needed = walk(entry.requirements, wheels, target)
        if not needed.missing:
            return [wheels[name] for name in sorted(needed.names)]
        asked = tuple(dict.fromkeys((*asked, *needed.missing)))
    raise ConfigurationError(
        f"the packages for {target} are not complete after {ROUNDS} rounds; still missing: {', '.join(needed.missing)}",
        hint="name it with a version under requirements",
    )


def _read(folder: Path) -> list[Wheel]:
    return [Wheel.read(path) for path in sorted(folder.glob("*.whl"))]


def _artifact(wheel: Wheel, target: Target) -> Artifact:
    return wheel_artifact(wheel.path, wheel.version, {PYTHON: target.python, PLATFORM: target.platform})


def wheels_again(lock: Lock, scratch: Path, pip: Pip | None = None, progress: Progress | None = None) -> tuple[Artifact, ...]:
    """Download the packages of a lock by version and digest, into ``scratch``; raises as ``gather_wheels`` does."""
    groups: dict[Target, dict[str, str]] = {}
    for artifact in lock.artifacts:
        if artifact.kind == "wheel":
            platform = artifact.annotations[PLATFORM]
            target = Target(artifact.annotations[PYTHON], platform, tags(platform))
            pin = f"{artifact.name.partition('-')[0]}=={artifact.version}"
            groups.setdefault(target, {})[pin] = artifact.content.digest.hex
    if not groups:
        return ()
    pip, progress = pip or Pip.find(), progress or Progress()
    made = []
    progress.begin(GETTING, len(groups))
    for number, (target, pins) in enumerate(groups.items()):
        folder = scratch / f"wheels-again-{number}"
        pip.again(folder, target, pins)
        made += [_artifact(wheel, target) for wheel in _read(folder)]
        progress.done(f"packages for {target}", f"{len(pins)} wheels")
    progress.end()
    return tuple(made)
