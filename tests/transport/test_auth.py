"""Challenges, tokens and where credentials go; a token server that is real, registries that are scripted."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from airgap.errors import NetworkError, UnauthorizedError
from airgap.transport import Client, Credential, CredentialStore, HostSettings
from airgap.transport.auth import Authenticator
from airgap.transport.challenge import check_realm, parse_challenges
from airgap.transport.redact import Redactor
from tests.transport.conftest import QUICK
from tests.transport.scripted import Answer, Scripted, Seen, in_turn
from tests.world.tokens import TokenServer

if TYPE_CHECKING:
    from collections.abc import Mapping

PUSH = ("repository:a/b:pull,push",)
PULL = ("repository:a/b:pull",)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x, y"'], [("basic", {"realm": "x, y"})]),
        (["Basic realm=x"], [("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a:pull,push repository:b:pull"'],
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push repository:b:pull"})],
        ),
        (['Bearer realm = "https://a/t" , service = "s"'], [("bearer", {"realm": "https://a/t", "service": "s"})]),
        (['Negotiate, Basic realm="b"'], [("negotiate", {}), ("basic", {"realm": "b"})]),
        (["Negotiate", 'BEARER Realm="r"'], [("negotiate", {}), ("bearer", {"realm": "r"})]),
        (['Basic realm="with \\"quotes\\""'], [("basic", {"realm": 'with "quotes"'})]),
        (["=;=;"], []),
        ([""], []),
        ([], []),
        (['Basic realm="not closed'], [("basic", {})]),
    ],
)
def test_challenges_are_read(headers, expected):
    assert [(one.scheme, dict(one.parameters)) for one in parse_challenges(headers)] == expected


@pytest.mark.parametrize(
    ("realm", "asked", "words"),
    [
        ("https://auth.docker.io/token", "https://registry-1.docker.io/v2/", ""),
        ("http://10.0.0.1/token", "http://reg.lan:5000/v2/", ""),
        ("http://127.0.0.1:8000/token", "http://127.0.0.1:5000/v2/", ""),
        ("https://10.1.2.3/token", "https://reg.lan/v2/", ""),
        ("http://auth.lan/token", "https://reg.lan/v2/", "over plain HTTP"),
        ("http://169.254.169.254/latest", "http://reg.lan/v2/", "refused"),
        ("https://169.254.169.254/latest", "https://reg.lan/v2/", "refused"),
        ("https://[fe80::1]/latest", "https://reg.lan/v2/", "refused"),
        ("http://127.0.0.1:2375/", "http://reg.lan/v2/", "refused"),
        ("ftp://auth.lan/", "https://reg.lan/v2/", "no URL"),
        ("/token", "https://reg.lan/v2/", "no URL"),
        ("https://[::1/token", "https://reg.lan/v2/", "no URL"),
    ],
)
def test_a_realm_is_judged_before_anything_goes_there(realm, asked, words):
    if not words:
        check_realm(realm, asked)
        return
    with pytest.raises(UnauthorizedError, match=words):
        check_realm(realm, asked)


def guarded(token: TokenServer, *, scope: str = "", refuse_until: float = 0.0):
    """A registry that takes any Bearer token, after ``refuse_until`` (monotonic) at least."""

    def answer(seen: Seen) -> Answer:
        if seen.headers.get("authorization", "").startswith("Bearer ") and time.monotonic() >= refuse_until:
            return Answer(200, body=seen.body)
        wanted = f',scope="{scope}"' if scope else ""
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{token.realm}",service="{token.service}"{wanted}'})

    return answer


def store(host: str, user: str = "ann", word: str = "pass-word") -> CredentialStore:
    return CredentialStore().with_explicit(host, Credential(user, word))


@pytest.fixture
def tokens(authority):
    with TokenServer.start(authority, {"ann": "pass-word"}) as server:
        yield server


def test_one_token_serves_many_requests_of_many_threads(plain, tokens):
    with Scripted(guarded(tokens)) as registry:
        client = plain(registry.host, credentials=store(registry.host))
        client.request("GET", registry.url, scopes=PUSH).close()
        threads = [threading.Thread(target=lambda: client.request("GET", registry.url, scopes=PUSH).close()) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.request("GET", registry.url, scopes=PULL).close()
    assert len(tokens.seen) == 1
    assert tokens.seen[0].user == "ann"
    assert tokens.seen[0].parameters["scope"] == ["repository:a/b:pull,push"]
    assert tokens.seen[0].parameters["service"] == [tokens.service]


def test_another_repository_gets_a_token_of_its_own(plain, tokens):
    with Scripted(guarded(tokens)) as registry:
        client = plain(registry.host, credentials=store(registry.host))
        for name in ("a/b", "c/d", "a/b"):
            client.request("GET", registry.url, scopes=(f"repository:{name}:pull",)).close()
    assert [one.parameters["scope"] for one in tokens.seen] == [["repository:a/b:pull"], ["repository:c/d:pull"]]


def test_a_challenge_in_the_middle_is_answered_with_the_body_from_its_start(plain, tokens):
    with Scripted(guarded(tokens)) as registry:
        client = plain(registry.host, credentials=store(registry.host))
        with client.request("PUT", registry.url, body=b"whole body", scopes=PUSH) as response:
            assert response.read(100) == b"whole body"
        assert [one.body for one in registry.seen] == [b"whole body", b"whole body"]


def test_the_credentials_and_never_the_token_go_to_the_token_server(plain, tokens):
    refusing = time.monotonic() + 3600
    with Scripted(guarded(tokens, refuse_until=refusing)) as registry:
        client = plain(registry.host, credentials=store(registry.host))
        with pytest.raises(UnauthorizedError, match="401") as caught:
            client.request("GET", registry.url, scopes=PUSH)
        assert len(registry.seen) == 2  # once without, once with a token: no third time
        with pytest.raises(UnauthorizedError):
            client.request("GET", registry.url, scopes=PUSH)
        assert len(registry.seen) == 4  # the token known, and one renewal
    assert len(tokens.seen) == 2
    assert all(one.user == "ann" and one.granted for one in tokens.seen)
    assert "the credentials given for it" in caught.value.hint


def test_a_token_that_is_refused_is_renewed_once_and_all_go_on(plain, tokens):
    good: set[str] = set()

    def answer(seen: Seen) -> Answer:
        token = seen.headers.get("authorization", "")
        if token in good:
            return Answer(200)
        good.clear()
        if token.startswith("Bearer "):
            good.add("Bearer " + latest())
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="{tokens.realm}",service="{tokens.service}"'})

    given: list[str] = []
    original = tokens.answer

    def record(user: str, scopes: list[str]) -> dict[str, object]:
        out = original(user, scopes)
        given.append(str(out["token"]))
        good.add(f"Bearer {given[-1]}")
        return dict(out)

    tokens.answer = record

    def latest() -> str:
        return given[-1]

    with Scripted(answer) as registry:
        client = plain(registry.host, credentials=store(registry.host))
        client.request("GET", registry.url, scopes=PUSH).close()
        good.clear()  # the registry forgets: expired
        client.request("PUT", registry.url, scopes=PUSH, body=b"x").close()
    assert len(given) == 2


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def authenticator(answers: list[dict[str, object]], credential: Credential | None = None):
    """An Authenticator with a clock to turn and a token server that is a list."""
    asked: list[tuple[str, str, dict[str, str] | None, str]] = []

    def fetch(home: str, method: str, url: str, form: Mapping[str, str] | None, credential: Credential | None) -> bytes:
        asked.append((method, url, dict(form) if form else None, credential.username if credential else ""))
        return json.dumps(answers[min(len(asked), len(answers)) - 1]).encode()

    clock = Clock()
    known = CredentialStore()
    known = known.with_explicit("reg.lan", credential) if credential else known
    return Authenticator(known, fetch, Redactor(), clock), asked, clock


CHALLENGE = parse_challenges(['Bearer realm="https://auth.lan/token?x=1",service="reg"'])
URL = "https://reg.lan/v2/a/b/tags/list"


def test_a_token_without_a_lifetime_is_used_for_less_than_a_minute():
    auth, asked, clock = authenticator([{"token": "one"}, {"token": "two"}])
    assert auth.answer(URL, "reg.lan", CHALLENGE, PUSH, "") == "Bearer one"
    clock.now += 45
    assert auth.authorization("reg.lan", PUSH) == "Bearer one"
    clock.now += 10
    assert auth.authorization("reg.lan", PUSH) == "Bearer two"
    assert len(asked) == 2


@pytest.mark.parametrize(("lifetime", "kept", "gone"), [(300, 285, 295), (4, 2, 3.5), (3600, 3580, 3595)])
def test_a_token_is_renewed_a_little_before_its_end(lifetime, kept, gone):
    auth, _, clock = authenticator([{"token": "one", "expires_in": lifetime}, {"access_token": "two"}])
    auth.answer(URL, "reg.lan", CHALLENGE, PUSH, "")
    clock.now += kept
    assert auth.authorization("reg.lan", PUSH) == "Bearer one"
    clock.now += gone - kept
    assert auth.authorization("reg.lan", PUSH) == "Bearer two"


def test_the_query_of_a_realm_is_kept_and_scopes_stand_one_by_one():
    auth, asked, _ = authenticator([{"access_token": "t"}], Credential("ann", "pass-word"))
    auth.answer(URL, "reg.lan", CHALLENGE, (*PUSH, "repository:c/d:pull"), "")
    query = parse_qs(urlsplit(asked[0][1]).query)
    assert query == {"x": ["1"], "service": ["reg"], "scope": [PUSH[0], "repository:c/d:pull"], "account": ["ann"]}
    assert asked[0][3] == "ann"


def test_an_identity_token_goes_as_a_refresh_grant_and_not_in_the_url():
    auth, asked, _ = authenticator([{"access_token": "t"}], Credential(identity_token="idt-secret"))
    assert auth.answer(URL, "reg.lan", CHALLENGE, PUSH, "") == "Bearer t"
    method, url, form, basic = asked[0]
    assert (method, basic) == ("POST", "")
    assert "idt-secret" not in url
    assert form == {
        "grant_type": "refresh_token",
        "refresh_token": "idt-secret",
        "service": "reg",
        "scope": PUSH[0],
        "client_id": "airgap",
    }


def test_a_registry_token_is_used_as_it_is_and_then_not_again():
    auth, asked, _ = authenticator([{"token": "t"}], Credential(registry_token="ready-made"))
    assert auth.answer(URL, "reg.lan", CHALLENGE, PUSH, "") == "Bearer ready-made"
    assert asked == []
    assert auth.answer(URL, "reg.lan", CHALLENGE, PUSH, "Bearer ready-made") == "Bearer t"


def test_what_the_registry_wants_is_asked_for_when_nothing_else_is():
    challenge = parse_challenges(['Bearer realm="https://auth.lan/t",scope="repository:x:pull repository:y:pull"'])
    auth, asked, _ = authenticator([{"token": "t"}])
    auth.answer(URL, "reg.lan", challenge, (), "")
    assert parse_qs(urlsplit(asked[0][1]).query)["scope"] == ["repository:x:pull", "repository:y:pull"]


def test_after_a_refusal_what_the_registry_wants_is_asked_for_too():
    challenge = parse_challenges(['Bearer realm="https://auth.lan/t",scope="repository:a/b:delete"'])
    auth, asked, _ = authenticator([{"token": "one"}, {"token": "two"}])
    auth.answer(URL, "reg.lan", challenge, PUSH, "")
    auth.answer(URL, "reg.lan", challenge, PUSH, "Bearer one")
    assert [parse_qs(urlsplit(url).query)["scope"] for _, url, _, _ in asked] == [
        [PUSH[0]],
        [PUSH[0], "repository:a/b:delete"],
    ]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"token": ""},
        {"token": "two words"},
        {"token": 5},
        ["x"],
        {"token": "ü"},
        {"token": "a\x00b"},
        {"token": "t", "expires_in": 10**400},
    ],
)
def test_an_answer_without_a_token_is_said_to_be_that(answer):
    auth, _, _ = authenticator([answer])
    with pytest.raises(UnauthorizedError, match="without a token"):
        auth.answer(URL, "reg.lan", CHALLENGE, PUSH, "")


def test_basic_is_answered_and_then_sent_at_once(plain):
    def answer(seen: Seen) -> Answer:
        if "authorization" in seen.headers:
            return Answer(200)
        return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})

    with Scripted(answer) as registry:
        client = plain(registry.host, credentials=store(registry.host, word="sörcret"))
        client.request("GET", registry.url).close()
        client.request("GET", registry.url).close()
        told = [one.headers.get("authorization") for one in registry.seen]
    assert told[0] is None
    assert told[1] == told[2]
    assert base64.b64decode(str(told[1]).removeprefix("Basic ")) == "ann:sörcret".encode()


def test_bearer_is_preferred_when_both_are_offered(plain, tokens):
    def answer(seen: Seen) -> Answer:
        if seen.headers.get("authorization", "").startswith("Bearer "):
            return Answer(200)
        return Answer(401, {"WWW-Authenticate": f'Basic realm="x"\nBearer realm="{tokens.realm}",service="s"'})

    with Scripted(answer) as registry:
        plain(registry.host, credentials=store(registry.host)).request("GET", registry.url, scopes=PULL).close()


def test_wrong_credentials_are_tried_once_and_the_sources_are_named(plain):
    with Scripted(in_turn(Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}))) as registry:
        with pytest.raises(UnauthorizedError, match="401 Unauthorized") as caught:
            plain(registry.host, credentials=store(registry.host)).request("GET", registry.url)
        assert len(registry.seen) == 2
    assert "pass-word" not in caught.value.message + caught.value.hint


def test_without_credentials_the_places_looked_at_are_named(plain, tmp_path):
    known = CredentialStore.from_environment({"DOCKER_CONFIG": str(tmp_path)}, tmp_path)
    with (
        Scripted(in_turn(Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}))) as registry,
        pytest.raises(UnauthorizedError) as caught,
    ):
        plain(registry.host, credentials=known).request("GET", registry.url)
    assert str(tmp_path / "config.json") in caught.value.hint
    assert str(tmp_path / ".docker" / "config.json") in caught.value.hint


def test_a_token_server_that_refuses_is_named_and_asked_once(plain, tokens):
    with (
        Scripted(guarded(tokens)) as registry,
        pytest.raises(UnauthorizedError, match=r"token server .*/token refuses a token for repository:a/b:pull"),
    ):
        plain(registry.host, credentials=store(registry.host, word="wrong-word")).request("GET", registry.url, scopes=PULL)
    assert len(tokens.seen) == 1


def test_a_token_server_that_is_down_is_named_and_not_multiplied_by_the_requests_attempts(plain):
    with Scripted(in_turn(Answer(503))) as auth:
        realm = f'Bearer realm="{auth.url}/token",service="s"'
        with Scripted(in_turn(Answer(401, {"WWW-Authenticate": realm}))) as registry:
            with pytest.raises(NetworkError, match=f"{auth.host} answered 503"):
                plain(registry.host).request("GET", registry.url)
            assert len(auth.seen) == QUICK.attempts
            assert len(registry.seen) == 1


def test_a_token_server_that_only_knows_post_is_asked_by_post(plain):
    def answer(seen: Seen) -> Answer:
        if seen.method == "GET":
            return Answer(405)
        form = parse_qs(seen.body.decode())
        good = (form["grant_type"], form["username"], form["password"]) == (["password"], ["ann"], ["pass-word"])
        return Answer(200 if good else 400, body=b'{"access_token": "posted"}')

    with Scripted(answer) as auth:

        def registry_answer(seen: Seen) -> Answer:
            if seen.headers.get("authorization") == "Bearer posted":
                return Answer(200)
            return Answer(401, {"WWW-Authenticate": f'Bearer realm="{auth.url}/token",service="s"'})

        with Scripted(registry_answer) as registry:
            plain(registry.host, credentials=store(registry.host)).request("GET", registry.url, scopes=PULL).close()


def test_a_token_server_of_the_same_private_authority_needs_no_settings_of_its_own(authority):
    with (
        TokenServer.start(authority, {"ann": "pass-word"}, tls=True) as tokens,
        Scripted(guarded(tokens), pair=authority.issue("localhost"), name="localhost") as registry,
        Client(
            hosts={registry.host: HostSettings(ca_file=authority.root)}, credentials=store(registry.host), retry=QUICK
        ) as client,
    ):
        client.request("GET", registry.url, scopes=PULL).close()
        assert tokens.seen[0].granted


def test_credentials_do_not_go_to_a_realm_by_plain_http(authority, tokens):
    with (
        Scripted(guarded(tokens), pair=authority.issue("localhost"), name="localhost") as registry,
        Client(
            hosts={registry.host: HostSettings(ca_file=authority.root)}, credentials=store(registry.host), retry=QUICK
        ) as client,
        pytest.raises(UnauthorizedError, match="over plain HTTP"),
    ):
        client.request("GET", registry.url, scopes=PULL)
    assert tokens.seen == []


def test_an_error_that_echoes_what_was_sent_shows_no_secret(plain):
    def answer(seen: Seen) -> Answer:
        if "authorization" not in seen.headers:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        told = seen.headers["authorization"]
        plain_text = base64.b64decode(told.removeprefix("Basic ")).decode()
        return Answer(500, body=f"you sent {told} which is {plain_text} and Bearer abcdefghijklmnop".encode())

    with Scripted(answer) as registry, pytest.raises(NetworkError) as caught:
        plain(registry.host, credentials=store(registry.host)).request("GET", registry.url)
    assert "you sent" in caught.value.message
    for secret in ("pass-word", base64.b64encode(b"ann:pass-word").decode(), "abcdefghijklmnop"):
        assert secret not in caught.value.message
    assert caught.value.__cause__ is None
