"""What kubectl and helm complain about, as sentences; objects as data; Go's durations."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airgap.cli.installing import duration
from airgap.errors import ClusterError, ToolError
from airgap.kube import (
    ConflictError,
    ForbiddenError,
    Kubectl,
    UnknownKindError,
    UnreachableError,
    kind_word,
    managed_at,
    managers_of,
)
from airgap.kube.client import _objects
from airgap.kube.failures import failure, told
from airgap.kube.running import Ran, insist

REFUSED = "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?"
FORBIDDEN = (
    'Error from server (Forbidden): secrets "a" is forbidden: User "ann" cannot get resource "secrets" in API group ""'
    ' in the namespace "wandb"'
)
CONFLICT = """error: Apply failed with 2 conflicts: conflicts with "kubectl-edit" using v1:
- .data.a
- .data.b
Please review the fields above--they currently have other managers."""


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (REFUSED, UnreachableError, "127.0.0.1:1 was refused"),
        ("Unable to connect to the server: dial tcp: lookup api.lan: no such host", UnreachableError, "api.lan"),
        ('Error: Kubernetes cluster unreachable: Get "https://x/version": EOF', UnreachableError, "cluster unreachable"),
        ("Error from server (ServiceUnavailable): the server is currently unable", UnreachableError, "unable"),
        (FORBIDDEN, ForbiddenError, "user ann may not get secrets in namespace wandb"),
        (CONFLICT, ConflictError, "kubectl-edit changed .data.a, .data.b"),
        ("error: You must be logged in to the server (Unauthorized)", ForbiddenError, "credentials"),
        ('error: the server doesn\'t have a resource type "wandb"', UnknownKindError, "resource type"),
        (
            "Error in configuration: context was not found for specified context: x",
            ClusterError,
            "the kubeconfig cannot be used",
        ),
        ("error: stat /nowhere: no such file or directory", ClusterError, "/nowhere"),
        (REFUSED.replace("127.0.0.1:1", "localhost:8080"), ClusterError, "no kubeconfig names a cluster"),
        ("Unable to connect: x509: certificate signed by unknown authority", ClusterError, "certificate is not accepted"),
        ('Error from server (AlreadyExists): leases "a" already exists', ConflictError, "already exists"),
        ("Error from server (Invalid): a value is wrong", ClusterError, "a value is wrong"),
        (
            '(Forbidden): "wandb" is forbidden: unable to create new content because it is being terminated',
            ClusterError,
            "it is",
        ),
    ],
)
def test_a_complaint_becomes_one_sentence_of_the_right_branch(text: str, kind: type[ClusterError], words: str) -> None:
    error = failure(text, "get a")
    assert type(error) is kind
    assert words in error.message
    assert "\n" not in error.message


def test_a_grant_of_rights_that_one_has_not_is_told_apart() -> None:
    text = (
        'Error from server (Forbidden): clusterroles.rbac.authorization.k8s.io "m" is forbidden: user "ann" (groups=["a"])'
        ' is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["*"]}'
    )
    error = failure(text, "apply ClusterRole m")
    assert isinstance(error, ForbiddenError)
    assert error.message == "user ann would grant rights that this user has not (apply ClusterRole m)"


def test_noise_before_the_complaint_is_left_out_and_control_characters_are_shown() -> None:
    text = 'E1125 03:37:49.269824    2118 memcache.go:381] "Unhandled Error" err="x"\nWarning: old\nerror: no\x1b[31m way'
    assert told(text) == "no\\x1b[31m way"
    assert told("") == "it failed without a word"
    assert told("x" * 1000).endswith("...")


def test_an_api_server_that_comes_back_is_asked_again_and_one_that_does_not_is_told() -> None:
    answers = [Ran(1, "", REFUSED), Ran(1, "", REFUSED), Ran(0, "well", "")]
    assert insist(lambda: answers.pop(0), "get", (0.0, 0.0)) == "well"
    with pytest.raises(UnreachableError):
        insist(lambda: Ran(1, "", REFUSED), "get", (0.0,))


def test_a_refusal_is_not_tried_again() -> None:
    answers = [Ran(1, "", FORBIDDEN)]
    with pytest.raises(ForbiddenError):
        insist(lambda: answers.pop(0), "get", (0.0, 0.0))


def test_kubectl_is_found_by_flag_variable_or_path_and_its_absence_is_told(tmp_path) -> None:
    program = tmp_path / "kubectl"
    with pytest.raises(ToolError, match="was not found"):
        Kubectl.find(environ={"PATH": str(tmp_path)})
    program.write_text("#!/bin/sh\n")
    with pytest.raises(ToolError, match="no program"):
        Kubectl.find(program)
    program.chmod(0o755)
    assert Kubectl.find(environ={"PATH": str(tmp_path)}).path == program
    assert Kubectl.find(environ={"PATH": "", "AIRGAP_KUBECTL": str(program)}).path == program
    assert Kubectl.find(program, kubeconfig="k", context="c").flags == ["--kubeconfig=k", "--context=c"]


def test_answers_of_kubectl_are_read_as_a_list_or_one_after_the_other() -> None:
    assert _objects('{"a": 1}\n{"kind": "List", "items": [{"b": 2}]}') == [{"a": 1}, {"b": 2}]
    with pytest.raises(ClusterError):
        _objects("no JSON")


def test_kinds_are_named_without_doubt() -> None:
    assert kind_word("v1", "Secret") == "Secret"
    assert kind_word("apps/v1", "Deployment") == "Deployment.v1.apps"


def test_field_managers_say_who_changed_what_and_when() -> None:
    fields = [
        {"manager": "airgap", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}},
        {"manager": "operator", "subresource": "status", "fieldsV1": {"f:status": {}}},
        {"manager": "airgap", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
    ]
    document = {"metadata": {"managedFields": fields}}
    assert managers_of(document) == {"airgap": {"f:spec": {}, "f:metadata": {}}}
    assert managed_at(document, "airgap") == datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert managed_at(document, "nobody") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("90s", 90),
        ("1.5m", 90),
        ("0", 0),
        ("500ms", 0.5),
        ("10", None),
        ("m", None),
        ("5x", None),
    ],
)
def test_durations_are_gos(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds
