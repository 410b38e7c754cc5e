"""The files of a folder that ``airgap render`` wrote (or anybody else in its place), read for an audit.

Only what is applied is read: the operator's values, the custom resource, the user's other objects, and which charts the chart
ConfigMap holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.values import get, load_yaml, load_yaml_all
from airgap.wandb import CustomResource

if TYPE_CHECKING:
    from pathlib import Path

    from airgap.values import Json

OPERATOR_VALUES, RESOURCE, CHART, OTHERS = "operator-values.yaml", "wandb.yaml", "chart.yaml", "others.yaml"
"""File names, as ``airgap.relocate.outputs`` writes them."""

RENDERED = ("operator/operator.yaml", "operator/crds.yaml")
"""The operator as plain objects (``airgap.relocate.gitops``): what ``kubectl apply -k`` takes, whatever the values say."""


@dataclass(frozen=True)
class Applied:
    """What will be applied. ``charts`` are the file names in the chart ConfigMap; None if the folder has none.

    ``others`` are the objects that the user's files held beside the custom resource, and the operator's as plain objects.
    """

    operator_values: dict[str, Json]
    resource: CustomResource
    charts: tuple[str, ...] | None
    others: tuple[dict[str, Json], ...] = ()


def read_directory(directory: Path) -> Applied:
    """Read DIR; raises ConfigurationError that names the file that is missing or cannot be read."""
    values = load_yaml(_text(directory / OPERATOR_VALUES), OPERATOR_VALUES)
    if values is not None and not isinstance(values, dict):
        raise ConfigurationError(f"{directory / OPERATOR_VALUES} is no map of values")
    documents = [it for it in load_yaml_all(_text(directory / RESOURCE), RESOURCE) if it is not None]
    if len(documents) != 1:
        raise ConfigurationError(f"{directory / RESOURCE} holds {len(documents)} objects, not one custom resource")
    charts = _charts(directory / CHART) if (directory / CHART).exists() else None
    others = tuple(it for name in (OTHERS, *RENDERED) for it in _others(directory / name))
    return Applied(values or {}, CustomResource.from_document(documents[0], RESOURCE), charts, others)


def _others(path: Path) -> tuple[dict[str, Json], ...]:
    if not path.exists():
        return ()
    documents = [it for it in load_yaml_all(_text(path), path.name) if it is not None]
    objects = tuple(it for it in documents if isinstance(it, dict))
    if len(objects) != len(documents):
        raise ConfigurationError(f"{path} holds something that is no Kubernetes object")
    return objects


def _charts(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    for document in load_yaml_all(_text(path), path.name):
        for field in ("data", "binaryData"):
            data = get(document, (field,))
            found += data if isinstance(data, dict) else ()
    return tuple(found)


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint="give the folder that airgap render --dir wrote"
        ) from error
