"""The decisions of those who look after a site: roles, images against receipts, the receipt to go back to, what runs judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airgap.audit.judge import Subject
from airgap.audit.live import Live, LiveOptions, audit_live
from airgap.errors import ClusterError
from airgap.pulled import KNOWN, MIRRORED, OUTSIDE, PENDING, UNKNOWN, Known, judge, of_events, pulled
from airgap.receipt import DONE, FAILED, Receipt
from airgap.ref import LAYOUTS, Location, Reference
from airgap.rollback import as_lock, choose
from airgap.scan import Document
from airgap.status import Observation, compare, role_of
from airgap.status import judge as status_of
from airgap.status.drift import chart_in_force, drifts, in_force
from airgap.status.observe import Kept
from airgap.verdict import ALLOWED, INERT, OPEN

ONE, TWO = ("sha256:" + digit * 64 for digit in "12")
NAME = "reg.lan/p/docker.io/wandb/local:1"
KNOWN_IMAGES = Known(Location.parse("reg.lan/p"), {NAME: ONE})


# -- roles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "containers", "name", "role"),
    [
        ({"app.kubernetes.io/name": "app"}, ["app"], "wandb-app-1", "app"),
        ({"app.kubernetes.io/name": "daemonset"}, ["daemonset"], "wandb-otel-daemonset-x", "otel"),
        (
            {"app.kubernetes.io/name": "clickhouse", "app.kubernetes.io/component": "keeper"},
            ["keeper"],
            "k-0",
            "clickhouse-keeper",
        ),
        ({"app.kubernetes.io/name": "parquet"}, ["backfill-job"], "wandb-parquet-backfill-1", "parquet-backfill"),
        ({"app.kubernetes.io/name": "appRenamePreHook"}, ["x"], "wandb-app-rename-pre-hook-1", "app-rename-pre-hook"),
        ({"control-plane": "controller-manager"}, ["manager"], "wandb-controller-manager-1", "operator"),
        ({"app": "wandb-reloader"}, ["wandb-reloader"], "wandb-reloader-5b", "reloader"),
        ({}, ["weave-trace"], "wandb-weave-trace-6b-1", "weave-trace"),
        ({}, ["nobody"], "stranger", "stranger"),
    ],
)
def test_a_pod_says_what_it_is_for(labels, containers, name, role):
    pod: dict[str, Any] = {
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": it} for it in containers]},
    }
    assert role_of(pod, "wandb").name == role


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "digest", "verdict"),
    [
        (NAME, ONE, KNOWN),
        (f"reg.lan/p/docker.io/wandb/local@{ONE}", "", KNOWN),
        (NAME, TWO, UNKNOWN),
        (NAME, "", UNKNOWN),
        ("reg.lan/p/other:1", TWO, UNKNOWN),
        ("docker.io/wandb/local:1", ONE, MIRRORED),
        ("docker.io/wandb/local:1", TWO, OUTSIDE),
        ("NO GOOD", ONE, OUTSIDE),
    ],
)
def test_a_digest_decides_and_not_a_name(image, digest, verdict):
    found, reason = judge(image, digest, KNOWN_IMAGES)
    assert found == verdict
    assert bool(reason) == (verdict != KNOWN)


def test_init_containers_count_and_what_is_not_pulled_yet_is_pending():
    spec: dict[str, Any] = {"containers": [{"name": "a", "image": NAME}], "initContainers": [{"name": "i", "image": NAME}]}
    statuses: dict[str, Any] = {
        "initContainerStatuses": [{"name": "i", "imageID": f"docker-pullable://reg.lan/p/docker.io/wandb/local@{ONE}"}]
    }
    found = pulled({"kind": "Pod", "metadata": {"name": "p"}, "spec": spec, "status": statuses}, KNOWN_IMAGES)
    assert [(it.container, it.verdict) for it in found] == [("a", PENDING), ("i", KNOWN)]


def test_events_tell_of_images_of_pods_that_are_gone():
    event = {
        "message": 'Pulling image "quay.io/evil/x:1"',
        "involvedObject": {"kind": "Pod", "name": "gone", "namespace": "wandb"},
    }
    known = {**event, "message": f'Successfully pulled image "{NAME}" in 1s'}
    found = list(of_events([event, known, {"message": "Scheduled"}], KNOWN_IMAGES))  # type: ignore[list-item]
    assert [it.verdict for it in found] == [OUTSIDE, KNOWN]


# -- going back --------------------------------------------------------------------------------------------------------


def receipt(number: int, state: str = DONE, **more: Any) -> Receipt:
    made = Receipt(number, "wandb", f"sha256:{number}", "reg.lan/p", "wandb", "wandb", "wandb", state=state)
    return replace(made, **more)


def test_the_receipt_to_go_back_to_is_the_one_that_ran_before():
    listed = [receipt(1), receipt(2, FAILED), receipt(3, previous=1)]
    assert choose(listed, listed[-1]).number == 1
    assert choose(listed, listed[-1], 2).number == 2


def test_from_an_upgrade_that_did_not_finish_the_way_leads_back_to_what_ran():
    listed = [receipt(1), receipt(2, previous=1), receipt(3, FAILED, previous=2)]
    assert choose(listed, listed[1]).number == 2
    assert choose([listed[0], receipt(2, "running")], listed[0]).number == 1


def test_a_rollback_that_did_not_finish_goes_on_to_where_it_was_going():
    listed = [receipt(1), receipt(2, previous=1), receipt(3, FAILED, lock="sha256:1", stages=("rollback", "audit"))]
    assert choose(listed, listed[1]).number == 1


def test_after_a_rollback_going_back_again_leads_forward():
    listed = [receipt(1), receipt(2, previous=1), receipt(3, previous=2, lock="sha256:1")]
    assert choose(listed, listed[-1]).number == 2


@pytest.mark.parametrize("listed", [[], [receipt(1)], [receipt(1, FAILED), receipt(2)]])
def test_where_nothing_ran_before_there_is_no_way_back(listed):
    with pytest.raises(ClusterError):
        choose(listed, listed[-1] if listed else None)


def test_a_receipt_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ClusterError, match=r"no receipt 7 \(there are: 1\)"):
        choose([receipt(1)], None, 7)


@pytest.mark.parametrize(
    ("pushed", "asked"),
    [
        ("", "nodes.lan"),
        ("push.lan:5000/p", "push.lan:5000"),
        ("push.lan:5000/other", "nodes.lan"),
    ],
)
def test_the_registry_is_asked_by_the_name_of_the_push_where_that_leads_to_the_same_paths(pushed, asked):
    assert receipt(1, location="nodes.lan/p", pushed_to=pushed).asked_at == asked


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_receipt_becomes_a_lock_that_leads_to_the_same_places_in_every_layout(layout):
    pushed = Location.parse("reg.lan/p", layout)
    sources = [Reference.parse("docker.io/wandb/local:1"), Reference.parse(f"reg:5000/a/b@{TWO}")]
    names = {str(pushed.relocate(it)): digest for it, digest in zip(sources, (ONE, TWO), strict=True)}
    found = receipt(1, images=names).place
    assert receipt(1, images=names, layout=layout).place == found
    lock = as_lock(receipt(1, images=names), found)
    assert sorted(str(found.relocate(it.reference)) for it in lock.images) == sorted(names)
    assert {str(it.digest) for it in lock.images} == {ONE, TWO}
    assert found.repository("charts/operator") == pushed.repository("charts/operator")


# -- drift -------------------------------------------------------------------------------------------------------------


def seen(
    values: dict[str, Any], *, active: dict[str, Any] | None, user: dict[str, Any] | None = None, **more: Any
) -> Observation:
    chart: Any = {"path": "/charts/a.tgz"}
    resource = {"spec": {"chart": chart, "values": values}, "status": {"phase": "Completed"}}
    defaults: dict[str, Any] = {"global": {"operator": {"apiVersion": "apps.wandb.com/v1", "namespace": "wandb"}}}
    kept = Kept(chart, {**active, **defaults}) if active is not None else None
    return Observation(None, "wandb", "wandb", "wandb", resource=resource, active=kept, user=Kept(None, user or {}), **more)


def test_a_spec_in_force_has_no_problem():
    assert in_force(seen({"a": 1}, active={"a": 1}), airgapped=True).problem == ""
    assert in_force(seen({"a": 1}, active={"a": 1, "u": 2}, user={"u": 2}), airgapped=True).problem == ""


def test_a_spec_that_is_not_applied_yet_names_the_paths_and_may_come():
    force = in_force(seen({"a": {"b": 2}}, active={"a": {"b": 1}}), airgapped=True)
    assert "a.b not in force" in force.problem
    assert force.waiting


def test_a_kind_mismatch_is_named_with_both_layers():
    force = in_force(seen({"a": {"b": 1}}, active={}, user={"a": "text"}), airgapped=True)
    assert "cannot merge its layers" in force.problem
    assert not force.waiting


@pytest.mark.parametrize(
    ("values", "user", "told"),
    [
        ({"a": None, "b": 2}, {"a": 1}, "a is null in the custom resource and set in the user input"),
        ({"a": {"b": 1}}, {"a": None}, "a is null in the user input and set in the custom resource"),
        (
            {"global": {"operator": None}},
            {},
            "global.operator is null in the custom resource and set in the operator's defaults",
        ),
    ],
)
def test_a_null_that_meets_another_layer_is_named_as_what_stops_the_operator_even_if_nothing_else_differs(values, user, told):
    found = seen(values, active={"b": 2}, user=user)
    force = in_force(found, airgapped=True)
    assert force.problem.endswith(told)
    assert "panics" in force.problem
    assert not force.waiting


def test_a_null_that_meets_nothing_is_applied_by_the_operator_and_is_drift():
    found = seen({"a": None}, active={"a": None})
    assert in_force(found, airgapped=True).problem == ""
    (drift,) = drifts(replace(found, receipt=receipt(1, resource={"spec": {"chart": {"path": "/charts/a.tgz"}, "values": {}}})))
    assert (drift.path, drift.how) == ("spec.values.a", "added")
    assert "stops for good" in drift.note


def test_who_may_not_read_the_operators_secrets_is_not_told_that_nothing_was_applied():
    assert in_force(seen({"a": 1}, active=None, is_blind=True), airgapped=True).problem == ""
    assert "nothing yet" in in_force(seen({"a": 1}, active=None), airgapped=True).problem


CHART = "sha256:" + "c" * 64


@pytest.mark.parametrize(
    ("there", "installed", "told"),
    [
        (CHART, CHART, ""),
        (ONE, CHART, "was replaced"),
        ("", CHART, "there is no a.tgz in ConfigMap wandb/wandb-charts any more"),
        ("", "", "there is no a.tgz"),
        (ONE, "", ""),
        (None, CHART, ""),
    ],
)
def test_what_lies_under_the_charts_path_is_held_against_what_was_installed(there, installed, told):
    resource = {"spec": {"chart": {"path": "/charts/a.tgz"}, "values": {}}}
    found = replace(seen({}, active={}, chart=there), receipt=receipt(1, chart_digest=installed, resource=resource))
    assert told in chart_in_force(found).problem
    assert bool(told) == bool(chart_in_force(found).problem)


def test_after_an_upgrade_that_did_not_finish_what_it_applied_is_no_drift_and_what_it_pulled_is_known():
    before, after = ({"spec": {"chart": {"path": "/charts/a.tgz"}, "values": {"a": value}}} for value in (1, 2))
    failed = receipt(2, FAILED, resource=after, images={NAME: TWO}, stages=("resource",), reason="it took too long")
    installed = receipt(1, resource=before, images={NAME: ONE}, location="reg.lan/p")
    pod = {
        "kind": "Pod",
        "metadata": {"name": "wandb-app-1", "namespace": "wandb"},
        "spec": {"containers": [{"name": "app", "image": f"{NAME.rpartition(':')[0]}@{TWO}"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "ready": True, "imageID": f"x@{TWO}"}]},
    }
    found = status_of(replace(seen({"a": 2}, active={"a": 2}), receipt=installed, unfinished=failed, objects=(pod,)))
    assert (found.drift, found.foreign) == ((), ())
    (problem,) = [it for it in found.problems if not it.waiting]
    assert (problem.about, problem.sentence) == ("receipt 2", "the last install did not finish: it took too long")
    assert "airgap rollback" in problem.fix


def test_drift_tells_paths_and_hands_but_no_values():
    applied = receipt(1, resource={"spec": {"chart": {"path": "/charts/a.tgz"}, "values": {"password": "old", "gone": 1}}})
    found = drifts(replace(seen({"password": "s3cret", "more": 1}, active={}, user={"password": "x", "u": 1}), receipt=applied))
    told = {(it.where, it.path): (it.how, it.note) for it in found}
    assert told["custom resource", "spec.values.password"] == ("changed", "")
    assert told["custom resource", "spec.values.more"] == ("added", "")
    assert told["custom resource", "spec.values.gone"] == ("removed", "")
    assert "without effect" in told["System Console", "password"][1]
    assert told["System Console", "u"][1] == ""
    assert "s3cret" not in str(found)


def test_lists_are_compared_as_a_whole():
    assert list(compare({"a": [1, 2]}, {"a": [2, 1]})) == [(("a",), "changed")]


# -- what runs ---------------------------------------------------------------------------------------------------------


def live(*objects: dict[str, Any], **more: Any) -> Live:
    fields: dict[str, Any] = {
        "location": Location.parse("reg.lan/p"),
        "images": {NAME: ONE},
        "resource": {"spec": {"values": {"global": {"host": "https://wandb.lan"}}}},
        "applied": {"spec": {"values": {"global": {"host": "https://wandb.lan"}}}},
        "operator_release": "operator",
        "operator_namespace": "wandb",
        "objects": objects,
    }
    return Live(**{**fields, **more})


def operator(**env: str) -> dict[str, Any]:
    container = {"name": "manager", "env": [{"name": name, "value": value} for name, value in env.items()]}
    metadata = {"name": "op", "namespace": "wandb", "annotations": {"meta.helm.sh/release-name": "operator"}}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": {"containers": [container]}}}}


def verdicts(it: Live, kind: str) -> list[tuple[str, str]]:
    return [(found.verdict, found.reason) for found in audit_live(it, LiveOptions()).findings if found.kind == kind]


def test_an_operator_that_asks_the_channel_is_open_and_one_that_does_not_is_closed():
    assert audit_live(live(operator(AIRGAPPED="true")), LiveOptions())
    assert [it for it, _ in verdicts(live(operator(AIRGAPPED="false")), "setting")] == [OPEN]
    assert "no operator" in verdicts(live(), "setting")[0][1]


@pytest.mark.parametrize(
    ("image", "mirrors", "verdict", "told"),
    [
        (NAME, False, ALLOWED, "installed by airgap"),
        (f"reg.lan/p/docker.io/wandb/local@{ONE}", False, ALLOWED, "installed by airgap"),
        (f"reg.lan/p/docker.io/wandb/local@{TWO}", False, OPEN, "no receipt has"),
        ("reg.lan/p/docker.io/wandb/new:1", False, OPEN, "no receipt has"),
        ("docker.io/wandb/local:1", True, ALLOWED, "installed by airgap"),
        ("docker.io/wandb/local:1", False, OPEN, "outside"),
        ("docker.io/wandb/new:1", True, OPEN, "outside"),
        ("not//an image", False, OPEN, "cannot be read"),
    ],
)
def test_what_would_be_pulled_next_is_held_against_the_receipts(image, mirrors, verdict, told):
    spec: dict[str, Any] = {
        "schedule": "x",
        "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"image": image}]}}}},
    }
    rendered = Subject("c-1", (Document("c/templates/x.yaml", {"kind": "CronJob", "metadata": {"name": "a"}, "spec": spec}),))
    ((found, reason),) = verdicts(live(rendered=rendered, node_mirrors=mirrors), "container")
    assert found == verdict
    assert told in reason


def test_a_channel_inside_is_allowed_and_its_url_judged():
    served = operator(AIRGAPPED="false", DEPLOYER_CHANNEL_URL="http://channel.wandb.svc")
    assert audit_live(live(served), LiveOptions())
    outside = operator(AIRGAPPED="false", DEPLOYER_CHANNEL_URL="https://deploy.wandb.ai")
    assert OPEN in [it for it, _ in verdicts(live(outside), "url")]


def test_what_the_system_console_sets_is_judged_unless_the_resource_outranks_it():
    image = {"repository": "docker.io/wandb/local", "tag": "2"}
    found = verdicts(live(operator(AIRGAPPED="true"), user={"values": {"app": {"image": image}}, "chart": None}), "image")
    assert [it for it, _ in found] == [OPEN]
    mine = {"spec": {"values": {"app": {"image": {"repository": "reg.lan/p/x"}}}, "chart": {"path": "/charts/a.tgz"}}}
    both = live(operator(AIRGAPPED="true"), resource=mine, user={"values": {"app": {"image": image}}, "chart": {"url": "x"}})
    assert [it for it, _ in verdicts(both, "image")] == [INERT]
    assert [it for it, _ in verdicts(both, "chart")] == [INERT]


def pod(**labels: str) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "wandb", "labels": labels}, "spec": {}, "status": {}}


def policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "NetworkPolicy", "metadata": {"name": "closed", "namespace": "wandb"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "verdict", "says"),
    [
        ({"podSelector": {}, "policyTypes": ["Egress"]}, ALLOWED, "closed limits where all 1 pods"),
        ({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Egress"]}, ALLOWED, "closed limits"),
        ({"podSelector": {"matchLabels": {"a": "c"}}, "policyTypes": ["Egress"]}, INERT, "no NetworkPolicy limits"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "egress": []}, ALLOWED, "closed limits"),
        ({"podSelector": {}, "policyTypes": ["Ingress"]}, INERT, "no NetworkPolicy limits"),
        ({"podSelector": {}, "egress": [{}]}, INERT, "lets pods connect to everywhere"),
        ({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}, INERT, "everywhere"),
        ({"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}, ALLOWED, "closed limits"),
        ({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, ALLOWED, "closed limits"),
    ],
)
def test_policies_in_force_are_read_and_said(spec, verdict, says):
    found = [
        it
        for it in audit_live(live(operator(AIRGAPPED="true"), pod(a="b"), policy(spec)), LiveOptions()).findings
        if it.text == "NetworkPolicy"
    ]
    assert [it.verdict for it in found] == [verdict]
    assert says in found[0].reason


def test_what_could_not_be_read_is_open():
    assert [
        it.text for it in audit_live(live(operator(AIRGAPPED="true"), unread=(("Pods", "forbidden"),)), LiveOptions()).open
    ] == ["Pods"]
