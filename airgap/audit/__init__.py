"""Audit: prove that a configuration points nowhere outside. See ``stage``, ``judge`` and ``knowledge``."""

from airgap.audit.files import Applied, read_directory
from airgap.audit.judge import Allowance
from airgap.audit.stage import AuditOptions, audit
from airgap.verdict import ALLOWED, INERT, OPEN, Finding, Proved, Verdict

__all__ = [
    "ALLOWED",
    "INERT",
    "OPEN",
    "Allowance",
    "Applied",
    "AuditOptions",
    "Finding",
    "Proved",
    "Verdict",
    "audit",
    "read_directory",
]
