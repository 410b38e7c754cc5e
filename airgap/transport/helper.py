"""Asking a docker credential helper: a program ``docker-credential-NAME`` that gets a host on stdin and prints JSON.

Invariants: the host is on stdin only; time and output are limited; whatever goes wrong is a warning without the helper's
words (an error on stdout may hold a secret) and no credentials (cases.md L8, faults F52).
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import tempfile

_log = logging.getLogger(__name__)

TIME_LIMIT = 15.0
"""Seconds; a helper that asks a cloud for a token takes up to a few, one that hangs takes for ever (ours)."""
OUTPUT_LIMIT = 64 * 1024
"""Bytes of a helper's answer that are read; tokens of clouds are some kilobytes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = b"credentials not found"
"""What a helper prints when it knows nothing (docker-credential-helpers, credentials/error.go)."""


def ask_helper(name: str, server: str) -> tuple[str, str] | None:
    """Return (user, secret) that helper ``name`` keeps for ``server``, or None."""
    if not _NAME.fullmatch(name):
        _log.warning("credential helper %r is not asked: that is no name of a program", name[:60])
        return None
    program = f"docker-credential-{name}"
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                [program, "get"],
                input=server.encode(),
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=TIME_LIMIT,
                check=False,
            )
        except FileNotFoundError:
            _log.warning("%s is named in an auth file but not installed; other sources are tried", program)
            return None
        except subprocess.TimeoutExpired:
            _log.warning("%s did not answer within %.0f seconds; other sources are tried", program, TIME_LIMIT)
            return None
        except OSError as error:
            _log.warning("%s cannot be run: %s; other sources are tried", program, error.strerror)
            return None
        output.seek(0)
        answer = output.read(OUTPUT_LIMIT + 1)
    if done.returncode:
        if _NOT_FOUND not in answer:
            _log.warning("%s failed with status %d for %s; other sources are tried", program, done.returncode, server)
        return None
    return _parse(answer, program)


def _parse(answer: bytes, program: str) -> tuple[str, str] | None:
    try:
        data = json.loads(answer) if len(answer) <= OUTPUT_LIMIT else None
        username, secret = data["Username"], data["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        _log.warning("%s answered with something else than credentials; other sources are tried", program)
        return None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    return username, secret
