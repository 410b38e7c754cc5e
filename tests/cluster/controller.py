"""A small W&B operator of our own for the tests: ``python -m tests.cluster.controller FOLDER``.

It does what version 1.22 of the real one was seen to do (merging, Secrets, phases, finalizer, and what it does when
something is wrong), with the real helm. FOLDER/operator.json says where the API server is and how the operator is to be played:
``server``, ``ca_file``, ``token`` (of the kubelet it plays), ``retry`` (seconds between two tries at the channel; really 2),
``hook`` (how long a hook may take; really 30s) and ``mount_delay`` (seconds until a changed ConfigMap is seen in the container;
really up to a minute). Its log is stdout.

Only what is waited for is shorter than in reality; what is done is done by the rights of the pod's own service account.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from tests.cluster.api import WANDB, Api, ApiError
from tests.cluster.kubelet import Pod, Volumes, ready_pods, token
from tests.cluster.reconcile import Limits, Reconciler, RetryError, say
from tests.cluster.spec import MergeError, NilPanicError

if TYPE_CHECKING:
    from tests.cluster.api import Object

TICK = 0.25
FIRST_RETRY, LAST_RETRY = 0.005, 1000.0
"""Seconds: how the operator's queue waits after an error, doubling."""
LEASE_LOST = 10.0
"""Seconds without the API server after which the real one ends, and is started again."""
TOKEN_AGE = 1800.0


@dataclass
class Item:
    """What is known of one custom resource: what was last seen of it, and when it is due again."""

    generation: int = -1
    secrets: dict[str, str] = field(default_factory=dict)
    due: float = 0.0
    failures: int = 0


class Queue:
    """Which custom resource is due: new, changed (its generation), a Secret of it changed or gone, or its time has come."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}

    def look(self, resources: list[Object], secrets: list[Object]) -> None:
        """Take in what is there now."""
        now = time.monotonic()
        owned: dict[str, dict[str, str]] = {}
        for secret in secrets:
            for owner in secret["metadata"].get("ownerReferences", ()):
                if owner.get("controller"):
                    owned.setdefault(owner["uid"], {})[secret["metadata"]["name"]] = secret["metadata"]["resourceVersion"]
        there = {(it["metadata"]["namespace"], it["metadata"]["name"]): it for it in resources}
        self.items = {key: item for key, item in self.items.items() if key in there}
        for key, resource in there.items():
            item = self.items.setdefault(key, Item())
            mine = owned.get(resource["metadata"]["uid"], {})
            changed = any(mine.get(name) != version for name, version in item.secrets.items())
            if changed or resource["metadata"]["generation"] != item.generation:
                item.due = now
            item.secrets, item.generation = mine, resource["metadata"]["generation"]

    def due(self) -> list[tuple[str, str]]:
        """Return what is to be looked at now."""
        return [key for key, item in self.items.items() if item.due <= time.monotonic()]

    def made(self, written: dict[tuple[str, str], dict[str, str]]) -> None:
        """Note which Secrets were made just now: that is no news, but a change of theirs is."""
        for key, secrets in written.items():
            if key in self.items:
                self.items[key].secrets = {**secrets, **self.items[key].secrets}
        written.clear()

    def done(self, key: tuple[str, str], delay: float | None) -> None:
        """Note that it was looked at; ``delay`` None means an error: again, ever later."""
        item = self.items[key]
        item.failures = item.failures + 1 if delay is None else 0
        wait = min(FIRST_RETRY * 2**item.failures, LAST_RETRY) if delay is None else delay
        item.due = time.monotonic() + wait


class Operator:
    """One life of the operator's container."""

    def __init__(self, settings: dict[str, Any], folder: Path, pod: Pod) -> None:
        self.kubelet = Api(settings["server"], Path(settings["ca_file"]), settings["token"])
        self.settings, self.folder, self.pod = settings, folder, pod
        self.volumes = Volumes(self.kubelet, pod, folder / f"pod-{pod.uid}", settings.get("mount_delay", 0.0))
        self.queue = Queue()
        self.began = time.monotonic()
        self.api = Api(self.kubelet.server, self.kubelet.ca_file, token(self.kubelet, pod))
        limits = Limits(**{name: settings[name] for name in ("retry", "hook") if name in settings})
        self.reconciler = Reconciler(self.api, pod, self.volumes, folder, limits)
        say(f"starting manager in {pod.namespace}/{pod.name}, airgapped={pod.flag('airgapped') or 'false'}")

    @property
    def old(self) -> bool:
        """Whether its token should be renewed."""
        return time.monotonic() - self.began > TOKEN_AGE

    def turn(self) -> None:
        """Look once, and do what is due."""
        self.volumes.refresh()
        where = [f"/namespaces/{it}" for it in self.pod.isolated] or [""]
        resources = [it for place in where for it in self.api.list(f"{WANDB}{place}/weightsandbiases")]
        secrets = [it for place in where for it in self.api.list(f"/api/v1{place}/secrets")] if resources else []
        self.queue.look(resources, secrets)
        for key in self.queue.due():
            self.queue.done(key, self._reconcile(*key))
            self.queue.made(self.reconciler.made)

    def _reconcile(self, namespace: str, name: str) -> float | None:
        try:
            return self.reconciler.reconcile(namespace, name)
        except NilPanicError:
            say(f"ERROR Reconciler error {namespace}/{name}: panic: nil pointer dereference [recovered]")
        except (MergeError, RetryError, ApiError, requests.RequestException) as error:
            say(f"ERROR Reconciler error {namespace}/{name}: {error}")
        return None


def main() -> None:
    """Play until ended."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "operator.json").read_text())
    kubelet = Api(settings["server"], Path(settings["ca_file"]), settings["token"])
    operator: Operator | None = None
    answered = time.monotonic()
    while True:
        try:
            pods = {it.uid: it for it in ready_pods(kubelet)}
            if operator and (operator.pod.uid not in pods or operator.old):
                say(f"{operator.pod.namespace}/{operator.pod.name} is no more")
                operator = None
            if pods and not operator:
                operator = Operator(settings, folder, next(iter(pods.values())))
            if operator:
                operator.turn()
            answered = time.monotonic()
        except ApiError as error:
            say(f"ERROR {error}")
        except requests.RequestException as error:
            say(f"ERROR {type(error).__name__}: the API server cannot be reached")
            if time.monotonic() - answered > LEASE_LOST:
                operator = None
        time.sleep(TICK)


if __name__ == "__main__":
    main()
