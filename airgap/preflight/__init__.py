"""Preflight: everything that would stop an install, found before anything is changed. See ``stage`` and ``report``."""

from airgap.preflight.registry import registry
from airgap.preflight.report import FINE, STOP, WARN, Finding, Report
from airgap.preflight.stage import Inquiry, preflight

__all__ = ["FINE", "STOP", "WARN", "Finding", "Inquiry", "Report", "preflight", "registry"]
