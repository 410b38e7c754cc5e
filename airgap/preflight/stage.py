"""Preflight: ask everything that would stop an install, all at once; nothing is changed and nothing is left behind.

::

    report = preflight(inquiry)
    for finding in report.stops: print(finding, finding.remedy)
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import ClusterError
from airgap.kube import ForbiddenError
from airgap.preflight import cluster, contents, state
from airgap.preflight.registry import Ends, registry
from airgap.preflight.report import STOP, WARN, Finding, Report
from airgap.preflight.sizes import sizes
from airgap.standing import look

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from airgap.chart import Chart
    from airgap.intent import Intent
    from airgap.kube import Kubectl
    from airgap.lock import Lock
    from airgap.progress import Progress
    from airgap.releases import HelmReleases

CHECKS_AT_ONCE = 6
"""Checks at a time; each waits for kubectl."""


@dataclass(frozen=True)
class Inquiry:
    """What is to be installed, and whom to ask. ``ignored``: checks of which what would stop only warns."""

    intent: Intent
    lock: Lock
    kubectl: Kubectl
    releases: HelmReleases
    ends: Ends
    operator_chart: Chart
    server_chart: Chart
    server_values: Mapping[str, Any] = field(hash=False, repr=False)
    progress: Progress
    allow_older: bool = False
    overwrite_edits: bool = False
    ignored: Collection[str] = ()


def preflight(inquiry: Inquiry) -> Report:
    """Return every finding; raises nothing that a finding can say."""
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "registry": lambda: registry(inquiry.ends, inquiry.lock, has_pull_secret=bool(inquiry.intent.pull_secret)),
        "sizes": lambda: sizes(inquiry.intent, inquiry.operator_chart, inquiry.server_chart, inquiry.server_values),
    }
    found: list[Finding] = []
    try:
        found.append(cluster.version(inquiry.kubectl))
        checks |= _of_cluster(inquiry)
    except ClusterError as error:
        found.append(Finding("cluster", STOP, error.message, error.hint))
    inquiry.progress.begin("preflight", len(checks) + 1)
    with ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        answers = {name: pool.submit(_told, name, check) for name, check in checks.items()}
        for name, answer in answers.items():
            found += answer.result()
            inquiry.progress.done(name)
    inquiry.progress.end()
    return Report.of(found, inquiry.ignored)


def _of_cluster(inquiry: Inquiry) -> dict[str, Callable[[], Iterable[Finding]]]:
    kubectl, intent = inquiry.kubectl, inquiry.intent
    return {
        "api": lambda: cluster.api_groups(kubectl, intent),
        "nodes": lambda: cluster.nodes(kubectl, inquiry.lock.platforms),
        "namespaces and rights": lambda: _namespaces(kubectl, intent),
        "crds": lambda: state.crds(kubectl, intent),
        "lease": lambda: [state.other_install(kubectl, intent)],
        "upgrade": lambda: _upgrade(inquiry),
        "console": lambda: state.system_console(kubectl, intent),
        "secrets": lambda: contents.needed(kubectl, intent),
        "pull secret": lambda: contents.pull_secret(kubectl, intent),
        "storage": lambda: contents.storage(kubectl, intent),
        "licence": lambda: contents.licence(kubectl, intent),
    }


def _namespaces(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    found, absent, leaving = cluster.namespaces(kubectl, intent)
    yield from found
    lacking = list(cluster.rights(kubectl, intent, absent))
    yield from lacking
    if not any(it.level == STOP for it in lacking):
        yield from cluster.grants(kubectl, intent, [*absent, *leaving])


def _upgrade(inquiry: Inquiry) -> Iterator[Finding]:
    standing = look(inquiry.kubectl, inquiry.releases, inquiry.intent)
    options = {"allow_older": inquiry.allow_older, "overwrite_edits": inquiry.overwrite_edits}
    yield from state.upgrade(standing, inquiry.intent, **options)


def _told(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return a check's findings; what the user may not look at, or what breaks off, is a finding too."""
    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)  # noqa: PERF402 - one by one: what was found before a break stays
    except ForbiddenError as error:
        found.append(Finding(name, WARN, f"not checked: {error.message}", error.hint))
    except ClusterError as error:
        found.append(Finding(name, STOP, error.message, error.hint))
    return found
