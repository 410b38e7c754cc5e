"""Signing: by the openssl program, which reads whatever keys it knows; checked with our own verifier before it counts.

Invariants: the private key is never read here, its file is named to openssl; a passphrase comes from the terminal or from
AIRGAP_SIGN_PASSWORD, never as an argument. A key file that anybody may write is not used.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, IntegrityError, ToolError
from airgap.oci import Digest
from airgap.signature import LIMIT, SUFFIX, PublicKey, encoded

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "AIRGAP_SIGN_PASSWORD"  # noqa: S105  # the name of a variable
TIME_LIMIT = 300.0
"""Seconds for openssl: somebody may be typing a passphrase."""


class Signer:
    """A private key, by its file; ``public`` is what belongs to it."""

    def __init__(self, key: Path) -> None:
        """Look at the key, so that a wrong one is told before the work begins; raises ConfigurationError, ToolError."""
        refuse_writable(key)
        self._key = key
        self.public = PublicKey.parse(
            self._openssl(b"", "pkey", "-in", str(key), "-pubout").decode("ascii", "replace"), str(key)
        )

    def sign(self, data: bytes) -> bytes:
        """Return the signature file of ``data``; raises ToolError."""
        signature = encoded(self._openssl(data, "dgst", "-sha256", "-sign", str(self._key)))
        if not self.public.signed(Digest.of(data), signature):
            raise IntegrityError(
                f"what openssl made with {self._key} is not its signature", hint="is the openssl on PATH a good one?"
            )
        return signature

    def _openssl(self, data: bytes, command: str, *arguments: str) -> bytes:
        program = shutil.which("openssl")
        if program is None:
            raise ToolError(
                "openssl is needed to sign and was not found", hint="install it, or sign elsewhere and bring the .sig file"
            )
        passed = ("-passin", f"env:{PASSWORD}") if os.environ.get(PASSWORD) else ()
        try:
            done = subprocess.run(
                [program, command, *passed, *arguments], input=data, capture_output=True, check=False, timeout=TIME_LIMIT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError(f"openssl could not be run with {self._key}: {error}") from error
        if done.returncode:
            raise ConfigurationError(
                f"openssl cannot use the key {self._key}",
                hint="openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY.pem makes one; "
                f"its passphrase is taken from {PASSWORD}",
            )
        return done.stdout


def read_key(path: Path) -> PublicKey:
    """Return the public key in a file; raises ConfigurationError."""
    refuse_writable(path)
    return PublicKey.parse(read_small(path).decode("ascii", "replace"), str(path))


def read_small(path: Path) -> bytes:
    """Return the bytes of a key or signature file; raises ConfigurationError for one that is too large or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > LIMIT:
        raise ConfigurationError(f"{path} is too large to be a key or a signature")
    return data


def refuse_writable(path: Path) -> None:
    """Raise ConfigurationError for a key file that anybody may write: whoever did may have put his own key there."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"the key {path} cannot be read: {error.strerror}") from error
    if mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"anybody may write to the key {path}", hint=f"chmod o-w {path}, once it is known to be the right one"
        )


def signature_path(path: Path) -> Path:
    """Return where the signature of ``path`` lies."""
    return path.with_name(f"{path.name}{SUFFIX}")
