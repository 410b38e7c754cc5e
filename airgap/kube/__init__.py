"""Kube: the Kubernetes API through the site's own kubectl. See ``client``, ``failures`` and ``running``."""

from airgap.kube.client import FIELD_MANAGER, Kubectl, Question
from airgap.kube.failures import ConflictError, ForbiddenError, UnknownKindError, UnreachableError
from airgap.kube.objects import describe, identity, is_leaving, kind_word, managed_at, managers_of

__all__ = [
    "FIELD_MANAGER",
    "ConflictError",
    "ForbiddenError",
    "Kubectl",
    "Question",
    "UnknownKindError",
    "UnreachableError",
    "describe",
    "identity",
    "is_leaving",
    "kind_word",
    "managed_at",
    "managers_of",
]
