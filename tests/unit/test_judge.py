"""The judgement of hosts, by what is known and where it stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airgap.audit.judge import Allowance, Bench, Subject, configured_hosts, is_comment, true_variables
from airgap.audit.knowledge import RULES
from airgap.lock import Lock
from airgap.ref import Location
from airgap.scan import Document, Hit, scan
from airgap.verdict import ALLOWED, INERT, OPEN, Finding

BENCH = Bench(Lock("x", (), (), ()), Location.parse("reg.lan:5000/team"), {})


def config(text: str, template: str = "a/templates/t.yaml") -> Document:
    return Document(template, {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": text}})


def judged(document: Document, bench: Bench = BENCH) -> list[Finding]:
    return [bench.judge(Subject("a-1", (document,)), hit) for hit in scan([document]).hits]


@pytest.mark.parametrize(
    ("text", "verdict", "told"),
    [
        ("https://api.wandb.ai/email/dispatch", OPEN, "mail is handed to W&B's cloud"),
        ("https://api.wandb.ai/graphql", OPEN, "api.wandb.ai is outside"),
        ("https://deploy.wandb.ai", OPEN, "release channel"),
        ("https://charts.wandb.ai", OPEN, "chart repository"),
        ("https://acme-v02.api.letsencrypt.org/directory", OPEN, "Let's Encrypt"),
        ("https://reg.lan:5000/v2/", ALLOWED, "the private registry"),
        ("https://example.org/x", OPEN, "nothing is known"),
        ("# https://example.org/x\nkey yes\n", INERT, "comment"),
        ("s3://local-files", INERT, "the endpoint's matter"),
        ("https://s3.amazonaws.com/x", OPEN, "s3.amazonaws.com is outside"),
        ("gs://wandb-lumen-configs", OPEN, "cloud provider"),
        ("pubsub:/project/topic", OPEN, "cloud provider"),
        ("s3://minio.corp.lan:9000/bucket", OPEN, "minio.corp.lan is outside"),
        ("# https://example.org/x\nurl https://example.org/x\n", OPEN, "nothing is known"),
    ],
)
def test_a_host_is_judged_with_its_reason(text: str, verdict: str, told: str) -> None:
    (finding,) = judged(config(text))
    assert finding.verdict == verdict
    assert told in finding.reason
    assert bool(finding.fix) == (verdict == OPEN)


def test_what_only_helm_test_makes_is_inert() -> None:
    document = config("https://example.org")
    metadata: Any = {"name": "c", "annotations": {"helm.sh/hook": "test"}}
    (finding,) = judged(replace(document, object={**document.object, "metadata": metadata}))
    assert finding.verdict == INERT


def test_documentation_in_a_crd_is_inert() -> None:
    crd: Any = {"kind": "CustomResourceDefinition", "spec": {"description": "More: https://example.org/x"}}
    (finding,) = judged(Document("", crd))
    assert (finding.verdict, "documentation" in finding.reason) == (INERT, True)


def test_a_script_that_asks_only_when_told_is_open_when_it_is_told() -> None:
    script = config("host=$(curl -s https://ipinfo.io/ip)", "x/charts/kafka/templates/scripts-configmap.yaml")
    assert judged(script)[0].verdict == INERT
    env: Any = [{"name": "EXTERNAL_ACCESS_HOST_USE_PUBLIC_IP", "value": "true"}]
    pod = Document("p", {"kind": "Pod", "spec": {"containers": [{"image": "a", "env": env}]}})
    told = replace(BENCH, true_variables=true_variables([pod]))
    assert judged(script, told)[0].verdict == OPEN
    assert judged(config("https://ipinfo.io/ip"))[0].verdict == OPEN, "elsewhere nothing is known of it"


def test_an_allowance_beats_what_is_known_and_is_on_record() -> None:
    allowed = replace(BENCH, allowances=(Allowance("api.wandb.ai"),))
    (finding,) = judged(config("https://api.wandb.ai/email/dispatch"), allowed)
    assert (finding.verdict, finding.reason) == (ALLOWED, "allowed by the user (--allow)")


def test_hosts_of_the_channel_are_not_the_users() -> None:
    values: Any = {"host": "https://a.lan", "other": ["b.lan:80", "plain"], "same": "c.lan"}
    assert configured_hosts(values, {"same": "c.lan"}) == {"a.lan": "host", "b.lan": "other[0]"}


def test_a_single_line_is_no_comment_because_it_may_be_a_value() -> None:
    document = config("#https://example.org")
    assert not is_comment(Hit(document, "data.x", "https://example.org", "url", None, "example.org"))
    assert not is_comment(Hit(document, "data..", "https://example.org", "url", None, "example.org"))


def test_a_comment_in_opened_yaml_is_seen_too() -> None:
    findings = judged(config("# see https://example.org/x\na:\n  b: https://example.com/y\n"))
    assert {finding.text: finding.verdict for finding in findings} == {
        "https://example.org/x": INERT,
        "https://example.com/y": OPEN,
    }


def test_every_rule_says_why_and_where_it_was_seen_and_how_to_mend_it() -> None:
    for rule in RULES:
        assert rule.reason
        assert rule.source
        assert bool(rule.fix) == (rule.verdict == OPEN)


def test_a_cloud_address_that_the_user_names_is_his_and_so_is_what_lies_below_it() -> None:
    configured = configured_hosts({"bucket": "gs://corp-wandb", "queue": ["pubsub:/corp/runs"]}, {})
    assert configured == {"gs://corp-wandb": "bucket", "pubsub:/corp/runs": "queue[0]"}
    bench = replace(BENCH, configured=configured)
    for text in ("gs://corp-wandb", "gs://corp-wandb/media?x=y", "pubsub:/corp/runs/worker"):
        (finding,) = judged(config(text), bench)
        assert (finding.verdict, "configured by the user at" in finding.reason) == (ALLOWED, True)
    (finding,) = judged(config("gs://corp-wandb-2"), bench)
    assert finding.verdict == OPEN
    allowed = replace(BENCH, allowances=(Allowance("storage.googleapis.com", "by the interconnect"),))
    (finding,) = judged(config("gs://corp-wandb-2"), allowed)
    assert (finding.verdict, finding.reason) == (ALLOWED, "allowed by the user: by the interconnect")
