"""F34: nobody answers, not even that nobody is there."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest

from airgap.errors import NetworkError
from airgap.registry import Registry
from airgap.transport import Client, HostSettings, RetryPolicy, Timeouts


def test_a_black_hole_is_not_waited_for() -> None:
    """A listener whose queue is full drops what else wants to connect, as a firewall does."""
    with ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        host = f"127.0.0.1:{hole.getsockname()[1]}"
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003  # its only argument
            filler.connect_ex(hole.getsockname())
        quick = RetryPolicy(attempts=2, base=0.01, cap=0.02)
        settings = {host: HostSettings(plain_http=True)}
        client = stack.enter_context(Client(hosts=settings, environ={}, retry=quick, timeouts=Timeouts(0.3, 0.3)))
        begun = time.monotonic()
        with pytest.raises(NetworkError, match=r"cannot be reached: no answer within 0\.3 seconds") as caught:
            Registry(client, host).ping()
        assert time.monotonic() - begun < 10
        assert caught.value.exit_code == 3
        assert caught.value.hint


def test_a_proxy_that_never_answers_connect_is_not_waited_for() -> None:
    """F36: it takes the connection and says nothing."""
    with ExitStack() as stack:
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        name = f"127.0.0.1:{mute.getsockname()[1]}"
        quick = RetryPolicy(attempts=2, base=0.01, cap=0.02)
        environ = {"HTTPS_PROXY": f"http://{name}"}
        client = stack.enter_context(Client(environ=environ, retry=quick, timeouts=Timeouts(0.3, 0.3)))
        begun = time.monotonic()
        with pytest.raises(NetworkError, match=f"the proxy http://{name}") as caught:
            Registry(client, "reg.example").ping()
        assert time.monotonic() - begun < 10
        assert caught.value.exit_code == 3
