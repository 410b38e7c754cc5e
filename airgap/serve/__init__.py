"""serve: the bundle itself as registry, chart repository and release channel; with a store, a registry that takes pushes.

::

    with BundleReader.open(path) as bundle, Server(bundle, address=("0.0.0.0", 8080)) as server:
        server.url

Pictures: ``wire`` turns sockets into Requests; ``routes`` says what is asked for; ``reading`` and ``writing`` answer for the
registry out of ``contents`` (``bundled``, ``store``); ``charts`` and ``channel`` answer for the rest; ``server`` ties them.
"""

from airgap.serve.messages import Access
from airgap.serve.server import GRACE, Options, Server
from airgap.serve.users import load_users
from airgap.serve.writing import Rules

__all__ = ["GRACE", "Access", "Options", "Rules", "Server", "load_users"]
