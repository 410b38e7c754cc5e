"""Everything that goes over the network goes through here: one client, one retry policy, one way to trust.

::

    client.py      Client: the loop of attempts, redirects, challenges       response.py   Response: raw bytes, bounded
    auth.py        tokens and Basic; challenge.py parses what hosts ask     credentials.py, helper.py   auth files, helpers
    tls.py         trust; certificate.py names what was refused              proxy.py      HTTPS_PROXY, NO_PROXY (pure)
    retry.py       the policy (pure) and the back-off per host              stall.py      the floor under downloads
    rate.py        --limit-rate, and what was repeated                       quota.py      Docker Hub's count of pulls (pure)
    failures.py    from exceptions and statuses to errors                   redact.py     what nobody may read
    body.py        Window: a part of a file as a request's body             wire.py       the requests adapter
    url.py         which URLs are asked, where redirects may lead (pure)
"""

from airgap.transport.body import Body, Window
from airgap.transport.client import Client
from airgap.transport.credentials import Credential, CredentialStore
from airgap.transport.failures import NO_ROOM
from airgap.transport.rate import Rate, Tally
from airgap.transport.redact import printable, redact_url
from airgap.transport.response import CHUNK, Response, Room
from airgap.transport.retry import RetryPolicy
from airgap.transport.tls import HostSettings
from airgap.transport.url import number, origin
from airgap.transport.wire import Timeouts

__all__ = [
    "CHUNK",
    "NO_ROOM",
    "Body",
    "Client",
    "Credential",
    "CredentialStore",
    "HostSettings",
    "Rate",
    "Response",
    "RetryPolicy",
    "Room",
    "Tally",
    "Timeouts",
    "Window",
    "number",
    "origin",
    "printable",
    "redact_url",
]
