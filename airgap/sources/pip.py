"""Pip: the program that gets Python packages, with the user's own settings (indexes, proxies, credentials, certificates).

Invariants: only wheels, since a source distribution would be built, and run, here; nothing is installed. What pip complains of
becomes one sentence without credentials, on the branch that says who must act.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import AirgapError, ConfigurationError, IntegrityError, NetworkError, ToolError, UnauthorizedError
from airgap.transport.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PIP_VARIABLE = "AIRGAP_PIP"
PIP_HINT = "install pip (python3 -m ensurepip), or name one with AIRGAP_PIP"
REASON_LIMIT = 400
"""Characters of pip's own words that an error repeats."""

_NOT_NEEDED = {"PIP_REQUIRE_VIRTUALENV": "0"}
"""Settings that are about installing; nothing is installed."""
_WORDS: tuple[tuple[str, type[AirgapError], str], ...] = (
    (r"DO NOT MATCH THE HASHES", IntegrityError, "the index has other bytes than the lock: write a new lock with airgap plan"),
    (r"\b40[13] (Client )?Error\b", UnauthorizedError, "pip takes credentials from its settings, ~/.netrc or a keyring"),
    (
        r"Retrying \(Retry|connection error|SSL|\b5\d\d (Server )?Error\b",
        NetworkError,
        "pip config list shows which index it asks",
    ),
)
"""How pip's log says whose business a failure is (pip 20.3 to 26); anything else is about the requirements themselves."""
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:,]+\s*")


@dataclass(frozen=True)
class Target:
    """Whom packages are for: a Python (``3.11``) on a platform (a wheel tag), and all tags that such a machine takes."""

    python: str
    platform: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"


class Pip:
    """A pip that answered; ``command`` is how it is called."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self._environ = {**environ, **_NOT_NEEDED}

    @classmethod
    def find(cls, environ: Mapping[str, str] | None = None) -> Pip:
        """Return AIRGAP_PIP, this Python's own pip, or that of PATH, the first that answers; raises ToolError."""
        environ = dict(os.environ if environ is None else environ)
        named = environ.get(PIP_VARIABLE, "")
        on_path = shutil.which("pip3", path=environ.get("PATH", os.defpath)) or ""
        commands = [(named,)] if named else [(sys.executable, "-m", "pip"), *([(on_path,)] if on_path else [])]
        for command in commands:
            pip = cls(command, environ)
            if pip.run("--version").returncode == 0:
                return pip
        raise ToolError(f"pip is needed for the manifest's wheels, and {named or 'none'} answers as pip", hint=PIP_HINT)

    def download(self, folder: Path, target: Target, requirements: Sequence[str]) -> None:
        """Download the wheels of ``requirements`` and of what they need into ``folder``.

        Raises ConfigurationError, NetworkError, UnauthorizedError.
        """
        self._download(folder, target, ("--", *requirements))

    def again(self, folder: Path, target: Target, pins: Mapping[str, str]) -> None:
        """Download exactly these: ``name==version`` to the SHA-256 in hex; raises IntegrityError beside the others."""
        folder.mkdir(parents=True, exist_ok=True)
        listed = folder / "pins.txt"
        listed.write_text("".join(f"{pin} --hash=sha256:{digest}\n" for pin, digest in sorted(pins.items())))
        self._download(folder, target, ("--no-deps", "--ignore-requires-python", "--require-hashes", "-r", str(listed)))
        listed.unlink()

    def _download(self, folder: Path, target: Target, what: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "pip.log"  # what an index answered stands there only
        options = ["--no-input", "--disable-pip-version-check", "--quiet", "--only-binary=:all:", "--dest", str(folder)]
        options += ["--log", str(log), "--implementation", "cp", "--python-version", target.python]
        options += [f"--platform={tag}" for tag in target.tags]
        done = self.run("download", *options, *what)
        if done.returncode:
            raise _failure(done.stderr, log.read_text(errors="replace") if log.is_file() else "", target)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run pip; raises ToolError when it cannot be started."""
        try:
            return subprocess.run(
                [*self.command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                env=self._environ,
            )
        except OSError as error:
            raise ToolError(f"{self.command[0]} cannot be run: {error.strerror or error}", hint=PIP_HINT) from error


def _failure(text: str, log: str, target: Target) -> AirgapError:
    """Turn pip's complaint into one sentence."""
    for pattern, kind, hint in _WORDS:
        line = next((_STAMP.sub("", line) for line in log.splitlines() if re.search(pattern, line)), "")
        if line:
            return kind(f"pip cannot get the packages for {target}: {_clean(line)}", hint=hint)
    told = [line.partition("ERROR:")[2] for line in text.splitlines() if line.startswith("ERROR:")]
    reason = _clean(" ".join(told[-2:]) or text[-REASON_LIMIT:] or "it failed without a word")
    return ConfigurationError(
        f"pip finds no wheels for {target}: {reason}",
        hint="ask for versions that have wheels for it, or correct python and platforms under wheels: in the manifest",
    )


def _clean(text: str) -> str:
    return Redactor().clean(text.strip(), REASON_LIMIT)
