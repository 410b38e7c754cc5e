"""Where redirects may lead, and what goes along."""

from __future__ import annotations

import pytest

from airgap.errors import NetworkError
from airgap.transport import Client, Credential, CredentialStore, HostSettings
from airgap.transport.url import refuse_redirect
from tests.transport.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, Seen, in_turn


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("https://reg.lan/a", "https://store.lan/x?sig=1", ""),
        ("https://reg.lan/a", "https://10.1.2.3:9000/x", ""),
        ("http://reg.lan:5000/a", "http://store.lan/x", ""),
        ("http://reg.lan/a", "https://reg.lan/a", ""),
        ("http://127.0.0.1:5000/a", "http://127.0.0.1:9000/x", ""),
        ("https://reg.lan/a", "http://reg.lan/a", "from TLS"),
        ("https://127.0.0.1/a", "http://127.0.0.1/a", "from TLS"),
        ("https://reg.lan/a", "file:///etc/passwd", "no web address"),
        ("https://reg.lan/a", "", "no web address"),
        ("https://reg.lan/a", "https://[::1/x", "no web address"),
        ("https://reg.lan/a", "https://169.254.169.254/latest", "of its cloud"),
        ("https://reg.lan/a", "https://[fe80::1]/latest", "of its cloud"),
        ("https://reg.lan/a", "https://[::ffff:169.254.169.254]/latest", "of its cloud"),
        ("https://reg.lan/a", "https://127.0.0.1/x", "this machine"),
        ("https://reg.lan/a", "https://localhost:6443/x", "this machine"),
        ("https://reg.lan/a", "https://0.0.0.0/x", "this machine"),
    ],
)
def test_a_redirect_of_get_is_judged_by_where_it_leads(old, new, reason):
    told = refuse_redirect(old, new, method="GET", status=307, has_body=False)
    assert reason in told
    assert bool(told) == bool(reason)


@pytest.mark.parametrize(
    ("new", "status", "refused"),
    [
        ("https://reg.lan/b", 307, False),
        ("https://reg.lan/b", 308, False),
        ("https://reg.lan/b", 302, True),
        ("https://reg.lan/b", 303, True),
        ("https://other.lan/b", 307, True),
    ],
)
def test_what_is_being_sent_goes_to_no_other_host(new, status, refused):
    told = refuse_redirect("https://reg.lan/a", new, method="PUT", status=status, has_body=True)
    assert bool(told) == refused


def test_a_request_that_changes_something_goes_to_no_other_host_even_without_a_body():
    assert refuse_redirect("https://reg.lan/a", "https://other.lan/a", method="POST", status=307, has_body=False)
    assert not refuse_redirect("https://reg.lan/a", "https://reg.lan/b", method="POST", status=307, has_body=False)


def test_a_signed_url_elsewhere_gets_no_authorization_and_is_not_shown(plain):
    with Scripted(in_turn(Answer(403, body=b"expired"))) as store:
        target = f"{store.url}/blob?X-Amz-Signature=verysecret"

        def answer(seen: Seen) -> Answer:
            if "authorization" not in seen.headers:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            return Answer(307, {"Location": target})

        with Scripted(answer) as registry:
            known = CredentialStore().with_explicit(registry.host, Credential("ann", "pass-word"))
            client = plain(registry.host, store.host, credentials=known)
            with pytest.raises(NetworkError) as caught:
                client.request("GET", f"{registry.url}/v2/a/blobs/x")
        assert [one.headers.get("authorization") for one in store.seen] == [None]
        assert store.seen[0].path.endswith("X-Amz-Signature=verysecret")
    assert "verysecret" not in caught.value.message
    assert store.host in caught.value.message


def test_a_credential_for_one_host_stays_there(plain):
    with Scripted(in_turn(Answer(200))) as other, Scripted(in_turn(Answer(302, {"Location": f"{other.url}/x"}))) as first:
        plain().request("GET", first.url, credential=Credential("license", "the-key"), headers={"Cookie": "a=b"}).close()
        assert first.seen[0].headers["authorization"] == Credential("license", "the-key").basic
        assert "authorization" not in other.seen[0].headers
        assert "cookie" not in other.seen[0].headers


def test_user_information_in_a_url_becomes_a_credential_and_is_never_shown(plain):
    with Scripted(in_turn(Answer(404))) as server:
        url = server.url.replace("http://", "http://ann:p%40ss-word@") + "/x?token=abcdef"
        with pytest.raises(NetworkError) as caught:
            plain().request("GET", url)
        assert server.seen[0].headers["authorization"] == Credential("ann", "p@ss-word").basic
    assert "ss-word" not in caught.value.message
    assert "abcdef" not in caught.value.message


def test_redirects_end_after_five(plain):
    with Scripted(in_turn(Answer(302, {"Location": "/again"}))) as server:
        with pytest.raises(NetworkError, match="more than 5 times"):
            plain(server.host).request("GET", server.url)
        assert len(server.seen) == 6


def test_a_redirect_from_tls_to_plain_http_is_refused_without_asking_there(authority):
    with (
        Scripted(in_turn(Answer(200))) as low,
        Scripted(in_turn(Answer(302, {"Location": low.url})), pair=authority.issue("localhost"), name="localhost") as high,
        Client(hosts={high.host: HostSettings(ca_file=authority.root)}, retry=QUICK) as client,
    ):
        with pytest.raises(NetworkError, match="from TLS down to plain HTTP"):
            client.request("GET", high.url)
        assert low.seen == []


def test_a_redirect_that_keeps_the_method_sends_the_body_again_on_the_same_host(plain):
    answers = in_turn(Answer(307, {"Location": "/b"}), Answer(201))
    with Scripted(answers) as server:
        plain(server.host).request("PUT", f"{server.url}/a", body=b"content", ok=(201,)).close()
        assert [(one.path, one.body) for one in server.seen] == [("/a", b"content"), ("/b", b"content")]


def test_a_redirect_is_an_answer_to_who_does_not_want_to_follow(plain):
    with Scripted(in_turn(Answer(307, {"Location": "/b"}))) as server:
        assert plain(server.host).request("GET", server.url, ok=(307,), follow=False).status == 307
