"""Closed is proved, and whatever points outside is found with its place and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airgap.audit import INERT, OPEN, Allowance, AuditOptions, Finding, Proved, Verdict
from airgap.errors import NetworkError, NotClosedError
from airgap.lock import LockedArtifact, LockedTree
from airgap.oci import OCI_MANIFEST, Descriptor, Digest
from airgap.ref import Location, Reference
from airgap.registry import Registry
from airgap.transport import Client, HostSettings, RetryPolicy
from airgap.values import with_value
from airgap.wandb import CustomResource, LocalChart, OciChart, RepoChart
from tests.audit.site import VALUES, Site, lock_of, with_other_digest
from tests.relocate.shapes import chart
from tests.world.registries import start_docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.lock import Lock
    from airgap.relocate import Relocation

pytestmark = [pytest.mark.helm, pytest.mark.registry]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with start_docker_registry(folder) as running:
        yield Site(running, folder)


@pytest.fixture(scope="module")
def held(site: Site) -> Lock:
    found = lock_of(site.found)
    site.fill(found)
    return found


@pytest.fixture(scope="module")
def made(site: Site, held: Lock) -> Relocation:
    return site.relocated(held)


def changed(made: Relocation, path: tuple[str, ...], value: object) -> CustomResource:
    return made.resource.with_values(with_value(made.resource.values, path, value))  # type: ignore[arg-type]  # test data


def only(judged: Verdict, /, **wanted: str) -> Finding:
    found = [it for it in judged.findings if all(getattr(it, key) == value for key, value in wanted.items())]
    assert len(found) == 1, [str(it) for it in judged.findings]
    return found[0]


def test_what_render_made_is_closed_with_a_proof(site: Site, held: Lock, made: Relocation) -> None:
    verdict = site.audit(held, made)
    assert verdict, [str(it) for it in verdict.open]
    assert verdict.summary().startswith("closed: 9 image references, 0 of them open, 0 open URLs")
    assert (verdict.proved.resource, verdict.proved.lock) == (made.resource, held.digest)


def test_the_test_pod_is_inert_with_its_remedy(site: Site, held: Lock, made: Relocation) -> None:
    finding = only(site.audit(held, made), object="Pod/wandb-test")
    assert (finding.verdict, finding.text) == (INERT, "busybox")
    assert "node-mirrors" in finding.fix


def test_what_the_user_applies_beside_the_charts_is_judged_too(site: Site, held: Lock, made: Relocation) -> None:
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "side"}}
    pod["spec"] = {"containers": [{"image": "quay.io/x/y:1"}]}
    finding = only(site.audit(held, made, options=AuditOptions(others=(pod,))), verdict=OPEN)
    assert (finding.chart, finding.object, finding.text) == ("other objects", "Pod/side", "quay.io/x/y:1")


def test_a_comment_is_inert(site: Site, held: Lock, made: Relocation) -> None:
    finding = only(site.audit(held, made), text="https://redis.io/topics/persistence")
    assert (finding.verdict, finding.reason) == (INERT, "a comment, which nothing follows")


def test_a_host_of_the_users_is_allowed_with_the_value_that_names_it(site: Site, held: Lock, made: Relocation) -> None:
    verdict = site.audit(held, made)
    told = {it.reason for it in verdict.findings if "corp.lan" in it.text}
    assert told == {"configured by the user at global.host", "configured by the user at global.email.smtp.host"}


def test_a_host_that_only_the_channel_names_is_not_the_users(site: Site, held: Lock, made: Relocation) -> None:
    channel: dict[str, Any] = {"global": {"host": "https://wandb.corp.lan"}}
    verdict = site.audit(held, made, options=AuditOptions(channel_values=channel))
    assert {it.text for it in verdict.open} == {"https://wandb.corp.lan"}


def test_nobody_else_makes_a_proof(made: Relocation, held: Lock) -> None:
    with pytest.raises(TypeError, match="audit alone"):
        Proved(made.operator_values, made.resource, Location("reg"), held.digest)


def test_an_image_outside_is_open_with_template_path_and_fix(site: Site, held: Lock, made: Relocation) -> None:
    verdict = site.audit(held, made, resource=changed(made, ("api", "image"), {"repository": "quay.io/evil/app", "tag": "1"}))
    finding = only(verdict, verdict=OPEN)
    assert finding.template == "server/charts/api/templates/all.yaml"
    assert (finding.object, finding.path) == ("Deployment/wandb-api", "spec.template.spec.containers[0].image")
    assert "pulled from quay.io" in finding.reason
    assert finding.fix
    with pytest.raises(NotClosedError, match=r"quay\.io/evil/app:1 at Deployment/wandb-api"):
        _ = verdict.proved


def test_an_image_that_was_not_pushed_is_open(site: Site, held: Lock, made: Relocation) -> None:
    digest = "sha256:" + "0" * 64
    finding = only(site.audit(held, made, resource=changed(made, ("api", "image", "digest"), digest)), verdict=OPEN)
    assert f"the registry does not hold {site.location}/docker.io/wandb/api@{digest}" in finding.reason
    assert "airgap push" in finding.fix


def test_a_tag_that_holds_another_digest_than_the_bundle_is_open(site: Site, held: Lock, made: Relocation) -> None:
    reference = Reference.parse("quay.io/prom/exporter:9.9")
    moved = site.push(replace(reference, repository="prom/other"), salt="x")
    name = f"{site.location}/quay.io/prom/other"
    other = with_other_digest(
        replace(held, images=(*held.images, replace(held.images[0], reference=replace(reference, repository="prom/other")))),
        replace(reference, repository="prom/other"),
        "sha256:" + "1" * 64,
    )
    resource = changed(made, ("exporter", "image"), {"repository": name, "tag": "9.9"})
    finding = only(site.audit(other, made, resource=resource), verdict=OPEN)
    assert f"the registry holds {moved} there, the bundle sha256:{'1' * 64}" in finding.reason


def test_a_tag_whose_digest_is_the_bundles_is_allowed(site: Site, held: Lock, made: Relocation) -> None:
    name = f"{site.location}/quay.io/prom/exporter"
    verdict = site.audit(held, made, resource=changed(made, ("exporter", "image"), {"repository": name, "tag": "9.9"}))
    assert verdict
    assert "by tag, whose digest" in only(verdict, text=f"{name}:9.9", kind="container").reason


def test_an_own_image_must_be_pinned_because_no_bundle_vouches_for_it(site: Site, held: Lock, made: Relocation) -> None:
    own = Reference.parse("own.example/side/car:1")
    digest = site.push(own)
    name = f"{site.location}/own.example/side/car"
    loose = site.audit(held, made, resource=changed(made, ("api", "image"), {"repository": name, "tag": "1"}))
    assert only(loose, verdict=OPEN).fix == f"write {name}:1@{digest}"
    assert site.audit(held, made, resource=changed(made, ("api", "image"), {"repository": name, "digest": digest}))


def test_an_image_that_is_no_reference_is_open(site: Site, held: Lock, made: Relocation) -> None:
    verdict = site.audit(
        held, made, resource=changed(made, ("api", "image"), {"repository": f"{site.location}/APP", "tag": "1"})
    )
    assert "upper case" in only(verdict, verdict=OPEN).reason


def test_mail_that_goes_to_wandb_is_open_with_the_two_ways_out(site: Site, held: Lock, made: Relocation) -> None:
    finding = only(site.audit(held, made, resource=changed(made, ("global", "email", "smtp", "host"), "")), verdict=OPEN)
    assert finding.text == "https://api.wandb.ai/email/dispatch"
    assert finding.path == "data.MAIL"
    assert "global.email.smtp.host" in finding.fix
    assert "GORILLA_EMAIL_SINK" in finding.fix


def test_a_known_leak_stays_open_though_the_user_wrote_it(site: Site, held: Lock, made: Relocation) -> None:
    values = {**made.operator_values, "extraEnv": [{"name": "DEPLOYER_CHANNEL_URL", "value": "https://deploy.wandb.ai"}]}
    verdict = site.audit(held, made, operator_values=values)
    assert {it.text for it in verdict.open} == {"https://deploy.wandb.ai"}
    assert {it.object for it in verdict.open} == {"Deployment/controller", "Values/operator values"}


def test_a_host_can_be_allowed_and_the_reason_is_on_record(site: Site, held: Lock, made: Relocation) -> None:
    resource = changed(made, ("global", "email", "smtp", "host"), "")
    verdict = site.audit(
        held, made, resource=resource, options=AuditOptions(allow=(Allowance("API.wandb.ai", "mail is filtered"),))
    )
    assert verdict
    assert any(it.reason == "allowed by the user: mail is filtered" for it in verdict.findings)


def test_an_operator_that_is_not_told_to_be_alone_asks_its_channel(site: Site, held: Lock, made: Relocation) -> None:
    values = {**made.operator_values, "airgapped": False}
    finding = only(site.audit(held, made, operator_values=values), verdict=OPEN)
    assert (finding.kind, finding.text) == ("setting", "AIRGAPPED=False") or finding.text == "AIRGAPPED=false"
    assert "deploy.wandb.ai" in finding.reason
    inside = [{"name": "DEPLOYER_CHANNEL_URL", "value": "http://channel.wandb.svc:8080"}]
    assert site.audit(held, made, operator_values={**values, "extraEnv": inside})


def test_a_hard_coded_image_is_open_until_the_nodes_have_mirrors(site: Site, held: Lock) -> None:
    literal = Site(site.running, site.folder, {**VALUES, "literal": {"install": True}})
    whole = lock_of(literal.found)
    literal.fill(whole)
    made = literal.relocated(whole)
    assert only(literal.audit(whole, made), verdict=OPEN).text == "quay.io/acme/literal:1"
    verdict = literal.audit(whole, made, options=AuditOptions(node_mirrors=True))
    assert verdict
    assert "node mirrors bring it" in only(verdict, text="quay.io/acme/literal:1").reason


def test_a_chart_that_does_not_render_is_open_and_never_skipped(site: Site, held: Lock, made: Relocation) -> None:
    verdict = site.audit(held, made, resource=changed(made, ("api",), "oops"))
    assert not verdict
    assert any(it.kind == "unread" and it.chart == "server-1.2.3" for it in verdict.open)


def test_an_object_that_cannot_be_read_is_open(site: Site, held: Lock, made: Relocation) -> None:
    broken = chart("server", "- just\n- a list\n", {})
    assert any(it.kind == "unread" for it in site.audit(held, made, server_chart=broken).open)


@pytest.mark.parametrize(
    ("source", "verdict", "told"),
    [
        (None, OPEN, "spec.chart is missing"),
        (RepoChart("https://charts.wandb.ai", "server", "1.2.3"), OPEN, "W&B's public chart repository"),
        (RepoChart("https://charts.corp.lan", "server", "1.2.3"), "allowed", "configured by the user at spec.chart.url"),
        (RepoChart("https://charts.corp.lan", "server", "9.9.9"), OPEN, "would take 9.9.9, but what was rendered"),
        (RepoChart("https://charts.corp.lan", "server"), OPEN, "would take the latest version"),
        (OciChart("oci://ghcr.io/wandb/helm-charts/server", "1.2.3"), OPEN, "pull the chart from outside"),
        (LocalChart("/tmp/server-1.2.3.tgz"), OPEN, "mounts its charts at /charts"),  # noqa: S108  # a path in a pod
        (LocalChart("/charts/other-1.2.3.tgz"), OPEN, "the chart ConfigMap holds server-1.2.3.tgz"),
        (LocalChart("/charts/server-1.2.3-0123456789ab.tgz"), OPEN, "would take 1.2.3-0123456789ab, but what was rendered"),
        (LocalChart("/charts/server-1.2.3.tgz"), "allowed", "from the ConfigMap"),
    ],
)
def test_a_chart_source_is_judged(  # noqa: PLR0917  # fixtures and the row of the table
    site: Site, held: Lock, made: Relocation, source: LocalChart | OciChart | RepoChart | None, verdict: str, told: str
) -> None:
    options = AuditOptions(chart_in_configmap=("server-1.2.3.tgz",))
    found = site.audit(held, made, resource=replace(made.resource, chart=source), options=options)
    assert any(it.kind == "chart" and it.verdict == verdict and told in it.reason for it in found.findings)
    assert bool(found) == (verdict == "allowed")


def test_an_oci_chart_must_be_in_the_registry_with_the_bundles_digest(site: Site, held: Lock, made: Relocation) -> None:
    def judged(lock: Lock) -> Verdict:
        source = OciChart(f"oci://{site.running.host}/team/charts/server", "1.2.3", plain_http=True)
        return site.audit(lock, made, resource=replace(made.resource, chart=source))

    assert "does not hold" in only(judged(held), kind="chart").reason
    digest = site.push(Reference.parse("charts/server:1.2.3"))  # lies under docker.io/, not where charts lie
    assert not judged(held)
    from tests.audit.site import drawn  # noqa: PLC0415
    from tests.world.images import Pusher  # noqa: PLC0415

    image = drawn(Reference.parse("charts/server:1.2.3"))
    Pusher(site.running.url).push(image, "team/charts/server")
    assert judged(held)
    root = Descriptor(OCI_MANIFEST, Digest.parse("sha256:" + "2" * 64), 1)
    artifact = LockedArtifact("chart", "server", "1.2.3", "", LockedTree(root, (root,), ()), root)
    assert f"the registry holds {digest}" in only(judged(replace(held, artifacts=(artifact,))), verdict=OPEN).reason


def test_a_registry_that_cannot_be_asked_is_an_error_and_no_verdict(site: Site, held: Lock, made: Relocation) -> None:
    client = Client(hosts={"127.0.0.1:1": HostSettings(plain_http=True)}, environ={}, retry=RetryPolicy(attempts=1))
    with pytest.raises(NetworkError):
        site.audit(held, made, registry=Registry(client, "127.0.0.1:1"))


def test_pods_without_a_pull_secret_are_warned_of(site: Site, held: Lock, made: Relocation) -> None:
    warnings = site.audit(held, made).warnings
    assert any("no pull secret is named" in it and "Deployment/wandb-api (service account default)" in it for it in warnings)
    assert not site.audit(held, made, options=AuditOptions(pull_secret=False)).warnings


def test_the_json_is_whole(site: Site, held: Lock, made: Relocation) -> None:
    data = site.audit(held, made).to_json()
    assert (data["schemaVersion"], data["closed"]) == (1, True)
    assert sum(data["figures"].values()) == len(data["findings"])  # type: ignore[attr-defined,arg-type]  # JSON
    assert data["objects"] == {"operator-1.2.3": 1, "server-1.2.3": 11}
