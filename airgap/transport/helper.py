"""Asking a docker credential helper: a program ``docker-credential-NAME`` that gets a host on stdin and prints JSON.

Invariants: the host is on stdin only; time and output are limited; whatever goes wrong is a warning without the helper's
words (an error on stdout may hold a secret) and no credentials (cases.md L8, faults F52).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import threading
from typing import IO

_log = logging.getLogger(__name__)

TIME_LIMIT = 15.0
"""Seconds; a helper that asks a cloud for a token takes up to a few, one that hangs takes for ever (ours)."""
OUTPUT_LIMIT = 64 * 1024
"""Bytes of a helper's answer that are read; tokens of clouds are some kilobytes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = b"credentials not found"
"""What a helper prints when it knows nothing (docker-credential-helpers, credentials/error.go)."""


def ask_helper(name: str, server: str, time_limit: float = TIME_LIMIT) -> tuple[str, str] | None:
    """Return (user, secret) that helper ``name`` keeps for ``server``, or None."""
    if not _NAME.fullmatch(name):
        _log.warning("credential helper %r is not asked: that is no name of a program", name[:60])
        return None
    program = f"docker-credential-{name}"
    try:
        status, answer = _run(program, server, time_limit)
    except FileNotFoundError:
        _log.warning("%s is named in an auth file but not installed; other sources are tried", program)
        return None
    except subprocess.TimeoutExpired:
        _log.warning("%s did not answer within %.0f seconds; other sources are tried", program, time_limit)
        return None
    except OSError as error:
        _log.warning("%s cannot be run: %s; other sources are tried", program, error.strerror)
        return None
    if status:
        if _NOT_FOUND not in answer:
            _log.warning("%s failed with status %d for %s; other sources are tried", program, status, server)
        return None
    return _parse(answer, program)


def _run(program: str, server: str, time_limit: float) -> tuple[int, bytes]:
    """Run a helper; its answer stays in memory, and one that goes on talking is ended."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [program, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, start_new_session=True
    ) as process:
        late = threading.Event()

        def end() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(time_limit, end)
        timer.start()
        try:
            try:
                _pipe(process.stdin).write(server.encode())
                _pipe(process.stdin).close()
            except BrokenPipeError:
                pass  # it did not care to read; its answer tells
            answer = _pipe(process.stdout).read(OUTPUT_LIMIT + 1)
            if len(answer) > OUTPUT_LIMIT:
                _kill(process)
            status = process.wait()
        finally:
            timer.cancel()
    if late.is_set():
        raise subprocess.TimeoutExpired(program, time_limit)
    return (0 if len(answer) > OUTPUT_LIMIT else status), answer


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise BrokenPipeError
    return stream


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a helper and what it has started, which would keep its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _parse(answer: bytes, program: str) -> tuple[str, str] | None:
    try:
        data = json.loads(answer) if len(answer) <= OUTPUT_LIMIT else {}
        username, secret = data["Username"], data["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        _log.warning("%s answered with something else than credentials; other sources are tried", program)
        return None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    return username, secret
