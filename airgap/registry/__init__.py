"""The verbs of the OCI distribution specification: see ``verbs`` for reading and manifests, ``upload`` for blobs."""

from airgap.registry.verbs import Registry

__all__ = ["Registry"]
