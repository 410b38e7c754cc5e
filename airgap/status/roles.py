"""What each pod is for, in words. Pure.

The part's name is the label ``app.kubernetes.io/name``, which W&B's charts set from the alias of wandb-base (wandb-v1.md
sections 3 and 4); where it is missing, or too general, the names of owner and container say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.trouble.words import items, text

if TYPE_CHECKING:
    from airgap.values import Json

ROLES: dict[str, str] = {
    "operator": "the operator: installs and keeps W&B as the custom resource says",
    "app": "the W&B application: web pages and API",
    "api": "the API, apart from the application",
    "console": "the System Console: settings, health and users for administrators",
    "parquet": "turns run histories into parquet files",
    "parquet-backfill": "turns older run histories into parquet files, by the clock",
    "parquet-metadata-cache": "caches what is in the parquet files",
    "weave": "Weave: panels and queries in the web pages",
    "weave-trace": "Weave traces: takes and serves traces of language models",
    "weave-trace-worker": "Weave traces: works off its queue",
    "weave-evaluate-model-worker": "Weave traces: evaluates models",
    "weave-trace-agent-scoring-worker": "Weave traces: scores agents",
    "executor": "runs tasks in the background",
    "glue": "moves run data between queue, database and bucket",
    "filestream": "takes logs and metrics of running jobs",
    "filemeta": "keeps the metadata of files",
    "flat-run-fields-updater": "keeps the search tables of runs",
    "history-updater": "keeps the tables of run histories",
    "metric-observer": "watches metrics for alerts",
    "frontend": "serves the web pages",
    "nginx": "passes requests on to the parts",
    "anaconda2": "builds plots",
    "mcp-server": "lets language models use W&B (MCP)",
    "lumen-agent": "reports usage",
    "settings-migration-job": "moves settings, once",
    "clickhouse-migration-job": "prepares ClickHouse, once",
    "app-rename-pre-hook": "prepares an upgrade, once",
    "app-rename-post-hook": "finishes an upgrade, once",
    "internal-signer-pre-hook": "makes signing keys, once",
    "redis": "Redis: cache and queue",
    "mysql": "MySQL: the database (bundled; for trials only)",
    "clickhouse": "ClickHouse: traces and histories",
    "clickhouse-keeper": "keeps ClickHouse's replicas in step",
    "kafka": "Kafka: the queue",
    "zookeeper": "keeps Kafka's brokers in step",
    "bufstream": "Bufstream: the queue, kept in the bucket",
    "etcd": "etcd: Bufstream's register",
    "otel": "OpenTelemetry collector: logs and metrics of the parts",
    "prometheus": "Prometheus: metrics for the System Console",
    "mysql-exporter": "metrics of MySQL",
    "redis-exporter": "metrics of Redis",
    "stackdriver": "metrics of Google Cloud",
    "yace": "metrics of AWS",
    "reloader": "restarts pods when their settings change",
    "test": "a test of helm",
}
"""Part to what it does, in words."""

_GENERAL = {"daemonset": "otel", "deployment": "otel", "otel-daemonset": "otel", "otel-deployment": "otel"}
"""Labels that are too general: otel's chart calls its agents after their kind."""


@dataclass(frozen=True, order=True)
class Role:
    """A part's short name and what it does; the latter is empty for a part that nobody described."""

    name: str
    words: str


def role_of(pod: Json, release: str = "") -> Role:
    """Return the role of a pod (or of a workload); ``release`` is what the release's objects are called after."""
    name = _name(pod, release)
    return Role(name, ROLES.get(name, ""))


def _name(pod: Json, release: str) -> str:
    labels = ("metadata", "labels")
    named = _kebab(text(pod, *labels, "app.kubernetes.io/name"))
    special = (
        (text(pod, *labels, "control-plane") == "controller-manager" or _has_container(pod, "manager"), "operator"),
        (named == "clickhouse" and text(pod, *labels, "app.kubernetes.io/component") == "keeper", "clickhouse-keeper"),
        (named == "parquet" and _has_container(pod, "backfill-job"), "parquet-backfill"),
        (named == "operator-wandb", "test"),
        (named in _GENERAL, _GENERAL.get(named, "")),
        (named in ROLES, named),
    )
    found = next((role for holds, role in special if holds), "")
    return found or _by_names(pod, release) or named or text(pod, "metadata", "name")


def _by_names(pod: Json, release: str) -> str:
    """Return the longest known part that the pod's name, after the release's, begins with."""
    name = text(pod, "metadata", "name").removeprefix(f"{release}-" if release else "")
    containers = [text(it, "name").removeprefix(f"{release}-" if release else "") for it in items(pod, "spec", "containers")]
    for candidate in (name, *containers):
        known = [part for part in ROLES if candidate == part or candidate.startswith(f"{part}-")]
        if known:
            return max(known, key=len)
    return ""


def _has_container(pod: Json, name: str) -> bool:
    return any(text(it, "name") == name for it in items(pod, "spec", "containers"))


def _kebab(name: str) -> str:
    """Return a camelCase alias (``appRenamePreHook``) as the objects spell it."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"-{found[1].lower()}", name).lower()
