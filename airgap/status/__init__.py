"""Status: what runs, what each pod is for, what is wrong and why, and what was changed since.

::

    status = judge(observe(kubectl, Subject()))
    status.problems          # empty: healthy

``observe`` reads the cluster, ``judge`` is pure.
"""

from airgap.status.drift import Drift, compare
from airgap.status.judge import PodRow, Problem, Status, judge
from airgap.status.observe import HelmRecord, Observation, Subject, observe
from airgap.status.roles import ROLES, Role, role_of

__all__ = [
    "ROLES",
    "Drift",
    "HelmRecord",
    "Observation",
    "PodRow",
    "Problem",
    "Role",
    "Status",
    "Subject",
    "compare",
    "judge",
    "observe",
    "role_of",
]
