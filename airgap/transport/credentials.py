"""Credentials as the field keeps them: auth files of docker and podman, and their credential helpers.

Order (faults 3): what was given explicitly for the host; ``$REGISTRY_AUTH_FILE``; ``$XDG_RUNTIME_DIR/containers/auth.json``;
``$DOCKER_CONFIG/config.json``; ``~/.docker/config.json``. Within a file: ``credHelpers``, then ``credsStore``, then ``auths``,
where the most specific key wins (``reg.lan/team/app`` before ``reg.lan/team`` before ``reg.lan``).

Invariants: a secret is never part of a repr, a log or an error; a helper gets the host on stdin, never as an argument, and
is ended when it takes too long or says too much (faults F52). What cannot be read is a warning, and the next source is tried.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from airgap.errors import ConfigurationError
from airgap.ref import DOCKER_HUB, HUB_ALIASES
from airgap.transport.helper import ask_helper

_log = logging.getLogger(__name__)

HUB_KEY = "https://index.docker.io/v1/"
"""The name under which docker keeps Docker Hub's credentials (docker/cli, registry.IndexServer)."""
TOKEN_USER = "<token>"  # noqa: S105  # a marker, not a password
"""The user name by which a helper says that its secret is an identity token (docker-credential-helpers)."""


@dataclass(frozen=True)
class Credential:
    """A user with a password, or an identity token (OAuth2 refresh token); never shown."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header of the scheme Basic (RFC 7617, UTF-8)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Everything in here that nobody may read."""
        pair = f"{self.username}:{self.password}" if self.password else ""
        return tuple(text for text in (self.password, self.identity_token, self.registry_token, pair) if text)


@dataclass(frozen=True)
class AuthFile:
    """One auth file, parsed; keys are normalised (no scheme, no ``/v1/``, Docker Hub under one name)."""

    path: Path
    auths: Mapping[str, Credential] = field(default_factory=dict, repr=False)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str = ""

    @classmethod
    def read(cls, path: Path) -> AuthFile:
        """Read a file; what cannot be understood is a warning and holds nothing."""
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("credentials in %s are not used: %s", path, _why(error))
            return cls(path)
        if not isinstance(data, dict):
            _log.warning("credentials in %s are not used: it is no JSON object", path)
            return cls(path)
        auths = {_key(name): found for name, entry in _mapping(data, "auths").items() if (found := _entry(entry, name, path))}
        helpers = {_key(name): str(helper) for name, helper in _mapping(data, "credHelpers").items()}
        return cls(path, auths, helpers, str(data.get("credsStore") or ""))

    def helper_for(self, host: str) -> str:
        """Return the name of the helper that keeps the credentials of ``host``, or nothing."""
        return self.helpers.get(host) or self.store


class CredentialStore:
    """Looks credentials up, each (host, repository) once; thread-safe."""

    def __init__(self, files: tuple[Path, ...] = (), explicit: Mapping[str, Credential] | None = None) -> None:
        self._paths = files
        self._explicit = dict(explicit or {})
        self._files: list[AuthFile] | None = None
        self._asked: dict[tuple[str, str], Credential | None] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], home: Path | None = None) -> CredentialStore:
        """Return the store of this environment; raises ConfigurationError when ``$REGISTRY_AUTH_FILE`` names no file."""
        paths = []
        if named := environ.get("REGISTRY_AUTH_FILE"):
            if not Path(named).is_file():
                raise ConfigurationError(
                    f"REGISTRY_AUTH_FILE names {named}, which is no file", hint="unset it, or log in first"
                )
            paths.append(Path(named))
        runtime = environ.get("XDG_RUNTIME_DIR")
        # Without it podman keeps the file below /run (containers-auth.json(5)); a trap for who runs without a login session.
        paths.append(Path(runtime or "/run") / "containers" / ("auth.json" if runtime else f"{os.getuid()}/auth.json"))
        if docker := environ.get("DOCKER_CONFIG"):
            paths.append(Path(docker) / "config.json")
        base = home or (Path(environ["HOME"]) if environ.get("HOME") else None)
        if base:
            paths.append(base / ".docker" / "config.json")
        return cls(tuple(dict.fromkeys(paths)))

    def with_explicit(self, host: str, credential: Credential) -> CredentialStore:
        """Return a store in which ``credential`` is what ``host`` gets, whatever the files say."""
        return CredentialStore(self._paths, {**self._explicit, _key(host): credential})

    def lookup(self, host: str, repository: str = "") -> Credential | None:
        """Return the credentials for ``repository`` of ``host`` (name:port), or None: be nobody."""
        name = _key(host)
        if name in self._explicit:
            return self._explicit[name]
        with self._lock:
            if (name, repository) not in self._asked:
                self._asked[name, repository] = self._search(name, repository)
            return self._asked[name, repository]

    def sources(self, host: str) -> str:
        """Say where credentials for ``host`` were looked for; never a value."""
        if _key(host) in self._explicit:
            return "the credentials given for it"
        places = []
        for file in self._read():
            helper = file.helper_for(_key(host))
            places.append(f"{file.path} (helper {helper})" if helper else str(file.path))
        return ", ".join(places) or "no auth file"

    def _read(self) -> list[AuthFile]:
        if self._files is None:
            self._files = [AuthFile.read(path) for path in self._paths]
        return self._files

    def _search(self, host: str, repository: str) -> Credential | None:
        for file in self._read():
            if helper := file.helper_for(host):
                found = _from_helper(helper, host)
                if found:
                    _log.debug("credentials for %s: helper %s named in %s", host, helper, file.path)
                    return found
            for key in _keys(host, repository):
                if key in file.auths:
                    _log.debug("credentials for %s: %s, key %s", host, file.path, key)
                    return file.auths[key]
        return None


def _keys(host: str, repository: str) -> list[str]:
    """Return the keys that may hold credentials, most specific first (containers-auth.json(5))."""
    parts = repository.split("/") if repository else []
    return [f"{host}/{'/'.join(parts[:count])}" if count else host for count in range(len(parts), -1, -1)]


def _key(name: str) -> str:
    """Normalise a key of an auth file: no scheme, no API version, lower-case host, one name for Docker Hub (R6, L8)."""
    bare = name.strip().partition("://")[2] or name.strip()
    host, slash, path = bare.partition("/")
    path = path.strip("/")
    if path in {"v1", "v2"}:
        path = ""
    host = host.lower()
    if host in HUB_ALIASES:
        host = DOCKER_HUB
    return f"{host}/{path}" if slash and path else host


def _entry(entry: object, name: str, path: Path) -> Credential | None:
    """Read one entry of ``auths``; an empty one says nothing (docker/cli#3947)."""
    if not isinstance(entry, dict):
        return None
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            decoded = base64.b64decode(str(encoded), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            _log.warning("the entry for %s in %s is not used: its auth is not base64 of user:password", name, path)
            return None
        username, _, password = decoded.rstrip("\0").partition(":")
    found = Credential(username, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or ""))
    return found if found.secrets else None


def _from_helper(helper: str, host: str) -> Credential | None:
    answer = ask_helper(helper, HUB_KEY if host == DOCKER_HUB else host)
    if answer is None:
        return None
    username, secret = answer
    found = Credential(username, secret)
    return replace(found, password="", identity_token=secret) if username == TOKEN_USER else found


def _mapping(data: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _why(error: Exception) -> str:
    return (error.strerror or "it cannot be read") if isinstance(error, OSError) else "it is not JSON"
