"""``airgap audit --live``: what runs, held against the receipts."""

from __future__ import annotations

from typing import Any

import click

from airgap.audit import ALLOWED, Allowance
from airgap.audit.live import LiveOptions, audit_live, read
from airgap.cli import cluster, options
from airgap.cli.output import emit, table
from airgap.errors import ConfigurationError, NotClosedError
from airgap.receipts import Receipts
from airgap.standing import RESOURCE_KIND


@click.command(
    "audit",
    epilog="""\b
Examples:
  airgap audit --live
  airgap audit --live -n wandb --context prod --all -o json""",
)
@click.option("--live", is_flag=True, required=True, help="Judge what runs instead of what would.")
@cluster.options
@click.option("--allow", multiple=True, metavar="HOST[=REASON]", help="An outside host that may be; the reason goes on record.")
@click.option("--all", "show_all", is_flag=True, help="Show allowed findings too.")
@options.output
@options.common
def command(*, live: bool, show_all: bool, output_format: str, **flags: Any) -> None:
    """Judge what runs: the image of every running and past pod by the digest that its node reports, against the receipts.

    The System Console's settings, the operator's environment, and the NetworkPolicies in force are judged too. Exit 5 when
    anything is open.
    """
    del live
    progress = options.progress(flags)
    allowances = tuple(
        Allowance(host.lower(), reason) for host, _, reason in (text.partition("=") for text in flags.pop("allow"))
    )
    kubectl, namespace = cluster.kubectl(flags), flags.pop("namespace")
    store = Receipts(kubectl, namespace)
    receipts = [receipt for number in store.numbers() if (receipt := store.get(number)) is not None]
    if not receipts:
        raise ConfigurationError(
            f"namespace {namespace} has no receipt of airgap, so nobody knows what was installed",
            hint="name the operator's namespace with -n; what airgap install did not install is audited with a bundle",
        )
    verdict = audit_live(read(kubectl, receipts, receipts[-1].place, RESOURCE_KIND), LiveOptions(allowances))
    for warning in verdict.warnings:
        progress.warn(warning)
    shown = [it for it in verdict.findings if show_all or it.verdict != ALLOWED]
    rows = [
        (
            it.verdict,
            it.text,
            f"{it.template}/{it.object}".lstrip("/"),
            it.path,
            f"{it.reason}; fix: {it.fix}" if it.fix else it.reason,
        )
        for it in sorted(shown, key=lambda it: (it.verdict != "open", it))
    ]
    told = [table(("VERDICT", "WHAT", "OBJECT", "WHERE", "WHY"), rows)] if rows else []
    emit(
        output_format,
        data=verdict.to_json(),
        table="\n\n".join([*told, verdict.summary()]),
        names=[finding.text for finding in verdict.open],
    )
    if not verdict:
        raise NotClosedError(f"not closed: {len(verdict.open)} open in what runs", hint="each open line above says what to do")
