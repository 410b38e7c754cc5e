"""Apply: carry an intent out on a cluster, after an audit has proved it. See ``stage``, ``steps``, ``wait`` and ``diff``."""

from airgap.apply.diff import Difference, compare
from airgap.apply.stage import ALL, SAME, ApplyOptions, Outcome, Tools, apply, check_proof
from airgap.apply.steps import OPERATOR, SERVER
from airgap.apply.wait import Watch, wait

__all__ = [
    "ALL",
    "OPERATOR",
    "SAME",
    "SERVER",
    "ApplyOptions",
    "Difference",
    "Outcome",
    "Tools",
    "Watch",
    "apply",
    "check_proof",
    "compare",
    "wait",
]
