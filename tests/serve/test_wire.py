"""The HTTP under it: ambiguous, slow and broken clients, TLS, users, starting and stopping."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import requests

from airgap.bundle import BundleReader
from airgap.errors import ConfigurationError, DiskError, NetworkError
from airgap.serve import Options, Server, load_users, wire
from tests.serve.talk import Talk, code, eventually, image, sha256
from tests.world.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airgap.serve import Access


@contextmanager
def line(server: Server) -> Iterator[socket.socket]:
    """A bare connection."""
    host, _, port = server.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def one(server: Server, request: bytes) -> bytes:
    with line(server) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return said(connection)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: 3\r\nContent-Length: 4",
        b"Content-Length: -3",
        b"Content-Length: +3",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: chunked, chunked",
    ],
)
def test_a_request_of_two_minds_about_its_length_is_refused_and_the_line_closed(store: Talk, headers: bytes) -> None:
    answer = one(
        store.server, b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("body", [b"zz\r\n\r\n", b"-1\r\n", b"3\r\nabcdef\r\n", b"5\r\nab", b"f" * 2000])
def test_a_broken_chunked_coding_ends_the_connection_and_commits_nothing(store: Talk, body: bytes) -> None:
    start = f"POST /v2/a/blobs/uploads/?digest={sha256(b'abc')} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert one(store.server, start.encode() + body) == b""
    assert store.get(f"/v2/a/blobs/{sha256(b'abc')}").status_code == 404


def test_continue_is_said_only_when_the_body_is_wanted(store: Talk) -> None:
    place = store.open("a").encode()
    head = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with line(store.server) as connection:
        connection.sendall(b"PATCH " + place + head)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"data")
        assert connection.recv(1000).startswith(b"HTTP/1.1 202 ")
        connection.sendall(b"PATCH /v2/a/blobs/uploads/" + b"0" * 32 + head)
        assert said(connection).startswith(b"HTTP/1.1 404 ")


def test_a_refused_upload_of_any_size_is_answered_not_reset(shelf: Talk) -> None:
    answer = shelf.ask("PUT", "/v2/a/manifests/1", data=b"x" * (3 << 20))
    assert code(answer) == (405, "UNSUPPORTED")
    assert answer.headers["Connection"] == "close"


def test_a_small_refused_body_keeps_the_connection(shelf: Talk) -> None:
    answer = shelf.ask("PUT", "/v2/a/manifests/1", data=b"x")
    assert answer.status_code == 405
    assert "Connection" not in answer.headers


@pytest.mark.parametrize(
    "request_line", [b"GET /" + b"a" * 70000 + b" HTTP/1.1", b"BREW / HTTP/1.1", b"nonsense", b"GET / HTTP/9"]
)
def test_malformed_requests_get_an_error_and_no_traceback(
    shelf: Talk, request_line: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = one(shelf.server, request_line + b"\r\nHost: x\r\n\r\n")
    assert b" 4" in answer[:20] or b" 5" in answer[:20] or b"Error code" in answer
    assert capfd.readouterr().err == ""


def test_a_client_that_trickles_its_headers_is_cut_off(shelf: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_LIMIT", 0.2)
    with line(shelf.server) as connection:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):  # which byte meets the closed door is chance
            while time.monotonic() - began < 10:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - began < 5
    assert shelf.get("/healthz").status_code == 200


def test_an_idle_connection_is_closed_after_a_while(shelf: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.Exchange, "timeout", 0.2)
    with line(shelf.server) as connection:
        assert said(connection) == b""


def test_one_connection_too_many_is_told_to_come_back(shelf: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CONNECTION_LIMIT", 2)
    with line(shelf.server) as one_line, line(shelf.server) as other:
        for connection in (one_line, other):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        with line(shelf.server) as third:
            assert said(third).startswith(b"HTTP/1.1 503 ")
    eventually(lambda: shelf.ask("GET", "/healthz").status_code == 200)


def test_a_client_that_goes_away_while_it_is_served_is_noted_as_499(tmp_path: Path, session: requests.Session) -> None:
    accesses: list[Access] = []
    with Server(None, tmp_path / "store", access_log=accesses.append) as server:
        talk = Talk(server, session)
        data = os.urandom(1 << 20) * 32
        digest = talk.blob("a", data)
        with line(server) as connection:
            connection.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    assert accesses[-1].target == f"/v2/a/blobs/{digest}"
    assert accesses[-1].sent == 0


def test_stopping_lets_a_running_answer_end(tmp_path: Path, session: requests.Session) -> None:
    server = Server(None, tmp_path / "store").start()
    data = os.urandom(1 << 20) * 32
    digest = Talk(server, session).blob("a", data)
    with line(server) as connection:
        connection.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        begun = connection.recv(1000)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        rest = said(connection)
        stopping.join(10)
        assert not stopping.is_alive()
        assert (begun + rest).partition(b"\r\n\r\n")[2] == data
    with pytest.raises(ConfigurationError, match="not running"):
        _ = server.host
    server.stop()


def test_stopping_cuts_a_client_that_takes_too_long(tmp_path: Path, session: requests.Session) -> None:
    server = Server(None, tmp_path / "store").start()
    digest = Talk(server, session).blob("a", os.urandom(1 << 20) * 32)
    with line(server) as connection:
        connection.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(10)
        began = time.monotonic()
        server.stop(grace=0.3)
        assert time.monotonic() - began < 5


def test_a_port_in_use_is_said(shelf: Talk, tmp_path: Path) -> None:
    host, _, port = shelf.server.host.rpartition(":")
    with pytest.raises(NetworkError, match=f"{port} cannot be listened on"):
        Server(None, tmp_path / "store", address=(host, int(port))).start()
    Server(None, tmp_path / "store").start().stop()  # the store was let go


def test_ipv6_has_its_brackets(session: requests.Session, bundle_path: Path) -> None:
    with BundleReader.open(bundle_path) as bundle:
        try:
            server = Server(bundle, address=("::1", 0)).start()
        except NetworkError:
            pytest.skip("this machine has no ::1")
        with server:
            pass
        with Server(bundle, address=("::1", 0)) as server:
            assert server.host.startswith("[::1]:")
            assert Talk(server, session).get("/healthz").status_code == 200


SCRIPT = """
import sys
from pathlib import Path
from airgap.serve import Server
Server(None, Path(sys.argv[1])).serve_forever(lambda url: print(url, flush=True))
print("stopped in good order", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(tmp_path: Path, session: requests.Session, number: signal.Signals) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        assert session.get(f"{url}/v2/", timeout=10).status_code == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "stopped in good order\n", "")


# -- a disk that fills up ----------------------------------------------------------------------------------------------------

LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
"""


@pytest.fixture
def cramped(tmp_path: Path, session: requests.Session) -> Iterator[Talk]:
    """A store in a process whose files may not grow beyond 4,000 bytes."""
    command = [sys.executable, "-c", LIMITED + SCRIPT, str(tmp_path / "store")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # its files would not fit
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        assert process.stdout
        yield Talk(process.stdout.readline().strip(), session)
        process.terminate()


def test_an_upload_that_does_not_fit_is_507_and_keeps_what_came(cramped: Talk) -> None:
    place = cramped.open("app")
    assert cramped.ask("PATCH", place, data=b"x" * 3000).status_code == 202
    answer = cramped.ask("PATCH", place, data=b"x" * 3000)
    assert code(answer) == (507, "DENIED")
    assert cramped.get(place).headers["Range"] == "0-2999"
    assert cramped.ask("PUT", place, params={"digest": sha256(b"x" * 3000)}).status_code == 201


def test_a_manifest_that_does_not_fit_changes_nothing(cramped: Talk, tmp_path: Path) -> None:
    cramped.blob("app", b"{}")
    assert code(cramped.manifest("app", "big", image(b"{}", annotations={"a": "b" * 5000}))) == (507, "DENIED")
    for number in range(40):  # until index.json itself has no room
        answer = cramped.manifest("app", f"tag{number}", image(b"{}", annotations={"a": str(number)}))
        if answer.status_code != 201:
            break
    assert code(answer) == (507, "DENIED")
    assert code(cramped.get(f"/v2/app/manifests/tag{number}")) == (404, "MANIFEST_UNKNOWN")
    tags = cramped.get("/v2/app/tags/list").json()["tags"]
    assert len(tags) == number > 5
    assert list((tmp_path / "store").glob(".index.*")) == []


# -- TLS and users ------------------------------------------------------------------------------------------------------------


def test_over_tls_all_is_the_same(tmp_path: Path, session: requests.Session, bundle_path: Path) -> None:
    authority = Authority.create(tmp_path)
    pair = authority.issue("127.0.0.1")
    session.verify = str(authority.root)
    accesses: list[Access] = []
    with BundleReader.open(bundle_path) as bundle:
        server = Server(bundle, tmp_path / "store", tls=(pair.certificate, pair.key), access_log=accesses.append)
        with server:
            assert server.url.startswith("https://127.0.0.1:")
            talk = Talk(server, session)
            data = os.urandom(5 << 20)
            digest = talk.blob("a", data)
            assert talk.get(f"/v2/a/blobs/{digest}").content == data
            assert talk.get(f"/v2/a/blobs/{digest}", Range="bytes=7-1048590").content == data[7:1048591]
            assert talk.get("/api/v1/operator/channel").json()["chart"]["url"] == f"{server.url}/charts"
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(f"{server.url}/v2/", timeout=10)
            with line(server) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert not said(plain).startswith(b"HTTP/1.1 200")
            assert talk.get("/healthz").status_code == 200


def test_a_client_that_never_shakes_hands_does_not_hold_up_others(
    tmp_path: Path, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HANDSHAKE_LIMIT", 0.3)
    authority = Authority.create(tmp_path)
    pair = authority.issue("127.0.0.1")
    session.verify = str(authority.root)
    with Server(None, tmp_path / "store", tls=(pair.certificate, pair.key)) as server, line(server) as silent:
        assert Talk(server, session).get("/v2/").status_code == 200
        assert said(silent) == b""


def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    pair = authority.issue("127.0.0.1")
    old = ssl.create_default_context(cafile=str(authority.root))
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with (
        Server(None, tmp_path / "store", tls=(pair.certificate, pair.key)) as server,
        line(server) as connection,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(connection, server_hostname="127.0.0.1")


def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    pair = Authority.create(tmp_path).issue("127.0.0.1")
    for certificate, key in ((pair.certificate, pair.certificate), (tmp_path / "absent", pair.key)):
        with pytest.raises(ConfigurationError, match="cannot be used"):
            Server(None, tmp_path / "store", tls=(certificate, key)).start()


def test_users_are_asked_for_their_password(tmp_path: Path, session: requests.Session) -> None:
    with Server(None, tmp_path / "store", options=Options(users={"joe": "sécret"})) as server:
        talk = Talk(server, session)
        asked = talk.get("/v2/")
        assert code(asked) == (401, "UNAUTHORIZED")
        assert asked.headers["WWW-Authenticate"].startswith("Basic ")
        assert talk.get("/healthz").status_code == 200
        for wrong in ("Basic !!", "Basic am9l", "Bearer x", "Basic am9lOg=="):
            assert talk.get("/v2/", Authorization=wrong).status_code == 401
        assert talk.ask("GET", "/v2/", auth=("joe", "wrong")).status_code == 401
        assert talk.ask("GET", "/v2/", auth=("jane", "")).status_code == 401
        assert talk.ask("GET", "/v2/", auth=(b"joe", "sécret".encode())).status_code == 200


def test_others_may_read_when_that_is_allowed(tmp_path: Path, session: requests.Session) -> None:
    options = Options(users={"joe": "secret"}, anonymous_pull=True)
    with Server(None, tmp_path / "store", options=options) as server:
        talk = Talk(server, session)
        assert talk.get("/v2/").status_code == 200
        assert talk.ask("POST", "/v2/a/blobs/uploads/").status_code == 401
        session.auth = ("joe", "secret")
        talk.image("a", "1")
        session.auth = None
        assert talk.get("/v2/a/manifests/1").status_code == 200


def test_users_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("# people\n\njoe:a:b\njane:x\n")
    assert load_users(path) == {"joe": "a:b", "jane": "x"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("joe\n", "line 1 is not of the form"),
        ("a:b\n:x\n", "line 2"),
        ("a:\n", "line 1"),
        ("joe:$2y$05$abc\n", "hashed"),
        ("joe:{SHA}abc\n", "hashed"),
        ("# nobody\n", "names no user"),
    ],
)
def test_a_file_of_users_that_cannot_be_used_names_the_line_not_the_password(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        load_users(path)
    assert "abc" not in caught.value.message


def test_a_file_of_users_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be read"):
        load_users(tmp_path / "absent")


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET http://[/ HTTP/1.1", 400),
        (b"GET /?" + b"a&" * 200 + b" HTTP/1.1", 400),
        (b"GET /v2/_catalog?n=" + b"9" * 5000 + b" HTTP/1.1", 400),
        (b"GET /v2/_catalog HTTP/1.1\r\nContent-Length: " + b"9" * 5000, 400),
        (b"GET /v2/_catalog?ns=a%0d%0aX-Injected:%20b HTTP/1.1", 200),
        (b"GET /v2/_catalog?ns=%f0%9f%92%a9 HTTP/1.1", 200),
    ],
)
def test_a_hostile_request_gets_a_plain_answer(shelf: Talk, request_head: bytes, status: int) -> None:
    answer = one(shelf.server, request_head + b"\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"Injected" not in answer


def test_files_that_vanish_under_the_server_are_its_own_trouble(
    store: Talk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = store.image("app", "1")
    (tmp_path / "store/blobs/sha256" / digest.partition(":")[2]).unlink()
    answer = store.get("/v2/app/manifests/1")
    assert code(answer) == (500, "UNKNOWN")
    assert "No such file" in answer.text
    assert "failed" in caplog.text


def test_a_store_that_cannot_be_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot be written"):
        Server(None, tmp_path / "file").start()
