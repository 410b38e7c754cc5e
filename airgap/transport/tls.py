"""What a host's certificate is checked against, and what a failed check means in words.

Trust is the system's store, then ``SSL_CERT_FILE``/``SSL_CERT_DIR`` and ``REQUESTS_CA_BUNDLE``/``CURL_CA_BUNDLE``, the host's
``ca_file``, and ``/etc/docker/certs.d/HOST`` and ``/etc/containers/certs.d/HOST`` as docker and podman read them
(``*.crt`` authorities, ``*.cert`` with ``*.key`` client certificates). Each adds to the others.

Invariants: nothing here ever turns checking off by itself, or falls back to plain HTTP (faults F35).
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CERTIFICATE_FOLDERS = (Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))
"""Where docker and podman keep a registry's certificates (dockerd reference; containers-certs.d(5))."""
SYSTEM_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # RHEL 7 and later
    Path("/etc/ssl/cert.pem"),  # BSD, macOS
)
"""Where systems keep their trusted roots (the list of Go's crypto/x509 root_linux.go): a Python built elsewhere looks in a
folder of its own and finds none."""
_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class HostSettings:
    """How one host is spoken to; the names are helm's flags."""

    plain_http: bool = False
    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure_skip_tls_verify: bool = False


class Trust:
    """Makes the TLS context of each host, once per distinct setting; thread-safe."""

    def __init__(self, environ: Mapping[str, str], folders: Sequence[Path] = CERTIFICATE_FOLDERS) -> None:
        self._extra = tuple((name, Path(environ[name])) for name in _CA_VARIABLES if environ.get(name))
        self._folders = folders
        self._contexts: dict[tuple[HostSettings, tuple[Path, ...]], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, hosts: tuple[str, ...], settings: HostSettings) -> ssl.SSLContext:
        """Return the context for a host; raises ConfigurationError that names an unusable file.

        ``hosts``: its name:port and, for what belongs to a registry, the registry's, whose folders count too.
        """
        authorities, settings = self._from_folders(hosts, settings)
        key = (replace(settings, plain_http=False), authorities)
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._build(settings, authorities)
            return self._contexts[key]

    def _from_folders(self, hosts: tuple[str, ...], settings: HostSettings) -> tuple[tuple[Path, ...], HostSettings]:
        """Return the authorities of the hosts' folders, and the settings with a client certificate found there."""
        authorities: list[Path] = []
        for folder in (folder / host for host in dict.fromkeys(hosts) for folder in self._folders):
            try:
                files = sorted(folder.iterdir())
            except OSError:  # absent, or not ours to read: docker and podman say nothing either
                continue
            authorities += [file for file in files if file.suffix == ".crt"]
            for file in files:
                if file.suffix == ".cert" and not settings.cert and file.with_suffix(".key") in files:
                    settings = replace(settings, cert=file, key=file.with_suffix(".key"))
        return tuple(authorities), settings

    def _build(self, settings: HostSettings, authorities: tuple[Path, ...]) -> ssl.SSLContext:
        context = ssl.create_default_context()
        # Python 3.13 turned this on: it refuses private authorities without a key identifier, which Go's tools accept.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            self._load_system(context)
            for name, path in self._extra:
                load_authorities(context, path, name)
            for path in (*authorities, *((settings.ca_file,) if settings.ca_file else ())):
                load_authorities(context, path, "the CA file")
        if settings.cert:
            _load_client(context, settings.cert, settings.key)
        return context

    @staticmethod
    def _load_system(context: ssl.SSLContext) -> None:
        if context.cert_store_stats()["x509_ca"]:
            return
        for bundle in SYSTEM_BUNDLES:
            if bundle.is_file():
                load_authorities(context, bundle, "the system's CA bundle")
                return


def load_authorities(context: ssl.SSLContext, path: Path, what: str) -> None:
    """Add the certificates in a PEM file, or in an OpenSSL folder, to ``context``; raises ConfigurationError."""
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{what} {path} holds no certificate in PEM form", hint="it must begin with -----BEGIN CERTIFICATE-----"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{what} {path} cannot be read: {error.strerror}") from error


def _load_client(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    def no_password() -> str:
        raise ConfigurationError(f"the key of {cert} is encrypted, and airgap asks no questions", hint="give a key without one")

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"client certificate {cert} and key {key or cert} do not belong together, or are no PEM"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"client certificate {cert} or key {key or cert} cannot be read: {error.strerror}") from error
