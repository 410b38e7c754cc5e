"""Helm: the one program that renders charts, run as a bounded subprocess.

Invariants: charts and values go in as files with absolute paths, never as argument text that could become a flag (F54); the
user's ``HELM_*`` settings and plugins do not take part; time, memory and output are limited, because a chart is a program
(F55). ``--kube-version`` is always given: a helm built from source otherwise believes in Kubernetes 1.20. The same question is
asked once per run: renderings are remembered by chart file, values and capabilities. Safe to use from several threads.

::

    helm = Helm.find()
    text = helm.template(Path("/x/app-1.0.0.tgz"), release="app", namespace="apps", values=[{"replicas": 2}])
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import resource
import select
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airgap.errors import AirgapError, ConfigurationError, ToolError
from airgap.oci import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HELM_VARIABLE = "AIRGAP_HELM"
KUBE_VERSION = "1.34.4"
"""What ``.Capabilities.KubeVersion`` says unless asked otherwise: the newest that W&B documents (wandb-v1.md section 6)."""

OLDEST = (3, 12)
"""Helm versions below this know no ``--kube-version`` together with OCI charts; Helm 2 knows neither."""

TIME_LIMIT = 120.0
"""Seconds for one rendering; the largest real one takes half a second."""
MEMORY_LIMIT = 3 * 1024**3
"""Bytes of data segment (RLIMIT_DATA) for helm; rendering operator-wandb takes 80 MB."""
OUTPUT_LIMIT = 256 * 1024**2
"""Bytes of rendered output (RLIMIT_FSIZE); operator-wandb makes 300 KB."""
COMPLAINT_LIMIT = 4 * 1024**2
"""Bytes of helm's complaint that are looked at."""
REASON_LIMIT = 400
"""Characters of helm's own sentence that an error repeats: ``tpl`` failures carry whole files."""

HELM_HINT = "run scripts/get-tools, put helm on PATH, or name it with --helm or AIRGAP_HELM"

_PLACE = re.compile(r"([\w./+-]+\.(?:ya?ml|tpl|txt|json)):(\d+)(?::\d+)?")
_AT = re.compile(r"\bat <(.*?)>:\s*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Architectures as uname says them that OCI (and Go) call otherwise."""


class RenderError(ConfigurationError):
    """A chart that helm does not render.

    ``template`` and ``line`` name the place (the innermost one in a file that can be opened; empty and 0 if helm says none),
    ``reason`` is helm's own sentence without the trail that led there, ``text`` all of it.
    """

    def __init__(
        self, message: str, *, hint: str = "", template: str = "", line: int = 0, reason: str = "", text: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.template = template
        self.line = line
        self.reason = reason
        self.text = text


def host_platform() -> Platform:
    """Return the platform of the programs that run on this machine, in OCI's words."""
    machine = platform.machine()
    return Platform(platform.system().lower(), _MACHINES.get(machine, machine))


@dataclass(frozen=True)
class Helm:
    """A helm binary that was found and answered; ``version`` is like ``4.3.1``."""

    path: Path
    version: str
    _memory: dict[str, Future[str]] = field(default_factory=dict, repr=False, compare=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def find(cls, explicit: Path | None = None, environ: Mapping[str, str] | None = None, bundled: Path | None = None) -> Helm:
        """Return the first helm of: ``explicit`` (--helm), AIRGAP_HELM, PATH, ``bundled``; raises ToolError.

        A helm that was named and is not there or does not answer is an error; the next one is not tried in its place.
        """
        environment = os.environ if environ is None else environ
        named = explicit or (Path(environment[HELM_VARIABLE]) if environment.get(HELM_VARIABLE) else None)
        if named:
            return cls.at(named)
        on_path = shutil.which("helm", path=environment.get("PATH", os.defpath))
        if on_path:
            return cls.at(Path(on_path))
        if bundled:
            return cls.at(bundled)
        raise ToolError("helm is needed to render charts and was not found", hint=HELM_HINT)

    @classmethod
    def at(cls, path: Path) -> Helm:
        """Return the helm at ``path`` after asking its version; raises ToolError."""
        path = path.absolute()
        if not path.is_file() or not os.access(path, os.X_OK):
            raise ToolError(f"{path} is no program that can be run", hint=HELM_HINT)
        with tempfile.TemporaryDirectory(prefix="airgap-helm-") as scratch:
            try:
                answer = _run([str(path), "version", "--template", "{{.Version}}"], Path(scratch))
            except RenderError as error:
                raise ToolError(f"{path} does not answer as helm: {error.reason}", hint=HELM_HINT) from error
        found = re.match(r"v?(\d+)\.(\d+)\.(\d+[\w.+-]*)", answer.strip())
        if not found:
            raise ToolError(f"{path} does not answer as helm but says {answer.strip()[:80]!r}", hint=HELM_HINT)
        if (int(found[1]), int(found[2])) < OLDEST:
            raise ToolError(f"{path} is helm {answer.strip()}, at least {OLDEST[0]}.{OLDEST[1]} is needed", hint=HELM_HINT)
        return cls(path, ".".join(found.groups()))

    def template(
        self,
        chart: Path,
        *,
        release: str,
        namespace: str,
        values: Sequence[Mapping[str, Any]] = (),
        kube_version: str = KUBE_VERSION,
        api_versions: Sequence[str] = (),
        include_crds: bool = True,
        skip_schema: bool = False,
        show_only: str = "",
    ) -> str:
        """Return what ``helm template`` prints: hooks, tests and (unless told otherwise) CRDs included.

        ``chart`` is a .tgz or a folder; ``values`` are given as so many ``-f`` files, later ones win. Raises RenderError
        with helm's own sentence, the template and the line.
        """
        flags = ["--namespace", namespace, "--kube-version", kube_version]
        flags += [f"--api-versions={name}" for name in api_versions]
        flags += ["--include-crds"] if include_crds else []
        flags += ["--skip-schema-validation"] if skip_schema else []
        flags += ["--show-only", show_only] if show_only else []
        documents = [json.dumps(layer).encode() for layer in values]
        key = _key(_identity(chart), release, *flags, *documents)
        with self._guard:
            known = self._memory.get(key)
            mine: Future[str] = Future()
            if known is None:
                self._memory[key] = mine
        if known is not None:
            return known.result()
        try:
            mine.set_result(self._template(chart.absolute(), release, flags, documents))
        except (AirgapError, OSError) as error:
            mine.set_exception(error)
            raise
        finally:
            mine.cancel()  # does nothing unless this was interrupted; then whoever waits must not wait for ever
        return mine.result()

    def _template(self, chart: Path, release: str, flags: Sequence[str], documents: Sequence[bytes]) -> str:
        with tempfile.TemporaryDirectory(prefix="airgap-helm-") as scratch:
            arguments = [str(self.path), "template", *flags]
            for number, document in enumerate(documents):
                file = Path(scratch, f"values-{number}.json")
                file.write_bytes(document)
                file.chmod(0o600)
                arguments += ["--values", str(file)]
            return _run([*arguments, "--", release, str(chart)], Path(scratch), chart.name)


def _run(arguments: Sequence[str], scratch: Path, chart: str = "") -> str:
    """Run helm with its limits and return its output; raises RenderError or ToolError."""
    with (scratch / "out").open("w+b") as out, (scratch / "err").open("w+b") as err:
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_environment(scratch), cwd=scratch
            )
        except OSError as error:
            raise ToolError(f"{arguments[0]} cannot be run: {error.strerror or error}", hint=HELM_HINT) from error
        try:
            _limit(process.pid)
            code = _ended(process, TIME_LIMIT)
        except subprocess.TimeoutExpired as error:
            what = f"chart {chart}: rendering took longer than {TIME_LIMIT:.0f} s and was ended"
            raise RenderError(what, hint="a template that never ends?", reason="time limit") from error
        finally:
            process.kill()
            process.wait()
        overflow = os.fstat(out.fileno()).st_size >= OUTPUT_LIMIT  # helm does not mind a write that failed
        if code == 0 and not overflow:
            return _read(out).decode("utf-8", "replace")
        raise _failure(chart, _read(err, COMPLAINT_LIMIT).decode("utf-8", "replace"), overflow=overflow)


def _ended(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Wait for the exit code; raises TimeoutExpired. Popen.wait looks at growing intervals and loses up to 50 ms a render."""
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or before 5.3
        return process.wait(seconds)
    try:
        ending = select.poll()
        ending.register(fd, select.POLLIN)
        if not ending.poll(seconds * 1000):
            raise subprocess.TimeoutExpired(process.args, seconds)
    finally:
        os.close(fd)
    return process.wait()


def _limit(pid: int) -> None:
    """Bound memory and output of a process that just started (it may be gone already)."""
    if not hasattr(resource, "prlimit"):  # pragma: no cover  (not Linux: only the time limit holds)
        return
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_DATA, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (OUTPUT_LIMIT, OUTPUT_LIMIT))


def _read(file: IO[bytes], limit: int = OUTPUT_LIMIT) -> bytes:
    file.seek(0)
    return file.read(limit)


GARBAGE = "400"
"""Go's GOGC: a render lives a quarter of a second, and collecting its garbage at the default 100 is a fifth of that (ours)."""

HEAP = "96MiB"
"""Go's GOMEMLIMIT, from which on it collects all the same: operator-wandb with every feature takes 125 MiB instead of 200 then,
in the same time (ours)."""


def _environment(scratch: Path) -> dict[str, str]:
    """Return a bare environment: no HELM_*, no kubeconfig, no plugins; helm's folders are in ``scratch`` (F55)."""
    folders = {f"HELM_{name}_HOME": str(scratch / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "HELM_NO_PLUGINS": "1",
        "HELM_PLUGINS": str(scratch / "plugins"),
        "KUBECONFIG": str(scratch / "none"),
        "GOGC": GARBAGE,
        "GOMEMLIMIT": HEAP,
        **folders,
    }


def _failure(chart: str, text: str, *, overflow: bool) -> RenderError:
    """Turn helm's complaint into one sentence with the place."""
    if "out of memory" in text or "cannot allocate memory" in text:
        what = f"chart {chart}: rendering needs more than {MEMORY_LIMIT // 1024**3} GiB of memory and was ended"
        return RenderError(what, hint="a template that grows without end?", reason="memory limit")
    if overflow:
        what = f"chart {chart}: it renders more than {OUTPUT_LIMIT // 1024**2} MiB of text"
        return RenderError(what, hint="a template that grows without end?", reason="output limit")
    complaint = _clean(text.partition("\nUse --debug flag")[0].strip().removeprefix("Error:").strip())
    template, line = _place(complaint)
    reason = _reason(complaint)
    where = (f" at {template}" if template else "") + (f" line {line}" if line else "")
    return RenderError(
        f"chart {chart} does not render{where}: {reason}",
        hint="set what the chart asks for in --values, or try: helm template --debug",
        template=template,
        line=line,
        reason=reason,
        text=complaint,
    )


def _place(complaint: str) -> tuple[str, int]:
    """Return the innermost place in a file of the chart; lines inside ``tpl`` strings (gotpl) cannot be opened."""
    places = _PLACE.findall(complaint)
    if places:
        template, line = places[-1]
        return template, int(line)
    parse = re.search(r"YAML parse error on (\S+?):", complaint)
    inner = re.search(r"\bline (\d+)", complaint)
    return (parse[1], int(inner[1]) if inner else 0) if parse else ("", 0)


def _reason(complaint: str) -> str:
    """Return the last clause of helm's trail: what finally failed, with the expression that did."""
    execution = re.match(r"execution error at \([^)]*\):\s*(.*)", complaint, re.DOTALL)
    steps = list(_AT.finditer(complaint))
    if execution:
        reason = execution[1]
    elif steps:
        reason = f"{complaint[steps[-1].end() :].strip()} (at {steps[-1][1]})"
    else:
        reason = complaint
    reason = " ".join(reason.split()) or "helm failed without a word"
    return reason if len(reason) <= REASON_LIMIT else f"{reason[:REASON_LIMIT]}..."


def _clean(text: str) -> str:
    """Escape control characters: error texts come from charts and end on terminals (F53)."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _identity(chart: Path) -> str:
    """Return what tells one state of a chart file or folder from another: names, sizes and times."""
    files = sorted(path for path in chart.rglob("*") if path.is_file()) if chart.is_dir() else [chart]
    try:
        stats = [(path, path.stat()) for path in files]
    except OSError as error:
        raise ConfigurationError(f"chart {chart} cannot be read: {error.strerror}") from error
    return "\n".join(f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)


def _key(*parts: str | bytes) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        hashed.update(len(data).to_bytes(8, "big") + data)
    return hashed.hexdigest()
