"""A chart folder on disk: the files that ``helm package`` would put into the archive.

Invariants: ``.helmignore`` is followed as helm reads it (pkg/ignore: its own dialect, not git's); links to files may lead
anywhere inside the chart's folder and nowhere else, links to folders are refused; the result does
not depend on the order of the file system.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.chart.archive import COUNT_LIMIT, FILE_LIMIT, SIZE_LIMIT, is_inner_path
from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"
_ALWAYS_IGNORED = "templates/.?*"
"""What helm adds to every .helmignore."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a chart folder by path below it; raises ConfigurationError."""
    files: dict[str, bytes] = {}
    rules = _rules(folder)
    left = SIZE_LIMIT
    for name, path in _walk(folder, rules):
        if not is_inner_path(name):
            raise ConfigurationError(f"{folder}: the file name {name!a} cannot be in a chart")
        size = path.stat().st_size
        left -= size
        if size > FILE_LIMIT or left < 0 or len(files) >= COUNT_LIMIT:
            raise ConfigurationError(
                f"{folder}: {name} makes the chart larger than helm takes "
                f"({FILE_LIMIT // 1024**2} MiB a file, {SIZE_LIMIT // 1024**2} MiB in all)",
                hint="name what does not belong to it in .helmignore",
            )
        files[name] = path.read_bytes().removeprefix(_BOM)
    return files


def _walk(folder: Path, rules: tuple[_Rule, ...]) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    for place, folders, names in os.walk(folder, followlinks=False):
        here = Path(place)
        prefix = "" if here == folder else here.relative_to(folder).as_posix() + "/"
        links = [name for name in folders if (here / name).is_symlink()]
        if links:
            raise ConfigurationError(
                f"{folder}: {prefix}{links[0]} is a link to a folder, which is not followed",
                hint="copy the folder to its place, or pack the chart with helm package and name the .tgz",
            )
        folders[:] = sorted(name for name in folders if not _ignored(rules, prefix + name, is_folder=True))
        for name in sorted(names):
            path = here / name
            if _ignored(rules, prefix + name, is_folder=False):
                continue
            if not path.is_file() or not path.resolve().is_relative_to(root):
                raise ConfigurationError(
                    f"{folder}: {prefix}{name} is no file of this folder (a link that leads out, a device)"
                )
            yield prefix + name, path


class _Rule:
    """A line of .helmignore."""

    def __init__(self, line: str) -> None:
        self.negated = line.startswith("!")
        pattern = line.removeprefix("!")
        self.folders_only = pattern.endswith("/")
        pattern = pattern.removesuffix("/")
        self.whole_path = "/" in pattern
        self.pattern = _glob(pattern.removeprefix("/"))

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the path, or its last part where the pattern has no slash."""
        return bool(self.pattern.fullmatch(name if self.whole_path else name.rpartition("/")[2]))


def _ignored(rules: tuple[_Rule, ...], name: str, *, is_folder: bool) -> bool:
    """Apply the rules in helm's way: a negated rule ignores everything that it does not match."""
    for rule in rules:
        if rule.negated:
            if (rule.folders_only and not is_folder) or not rule.matches(name):
                return True
        elif (is_folder or not rule.folders_only) and rule.matches(name):
            return True
    return False


def _rules(folder: Path) -> tuple[_Rule, ...]:
    file = folder / ".helmignore"
    lines = file.read_text("utf-8", "replace").splitlines() if file.is_file() else []
    kept = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if any("**" in line for line in kept):
        raise ConfigurationError(f"{file}: ** is not supported by helm")
    return tuple(_Rule(line) for line in [*kept, _ALWAYS_IGNORED])


def _glob(pattern: str) -> re.Pattern[str]:
    """Translate a pattern of Go's path.Match: ``*`` and ``?`` stop at slashes, ``[...]`` as usual."""
    out = []
    for part in re.findall(r"\[[^\]]*\]|\\.|.", pattern):
        if part == "*":
            out.append("[^/]*")
        elif part == "?":
            out.append("[^/]")
        elif part.startswith("[") and part.endswith("]") and part not in {"[]", "[^]"}:
            out.append(part)
        else:
            out.append(re.escape(part[-1]))
    return re.compile("".join(out))
