"""Trouble: what keeps pods from running, each in one sentence with the next step. Pure.

::

    for trouble in explain_pod(pod, events_of_pod, Surroundings(registry="reg.lan")):
        print(trouble, trouble.fix)

Invariants: objects are taken as the API server gives them (``kubectl get -o json``), nothing is asked of anybody; whatever is
not ready gets at least one Trouble, so silence means health. A trouble that may pass by itself is ``waiting``. The sentences of
kubelet, containerd, CRI-O, scheduler and controllers are matched by tables that say where each was seen; what no table knows is
told in the component's own words, never dropped.
"""

from airgap.trouble.elsewhere import explain_events, explain_object, is_short
from airgap.trouble.pod import COMPLETED, ENDING, FAILING, READY, STARTING, explain_pod, state
from airgap.trouble.pulls import hosts_of
from airgap.trouble.words import Surroundings, Trouble, distinct

__all__ = [
    "COMPLETED",
    "ENDING",
    "FAILING",
    "READY",
    "STARTING",
    "Surroundings",
    "Trouble",
    "distinct",
    "explain_events",
    "explain_object",
    "explain_pod",
    "hosts_of",
    "is_short",
    "state",
]
