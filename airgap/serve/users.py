"""Who may use a server: HTTP Basic with names and passwords from a file."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, DiskError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HASHES = ("$2", "$apr1$", "$5$", "$6$", "{SHA}")


def load_users(path: Path) -> dict[str, str]:
    """Read ``user:password`` lines (empty ones and ``#`` comments skipped).

    Raises ConfigurationError, naming the line but never its content, for a line of another form and for hashed passwords,
    which would need code that the standard library has not; DiskError when the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DiskError(f"the file of users {path} cannot be read ({error.__class__.__name__})") from error
    users = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, colon, password = line.partition(":")
        if not colon or not user or not password:
            raise ConfigurationError(f"{path}: line {number} is not of the form user:password")
        if password.startswith(_HASHES):
            raise ConfigurationError(
                f"{path}: line {number} holds a hashed password, which serve cannot check",
                hint="write user:password and let nobody else read the file (chmod 600)",
            )
        users[user] = password
    if not users:
        raise ConfigurationError(f"{path} names no user", hint="write one user:password a line")
    return users


def is_allowed(users: Mapping[str, str], authorization: str) -> bool:
    """Whether an Authorization header names a user with the right password; the time taken does not tell which is wrong."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return False
    expected = users.get(user.decode("utf-8", "replace"))
    same = hmac.compare_digest(password, (expected or "").encode())
    return same and expected is not None
