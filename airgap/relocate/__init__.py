"""Relocate: rewrite the operator's configuration so that everything comes from the private registry. See ``stage``."""

from airgap.relocate.gitops import Style
from airgap.relocate.mirrors import MirrorOptions, mirror_files, resolve
from airgap.relocate.rewrite import Change, Unmoved
from airgap.relocate.stage import AUTO, CONFIGMAP, OCI, Options, Relocation, relocate

__all__ = [
    "AUTO",
    "CONFIGMAP",
    "OCI",
    "Change",
    "MirrorOptions",
    "Options",
    "Relocation",
    "Style",
    "Unmoved",
    "mirror_files",
    "relocate",
    "resolve",
]
