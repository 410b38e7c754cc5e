"""What is known about hosts that W&B's charts name: each rule with its reason and where that was seen.

A table, small on purpose: whatever it does not know is open, so a missing rule is noticed and a wrong one can be read.
Sources are sections of reference/wandb-v1.md unless they say otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airgap.audit.verdict import INERT, OPEN


@dataclass(frozen=True)
class Rule:
    """A host (and what stands around it) with its verdict.

    ``host`` and ``text`` are patterns for the whole host and for the beginning of the text; ``template`` one for the template or
    document. The rule does not hold when an environment variable ``unless_env`` is set to true anywhere in the rendering.
    """

    host: re.Pattern[str]
    verdict: str
    reason: str
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
        reason="mail is handed to W&B's cloud, which is what the chart does when no SMTP host is set (section 6, hidden egress)",
        fix="set global.email.smtp.host (and port, user, password) to the site's mail server; the chart has no other switch",
    ),
    Rule(
        host=re.compile(r"deploy\.wandb\.ai"),
        verdict=OPEN,
        reason="the release channel of W&B is asked for charts and versions (section 1)",
        fix="set airgapped: true in the operator's values and no DEPLOYER_CHANNEL_URL that leads outside",
    ),
    Rule(
        host=re.compile(r"charts\.wandb\.ai|wandb\.github\.io|github\.com"),
        text=re.compile(r"https?://(?:charts\.wandb\.ai|wandb\.github\.io|github\.com/wandb)"),
        verdict=OPEN,
        reason="W&B's public chart repository (section 3)",
        fix=DELIVERY_FIX,
    ),
    Rule(
        host=re.compile(r"acme(?:-staging)?-v\d+\.api\.letsencrypt\.org"),
        verdict=OPEN,
        reason="certificates would be asked of Let's Encrypt (section 6; only with ingress.issuer.create)",
        fix="set ingress.issuer.create: false and bring a certificate (ingress.tls), or ingress.issuer.server to an ACME server inside",
    ),
    Rule(
        host=re.compile(r"(?:sts|iamcredentials)\.googleapis\.com"),
        template=re.compile(r".*lumen"),
        verdict=OPEN,
        reason="lumen-agent exchanges tokens with Google Cloud (section 6)",
        fix="set lumen-agent.install: false, or leave global.lumen.gcpWorkloadIdentity.audience empty",
    ),
    Rule(
        host=re.compile(r"ipinfo\.io"),
        template=re.compile(r".*/kafka/templates/scripts-configmap\.yaml"),
        verdict=INERT,
        reason="Bitnami's Kafka script asks for the public address only if EXTERNAL_ACCESS_HOST_USE_PUBLIC_IP is true, which it is not",
        unless_env="EXTERNAL_ACCESS_HOST_USE_PUBLIC_IP",
    ),
)

UNKNOWN_FIX = "set the value that makes it to an address inside; if nothing asks it, say so with --allow HOST"
TEST_REASON = "helm test alone makes it, and the operator never runs tests"
TEST_FIX = "do not run helm test inside, or put the files of node-mirrors/ on the nodes first"
COMMENT_REASON = "a comment, which nothing follows"
CRD_REASON = "documentation in a CustomResourceDefinition, which nothing follows"
