"""What is to be installed, as data: steps, links, needs, rights; what stands and was edited; what is up."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from airgap.apply.stage import check_proof
from airgap.apply.steps import CONFIGMAP_LIMIT, chart_configmap, steps
from airgap.apply.wait import Component, View, components
from airgap.errors import ConfigurationError
from airgap.intent import Intent, Part, placed
from airgap.oci import Digest
from airgap.preflight import FINE, STOP, WARN, Finding, Report
from airgap.preflight.rights import _plural, questions
from airgap.receipt import Receipt
from airgap.ref import Location
from airgap.releases import Release
from airgap.scan import Document
from airgap.standing import Console, Standing, chart_key, is_older, vanishing
from airgap.trouble import Surroundings
from airgap.verdict import prove
from airgap.wandb import CustomResource, LocalChart

CHART = "/charts/operator-wandb-1.0.0.tgz"


def _document(
    kind: str, name: str, spec: dict[str, Any] | None = None, *, hook: str = "", template: str = "c/templates/x.yaml"
):
    metadata: dict[str, Any] = {"name": name}
    if hook:
        metadata["annotations"] = {"helm.sh/hook": hook}
    api = {"Deployment": "apps/v1", "Job": "batch/v1", "CustomResourceDefinition": "apiextensions.k8s.io/v1"}.get(kind, "v1")
    return Document(template, {"apiVersion": api, "kind": kind, "metadata": metadata, **({"spec": spec} if spec else {})})


def _workload(kind: str, name: str, account: str = "", *, hook: str = "", **container: Any):
    pod = {"containers": [{"name": "a", "image": "reg.lan/a:1", **container}]}
    pod |= {"serviceAccountName": account} if account else {}  # type: ignore[dict-item]
    return _document(kind, name, {"selector": {}, "template": {"spec": pod}}, hook=hook)


def _intent(*server: Document, operator: tuple[Document, ...] = (), **more: Any) -> Intent:
    given: dict[str, Any] = {"operator_values": {"airgapped": True}, "resource": _resource({"a": 1}), **more}
    return Intent(
        bundle="wandb",
        lock=Digest.of(b"lock"),
        location=Location.parse("reg.lan/wandb"),
        operator=Part("operator", "1.0.0", "operator", "ops", operator),
        server=Part("operator-wandb", "1.0.0", "wandb", "apps", server),
        **given,
    )


def _resource(values: dict[str, Any]) -> CustomResource:
    return CustomResource("wandb", "apps", LocalChart(CHART), values)


def test_objects_are_applied_in_the_order_that_lets_the_next_ones_start() -> None:
    intent = _intent(
        operator=(_document("CustomResourceDefinition", "w", {"versions": []}, template="operator/crds/w.yaml"),),
        secrets=({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},),
        others=(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}},
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}},
        ),
        pull_secret="pull",
    )
    found = steps(intent)
    assert [step.name for step in found] == ["namespaces", "CRDs", "secrets", "pull secret links", "other objects"]
    assert [step.force for step in found] == [False, True, False, False, False]
    assert found[2].objects[0]["metadata"]["namespace"] == "apps"
    assert intent.namespaces == ("ops", "apps")
    assert intent.own_namespaces == {"apps"}


def test_an_object_keeps_its_own_namespace_and_cluster_wide_ones_get_none() -> None:
    own: dict[str, Any] = {"kind": "Secret", "metadata": {"name": "a", "namespace": "b"}}
    assert placed(own, "c") == own
    wide: dict[str, Any] = {"kind": "ClusterRole", "metadata": {"name": "a"}}
    assert placed(wide, "c") == wide


def test_every_account_that_pods_use_is_linked_and_those_of_hooks_are_named() -> None:
    intent = _intent(
        _workload("Deployment", "plain"),
        _workload("Deployment", "own", "own"),
        _document("ServiceAccount", "own"),
        _workload("Job", "hook", "hooked", hook="pre-upgrade"),
        _document("ServiceAccount", "hooked", hook="pre-upgrade"),
        _workload("Job", "other-hook", "elsewhere", hook="pre-upgrade"),
        pull_secret="pull",
    )
    links = {(link.namespace, link.account): link for link in intent.links()}
    assert set(links) == {("ops", "default"), ("apps", "default"), ("apps", "own"), ("apps", "elsewhere")}
    adopted = links["apps", "own"].to_document()
    assert adopted["metadata"]["annotations"]["meta.helm.sh/release-name"] == "wandb"  # type: ignore[index,call-overload]
    assert "annotations" not in links["apps", "elsewhere"].to_document()["metadata"]  # type: ignore[operator]
    assert intent.unlinked() == ("Job/hook (service account hooked)",)
    assert _intent(_workload("Deployment", "plain")).links() == ()


def test_what_pods_need_and_nothing_brings_is_known() -> None:
    env = [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "missing", "key": "k"}}},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "rendered", "key": "k"}}},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "perhaps", "key": "k", "optional": True}}},
        {"name": "D", "valueFrom": {"secretKeyRef": {"name": "brought", "key": "k"}}},
    ]
    intent = _intent(
        _workload("Deployment", "a", env=env),
        _document("ConfigMap", "rendered"),
        secrets=({"kind": "Secret", "metadata": {"name": "brought", "namespace": "apps"}},),
    )
    assert intent.needed() == {("Secret", "apps", "missing")}


def test_rights_cover_what_is_applied_what_helm_makes_and_what_is_looked_at() -> None:
    asked = {str(it) for it in questions(_intent(operator=(_document("ServiceAccount", "m"),)), (), ["ops"])}
    assert {
        "create namespaces",
        "patch weightsandbiases.apps.wandb.com in namespace apps",
        "delete serviceaccounts in namespace ops",
        "list pods in namespace apps",
        "update leases.coordination.k8s.io in namespace ops",
        "patch deployments.apps in namespace ops",
    } <= asked
    assert [_plural(kind) for kind in ("NetworkPolicy", "Ingress", "Secret", "Gateway")] == [
        *("networkpolicies", "ingresses", "secrets", "gateways"),
    ]


def test_the_chart_in_use_is_kept_beside_the_new_one_and_older_ones_go() -> None:
    wanted = {"metadata": {"name": "c"}, "binaryData": {"new.tgz": "bmV3"}}
    live = {"binaryData": {"used.tgz": "dXNlZA==", "ancient.tgz": "b2xk"}}
    document, gone = chart_configmap(wanted, live, "used.tgz")
    assert set(document["binaryData"]) == {"new.tgz", "used.tgz"}
    assert gone == ("ancient.tgz",)


def test_a_chart_that_leaves_no_room_is_alone_in_its_configmap() -> None:
    half = base64.b64encode(bytes(CONFIGMAP_LIMIT * 2 // 3)).decode()
    document, gone = chart_configmap({"binaryData": {"new": half}}, {"binaryData": {"used": half}}, "used")
    assert (set(document["binaryData"]), gone) == ({"new"}, ("used",))


def test_the_key_in_use_is_read_from_the_live_custom_resource() -> None:
    assert chart_key({"spec": {"chart": {"path": CHART}}}) == "operator-wandb-1.0.0.tgz"
    assert chart_key(None) == chart_key({"spec": {"chart": {"url": "oci://x"}}}) == ""


def _receipt(number: int, values: dict[str, Any], **more: Any) -> Receipt:
    resource = _resource(values).to_document()
    return Receipt(
        number,
        "wandb",
        "sha256:0",
        "reg.lan",
        "ops",
        "apps",
        "wandb",
        operator_values={"airgapped": True},
        resource=resource,
        **more,
    )


def _standing(live: dict[str, Any], *receipts: Receipt) -> Standing:
    fields = [{"manager": "kubectl-edit", "fieldsV1": {"f:spec": {}}}, {"manager": "airgap", "fieldsV1": {"f:spec": {}}}]
    document = {**_resource(live).to_document(), "metadata": {"managedFields": fields}}
    return Standing(current=receipts[0] if receipts else None, latest=receipts[-1] if receipts else None, resource=document)


def test_what_was_changed_by_hand_is_named_with_who_did_it() -> None:
    edits = _standing({"a": 2, "b": {"c": 3}}, _receipt(1, {"a": 1})).edits(_intent())
    assert [str(edit) for edit in edits] == [
        "WeightsAndBiases apps/wandb spec.values.a: 1 became 2, by kubectl-edit",
        "WeightsAndBiases apps/wandb spec.values.b: nothing became {'c': 3}, by kubectl-edit",
    ]


def test_no_hand_was_at_it_when_it_is_as_any_install_meant_it() -> None:
    assert _standing({"a": 0}, _receipt(1, {"a": 0})).edits(_intent()) == ()
    assert _standing({"a": 0}, _receipt(1, {"a": 0}), _receipt(2, {"a": 5})).edits(_intent()) == ()
    assert _standing({"a": 1}).edits(_intent()) == ()


def test_a_null_put_in_by_hand_is_an_edit_though_nothing_was_there() -> None:
    edits = _standing({"a": 1, "b": None}, _receipt(1, {"a": 1})).edits(_intent())
    assert [str(edit) for edit in edits] == ["WeightsAndBiases apps/wandb spec.values.b: nothing became null, by kubectl-edit"]
    gone = _standing({}, _receipt(1, {"a": 1})).edits(_intent())
    assert [str(edit) for edit in gone] == ["WeightsAndBiases apps/wandb spec.values.a: 1 became nothing, by kubectl-edit"]


def test_an_edit_that_is_taken_over_into_the_values_is_none() -> None:
    assert _standing({"a": 1}, _receipt(1, {"a": 0})).edits(_intent()) == ()
    assert [edit.path for edit in _standing({"a": 1, "b": 2}, _receipt(1, {"a": 0})).edits(_intent())] == ["spec.values.b"]


def test_a_chart_that_the_operator_would_take_for_the_installed_one_is_told() -> None:
    standing = _standing({"a": 1}, _receipt(1, {"a": 1}, chart_digest="sha256:" + "1" * 64))
    other, same = (replace(_intent().server, digest="sha256:" + digit * 64) for digit in "21")
    assert "would see no difference" in standing.unseen(replace(_intent(), server=other))
    assert standing.unseen(replace(_intent(), server=same)) == ""
    assert standing.unseen(replace(_intent(resource=_resource({"a": 2})), server=other)) == ""
    assert Standing().unseen(_intent()) == ""


def test_an_upgrade_that_did_not_finish_may_be_finished_with_its_own_chart() -> None:
    old, new = ("sha256:" + digit * 64 for digit in "12")
    standing = _standing({"a": 1}, _receipt(1, {"a": 0}, chart_digest=old), _receipt(2, {"a": 1}, chart_digest=new))
    assert standing.unseen(replace(_intent(), server=replace(_intent().server, digest=new))) == ""
    assert "was 222" in standing.unseen(replace(_intent(), server=replace(_intent().server, digest=old)))


def test_a_custom_resource_of_somebody_else_is_not_overwritten_either() -> None:
    assert [edit.path for edit in _standing({"a": 7}).edits(_intent())] == ["spec.values.a"]


def test_older_versions_are_told_by_semver() -> None:
    assert is_older("1.9.0", "1.10.0")
    assert not is_older("1.10.0", "1.10.0")
    assert not is_older("1.10.0", "main")
    release = Release("wandb", "apps", 1, "deployed", "operator-wandb-1.1.0")
    assert Standing(server=release).older(_intent()) == ("operator-wandb 1.0.0 is older than 1.1.0, which is installed",)


def test_a_stored_version_that_would_vanish_is_named() -> None:
    live = {"status": {"storedVersions": ["v1", "v2"]}}
    assert vanishing({"spec": {"versions": [{"name": "v1"}]}}, live) == ("v2",)
    assert vanishing({"spec": {"versions": [{"name": "v1"}]}}, {}) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"operator_values": {"airgapped": False}},
        {"resource": _resource({"a": 2})},
        {"resource": CustomResource("wandb", "apps", LocalChart("/charts/other.tgz"), {"a": 1})},
        {"location": Location.parse("reg.lan/elsewhere")},
        {"lock": Digest.of(b"other")},
    ],
)
def test_what_is_not_what_was_proved_is_not_applied(change: dict[str, Any]) -> None:
    intent = _intent()
    proved = prove(intent.operator_values, intent.resource, intent.location, intent.lock)
    check_proof(proved, intent)
    with pytest.raises(ConfigurationError, match="is not what was audited"):
        check_proof(proved, replace(intent, **change))


def test_settings_of_the_system_console_are_read_and_clashes_told() -> None:
    resource = _resource({"app": {"replicas": 1}, "a": 1})
    data = {"chart": "null", "values": '{"app": {"replicas": null, "x": null}, "b": 1}'}
    console = Console.of({"data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}})
    assert console.values["b"] == 1
    (told,) = console.clashes(resource, "ops")
    assert told.startswith("app.replicas is null in the user input and set in the custom resource")
    assert Console.of(None).clashes(resource, "ops") == ()
    assert "its key chart is no JSON" in Console.of({"data": {}}).clashes(resource, "ops")[0]
    assert "app is a map in" in Console({"app": "oops"}).clashes(resource, "ops")[0]


def test_a_receipt_reads_back_as_it_was_written_and_its_facts_hold_no_values() -> None:
    receipt = (
        _receipt(3, {"a": "secret"}, chart={"path": CHART}, images={"a": "b"})
        .after("push")
        .with_objects([("v1", "A", "", "b")])
    )
    assert Receipt.from_bytes(receipt.facts(), receipt.payload()) == receipt
    assert b"secret" not in receipt.facts()
    assert receipt.identity == receipt.after("wait").finished("now").identity
    assert receipt.identity != _receipt(3, {"a": "other"}).identity
    for bad in (b"{}", b"no", b'{"kind": "x", "schemaVersion": 1}', b"[]"):
        with pytest.raises(ConfigurationError):
            Receipt.from_bytes(bad)


def test_the_receipt_of_one_half_keeps_what_the_other_half_is() -> None:
    before = _receipt(1, {"a": 0}, server_version="1", operator_version="1", images={"old": "1"})
    now = _receipt(0, {"a": 1}, server_version="2", operator_version="2", images={"new": "2"})
    half = now.of_parts(operator=True, server=False, before=before)
    assert (half.operator_version, half.server_version, half.resource) == ("2", "1", before.resource)
    assert half.images == {"old": "1", "new": "2"}
    assert now.of_parts(operator=True, server=True, before=before) == now
    assert now.of_parts(operator=False, server=True, before=None).operator_values == {}


def test_a_report_is_true_when_nothing_stops_and_ignored_checks_only_warn() -> None:
    stop = Finding("licence", STOP, "over", "renew")
    report = Report.of([Finding("a", FINE, "x"), stop])
    assert not report
    assert report.findings[0] == stop
    relaxed = Report.of([stop], ignored=("licence",))
    assert relaxed
    assert relaxed.warnings[0].level == WARN


def _live(replicas: int, ready: int, updated: int, *, total: int = 0) -> dict[str, Any]:
    status = {"observedGeneration": 2, "replicas": total or replicas, "readyReplicas": ready, "updatedReplicas": updated}
    return {"kind": "Deployment", "metadata": {"name": "a", "generation": 2}, "spec": {"replicas": replicas}, "status": status}


@pytest.mark.parametrize(
    ("live", "is_up"),
    [
        (_live(2, 2, 2), True),
        (_live(2, 1, 2), False),
        (_live(1, 1, 1, total=2), False),  # the pod of before is ready, the new one is not
        (_live(1, 1, 0), False),
        ({**_live(1, 1, 1), "metadata": {"name": "a", "generation": 3}}, False),  # the controller has not seen it yet
    ],
)
def test_a_workload_is_up_when_its_new_pods_are_and_those_of_before_are_gone(live: dict[str, Any], *, is_up: bool) -> None:
    part = Part("c", "1", "wandb", "apps", (_workload("Deployment", "a"),))
    assert [it.is_up for it in components(part, [live], Surroundings())] == [is_up]


def test_a_workload_that_is_not_made_yet_is_not_up_and_a_hook_that_hangs_is_shown() -> None:
    part = Part("c", "1", "wandb", "apps", (_workload("Deployment", "a"), _workload("Job", "h", hook="pre-upgrade")))
    job = {"kind": "Job", "metadata": {"name": "h"}, "status": {}}
    found = components(part, [job], Surroundings())
    assert [str(it) for it in found] == ["a 0/1 up; not made yet", "hook h 0/1 up"]


def test_the_server_is_up_only_with_the_spec_that_was_applied() -> None:
    up = Component("a", "Deployment", 1, 1, is_up=True)
    assert View((up,), "Completed", taken=True).is_up
    assert not View((up,), "Completed", taken=False).is_up
    assert not View((up,), "Loading", taken=True).is_up
    assert View((up,)).is_up
