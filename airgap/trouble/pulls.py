"""Why an image is not pulled: which, is it in the registry, does the pull secret reach it, does the node trust the CA.

The runtime's message says what it met; what is known around (Surroundings) says whose fault that is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.ref import Reference
from airgap.trouble.words import IMAGE, Trouble, items, label, text, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from airgap.trouble.words import Surroundings
    from airgap.values import Json

PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""Waiting reasons that are about an image (kubernetes pkg/kubelet/images/types.go)."""

CONTAINERD_CERTS = "/etc/containerd/certs.d"


@dataclass(frozen=True)
class _Pull:
    """One pull that failed."""

    pod: dict[str, Json]
    image: str
    message: str
    around: Surroundings

    @property
    def host(self) -> str:
        try:
            return Reference.parse(self.image).registry
        except ConfigurationError:
            return ""

    @property
    def namespace(self) -> str:
        return text(self.pod, "metadata", "namespace") or "default"

    @property
    def account(self) -> str:
        return text(self.pod, "spec", "serviceAccountName") or "default"

    @property
    def held(self) -> bool | None:
        """Whether the registry holds it; None if nobody asked."""
        if self.around.held is None or self.image not in self.around.held:
            return None
        return bool(self.around.held[self.image])


def explain_pull(pod: dict[str, Json], container: str, image: str, message: str, around: Surroundings) -> Trouble:
    """Return why ``container`` of a pod does not get ``image``; ``message`` is all that kubelet and events say of it."""
    pull = _Pull(pod, image, message, around)
    sentence, fix = _reason(pull)
    return Trouble(label(pod), container, IMAGE, f"image {image} is not pulled: {sentence}", fix, image)


def _reason(pull: _Pull) -> tuple[str, str]:
    if pull.host and pull.around.registry and pull.host != pull.around.registry and not pull.around.outside_allowed:
        return (
            f"it would come from {pull.host}, which is outside; the private registry is {pull.around.registry}",
            "render again with airgap and apply what it wrote, or give the nodes the files of node-mirrors/",
        )
    for pattern, answer in _ANSWERS:
        if re.search(pattern, pull.message, re.IGNORECASE):
            return answer(pull)
    if pull.held is False:
        return _absent(pull)
    if not re.sub(r'(?:Error: )?(?:ErrImagePull|ImagePullBackOff)|Back-off pulling image "[^"]*"|[:\s]', "", pull.message):
        return f"the node says no reason{_standing(pull)}", f"kubectl -n {pull.namespace} describe {label(pull.pod)}"
    return f"{told(_core(pull.message))}{_standing(pull)}", ""


def _standing(pull: _Pull) -> str:
    return "; the registry holds it" if pull.held else ""


def _core(message: str) -> str:
    """Return the innermost clause of containerd's wrapped errors."""
    found = re.search(r'failed to (?:resolve reference|do request|copy)[^:]*(?:"[^"]*")?: (.*)', message, re.DOTALL)
    return found[1] if found else message


def _absent(pull: _Pull) -> tuple[str, str]:
    if pull.held:
        return (
            f"the node was told by {pull.host} that it is not there, but the registry holds it when asked from here",
            f"the node reaches another registry under that name: look at DNS and at {CONTAINERD_CERTS} on the node",
        )
    return f"{pull.host} does not hold it", "run airgap push with the bundle that was installed"


def _refused(pull: _Pull) -> tuple[str, str]:
    """Return why the registry refuses: whether a pull secret reaches the pod, and whether it is for this host."""
    if pull.held is False:
        return _absent(pull)
    given = [text(item, "name") for item in items(pull.pod, "spec", "imagePullSecrets")]
    accounts, secrets = pull.around.accounts, pull.around.secrets
    names = given or list((accounts or {}).get(pull.account, ()))
    where = f"{pull.host} wants credentials"
    gone = re.search(r"Unable to retrieve some image pull secrets \(([^)]*)\)", pull.message)  # kubelet, its event
    if gone and secrets is None:
        names, secrets = gone[1].split(", "), {}
    if not names and (given or accounts is not None):
        return (
            f"{where}, and neither the pod nor its service account {pull.account} names a pull secret",
            "install again with --pull-secret NAME, or patch imagePullSecrets into the service account",
        )
    if not names or secrets is None:
        return f"{where}: wrong, missing or without the right to read", f"check the pull secrets in namespace {pull.namespace}"
    there = [name for name in names if name in secrets]
    if not there:
        return (
            f"{where}, and its pull secret {', '.join(names)} is not in namespace {pull.namespace}",
            f"kubectl -n {pull.namespace} create secret docker-registry {names[0]} --docker-server={pull.host} ...",
        )
    if not any(pull.host in secrets[name] for name in there):
        other = ", ".join(sorted({host for name in there for host in secrets[name]})) or "no registry at all"
        return (
            f"{where}, and its pull secret {', '.join(there)} has some for {other} only",
            f"write credentials for {pull.host} into it",
        )
    return (
        f"{pull.host} refuses the credentials of pull secret {', '.join(there)}: a wrong password, or no right to read there",
        "put working credentials into the secret; airgap preflight tries them",
    )


def _untrusted(pull: _Pull) -> tuple[str, str]:
    return (
        f"the node does not trust the certificate authority of {pull.host}",
        (
            f"put the CA on every node: {CONTAINERD_CERTS}/{pull.host}/hosts.toml (airgap render writes it, --node-ca-file),"
            " or the node's system store, then restart the runtime if it needs that"
        ),
    )


def _out_of_date(pull: _Pull) -> tuple[str, str]:
    clock = re.search(r"current time \S+ is (before|after) \S+", pull.message)
    word = f" ({clock[0]})" if clock else ""
    return (
        f"the certificate of {pull.host} has expired or is not valid yet, by the node's clock{word}",
        "compare the node's clock with the certificate's dates",
    )


def _wrong_name(pull: _Pull) -> tuple[str, str]:
    names = re.search(r"certificate is (?:valid for|not valid for)[^;]*", pull.message)
    return (
        f"the certificate of {pull.host} is for another name{f' ({told(names[0])})' if names else ''}",
        "reach the registry under a name of its certificate (--pull-registry), or give it a new certificate",
    )


def _plain(pull: _Pull) -> tuple[str, str]:
    return (
        f"{pull.host} speaks plain HTTP, and the node speaks HTTPS to it",
        f"give the nodes a {CONTAINERD_CERTS}/{pull.host}/hosts.toml with server = http://... (airgap render --plain-http)",
    )


def _unknown_host(pull: _Pull) -> tuple[str, str]:
    return f"the node cannot resolve the name {pull.host}", "add it to the DNS that the nodes ask (not the cluster's own)"


def _unreachable(pull: _Pull) -> tuple[str, str]:
    found = re.search(r"(?:connect: )?(connection refused|no route to host|i/o timeout|network is unreachable)", pull.message)
    how = found[1] if found else "no answer in time"
    return f"the node cannot reach {pull.host}: {how}", "open the way from the nodes to the registry; a proxy of the runtime?"


def _limited(pull: _Pull) -> tuple[str, str]:
    return f"{pull.host} limits the number of pulls", "wait, or raise the limit of the registry's proxy"


def _platform(pull: _Pull) -> tuple[str, str]:
    return (
        f"{pull.host} holds it, but not for the node's platform",
        "mirror with --platform of these nodes, or keep the pods off them",
    )


def _full(pull: _Pull) -> tuple[str, str]:
    node = text(pull.pod, "spec", "nodeName")
    return f"the disk of node {node} is full" if node else "the node's disk is full", "free space for images on the node"


def _damaged(pull: _Pull) -> tuple[str, str]:
    return (
        f"what {pull.host} sends does not have the digest that was asked for",
        "is there a cache or a proxy between the nodes and the registry? that holds something else",
    )


def _never(pull: _Pull) -> tuple[str, str]:
    del pull
    return "it is not on the node and its pull policy is Never", "set pullPolicy to IfNotPresent"


def _no_name(pull: _Pull) -> tuple[str, str]:
    del pull
    return "its name is no valid reference", "correct the value that makes it; airgap audit finds such names"


_Answer = "Callable[[_Pull], tuple[str, str]]"

_ANSWERS: tuple[tuple[str, Callable[[_Pull], tuple[str, str]]], ...] = (
    (r"InvalidImageName|couldn't parse image|invalid reference format", _no_name),  # kubelet
    (r"ErrImageNeverPull|is not present with pull policy of Never", _never),  # kubelet
    (r"certificate has expired or is not yet valid", _out_of_date),  # Go crypto/x509
    (
        r"certificate signed by unknown authority|certificate is not trusted|self-signed certificate|local issuer certificate",
        _untrusted,
    ),
    (
        r"certificate is (?:not )?valid for|doesn't contain any IP SANs|relies on legacy Common Name",
        _wrong_name,
    ),  # Go crypto/x509
    (r"server gave HTTP response to HTTPS client", _plain),  # Go net/http
    (r"no such host|server misbehaving|Temporary failure in name resolution", _unknown_host),  # Go net, glibc
    (
        r"connection refused|no route to host|i/o timeout|network is unreachable|deadline exceeded|TLS handshake timeout",
        _unreachable,
    ),
    (r"toomanyrequests|429 Too Many Requests|rate limit", _limited),  # distribution-spec
    (
        r"no match for platform|no matching manifest|no image found in (?:image index|manifest list)",
        _platform,
    ),  # containerd, CRI-O
    (r"no space left on device", _full),
    (r"unexpected commit digest|failed precondition.*digest|digest did not match", _damaged),  # containerd, containers/image
    (
        (
            r"unauthorized|authentication required|no basic auth credentials|pull access denied|insufficient_scope"
            r"|\b401\b|403 Forbidden|denied: |authorization failed"
        ),
        _refused,
    ),
    (r"not found|manifest unknown|\b404\b|NAME_UNKNOWN|name unknown", _absent),  # containerd, distribution-spec
)
"""What runtimes say, most telling first: containerd says ``not found`` and CRI-O ``manifest unknown`` for the same thing, and
``pull access denied, repository does not exist or may require authorization`` for a 401 of any kind."""


def hosts_of(secret: Json) -> frozenset[str] | None:
    """Return the registry hosts that a pull secret has credentials for; None for a Secret that is no pull secret."""
    kind = text(secret, "type")
    key = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}.get(kind)
    if key is None:
        return None
    try:
        config = json.loads(base64.b64decode(text(secret, "data", key)))
    except (ValueError, binascii.Error, RecursionError):
        return frozenset()
    entries = config.get("auths") if isinstance(config, dict) and key == ".dockerconfigjson" else config
    return frozenset(_host(name) for name in entries) if isinstance(entries, dict) else frozenset()


def _host(name: str) -> str:
    """Return the host of an entry of docker's file; ``https://index.docker.io/v1/`` is docker.io's."""
    bare = re.sub(r"^https?://", "", name).partition("/")[0].lower()
    return "docker.io" if bare in ("index.docker.io", "registry-1.docker.io", "docker.io") else bare
