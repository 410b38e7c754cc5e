"""The target registries of the push tests, for deltas."""

from tests.push.conftest import proxy, target

__all__ = ["proxy", "target"]
