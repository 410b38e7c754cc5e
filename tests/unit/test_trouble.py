"""What is wrong with a pod, in one sentence: messages as kubelet, containerd, the scheduler and controllers write them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airgap import trouble
from airgap.trouble import Surroundings, Trouble, explain_events, explain_object, explain_pod, hosts_of, is_short, state

IMAGE = "reg.lan/wandb/docker.io/wandb/local:0.70.0"
RESOLVE = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
AT_REGISTRY = Surroundings(registry="reg.lan")


def pod(*statuses: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    names = [status["name"] for status in statuses]
    status: dict[str, Any] = {"phase": "Pending", "containerStatuses": [*statuses], "initContainerStatuses": [*init]}
    spec: dict[str, Any] = {
        "nodeName": "node-1",
        "serviceAccountName": "wandb-app",
        "containers": [{"name": name, "image": IMAGE} for name in names],
        "initContainers": [{"name": status["name"], "image": IMAGE} for status in init],
    }
    return {
        "kind": "Pod",
        "metadata": {"name": "wandb-app-5d8f7c9b6-abcde", "namespace": "wandb", "uid": "u1"},
        "spec": {**spec, **more.pop("spec", {})},
        "status": {**status, **more},
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {"name": "app", "image": IMAGE, "ready": False, "state": {"waiting": {"reason": reason, "message": message}}, **more}


def event(reason: str, message: str, kind: str = "Pod", name: str = "wandb-app-5d8f7c9b6-abcde", **more: Any) -> dict[str, Any]:
    about = {"kind": kind, "name": name, "fieldPath": "spec.containers{app}"}
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": about, **more}


def only(found: tuple[Trouble, ...]) -> Trouble:
    assert len(found) == 1, found
    return found[0]


def pull(message: str, around: Surroundings = AT_REGISTRY, **more: Any) -> Trouble:
    return only(explain_pod(pod(waiting("ImagePullBackOff", message), **more), (), around))


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_that_the_registry_does_not_hold_names_the_image_and_says_push():
    found = pull(f"{RESOLVE}{IMAGE}: not found")
    assert found.sentence == f"image {IMAGE} is not pulled: reg.lan does not hold it"
    assert "airgap push" in found.fix
    assert found.image == IMAGE


def test_an_image_that_the_registry_does_hold_and_the_node_does_not_find_points_at_the_nodes_name_resolution():
    found = pull(f"{RESOLVE}{IMAGE}: not found", Surroundings(registry="reg.lan", held={IMAGE: "sha256:" + "0" * 64}))
    assert "the registry holds it when asked from here" in found.sentence
    assert "/etc/containerd/certs.d" in found.fix


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "does not trust the certificate"),
        ("x509: certificate has expired or is not yet valid: current time 2026-11-25T03:00:00Z is after 2026-01-01", "clock"),
        ("x509: certificate is valid for a.lan, not reg.lan", "is for another name (certificate is valid for a.lan"),
        ("http: server gave HTTP response to HTTPS client", "plain HTTP"),
        ("dial tcp: lookup reg.lan on 10.0.0.10:53: no such host", "cannot resolve the name reg.lan"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", "cannot reach reg.lan: connection refused"),
        ("dial tcp 10.0.0.1:443: i/o timeout", "cannot reach reg.lan: i/o timeout"),
        ("toomanyrequests: slow down", "limits the number of pulls"),
        ("no match for platform in manifest: not found", "not for the node's platform"),
        ("write /var/lib/x: no space left on device", "the disk of node node-1 is full"),
    ],
)
def test_what_the_runtime_met_is_said_in_words(message, says):
    assert says in pull(RESOLVE + message).sentence


def test_a_digest_that_happens_to_hold_a_status_code_is_not_read_as_one():
    digest = "sha256:" + "401404" * 10 + "ab12"
    found = pull(f'failed to pull "{IMAGE}@{digest}": something new')
    assert "something new" in found.sentence
    assert "credentials" not in found.sentence


REFUSED = RESOLVE + "pull access denied, repository does not exist or may require authorization: authorization failed"


def test_refused_without_a_pull_secret_at_pod_or_account():
    found = pull(REFUSED, Surroundings(registry="reg.lan", secrets={}, accounts={"wandb-app": ()}))
    assert "neither the pod nor its service account wandb-app names a pull secret" in found.sentence


def test_refused_with_a_pull_secret_that_is_in_another_namespace():
    around = Surroundings(registry="reg.lan", secrets={}, accounts={"wandb-app": ("airgap-registry",)})
    assert "its pull secret airgap-registry is not in namespace wandb" in pull(REFUSED, around).sentence


def test_refused_with_a_pull_secret_for_another_registry():
    around = Surroundings(registry="reg.lan", secrets={"mine": frozenset({"other.lan"})}, accounts={})
    found = pull(REFUSED, around, spec={"imagePullSecrets": [{"name": "mine"}]})
    assert "its pull secret mine has some for other.lan only" in found.sentence


def test_refused_although_the_pull_secret_reaches_it_is_the_password():
    around = Surroundings(registry="reg.lan", secrets={"mine": frozenset({"reg.lan"})}, accounts={"wandb-app": ("mine",)})
    assert "refuses the credentials of pull secret mine" in pull(REFUSED, around).sentence


def test_refused_for_an_image_that_is_not_there_is_not_about_credentials():
    found = pull(REFUSED, Surroundings(registry="reg.lan", held={IMAGE: ""}))
    assert "does not hold it" in found.sentence


def test_kubelets_own_event_of_a_missing_pull_secret_serves_who_may_not_read_secrets():
    noted = event("FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (gone); it may not succeed.")
    found = explain_pod(pod(waiting("ImagePullBackOff", REFUSED)), [noted], AT_REGISTRY)
    assert "pull secret gone is not in namespace wandb" in only(found).sentence


def test_an_image_from_outside_is_named_as_such_before_anything_else():
    found = pull(RESOLVE + "i/o timeout", Surroundings(registry="private.corp"))
    assert "it would come from reg.lan, which is outside; the private registry is private.corp" in found.sentence


def test_the_older_kubelets_say_why_in_an_event_only():
    status = waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    noted = event("Failed", f'Failed to pull image "{IMAGE}": {RESOLVE}{IMAGE}: not found')
    assert "does not hold it" in only(explain_pod(pod(status), [noted], AT_REGISTRY)).sentence
    assert "the node says no reason" in only(explain_pod(pod(status), [], AT_REGISTRY)).sentence


# -- containers --------------------------------------------------------------------------------------------------------


def test_a_crash_says_how_it_ended_how_often_and_where_the_log_is():
    status = waiting("CrashLoopBackOff", restartCount=4, lastState={"terminated": {"exitCode": 1, "reason": "Error"}})
    found = only(explain_pod(pod(status, phase="Running")))
    assert found.sentence == "it ended with code 1 and is started again, 4 times so far"
    assert found.fix == "read its log: kubectl -n wandb logs wandb-app-5d8f7c9b6-abcde -c app --previous"


def test_memory_is_named_with_its_limit():
    status = waiting("CrashLoopBackOff", restartCount=1, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
    limited = [{"name": "app", "image": IMAGE, "resources": {"limits": {"memory": "1Gi"}}}]
    assert "more memory than its limit of 1Gi" in only(explain_pod(pod(status, spec={"containers": limited}))).sentence


def test_an_init_container_that_crashes_says_what_it_waits_for_and_silences_those_after_it():
    init = {**waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 1}}), "name": "init-db"}
    found = only(explain_pod(pod(waiting("PodInitializing"), init=(init,))))
    assert found.container == "init-db"
    assert "is MySQL reachable" in found.sentence


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ('secret "wandb-license" not found', "Secret wandb-license is not in namespace wandb"),
        ('configmap "ca" not found', "ConfigMap ca is not in namespace wandb"),
        ("couldn't find key license in Secret wandb/x", "Secret wandb/x has no key license"),
        ("container has runAsNonRoot and image will run as root", "runAsNonRoot"),
    ],
)
def test_configuration_that_is_missing_is_named(message, says):
    assert says in only(explain_pod(pod(waiting("CreateContainerConfigError", message)))).sentence


def test_a_probe_that_fails_is_told_with_its_answer():
    running = {"name": "app", "image": IMAGE, "ready": False, "state": {"running": {}}}
    noted = event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    found = only(explain_pod(pod(running, phase="Running"), [noted]))
    assert found.sentence == "it runs, and its readiness probe fails: HTTP probe failed with statuscode: 503"
    assert only(explain_pod(pod(running, phase="Running"))).waiting


def test_an_image_being_pulled_is_waiting_and_no_fault():
    noted = {**event("Pulling", f'Pulling image "{IMAGE}"'), "type": "Normal"}
    found = only(explain_pod(pod(waiting("ContainerCreating")), [noted]))
    assert (found.waiting, found.sentence) == (True, f"image {IMAGE} is being pulled")


def test_a_program_for_another_platform():
    status = waiting("CrashLoopBackOff", lastState={"terminated": {"exitCode": 1, "message": "exec /x: exec format error"}})
    assert "is for another platform" in only(explain_pod(pod(status))).sentence


# -- before any container ----------------------------------------------------------------------------------------------


def unscheduled(message: str, **spec: Any) -> Trouble:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return only(explain_pod(pod(conditions=[condition], spec={"nodeName": "", **spec})))


def test_the_schedulers_counts_in_words():
    found = unscheduled(
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 Insufficient "
        "cpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )
    assert found.sentence == (
        "no node can take it: 2 nodes have too little cpu left, 1 node has the taint node-role.kubernetes.io/control-plane"
    )


def test_a_claim_that_is_not_bound_is_named():
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "redis-data"}}]
    found = unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", volumes=volumes)
    assert "claim redis-data is not bound" in found.sentence


def test_an_unknown_sentence_of_the_scheduler_is_told_as_it_is():
    assert "the moon is wrong" in unscheduled("0/3 nodes are available: the moon is wrong.").sentence


def test_a_volume_whose_secret_is_missing():
    noted = event("FailedMount", 'MountVolume.SetUp failed for volume "ca" : secret "wandb-ca" not found')
    found = only(explain_pod(pod(waiting("ContainerCreating")), [noted]))
    assert found.sentence == "volume ca is Secret wandb-ca, which is not in namespace wandb"


def test_the_nodes_own_pause_image_is_not_the_pods_fault():
    message = 'rpc error: failed to get sandbox image "registry.k8s.io/pause:3.9": failed to pull image: dial tcp: i/o timeout'
    found = only(explain_pod(pod(waiting("ContainerCreating")), [event("FailedCreatePodSandBox", message)]))
    assert "the node's own pause image registry.k8s.io/pause:3.9" in found.sentence
    assert "sandbox_image" in found.fix


def test_an_evicted_pod_names_the_node_and_the_reason():
    found = only(explain_pod(pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")))
    assert "evicted from node node-1: The node was low on resource: memory" in found.sentence


def test_what_is_ready_completed_or_leaving_has_no_trouble():
    ready = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    leaving = pod(waiting("CrashLoopBackOff"))
    leaving["metadata"]["deletionTimestamp"] = "2026-11-25T00:00:00Z"
    assert [state(it) for it in (ready, pod(phase="Succeeded"), leaving)] == [trouble.READY, trouble.COMPLETED, trouble.ENDING]
    assert not any(explain_pod(it) for it in (ready, pod(phase="Succeeded"), leaving))


def test_whatever_is_not_ready_has_a_trouble_even_when_it_says_nothing():
    assert only(explain_pod({"kind": "Pod", "metadata": {"name": "x"}})).waiting


def silent(**ready: str) -> Trouble:
    running = {"name": "app", "image": IMAGE, "ready": True, "state": {"running": {}}}
    return only(explain_pod(pod(running, phase="Running", conditions=[{"type": "Ready", "status": "False", **ready}])))


def test_a_node_that_went_silent_is_named_and_not_its_pods():
    assert silent().sentence == "its containers ran, but node node-1 does not report any more"
    gates = silent(
        reason="ReadinessGatesNotReady", message='corresponding condition of pod readiness gate "lb" does not exist.'
    )
    assert gates.waiting
    assert 'gate "lb"' in gates.sentence


# -- where there is no pod ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        (
            'pods "x" is forbidden: exceeded quota: small, requested: cpu=1, used: cpu=4, limited: cpu=4',
            "quota",
            "quota small does not allow its pods: they ask for cpu=1, cpu=4 of cpu=4 is used",
        ),
        (
            'pods "x" is forbidden: failed quota: q: must specify limits.cpu for: app',
            "quota",
            "demands that its pods say limits.cpu",
        ),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', "policy", "level restricted"),
        ('pods "x" is forbidden: error looking up service account a/b: serviceaccount "b" not found', "policy", "account b"),
        (
            'admission webhook "p.k.io" denied the request: image not allowed',
            "policy",
            "p.k.io denies its pods: image not allowed",
        ),
        ("the sky is falling", "policy", "nothing is made for it: the sky is falling"),
    ],
)
def test_why_a_controller_makes_no_pod(message, kind, says):
    found = only(explain_events([event("FailedCreate", message, "ReplicaSet", "wandb-app-5d8f7c9b6")]))
    assert (found.object, found.kind) == ("ReplicaSet/wandb-app-5d8f7c9b6", kind)
    assert says in found.sentence


def test_a_workload_tells_the_same_when_the_events_are_gone():
    message = 'pods "x" is forbidden: exceeded quota: small, requested: cpu=1, used: cpu=4, limited: cpu=4'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    item: dict[str, Any] = {
        "kind": "Deployment",
        "metadata": {"name": "a"},
        "spec": {"replicas": 2},
        "status": {"conditions": [condition]},
    }
    assert "quota small" in only(explain_object(item)).sentence
    assert is_short(item) == "0 of 2 ready"


def test_a_job_that_gave_up():
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the limit"}
    job: dict[str, Any] = {"kind": "Job", "metadata": {"name": "j"}, "status": {"conditions": [condition]}}
    assert "gave up" in only(explain_object(job)).sentence


def test_events_of_pods_and_of_success_are_not_about_what_was_not_made():
    assert explain_events([event("FailedCreate", "x"), {**event("FailedCreate", "x", "Job"), "type": "Normal"}]) == ()


def test_ten_pods_with_one_fault_are_one_line():
    found = [Trouble(f"Pod/wandb-app-5d8f7c9b6-abcd{n}", "app", "image", "it is not there") for n in range(10)]
    assert len(trouble.distinct(found)) == 1


def test_the_hosts_of_a_pull_secret():
    def secret(config: object, kind: str = "kubernetes.io/dockerconfigjson") -> dict[str, Any]:
        return {"type": kind, "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()}}

    found = hosts_of(secret({"auths": {"https://index.docker.io/v1/": {}, "reg.lan:5000/team": {}}}))
    assert found == frozenset({"docker.io", "reg.lan:5000"})
    assert hosts_of(secret(["nonsense"])) == frozenset()
    assert hosts_of(secret({}, "Opaque")) is None
