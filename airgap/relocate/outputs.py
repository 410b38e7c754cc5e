"""The files of a relocation: operator values, custom resource, Secrets, the chart's ConfigMap, node mirrors.

Invariants: the same relocation gives the same bytes (no dates, keys in order); credentials and licences stand in
``secrets.yaml`` and nowhere else, and that file is readable by its owner alone.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, DiskError
from airgap.values import dump_yaml
from airgap.wandb import PASSWORD_KEY, USERNAME_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from airgap.chart import Chart
    from airgap.values import Json

OPERATOR_VALUES, RESOURCE, SECRETS, CHART = "operator-values.yaml", "wandb.yaml", "secrets.yaml", "chart.yaml"
OTHERS = "others.yaml"
MIRRORS = "node-mirrors"

CONFIGMAP_LIMIT = 1024 * 1024
"""Bytes of a ConfigMap's keys and decoded data together (Kubernetes, "ConfigMaps"; apiserver validation MaxSecretSize)."""

MANAGED = {"app.kubernetes.io/managed-by": "airgap"}


def secret(name: str, namespace: str, data: Mapping[str, str], kind: str = "Opaque") -> dict[str, Json]:
    """Return a Secret; ``data`` is text, which is encoded."""
    encoded: dict[str, Json] = {key: base64.b64encode(text.encode()).decode() for key, text in sorted(data.items())}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "type": kind,
        "data": encoded,
    }


def pull_secret(name: str, namespace: str, registry: str, username: str, password: str) -> dict[str, Json]:
    """Return a Secret with which nodes pull from ``registry``."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    entry = {"username": username, "password": password, "auth": auth}
    config = json.dumps({"auths": {registry: entry}}, sort_keys=True)
    return secret(name, namespace, {".dockerconfigjson": config}, "kubernetes.io/dockerconfigjson")


def chart_credentials(name: str, namespace: str, username: str, password: str) -> dict[str, Json]:
    """Return the Secret with which the operator pulls an OCI chart (its default keys)."""
    return secret(name, namespace, {USERNAME_KEY: username, PASSWORD_KEY: password})


def chart_key(chart: Chart) -> str:
    """Return the file name of a chart in the ConfigMap.

    Another chart has another name, of the same version too: under the same path the operator would not see it
    (wandb-v1.md section 11).
    """
    return f"{chart.label.replace('+', '_')}-{chart.digest.short}.tgz"


def fits(chart: Chart) -> bool:
    """Whether a ConfigMap can hold the chart's archive."""
    return len(chart_key(chart)) + len(chart.archive) <= CONFIGMAP_LIMIT


def chart_configmap(name: str, namespace: str, chart: Chart, key: str = "") -> dict[str, Json]:
    """Return the ConfigMap that the operator mounts at /charts; raises ConfigurationError if the chart is too large.

    ``key``: its file name there, if a custom resource has it already.
    """
    if not fits(chart):
        raise ConfigurationError(
            f"chart {chart.label} has {len(chart.archive)} bytes, more than the {CONFIGMAP_LIMIT} of a ConfigMap",
            hint="use --chart-delivery oci",
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED)},
        "binaryData": {key or chart_key(chart): base64.b64encode(chart.archive).decode()},
    }


def dump_all(documents: Iterable[Mapping[str, Json]], header: str) -> str:
    """Return several documents as one YAML file."""
    parts = [dump_yaml(dict(document)) for document in documents]
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return comment + "---\n".join(parts)


def write(files: Mapping[str, str | bytes], directory: Path) -> list[str]:
    """Write files below ``directory`` and return those whose content is new; raises DiskError.

    A file that holds the right bytes already is not touched.
    """
    written = []
    try:
        for name, content in sorted(files.items()):
            data = content.encode() if isinstance(content, str) else content
            path = directory / name
            mode = 0o600 if path.name == SECRETS else 0o644
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.read_bytes() == data:
                path.chmod(mode)
                continue
            partial = path.with_name(f".{path.name}.partial")
            partial.touch(mode=mode)
            partial.chmod(mode)
            partial.write_bytes(data)
            partial.replace(path)
            written.append(name)
    except OSError as error:
        raise DiskError(f"{error.filename or directory} cannot be written: {error.strerror or error}") from error
    return written
