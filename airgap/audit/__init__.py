"""Audit: prove that a configuration points nowhere outside. See ``stage``, ``judge`` and ``knowledge``."""

from airgap.audit.files import Applied, read_directory
from airgap.audit.judge import Allowance
from airgap.audit.names import Answers, answering
from airgap.audit.stage import AuditOptions, audit
from airgap.verdict import ALLOWED, INERT, OPEN, Finding, Proved, Verdict

__all__ = [
    "ALLOWED",
    "INERT",
    "OPEN",
    "Allowance",
    "Answers",
    "Applied",
    "AuditOptions",
    "Finding",
    "Proved",
    "Verdict",
    "answering",
    "audit",
    "read_directory",
]
