"""How often helm renders, and how often the same: a helm that writes down what it was asked before it calls the real one."""

from __future__ import annotations

import collections
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WRAPPER = """\
#!{python} -IS
import hashlib, os, sys
asked = hashlib.sha256()
for word in sys.argv[1:]:
    if os.path.isfile(word) and word.endswith(".json"):
        with open(word, "rb") as file:
            word = file.read().hex()
    elif os.path.isdir(word):
        parts = []
        for folder, _, names in sorted(os.walk(word)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    parts.append(os.path.relpath(path, word) + " " + hashlib.sha256(file.read()).hexdigest())
        word = "\\n".join(parts)
    asked.update(word.encode() + b"\\0")
if sys.argv[1] == "template":
    fd = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, asked.hexdigest().encode() + b"\\n")
    os.close(fd)
os.execv({helm!r}, [{helm!r}, *sys.argv[1:]])
"""


@dataclass
class Told:
    """``count``: renders in all; ``repeated``: those whose chart, values and flags had been rendered before."""

    count: int = 0
    repeated: int = 0


@contextmanager
def counting(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[dict[str, str], Told]]:
    """Give an environment whose helm is counted; the counts are there when the block has ended."""
    helm = shutil.which("helm", path=environment["PATH"])
    if not helm:
        raise RuntimeError("helm is not on PATH")
    place, log, told = folder / "counted", folder / "helm.log", Told()
    place.mkdir(exist_ok=True)
    log.write_text("")
    (place / "helm").write_text(WRAPPER.format(python=os.path.realpath(sys.executable), log=str(log), helm=helm))
    (place / "helm").chmod(0o755)
    yield {**environment, "PATH": f"{place}{os.pathsep}{environment['PATH']}"}, told
    asked = collections.Counter(log.read_text().split())
    told.count, told.repeated = sum(asked.values()), sum(asked.values()) - len(asked)
