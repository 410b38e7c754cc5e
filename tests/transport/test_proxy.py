"""HTTPS_PROXY and NO_PROXY in every form, and proxies that do not help."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

import pytest

from airgap.errors import ConfigurationError, NetworkError, TLSError
from airgap.transport import Client, HostSettings
from airgap.transport.proxy import Proxies
from tests.transport.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, Seen, in_turn

PROXY = "http://proxy.lan:3128"


@pytest.mark.parametrize(
    ("entry", "url", "direct"),
    [
        ("reg.lan", "https://reg.lan:5000/v2/", True),
        ("reg.lan", "https://a.reg.lan/v2/", True),
        ("reg.lan", "https://xreg.lan/v2/", False),
        ("reg.lan", "https://reg.lan.evil/v2/", False),
        (".corp.lan", "https://a.corp.lan/", True),
        (".corp.lan", "https://a.b.corp.lan/", True),
        (".corp.lan", "https://corp.lan/", True),
        ("*.corp.lan", "https://a.corp.lan/", True),
        ("*.corp.lan", "https://other.lan/", False),
        ("REG.LAN", "https://reg.lan/", True),
        ("reg.lan.", "https://reg.lan/", True),
        ("reg.lan", "https://reg.lan./", True),
        ("reg.lan:5000", "https://reg.lan:5000/", True),
        ("reg.lan:5000", "https://reg.lan:5001/", False),
        ("reg.lan:443", "https://reg.lan/", True),
        ("reg.lan:80", "https://reg.lan/", False),
        ("10.0.0.0/8", "https://10.1.2.3:5000/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8", "https://ten.lan/", False),
        ("10.1.2.3", "https://10.1.2.3:5000/", True),
        ("10.1.2.3:5000", "https://10.1.2.3:5000/", True),
        ("10.1.2.3:5000", "https://10.1.2.3:5001/", False),
        ("2.3", "https://10.1.2.3/", False),
        ("fd00::/8", "https://[fd12::1]:5000/", True),
        ("[fd00::]/8", "https://[fd12::1]:5000/", True),
        ("fd00::/8", "https://[fe12::1]/", False),
        ("fd12::1", "https://[fd12::1]:5000/", True),
        ("[fd12::1]", "https://[fd12::1]/", True),
        ("[fd12::1]", "https://[FD12:0::1]/", True),
        ("[fd12::1]:5000", "https://[fd12::1]:5000/", True),
        ("[fd12::1]:5000", "https://[fd12::1]:5001/", False),
        ("*", "https://anything.at.all/", True),
        ("10.0.0.0/99", "https://10.1.2.3/", False),
        (".", "https://reg.lan/", False),
        ("a.lan b.lan,,c.lan", "https://b.lan/", True),
        ("a.lan, c.lan", "https://c.lan/", True),
        ("", "https://localhost:5000/", True),
        ("", "https://127.0.0.1:5000/", True),
        ("", "https://127.9.9.9:5000/", True),
        ("", "https://[::1]:5000/", True),
        ("", "https://reg.lan/", False),
    ],
)
def test_no_proxy_covers(entry, url, direct):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})
    assert proxies.for_url(url) == ("" if direct else PROXY)


def test_lower_case_names_win():
    environ = {"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1", "NO_PROXY": "a.lan", "no_proxy": "b.lan"}
    proxies = Proxies.from_environment(environ)
    assert proxies.for_url("https://a.lan/") == "http://lower:1"
    assert proxies.for_url("https://b.lan/") == ""


def test_each_scheme_has_its_proxy_and_all_proxy_is_for_what_has_none():
    proxies = Proxies.from_environment({"HTTP_PROXY": "p:1", "ALL_PROXY": "https://q:2"})
    assert proxies.for_url("http://a.lan/") == "http://p:1"
    assert proxies.for_url("https://a.lan/") == "https://q:2"
    assert Proxies.from_environment({}).for_url("https://a.lan/") == ""


def test_a_socks_proxy_is_refused_by_name_and_without_its_password():
    with pytest.raises(ConfigurationError, match="socks5 proxy") as caught:
        Proxies.from_environment({"ALL_PROXY": "socks5://ann:secret@p:1080"})
    assert "secret" not in str(caught.value)


def test_a_plain_request_goes_to_the_proxy_with_the_proxys_own_credentials(plain):
    with Scripted(in_turn(Answer(200, body=b"through"))) as proxy:
        environ = {"HTTP_PROXY": f"http://ann:pass-word@{proxy.host}", "NO_PROXY": "direct.lan"}
        client = plain("reg.lan:5000", environ=environ)
        with client.request("GET", "http://reg.lan:5000/v2/") as response:
            assert response.read(100) == b"through"
        assert proxy.seen[0].path == "http://reg.lan:5000/v2/"
        told = proxy.seen[0].headers["proxy-authorization"]
    assert base64.b64decode(told.removeprefix("Basic ")) == b"ann:pass-word"


def test_a_proxy_that_wants_a_password_is_named_without_the_one_it_got(plain):
    with Scripted(in_turn(Answer(407))) as proxy:
        client = plain(environ={"HTTPS_PROXY": f"http://ann:pass-word@{proxy.host}"})
        with pytest.raises(NetworkError, match=f"the proxy http://{proxy.host} wants other credentials.*407") as caught:
            client.request("GET", "https://quay.io/v2/")
        assert len(proxy.seen) == 1
        assert proxy.seen[0].method == "CONNECT"
    assert "pass-word" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("status", [403, 503])
def test_a_proxy_that_does_not_let_us_through_is_named_and_not_the_registry(plain, status):
    with Scripted(in_turn(Answer(status, {"Content-Type": "text/html"}, b"<h1>Blocked by policy</h1>"))) as proxy:
        client = plain(environ={"HTTPS_PROXY": f"http://{proxy.host}"})
        with pytest.raises(
            NetworkError, match=rf"the proxy .*{proxy.host} does not let us through: it answered {status}.*quay.io"
        ):
            client.request("GET", "https://quay.io/v2/")


def test_a_proxy_that_is_not_there_is_named(plain):
    with Scripted(in_turn(Answer())) as gone:
        host = gone.host
    with pytest.raises(
        NetworkError, match=f"the proxy http://{host} .for quay.io. cannot be reached: the connection is refused"
    ):
        plain(environ={"HTTPS_PROXY": f"http://{host}"}).request("GET", "https://quay.io/v2/")


def test_an_answer_of_a_proxy_to_plain_http_says_that_it_came_through_it(plain):
    def answer(_: Seen) -> Answer:
        return Answer(403, {"Content-Type": "text/html"}, b"<h1>Not for you</h1>")

    with Scripted(answer) as proxy:
        client = plain("reg.lan", environ={"http_proxy": proxy.host})
        with pytest.raises(NetworkError, match=f"through the proxy http://{proxy.host}"):
            client.request("GET", "http://reg.lan/v2/")


class Tunnel:
    """A proxy that opens tunnels for CONNECT, to one place whatever the name: what a name inside a site resolves to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines, contextlib.suppress(OSError):
            self.asked.append(lines.readline().decode().split()[1])
            while lines.readline().strip():
                pass
            with socket.create_connection(("127.0.0.1", self.port)) as target:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=self._copy, args=(target, client), daemon=True)
                back.start()
                self._copy(client, target)
                back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_tls_through_a_tunnel_is_checked_against_the_registrys_name(authority):
    pair = authority.issue("reg.corp.lan")
    with Scripted(in_turn(Answer(200, body=b"inside")), pair=pair) as registry:
        tunnel = Tunnel(int(registry.host.rpartition(":")[2]))
        hosts = {name: HostSettings(ca_file=authority.root) for name in ("reg.corp.lan:5000", "other.corp.lan:5000")}
        with Client(hosts=hosts, environ={"HTTPS_PROXY": tunnel.host}, retry=QUICK) as client:
            with client.request("GET", "https://reg.corp.lan:5000/v2/") as response:
                assert response.read(10) == b"inside"
            client.request("PUT", "https://reg.corp.lan:5000/v2/", body=b"x" * 500_000).close()
            with pytest.raises(TLSError, match="is not for that name"):
                client.request("GET", "https://other.corp.lan:5000/v2/")
        tunnel.stop()
        assert tunnel.asked == ["reg.corp.lan:5000", "other.corp.lan:5000"]
        assert len(registry.seen[1].body) == 500_000
