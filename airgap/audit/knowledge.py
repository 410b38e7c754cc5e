"""What is known about hosts that W&B's charts name: each rule with its reason and where that was seen.

A table, small on purpose: whatever it does not know is open, so a missing rule is noticed and a wrong one can be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airgap.scan import CLOUDS, S3
from airgap.verdict import INERT, OPEN


@dataclass(frozen=True)
class Rule:
    """A host (and what stands around it) with its verdict; ``source`` says where that was seen.

    ``host`` and ``text`` are patterns for the whole host and for the beginning of the text; ``template`` one for the
    template or document. The rule does not hold when an environment variable ``unless_env`` is true anywhere in the rendering.
    """

    host: re.Pattern[str]
    verdict: str
    reason: str
    source: str
    fix: str = ""
    text: re.Pattern[str] = re.compile("")
    template: re.Pattern[str] = re.compile("")
    unless_env: str = ""


DELIVERY_FIX = "let airgap render set spec.chart (--chart-delivery configmap or oci)"

RULES: tuple[Rule, ...] = (
    Rule(
        host=re.compile(r"api\.wandb\.ai"),
        text=re.compile(r"https://api\.wandb\.ai/email"),
        verdict=OPEN,
        reason="mail is handed to W&B's cloud: that is what the chart does when no SMTP host is set",
        source="operator-wandb templates/_smtp.tpl, wandb.emailSink",
        fix=(
            "set global.email.smtp.host (port, user, password) to the site's mail server; where there is none, set"
            " global.extraEnv.GORILLA_EMAIL_SINK, such as smtp://localhost:25: mail then goes nowhere"
        ),
    ),
    Rule(
        host=re.compile(r"deploy\.wandb\.ai"),
        verdict=OPEN,
        reason="the release channel of W&B is asked for charts and versions",
        source="wandb/operator pkg/wandb/spec/channel/deployer",
        fix="set airgapped: true in the operator's values and no DEPLOYER_CHANNEL_URL that leads outside",
    ),
    Rule(
        host=re.compile(r"charts\.wandb\.ai|wandb\.github\.io|github\.com"),
        text=re.compile(r"https?://(?:charts\.wandb\.ai|wandb\.github\.io|github\.com/wandb)"),
        verdict=OPEN,
        reason="W&B's public chart repository",
        source="charts.wandb.ai, its alias, and where its index leads",
        fix=DELIVERY_FIX,
    ),
    Rule(
        host=re.compile(r"acme(?:-staging)?-v\d+\.api\.letsencrypt\.org"),
        verdict=OPEN,
        reason="certificates would be asked of Let's Encrypt, which ingress.issuer.create does",
        source="operator-wandb values.yaml, ingress.issuer.server",
        fix="set ingress.issuer.create: false and bring a certificate (ingress.tls), or ingress.issuer.server to one inside",
    ),
    Rule(
        host=re.compile(r"(?:sts|iamcredentials)\.googleapis\.com"),
        template=re.compile(r".*lumen"),
        verdict=OPEN,
        reason="lumen-agent exchanges tokens with Google Cloud",
        source="operator-wandb templates/lumen.yaml",
        fix="set lumen-agent.install: false, or leave global.lumen.gcpWorkloadIdentity.audience empty",
    ),
    Rule(
        host=re.compile(r"ipinfo\.io"),
        template=re.compile(r".*/kafka/templates/scripts-configmap\.yaml"),
        verdict=INERT,
        reason="the script asks for the public address only if EXTERNAL_ACCESS_HOST_USE_PUBLIC_IP is true, which it is not",
        source="Bitnami kafka templates/scripts-configmap.yaml, kafka-init.sh",
        unless_env="EXTERNAL_ACCESS_HOST_USE_PUBLIC_IP",
    ),
)

_CLOUD = re.compile(r"(?!https?:)[a-z0-9]+:/")
RULES += (
    Rule(
        host=re.compile(re.escape(S3)),
        text=_CLOUD,
        verdict=INERT,
        reason=(
            "a bucket's name in S3's form: which store answers is the endpoint's matter, Amazon's only where none is set; the"
            " charts' own default (s3://local-files) means the store of the installation"
        ),
        source="operator-wandb GORILLA_STORAGE_BUCKET in its default rendering; AWS SDK: AWS_ENDPOINT_URL_S3",
    ),
    Rule(
        host=re.compile("|".join(re.escape(host) for host in sorted(set(CLOUDS.values()) - {S3}))),
        text=_CLOUD,
        verdict=OPEN,
        reason="a service of a cloud provider is asked, which a disconnected site does not reach",
        source="gocloud.dev, concepts/urls; operator-wandb: gs:// in lumen, pubsub: in run updates",
        fix="set the value that makes it to a service inside; where the site does reach it, say so with --allow HOST",
    ),
)
"""Cloud addresses that the user's own values do not name."""

UNKNOWN_FIX = "set the value that makes it to an address inside; if nothing asks it, say so with --allow HOST"
TEST_REASON = "helm test alone makes it, and the operator never runs tests"
TEST_FIX = "do not run helm test inside, or put the files of node-mirrors/ on the nodes first"
COMMENT_REASON = "a comment, which nothing follows"
CRD_REASON = "documentation in a CustomResourceDefinition, which nothing follows"
