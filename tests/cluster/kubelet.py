"""What a kubelet does for the operator's container, played for our small operator.

The pods of a cluster with kwok run nothing. So that what a test installs decides what happens, the operator acts only while a
pod with a container ``manager`` is ready, with that pod's environment, arguments, service account and mounted files.
"""

from __future__ import annotations

import base64
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.api import Api, Object

CONTAINER = "manager"


@dataclass(frozen=True)
class Pod:
    """A ready pod of the operator; ``env`` with fields of the pod filled in."""

    uid: str
    name: str
    namespace: str
    account: str
    env: dict[str, str]
    args: dict[str, str]
    mounts: dict[str, Object]

    @classmethod
    def read(cls, pod: Object) -> Pod:
        """Read it from the API's object."""
        spec, metadata = pod["spec"], pod["metadata"]
        container = next(it for it in spec["containers"] if it["name"] == CONTAINER)
        volumes = {it["name"]: it for it in spec.get("volumes", ())}
        args = (it.lstrip("-").partition("=") for it in container.get("args", ()))
        return cls(
            uid=metadata["uid"],
            name=metadata["name"],
            namespace=metadata["namespace"],
            account=spec["serviceAccountName"],
            env={it["name"]: _value(it, pod) for it in container.get("env", ())},
            args={name: value or "true" for name, _, value in args},
            mounts={it["mountPath"].rstrip("/"): volumes[it["name"]] for it in container.get("volumeMounts", ())},
        )

    def flag(self, name: str) -> str:
        """Return a flag of the operator, which is also read from the environment: upper case, - becomes _."""
        return self.args.get(name) or self.env.get(name.upper().replace("-", "_"), "")

    @property
    def isolated(self) -> tuple[str, ...]:
        """The only namespaces it looks at, or none."""
        return tuple(filter(None, self.flag("isolation-namespaces").split(",")))


def _value(variable: Object, pod: Object) -> str:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    place: Any = pod
    for key in variable["valueFrom"].get("fieldRef", {}).get("fieldPath", "").split("."):
        place = place.get(key, {})
    return place if isinstance(place, str) else ""


def ready_pods(api: Api) -> Iterator[Pod]:
    """Yield the operator's pods that are ready, newest first."""
    for pod in sorted(api.list("/api/v1/pods"), key=lambda it: str(it["metadata"]["creationTimestamp"]), reverse=True):
        conditions = {it["type"]: it["status"] for it in pod["status"].get("conditions", ())}
        names = [it["name"] for it in pod["spec"]["containers"]]
        if CONTAINER in names and conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp"):
            yield Pod.read(pod)


def token(api: Api, pod: Pod) -> str:
    """Return a token of the pod's service account."""
    path = f"/api/v1/namespaces/{pod.namespace}/serviceaccounts/{pod.account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    return str(api.call("POST", path, body)["status"]["token"])


class Volumes:
    """The files that the pod's mounts hold: of ConfigMaps and Secrets, single or projected."""

    def __init__(self, api: Api, pod: Pod, folder: Path, delay: float) -> None:
        self.api, self.pod, self.folder, self.delay = api, pod, folder, delay
        self.looked = 0.0

    def refresh(self) -> None:
        """Write the files as they are now, if the last time is long enough ago: a kubelet takes up to a minute or so."""
        if self.looked and time.monotonic() - self.looked < self.delay:
            return
        self.looked = time.monotonic()
        for mount, volume in self.pod.mounts.items():
            where = self.folder / mount.lstrip("/")
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir(parents=True)
            for source in volume.get("projected", {}).get("sources") or [volume]:
                for name, content in self._files(source):
                    (where / name).write_bytes(content)

    def _files(self, source: Object) -> Iterator[tuple[str, bytes]]:
        for kind, key, plural in (("configMap", "name", "configmaps"), ("secret", "secretName", "secrets")):
            name = source.get(kind, {}).get(key) or source.get(kind, {}).get("name")
            found = self.api.find(f"/api/v1/namespaces/{self.pod.namespace}/{plural}/{name}") if name else None
            if not found:
                continue
            texts = {} if kind == "secret" else found.get("data") or {}
            encoded = (found.get("data") or {}) if kind == "secret" else found.get("binaryData") or {}
            yield from ((it, text.encode()) for it, text in texts.items())
            yield from ((it, base64.b64decode(text)) for it, text in encoded.items())

    def local(self, path: str) -> Path:
        """Return where a path of the container is on this machine."""
        return self.folder / re.sub(r"^/+", "", path)
