"""The target registries of the push tests, and the two halves of the end-to-end tests, for layouts, names and kinds of data."""

from tests.e2e.conftest import bare, crossing, pushed
from tests.push.conftest import proxy, target

__all__ = ["bare", "crossing", "proxy", "pushed", "target"]
