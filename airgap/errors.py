"""The tree of errors; each branch says who must act, and its exit code is the process's.

::

    AirgapError                  1   unexpected failure
    |- DiskError                 1   no room, no permission: free space or choose another path
    |- ConfigurationError        2   the user's input: flags, manifest, values, charts that do not render
    |  `- ToolError              2   helm or docker is missing, or too old
    |- NetworkError              3   the other end: unreachable, refused, broken off
    |  |- TLSError               3   certificates: a CA, a name or a clock
    |  |- UnauthorizedError      3   credentials: absent, wrong or without the right
    |  |- NotFoundError          3   what was asked for is not there (any more)
    |  |- MisledError            3   it leads to where we do not go; asking again would lead there again
    |  `- RegistryError          3   a registry said no; carries status and code
    |- IntegrityError            4   bytes are not what they must be
    |  `- BundleError            4   the bundle itself is damaged or not one
    |- NotClosedError            5   the audit found something that points outside
    `- ClusterError              6   Kubernetes said no

Invariants: a message is one sentence that names the thing and the reason; ``hint`` is the next step; neither ever holds a
credential. Codes are those of design.md section 2.
"""

from __future__ import annotations


class AirgapError(Exception):
    """Base of everything that airgap raises on purpose.

    ``message`` is one sentence (thing, reason); ``hint`` the next step, or empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DiskError(AirgapError):
    """No room, no permission, or a file system that cannot hold the file."""


class ConfigurationError(AirgapError):
    """Flags, manifest, values or charts that cannot be used as given."""

    exit_code = 2


class ToolError(ConfigurationError):
    """A program that airgap needs (helm, docker) is missing, too old or failed to start."""


class NetworkError(AirgapError):
    """The other end cannot be reached or broke off."""

    exit_code = 3


class TLSError(NetworkError):
    """A certificate is not trusted, names another host, or is outside its dates."""


class UnauthorizedError(NetworkError):
    """The other end wants other credentials, or grants these too little."""


class NotFoundError(NetworkError):
    """What was asked for is not there."""


class MisledError(NetworkError):
    """The other end leads to where nothing of ours may go: another host, another scheme, in circles."""


class RegistryError(NetworkError):
    """A registry refused; ``status`` is the HTTP status, ``code`` the distribution-spec error code or empty."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0, code: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class IntegrityError(AirgapError):
    """Bytes do not match their digest or size."""

    exit_code = 4


class BundleError(IntegrityError):
    """The bundle is truncated, damaged, hostile, or no bundle at all."""


class NotClosedError(AirgapError):
    """The audit found references that point outside."""

    exit_code = 5


class ClusterError(AirgapError):
    """The Kubernetes API refused or failed."""

    exit_code = 6
