"""The target registries of the push tests, and the two halves of the end-to-end tests, for deltas."""

from tests.e2e.conftest import bare, crossing, pushed
from tests.push.conftest import proxy, target

__all__ = ["bare", "crossing", "proxy", "pushed", "target"]
