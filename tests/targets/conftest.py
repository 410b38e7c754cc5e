"""The target registries of the push tests, for layouts and kinds of data."""

from tests.push.conftest import proxy, target

__all__ = ["proxy", "target"]
