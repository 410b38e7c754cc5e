"""Kubectl: the Kubernetes API by the real kubectl, as Python values in and out.

Invariants: every call has a time limit; an API server that does not answer is asked again a bounded number of times; what it
refuses becomes one sentence of the ClusterError tree. Objects travel on standard input, never in arguments. Writes carry a
field manager, so hand edits can be told from ours. Safe to use from several threads.

::

    kubectl = Kubectl.find(context="site")
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "wandb"}})
    kubectl.get("Secret", "licence", "wandb")
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError, ToolError
from airgap.kube.failures import ForbiddenError, UnknownKindError
from airgap.kube.objects import Object, describe, identity, kind_word
from airgap.kube.running import PAUSES, insist, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIELD_MANAGER = "airgap"
KUBECTL_VARIABLE = "AIRGAP_KUBECTL"
KUBECTL_HINT = "put kubectl on PATH, or name it with --kubectl or AIRGAP_KUBECTL"

REQUEST_LIMIT = 20
"""Seconds for one request of kubectl (its --request-timeout)."""
CALL_LIMIT = 45.0
"""Seconds for one run of kubectl: discovery and a request or two."""


@dataclass(frozen=True)
class Question:
    """May this user do it? ``resource`` is the plural, ``group`` empty for the core; ``name`` empty for any."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what}" + (f" in namespace {self.namespace}" if self.namespace else "")


@dataclass(frozen=True)
class Resource:
    """A kind that the cluster serves (``kubectl api-resources``)."""

    plural: str
    api_version: str
    kind: str
    namespaced: bool


@dataclass(frozen=True)
class Kubectl:
    """A kubectl and the cluster that it is pointed at; empty ``kubeconfig`` and ``context`` mean kubectl's own choice."""

    path: Path
    kubeconfig: str = ""
    context: str = ""
    pauses: tuple[float, ...] = PAUSES

    @classmethod
    def find(
        cls,
        explicit: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        kubeconfig: str = "",
        context: str = "",
    ) -> Kubectl:
        """Return the first kubectl of: ``explicit`` (--kubectl), AIRGAP_KUBECTL, PATH; raises ToolError."""
        environment = os.environ if environ is None else environ
        named = explicit or (Path(environment[KUBECTL_VARIABLE]) if environment.get(KUBECTL_VARIABLE) else None)
        found = named or shutil.which("kubectl", path=environment.get("PATH", os.defpath))
        if found is None:
            raise ToolError("kubectl is needed to talk to the cluster and was not found", hint=KUBECTL_HINT)
        path = Path(found).absolute()
        if not path.is_file() or not os.access(path, os.X_OK):
            raise ToolError(f"{path} is no program that can be run", hint=KUBECTL_HINT)
        return cls(path, kubeconfig, context)

    @property
    def flags(self) -> list[str]:
        """How kubectl is told which cluster."""
        return [
            *([f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []),
            *([f"--context={self.context}"] if self.context else []),
        ]

    def version(self) -> str:
        """Return the API server's version, like ``1.34.4``; raises ClusterError."""
        answer = self._json("version", doing="version")
        server = answer.get("serverVersion") or {}
        version = str(server.get("gitVersion") or "").removeprefix("v").partition("+")[0].partition("-")[0]
        if not version:
            raise ClusterError("the cluster does not say its version", hint="check the kubeconfig's server")
        return version

    def api_versions(self) -> frozenset[str]:
        """Return every ``group/version`` that the cluster serves."""
        return frozenset(self._run("api-versions", doing="api-versions").split())

    def resources(self) -> tuple[Resource, ...]:
        """Return every kind that the cluster serves."""
        found = []
        for line in self._run("api-resources", "--no-headers", doing="api-resources").splitlines():
            cells = line.split()
            if len(cells) >= 4:  # noqa: PLR2004 - name, (short names,) version, namespaced, kind
                found.append(Resource(cells[0], cells[-3], cells[-1], cells[-2] == "true"))
        return tuple(found)

    def get(self, kind: str, name: str, namespace: str = "", *, managed_fields: bool = False) -> Object | None:
        """Return an object or None; ``kind`` as ``kind_word`` makes it. An unknown kind has no objects."""
        more = ["--show-managed-fields"] if managed_fields else []
        try:
            text = self._run(
                *("get", kind, name, "-o", "json", "--ignore-not-found", *more, *_in(namespace)),
                doing=f"get {kind.partition('.')[0]} {namespace}/{name}"
                if namespace
                else f"get {kind.partition('.')[0]} {name}",
            )
        except UnknownKindError:
            return None
        return _object(text) if text.strip() else None

    def live(self, document: Mapping[str, Any]) -> Object | None:
        """Return the live object of the same identity, with its managed fields, or None."""
        api_version, kind, namespace, name = identity(document)
        return self.get(kind_word(api_version, kind), name, namespace, managed_fields=True)

    def listed(self, kind: str, namespace: str = "", selector: str = "", *, everywhere: bool = False) -> list[Object]:
        """Return the objects of one kind or of several (``a,b``); an unknown kind has none."""
        more = ["--all-namespaces"] if everywhere else _in(namespace)
        more += [f"--selector={selector}"] if selector else []
        try:
            answer = self._json("get", kind, *more, doing=f"list {kind}")
        except UnknownKindError:
            return []
        items = answer.get("items")
        return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []

    def apply(
        self,
        document: Mapping[str, Any],
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Apply one object on the server and return what it became; raises ConflictError for another manager's fields."""
        more = ["--force-conflicts"] if force else []
        more += ["--dry-run=server"] if dry_run else []
        return _object(
            self._run(
                *("apply", "--server-side", f"--field-manager={field_manager}", *more, "-o", "json", "-f", "-"),
                "--show-managed-fields",
                doing=f"apply {describe(document)}",
                text=json.dumps(document),
            )
        )

    def create(self, document: Mapping[str, Any]) -> Object:
        """Create one object; raises ConflictError if it is there already."""
        text = json.dumps(document)
        manager = f"--field-manager={FIELD_MANAGER}"
        return _object(self._run("create", manager, "-o", "json", "-f", "-", doing=f"create {describe(document)}", text=text))

    def replace(self, document: Mapping[str, Any]) -> Object:
        """Replace one object; with metadata.resourceVersion only if nobody changed it since (else ConflictError)."""
        text = json.dumps(document)
        manager = f"--field-manager={FIELD_MANAGER}"
        return _object(self._run("replace", manager, "-o", "json", "-f", "-", doing=f"replace {describe(document)}", text=text))

    def patch(self, kind: str, name: str, namespace: str, change: object, *, how: str = "strategic") -> Object:
        """Patch one object; ``how``: strategic | merge | json."""
        return _object(
            self._run(
                *("patch", kind, name, *_in(namespace), f"--type={how}", f"--field-manager={FIELD_MANAGER}"),
                *("--patch-file=/dev/stdin", "-o", "json"),
                doing=f"patch {kind.partition('.')[0]} {namespace}/{name}",
                text=json.dumps(change),
            )
        )

    def delete(self, kind: str, name: str, namespace: str = "", *, wait: bool = False, limit: float = CALL_LIMIT) -> None:
        """Delete one object if it is there; ``wait`` until it has gone, ``limit`` seconds at most."""
        more = [f"--wait={'true' if wait else 'false'}", *([f"--timeout={limit:.0f}s"] if wait else [])]
        self._run(
            *("delete", kind, name, "--ignore-not-found", *more, *_in(namespace)),
            doing=f"delete {kind.partition('.')[0]} {name}",
            limit=limit + CALL_LIMIT,
        )

    def can_i(self, questions: Sequence[Question]) -> list[bool]:
        """Ask the API server for each right by SelfSubjectAccessReview; one call for all, nothing is left behind."""
        if not questions:
            return []
        reviews = [_review(question) for question in questions]
        listed = {"apiVersion": "v1", "kind": "List", "items": reviews}
        text = self._run("create", "-o", "json", "-f", "-", doing="ask for rights", text=json.dumps(listed))
        answers = list(_objects(text))
        if len(answers) != len(questions):
            raise ClusterError(f"the cluster answered {len(answers)} of {len(questions)} questions about rights")
        return [bool((answer.get("status") or {}).get("allowed")) for answer in answers]

    def logs(self, pod: str, namespace: str, *, lines: int = 20) -> str:
        """Return the last lines of a pod's log, or an empty string if there is none."""
        try:
            return self._run("logs", pod, *_in(namespace), f"--tail={lines}", doing=f"logs {pod}")
        except ForbiddenError:
            raise
        except ClusterError:
            return ""

    def _json(self, *arguments: str, doing: str, text: str = "") -> Object:
        return _object(self._run(*arguments, "-o", "json", doing=doing, text=text))

    def _run(self, *arguments: str, doing: str, text: str = "", limit: float = CALL_LIMIT) -> str:
        command = [str(self.path), *self.flags, f"--request-timeout={REQUEST_LIMIT}s", *arguments]
        return insist(lambda: run(command, doing=doing, limit=limit, text=text), doing, self.pauses)


def _in(namespace: str) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _review(question: Question) -> Object:
    attributes = {"verb": question.verb, "group": question.group, "resource": question.resource}
    attributes |= {"namespace": question.namespace} if question.namespace else {}
    attributes |= {"name": question.name} if question.name else {}
    resource, slash, subresource = question.resource.partition("/")
    attributes |= {"resource": resource, "subresource": subresource} if slash else {}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def _object(text: str) -> Object:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ClusterError(f"kubectl answered with something else than JSON: {text[:80]!r}") from error
    if not isinstance(data, dict):
        raise ClusterError(f"kubectl answered with a {type(data).__name__} instead of an object")
    return data


def _objects(text: str) -> list[Object]:
    """Return the objects of an answer: a List, or one JSON text after the other (kubectl does either)."""
    found: list[Object] = []
    decoder, start = json.JSONDecoder(), 0
    text = text.strip()
    while start < len(text):
        try:
            data, end = decoder.raw_decode(text, start)
        except ValueError as error:
            raise ClusterError(f"kubectl answered with something else than JSON: {text[start : start + 80]!r}") from error
        found += data["items"] if isinstance(data, dict) and data.get("kind") == "List" else [data]
        start = end
        while start < len(text) and text[start].isspace():
            start += 1
    return found
