"""Bodies: raw, bounded, never short, never stalled; connections used again."""

from __future__ import annotations

import errno
import gzip
import io
import os
import threading
import time

import pytest

from airgap.errors import ConfigurationError, DiskError, IntegrityError, NetworkError, NotFoundError, RegistryError, TLSError
from airgap.transport import Client, HostSettings, Response, Window
from airgap.transport import response as response_module
from airgap.transport.redact import Redactor, redact_url
from airgap.transport.stall import Watch
from tests.transport.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, in_turn

DATA = os.urandom(3_000_000)


def test_bytes_come_as_they_were_sent_even_when_called_gzip(plain):
    packed = gzip.compress(b"layer")
    with Scripted(in_turn(Answer(200, {"Content-Encoding": "gzip"}, packed))) as server:
        with plain(server.host).request("GET", server.url) as response:
            assert b"".join(response.stream()) == packed
        assert server.seen[0].headers["accept-encoding"] == "identity"


def test_a_body_comes_in_pieces_of_bounded_size(plain):
    with Scripted(in_turn(Answer(200, body=DATA))) as server, plain(server.host).request("GET", server.url) as response:
        pieces = list(response.stream(200_000))
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= 200_000


def filled(response: Response) -> tuple[list[int], bytes]:
    """Return the size of each piece that lay in the room that was given, and the body."""
    room, placed, body = memoryview(bytearray(300_000)), [], b""
    for piece in response.fill(lambda: room):
        placed += [len(piece)] if isinstance(piece, memoryview) and piece.obj is room.obj else []
        body += piece
    return placed, body


def test_a_body_is_put_where_there_is_room_and_the_connection_is_used_again(plain):
    with Scripted(in_turn(Answer(200, body=DATA), Answer(200, body=b"next"))) as server:
        client = plain(server.host)
        with client.request("GET", server.url) as response:
            placed, body = filled(response)
        assert body == DATA
        assert sum(placed) == len(DATA)
        assert max(placed) == 300_000
        with client.request("GET", server.url) as response:
            assert response.read(10) == b"next"
        assert len({one.port for one in server.seen}) == 1


def test_a_chunked_body_or_one_without_room_comes_all_the_same(plain):
    chunked = Answer(200, {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    with Scripted(in_turn(chunked, Answer(200, body=DATA))) as server:
        client = plain(server.host)
        with client.request("GET", server.url) as response:
            assert filled(response) == ([], b"hello world")
        with client.request("GET", server.url) as response:
            assert b"".join(response.fill(lambda: memoryview(b""))) == DATA


def test_a_body_that_is_put_and_cut_is_an_error_too(plain):
    with (
        Scripted(in_turn(Answer(200, body=DATA, cut=1_000_000))) as server,
        plain(server.host).request("GET", server.url) as response,
        pytest.raises(NetworkError, match=r"broke off|cut short"),
    ):
        filled(response)


def test_chunked_coding_is_undone(plain):
    headers = {"Transfer-Encoding": "chunked"}
    with (
        Scripted(in_turn(Answer(200, headers, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"))) as server,
        plain(server.host).request("GET", server.url) as response,
    ):
        assert response.length() is None
        assert response.read(100) == b"hello world"


def test_a_body_that_is_cut_is_an_error_and_what_came_is_kept_by_the_reader(plain):
    got = b""

    def read(response) -> None:
        nonlocal got
        for piece in response.stream(100_000):
            got += piece

    with (
        Scripted(in_turn(Answer(200, body=DATA, cut=1_000_000))) as server,
        plain(server.host).request("GET", server.url) as response,
        pytest.raises(NetworkError, match=r"broke off|cut short"),
    ):
        read(response)
    assert DATA.startswith(got)
    assert len(got) > 800_000


def test_a_body_that_is_longer_than_allowed_is_refused_without_reading_it_all(plain):
    with Scripted(in_turn(Answer(200, body=DATA))) as server:
        client = plain(server.host)
        with client.request("GET", server.url) as response, pytest.raises(IntegrityError, match="longer than the 1000 bytes"):
            response.read(1000)
        with pytest.raises(IntegrityError):
            client.request("GET", server.url, preload=1000)
        with client.request("GET", server.url) as response:
            assert response.read(len(DATA)) == DATA


def test_one_connection_serves_one_thread(plain):
    with Scripted(in_turn(Answer(200, body=b"x" * 1000))) as server:
        client = plain(server.host)
        client.request("HEAD", server.url).close()
        client.request("GET", server.url).close()
        with client.request("GET", server.url) as response:
            response.read(2000)
        with pytest.raises(RegistryError):
            client.request("GET", server.url, ok=(201,))
        client.request("PUT", server.url, body=b"y").close()
        assert len({one.port for one in server.seen}) == 1


def test_a_body_that_is_left_closes_its_connection_and_the_next_request_works(plain):
    with Scripted(in_turn(Answer(200, body=DATA), Answer(200, body=b"next"))) as server:
        client = plain(server.host)
        client.request("GET", server.url).close()
        with client.request("GET", server.url) as response:
            assert response.read(10) == b"next"


def test_a_drip_is_given_up_though_every_read_gets_a_byte(plain, monkeypatch):
    monkeypatch.setattr(response_module, "CHUNK_TIME", 0.6)
    with Scripted(in_turn(Answer(200, body=b"x" * 200, drip=0.1))) as server:
        client = plain(server.host, watch=Watch(tick=0.05))
        start = time.monotonic()
        with client.request("GET", server.url) as response, pytest.raises(NetworkError, match="sends less than"):
            list(response.stream())
        assert time.monotonic() - start < 5


def test_a_drip_over_tls_is_given_up_too(authority, monkeypatch):
    monkeypatch.setattr(response_module, "CHUNK_TIME", 0.6)
    answer = in_turn(Answer(200, body=b"x" * 200, drip=0.1))
    with (
        Scripted(answer, pair=authority.issue("localhost"), name="localhost") as server,
        Client(hosts={server.host: HostSettings(ca_file=authority.root)}, retry=QUICK, watch=Watch(tick=0.05)) as client,
        client.request("GET", server.url) as response,
        pytest.raises(NetworkError, match="sends less than"),
    ):
        list(response.stream())


def test_the_watch_ends_its_thread_when_nothing_is_read_and_starts_another_later(plain):
    watch = Watch(tick=0.01)
    with Scripted(in_turn(Answer(200, body=b"x"))) as server:
        client = plain(server.host, watch=watch)
        for _ in range(2):
            with client.request("GET", server.url) as response:
                response.read(10)
            assert _ends(watch)


def _ends(watch: Watch) -> bool:
    for _ in range(200):
        if watch._thread is None:
            return True
        time.sleep(0.01)
    return False


class Watched(Window):
    """A window that notes the largest piece that was asked of it."""

    largest = 0

    def read(self, size: int = -1, /) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


@pytest.mark.parametrize("lies_in_a_file", [True, False])
def test_an_upload_is_sent_with_its_length_in_pieces(plain, tmp_path, monkeypatch, lies_in_a_file):
    path = tmp_path / "blob"
    path.write_bytes(b"before" + DATA)
    with Scripted(in_turn(Answer(201))) as server, Watched(path, 6, len(DATA)) as window:
        if not lies_in_a_file:
            monkeypatch.setattr(window, "place", lambda: None)
        plain(server.host).request("PUT", server.url, body=window, ok=(201,)).close()
        seen, largest = server.seen[0], window.largest
    assert seen.headers["content-length"] == str(len(DATA))
    assert "transfer-encoding" not in seen.headers
    assert seen.body == DATA
    assert largest == 0 if lies_in_a_file else 0 < largest <= 1024 * 1024, "the kernel sends a file without our reading it"


def test_a_file_that_is_cut_short_while_the_kernel_sends_it_is_an_error_of_the_file(plain, tmp_path):
    path = tmp_path / "blob"
    path.write_bytes(DATA[:-1])
    with (
        Scripted(in_turn(Answer(201))) as server,
        Window(path, 0, len(DATA)) as window,
        pytest.raises(IntegrityError, match="blob ends 1 bytes too early"),
    ):
        plain(server.host).request("PUT", server.url, body=window, ok=(201,))


def test_what_the_kernel_cannot_send_is_read(plain, tmp_path, monkeypatch):
    path, calls = tmp_path / "blob", []
    path.write_bytes(DATA)

    def refusing(*arguments):
        calls.append(arguments)
        raise OSError(errno.EINVAL, "no such file system")

    monkeypatch.setattr(os, "sendfile", refusing)
    with Scripted(in_turn(Answer(201))) as server, Watched(path, 0, len(DATA)) as window:
        plain(server.host).request("PUT", server.url, body=window, ok=(201,)).close()
        assert server.seen[0].body == DATA
        assert calls
        assert window.largest


def test_a_window_reads_its_part_and_again_from_the_start(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    with Window(path, 2, 5) as window:
        assert len(window) == 5
        assert (window.read(3), window.read(3), window.read(3)) == (b"234", b"56", b"")
        window.rewind()
        assert window.read() == b"23456"
        assert window.part(1, 2).read() == b"34"
        assert window.part(4, 9).read() == b"6"
        assert window.part(9, 9).read() == b""


def test_many_windows_of_one_open_file_are_read_at_once(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(DATA)
    results: dict[int, bytes] = {}
    with path.open("rb") as file:

        def read(at: int) -> None:
            window = Window(file, at * 1000, 100_000)
            results[at] = b"".join(iter(lambda: window.read(977), b""))

        threads = [threading.Thread(target=read, args=(at,)) for at in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert file.tell() == 0
    assert all(results[at] == DATA[at * 1000 : at * 1000 + 100_000] for at in range(20))


def test_a_file_that_ends_inside_the_window_is_an_integrity_error(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"0123")
    with Window(path, 2, 5) as window:
        assert window.read(5) == b"23"
        with pytest.raises(IntegrityError, match="ends 3 bytes too early"):
            window.read(5)


def test_a_file_that_cannot_be_read_is_an_error_of_the_disk_and_not_of_the_network(plain, tmp_path):
    with (
        Scripted(in_turn(Answer(201))) as server,
        Window(tmp_path / "gone", 0, 5) as window,
        pytest.raises(DiskError, match="gone cannot be read at byte 0: No such file"),
    ):
        plain(server.host).request("PUT", server.url, body=window, ok=(201,))
    with pytest.raises(DiskError, match="Is a directory"):
        Window(tmp_path, 0, 5).read()


def test_a_file_in_memory_is_a_window_too():
    window = Window(io.BytesIO(b"0123456789"), 3, 3)
    assert window.read(10) == b"345"
    window.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (410, NotFoundError), (409, RegistryError), (418, RegistryError), (599, RegistryError)],
)
def test_a_status_becomes_the_error_of_who_must_act(plain, status, kind):
    body = b'{"errors":[{"code":"SOME_CODE","message":"some words","detail":{"x":1}}]}'
    with (
        Scripted(in_turn(Answer(status, {"Content-Type": "application/json"}, body))) as server,
        pytest.raises(kind, match=f"{server.host} answered {status}.*: SOME_CODE: some words") as caught,
    ):
        plain(server.host).request("GET", f"{server.url}/v2/x?secret=1")
    assert "secret" not in caught.value.message
    if kind is RegistryError:
        assert (caught.value.status, caught.value.code) == (status, "SOME_CODE")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"errors": []}',
        b'{"errors": {}}',
        b'{"errors": [5]}',
        b"\xff\xfe" * 500,
        b"[" * 10000,
        b"",
        b'{"errors":[{"code":"X"}]}',
    ],
)
def test_an_error_body_of_any_kind_is_cut_and_printable(plain, body):
    with (
        Scripted(in_turn(Answer(400, {"Content-Type": "application/json"}, body))) as server,
        pytest.raises(RegistryError) as caught,
    ):
        plain(server.host).request("GET", server.url)
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


def test_an_html_page_of_a_proxy_that_limits_bodies_tells_what_to_raise(plain):
    page = b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n</html>"
    with (
        Scripted(in_turn(Answer(413, {"Content-Type": "text/html"}, page))) as server,
        pytest.raises(RegistryError, match="413") as caught,
    ):
        plain(server.host).request("PUT", server.url, body=b"x")
    assert "client_max_body_size" in caught.value.hint


def test_plain_http_to_a_port_of_tls_says_what_to_leave_out(plain):
    words = b"Client sent an HTTP request to an HTTPS server.\n"
    with (
        Scripted(in_turn(Answer(400, body=words))) as server,
        pytest.raises(TLSError, match="speaks TLS, and was asked by plain HTTP"),
    ):
        plain(server.host).request("GET", server.url)


@pytest.mark.parametrize(
    "url", ["reg.lan/x", "ftp://reg.lan/x", "https://", "https://reg.lan/a b", "https://reg.lan/a\r\nX: y", "https://[::1"]
)
def test_what_is_no_url_is_refused(plain, url):
    with pytest.raises(ConfigurationError, match="is not an http:// or https:// URL"):
        plain().request("GET", url)


def test_an_answer_that_comes_before_the_body_was_read_is_seen(plain):
    def early(method: str, path: str) -> Answer | None:
        return Answer(403, body=b"not you") if method == "PUT" else None

    with Scripted(in_turn(Answer(200)), early=early) as server, pytest.raises(NetworkError):
        plain(server.host).request("PUT", server.url, body=b"x" * 10_000_000, retry=False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:pw@reg.lan:5000/v2/?a=b#c", "https://reg.lan:5000/v2/?..."),
        ("https://reg.lan/v2/", "https://reg.lan/v2/"),
        ("https://[::1", "(a URL that cannot be parsed)"),
        ("https://reg.lan/\x1b[31m", "https://reg.lan/\\x1b[31m"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert redact_url(url) == shown


def test_known_secrets_are_taken_out_in_every_form():
    redactor = Redactor()
    redactor.add("p@ss word/1", "abc")
    told = redactor.clean("p@ss word/1 p%40ss%20word%2F1 p%40ss+word%2F1 cEBzcyB3b3JkLzE= https://u:v@h/p?q=1 abc")
    assert told == "[redacted] [redacted] [redacted] [redacted] https://h/p?... abc"


def test_docker_hub_is_reached_where_its_registry_is():
    with Client() as client:
        assert client.base_url("docker.io") == "https://registry-1.docker.io"
        assert client.base_url("localhost:5000") == "https://localhost:5000"
    with Client(hosts={"docker.io": HostSettings(plain_http=True)}) as client:
        assert client.base_url("docker.io") == "http://registry-1.docker.io"
