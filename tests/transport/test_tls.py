"""Certificates: what is trusted, and that each refusal says what is wrong. Real TLS servers, a real authority."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from datetime import datetime, timedelta, timezone

import pytest
from urllib3.connection import HTTPSConnection

from airgap.errors import ConfigurationError, RegistryError, TLSError
from airgap.transport import Client, HostSettings
from airgap.transport.certificate import read_certificate
from airgap.transport.tls import Trust
from tests.transport.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, in_turn
from tests.world.authority import Authority

OK = in_turn(Answer(200, body=b"ok"))


def get(server: Scripted, *, environ: dict[str, str] | None = None, trust: Trust | None = None, **settings: object) -> bytes:
    hosts = {server.host: HostSettings(**settings)}  # type: ignore[arg-type]
    with (
        Client(hosts=hosts, retry=QUICK, environ=environ, trust=trust) as client,
        client.request("GET", server.url) as response,
    ):
        return response.read(10)


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def server(authority):
    with Scripted(OK, pair=authority.issue("localhost", "127.0.0.1"), name="localhost") as one:
        yield one


def test_an_unknown_authority_is_refused_with_the_flag_that_helps(server):
    with pytest.raises(TLSError, match=f"{server.host} is signed by an authority that is not trusted here") as caught:
        get(server)
    assert "--ca-file" in caught.value.hint


def test_a_ca_file_is_trusted(server, authority):
    assert get(server, ca_file=authority.root) == b"ok"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_bundle_named_in_the_environment_is_trusted(server, authority, variable):
    assert get(server, environ={variable: str(authority.root)}) == b"ok"


def test_a_folder_named_in_the_environment_is_trusted(server, authority, tmp_path):
    name = openssl("x509", "-hash", "-noout", "-in", str(authority.root)).strip()
    shutil.copy(authority.root, tmp_path / f"{name}.0")
    assert get(server, environ={"SSL_CERT_DIR": str(tmp_path)}) == b"ok"


def test_the_folders_of_docker_and_podman_are_read(server, authority, tmp_path):
    folder = tmp_path / "certs.d" / server.host
    folder.mkdir(parents=True)
    trust = Trust({}, (tmp_path / "absent", tmp_path / "certs.d"))
    with pytest.raises(TLSError):
        get(server, trust=trust)
    shutil.copy(authority.root, folder / "ca.crt")
    assert get(server, trust=Trust({}, (tmp_path / "certs.d",))) == b"ok"


def test_checking_is_off_only_where_it_was_asked_for(server, authority, caplog):
    assert get(server, insecure_skip_tls_verify=True) == b"ok"
    assert "is not checked" in caplog.text
    with (
        Scripted(OK, pair=authority.issue("localhost"), name="localhost") as other,
        Client(hosts={server.host: HostSettings(insecure_skip_tls_verify=True)}, retry=QUICK) as client,
        pytest.raises(TLSError),
    ):
        client.request("GET", other.url)


def test_a_wrong_name_is_told_with_the_names_in_the_certificate(authority):
    pair = authority.issue("reg.lan", "10.1.2.3", "registry.corp.lan")
    with (
        Scripted(OK, pair=pair, name="localhost") as wrong,
        pytest.raises(TLSError, match=r"is not for that name; it is for reg\.lan, 10\.1\.2\.3, registry\.corp\.lan"),
    ):
        get(wrong, ca_file=authority.root)


def test_a_wrong_address_is_a_wrong_name(authority):
    with (
        Scripted(OK, pair=authority.issue("reg.lan")) as wrong,
        pytest.raises(TLSError, match=r"is not for that name; it is for reg\.lan"),
    ):
        get(wrong, ca_file=authority.root)


def test_an_expired_certificate_is_told_with_both_clocks(authority):
    now = datetime.now(timezone.utc)
    pair = authority.issue("localhost", start=now - timedelta(days=9), end=now - timedelta(days=2))
    with (
        Scripted(OK, pair=pair, name="localhost") as old,
        pytest.raises(
            TLSError, match=f"has expired .it ended {now - timedelta(days=2):%Y-%m-%d}.*the clock here says {now:%Y}"
        ),
    ):
        get(old, ca_file=authority.root)


def test_a_certificate_of_tomorrow_is_told_with_both_clocks(authority):
    now = datetime.now(timezone.utc)
    pair = authority.issue("localhost", start=now + timedelta(days=2), end=now + timedelta(days=9))
    with (
        Scripted(OK, pair=pair, name="localhost") as new,
        pytest.raises(TLSError, match=f"is not valid yet .it begins {now + timedelta(days=2):%Y-%m-%d}") as caught,
    ):
        get(new, ca_file=authority.root)
    assert "clock" in caught.value.hint


def test_nothing_is_asked_of_a_server_whose_certificate_is_refused(authority):
    with Scripted(OK, pair=authority.issue("localhost"), name="localhost") as server:
        with pytest.raises(TLSError):
            get(server)
        assert server.seen == []


def test_a_server_that_wants_a_client_certificate_says_so_and_is_satisfied_with_one(authority, tmp_path):
    pair = authority.issue("localhost")
    client = authority.issue_client("ann")
    with Scripted(OK, pair=pair, client_authority=authority.root, name="localhost") as server:
        with pytest.raises(TLSError, match="client certificate") as caught:
            get(server, ca_file=authority.root)
        assert "--cert and --key" in caught.value.hint
        assert get(server, ca_file=authority.root, cert=client.certificate, key=client.key) == b"ok"
        folder = tmp_path / server.host
        folder.mkdir()
        shutil.copy(authority.root, folder / "ca.crt")
        shutil.copy(client.certificate, folder / "client.cert")
        shutil.copy(client.key, folder / "client.key")
        assert get(server, trust=Trust({}, (tmp_path,))) == b"ok"


def test_a_refusal_that_was_there_before_the_request_is_still_heard(authority, monkeypatch):
    """The slow client: by the time it sends, the server has refused it and hung up."""
    whole = HTTPSConnection.connect

    def connect_slowly(self):
        whole(self)
        time.sleep(0.3)

    monkeypatch.setattr(HTTPSConnection, "connect", connect_slowly)
    with (
        Scripted(OK, pair=authority.issue("localhost"), client_authority=authority.root, name="localhost") as server,
        pytest.raises(TLSError, match="client certificate"),
    ):
        get(server, ca_file=authority.root)


def test_an_answer_given_before_the_body_was_read_is_heard_over_tls(authority):
    def early(method, path):
        return Answer(413) if method == "PUT" else None

    with Scripted(OK, pair=authority.issue("localhost"), early=early, name="localhost") as server:
        hosts = {server.host: HostSettings(ca_file=authority.root)}
        with Client(hosts=hosts, retry=QUICK) as client, pytest.raises(RegistryError, match="answered 413"):
            client.request("PUT", f"{server.url}/x", body=bytes(32 << 20))


def test_a_client_certificate_of_a_stranger_is_refused(authority, tmp_path):
    stranger = Authority.create(tmp_path, "stranger").issue_client("eve")
    with (
        Scripted(OK, pair=authority.issue("localhost"), client_authority=authority.root, name="localhost") as server,
        pytest.raises(TLSError, match="client certificate"),
    ):
        get(server, ca_file=authority.root, cert=stranger.certificate, key=stranger.key)


def test_plain_http_where_tls_was_meant_is_said_to_be_that():
    with (
        Scripted(OK, name="localhost") as low,
        Client(retry=QUICK) as client,
        pytest.raises(TLSError, match="does not speak TLS") as caught,
    ):
        client.request("GET", f"https://{low.host}/v2/")
    assert "--plain-http" in caught.value.hint


def test_a_ca_file_that_is_none_is_named(tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    for path, words in ((empty, "holds no certificate"), (tmp_path / "absent.pem", "cannot be read: No such file")):
        with (
            Client(hosts={"reg.lan": HostSettings(ca_file=path)}) as client,
            pytest.raises(ConfigurationError, match=words) as caught,
        ):
            client.request("GET", "https://reg.lan/v2/")
        assert str(path) in caught.value.message


def test_a_client_certificate_that_cannot_be_used_is_named(authority, tmp_path):
    pair = authority.issue_client("ann")
    other = authority.issue_client("bob")
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", str(pair.key), "-aes128", "-passout", "pass:secret", "-out", str(locked))
    cases = ((other.key, "do not belong together"), (tmp_path / "absent", "cannot be read"), (locked, "is encrypted"))
    for key, words in cases:
        hosts = {"reg.lan": HostSettings(cert=pair.certificate, key=key)}
        with Client(hosts=hosts) as client, pytest.raises(ConfigurationError, match=words):
            client.request("GET", "https://reg.lan/v2/")


def test_names_and_dates_are_read_from_a_certificate(authority):
    start = datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    end = datetime(2051, 1, 2, 3, 4, 5, tzinfo=timezone.utc)  # from 2050 on a certificate writes four digits
    names = ("a.lan", "*.b.lan", "10.0.0.1", "fd12::1", "e.lan", "f.lan")
    der = ssl.PEM_cert_to_DER_cert(authority.issue(*names, start=start, end=end).certificate.read_text())
    seen = read_certificate(der)
    assert (seen.start, seen.end) == (start, end)
    assert seen.names == names[:5]


@pytest.mark.parametrize("der", [b"", b"\x30\x03abc", b"\x06\x03\x55\x1d\x11\x04", b"\x06\x03\x55\x1d\x11\x04\x05\x30\x82"])
def test_what_is_no_certificate_has_no_names(der):
    assert read_certificate(der).names == ()
