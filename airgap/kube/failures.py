"""What kubectl and helm complain about a cluster, as one sentence and a branch of ClusterError. Pure.

>>> failure("the connection to the server 127.0.0.1:1 was refused", "get pods").message
'the cluster cannot be reached (get pods): the connection to the server 127.0.0.1:1 was refused'
"""

from __future__ import annotations

import re

from airgap.errors import ClusterError

REASON_LIMIT = 400
"""Characters of the API server's own sentence that an error repeats."""

_NOISE = re.compile(r"^(?:[EIW]\d{4} \d\d:\d\d:\d\d.*|Warning: .*|Please enter (?:User.*|Pass.*?): ?)$", re.MULTILINE)
"""Lines of klog, warnings and prompts that stand before what matters."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_UNREACHABLE = re.compile(
    r"was refused|connection refused|connection reset|unable to connect to the server|no route to host|i/o timeout|"
    r"no such host|cluster unreachable|\bEOF\b|TLS handshake timeout|client\.timeout|request canceled|http2: |"
    r"server is currently unable|\(ServiceUnavailable\)|\(InternalError\)|etcdserver: |apiserver is shutting down|"
    r"network is unreachable|context deadline exceeded|\(Timeout\)|too many requests|\(TooManyRequests\)",
    re.IGNORECASE,
)
"""Complaints that another try may cure: the API server is not there, starts, ends or has too much to do."""

_CONFIGURATION = re.compile(
    r"no such file or directory|context was not found|context \S+ does not exist|error loading config file|"
    r"invalid configuration|no configuration has been provided|cluster \S+ does not exist|Please enter Username",
    re.IGNORECASE,
)
_NOWHERE = re.compile(r"localhost:8080\b")
"""Where kubectl turns when no kubeconfig names a cluster."""
_FORBIDDEN = re.compile(
    r'(?:User )?"(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_LEAVING = re.compile(r"because it is being terminated|definition is terminating|object is being deleted", re.IGNORECASE)
"""The API server takes nothing into what is on its way out (a namespace, a CRD)."""
_GRANT = re.compile(r'user "(?P<user>[^"]+)".{0,300}?is attempting to grant RBAC permissions', re.DOTALL)
_CONFLICT = re.compile(r'conflicts? with "(?P<manager>[^"]+)"[^:\n]*:(?P<fields>(?:\s*-?\s*\.\S+)+)')


class UnreachableError(ClusterError):
    """The API server does not answer (now); the same command may work later."""


class ForbiddenError(ClusterError):
    """The user may not do this; the sentence says which verb on which resource."""


class ConflictError(ClusterError):
    """The object is another's: fields of other managers (``fields``: (manager, path)), or it changed or exists meanwhile."""

    def __init__(self, message: str, *, hint: str = "", fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields


class UnknownKindError(ClusterError):
    """The cluster does not know the kind of object."""


def failure(text: str, doing: str) -> ClusterError:
    """Return the error for a complaint of kubectl or helm while ``doing`` something."""
    said = told(text)
    return _misdirected(text, said, doing) or _denied(said, doing) or _refused(said, doing)


def _misdirected(text: str, said: str, doing: str) -> ClusterError | None:
    """Return the error when no cluster, or another one than meant, was asked."""
    if "x509:" in said or "certificate" in said.lower():
        return ClusterError(
            f"the API server's certificate is not accepted ({doing}): {said}",
            hint="check certificate-authority-data of the kubeconfig, and this host's clock",
        )
    if _CONFIGURATION.search(text):
        return ClusterError(f"the kubeconfig cannot be used: {said}", hint="name it with --kubeconfig, and its --context")
    if _NOWHERE.search(said) and _UNREACHABLE.search(said):
        return ClusterError(
            f"no kubeconfig names a cluster, so kubectl turned to localhost:8080 ({doing})",
            hint="name one with --kubeconfig, or in KUBECONFIG",
        )
    return None


def _denied(said: str, doing: str) -> ClusterError | None:
    """Return the error when the user may not do it, or is not known."""
    forbidden = _FORBIDDEN.search(said)
    if forbidden:
        return _forbidden(forbidden)
    grant = _GRANT.search(said)
    if grant:
        return ForbiddenError(
            f"user {grant['user']} would grant rights that this user has not ({doing})",
            hint="nobody may grant more than he has: ask for escalate on roles, or let a cluster administrator run it",
        )
    if "Unauthorized" in said or "must be logged in" in said or "provide credentials" in said:
        return ForbiddenError(
            f"the cluster does not accept the kubeconfig's credentials ({doing})", hint="log in to the cluster again"
        )
    return None


def _refused(said: str, doing: str) -> ClusterError:
    conflicts = tuple(
        (found["manager"], field) for found in _CONFLICT.finditer(said) for field in re.findall(r"\.\S+", found["fields"])
    )
    if conflicts:
        owners = ", ".join(sorted({manager for manager, _ in conflicts}))
        fields = ", ".join(field for _, field in conflicts)
        return ConflictError(
            f"{doing}: {owners} changed {fields} since",
            hint="take the change over into --values, or give --overwrite-edits",
            fields=conflicts,
        )
    if "(Conflict)" in said or "(AlreadyExists)" in said or "already exists" in said:
        return ConflictError(f"{doing}: {said}")
    if "doesn't have a resource type" in said or "no matches for kind" in said:
        return UnknownKindError(f"{doing}: {said}", hint="is its CustomResourceDefinition installed?")
    if _LEAVING.search(said):
        return ClusterError(f"{doing}: {said}", hint="wait until it has gone, then run the same command again")
    if _UNREACHABLE.search(said):
        return UnreachableError(
            f"the cluster cannot be reached ({doing}): {said}",
            hint="once it answers, the same command goes on where this one stopped",
        )
    return ClusterError(f"{doing}: {said}")


def told(text: str) -> str:
    """Return the complaint without klog lines, prompts and kubectl's own advice, on one line."""
    text = _NOISE.sub("", text)
    text = re.sub(r"Please enter Username: ", "no credentials in it; ", text)
    text = text.partition(" - did you specify")[0].partition("\nPlease review the fields")[0].partition("\nUse --debug")[0]
    said = " ".join(text.split()).removeprefix("Error: ").removeprefix("error: ")
    said = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", said)
    said = said.removeprefix("The ").removeprefix("the ") if said.startswith(("The connection", "the connection")) else said
    said = f"the {said}" if said.startswith("connection to the server") else said
    return (said if len(said) <= REASON_LIMIT else f"{said[:REASON_LIMIT]}...") or "it failed without a word"


def _forbidden(found: re.Match[str]) -> ForbiddenError:
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    where = f" in namespace {found['namespace']}" if found["namespace"] else ""
    return ForbiddenError(
        f"user {found['user']} may not {found['verb']} {resource}{where}",
        hint=f"ask for a role with verb {found['verb']} on {resource}{where}; airgap preflight lists every right at once",
    )
