"""A challenge is hearsay: credentials reach the registry and its own token server, and nobody else."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmkit.errors import Refused
from vmkit.images.remote.auth import Authorizer, is_of_one_house, parse_challenges
from vmkit.images.remote.base import Denied, RegistryFailed
from vmkit.images.remote.credentials import Credential

ALICE = Credential(user="alice", password="secret")


class TokenServer:
    def __init__(self, status=200, body=b'{"token":"T"}'):
        self.status, self.body, self.asked = status, body, []

    def __call__(self, url, *, authorization, form):
        self.asked.append((url, authorization, form))
        return self.status, self.body


def make(server, *, host="registry.example.org", credentials=None, plain_http=False):
    known = {host: ALICE} if credentials is None else credentials
    return Authorizer(
        host=host, plain_http=plain_http, scopes=("repository:team/kiro:pull",), find=known.get, ask=server
    )


def bearer(realm):
    return [f'Bearer realm="{realm}",service="registry"']


def test_challenges_are_read_with_their_quotes():
    found = parse_challenges([r'Bearer realm="https://x/t?a=1,2",service="a \"b\"", scope=plain', "Basic realm=x"])

    assert [challenge.scheme for challenge in found] == ["bearer", "basic"]
    assert found[0].parameters == {"realm": "https://x/t?a=1,2", "service": 'a "b"', "scope": "plain"}


def test_two_challenges_may_share_a_line():
    assert [c.scheme for c in parse_challenges(['Basic realm="x", Bearer realm="https://t"'])] == ["basic", "bearer"]


@given(st.lists(st.text(max_size=200), max_size=4))
def test_any_challenge_is_read_or_left(headers):
    assert all(challenge.scheme.isascii() for challenge in parse_challenges(headers))


def test_basic_sends_the_password_of_this_host():
    assert make(TokenServer()).answer(["Basic realm=x"], used=None) == ALICE.basic()


def test_a_password_is_not_tried_twice():
    door = make(TokenServer())
    first = door.answer(["Basic realm=x"], used=None)

    with pytest.raises(Denied):
        door.answer(["Basic realm=x"], used=first)


def test_a_token_is_bought_for_our_scope_and_not_for_the_challenge_s():
    server = TokenServer()

    header = make(server).answer(
        ['Bearer realm="https://registry.example.org/t?x=1",service="s",scope="repository:other:push"'], used=None
    )

    (_, authorization, form), query = server.asked[0], parse_qs(urlsplit(server.asked[0][0]).query)
    assert header == "Bearer T"
    assert authorization == ALICE.basic()
    assert form is None
    assert query == {"x": ["1"], "service": ["s"], "scope": ["repository:team/kiro:pull"]}


def test_a_refresh_token_buys_a_token():
    server = TokenServer()
    door = make(server, credentials={"registry.example.org": Credential(refresh_token="R")})

    door.answer(bearer("https://registry.example.org/t"), used=None)

    url, authorization, form = server.asked[0]
    assert (url, authorization) == ("https://registry.example.org/t", None)
    assert parse_qs(form.decode())["refresh_token"] == ["R"]


@pytest.mark.parametrize(
    "realm", ["https://evil.test/t", "https://registry.example.org.evil.test/t", "https://evilexample.org/t"]
)
def test_a_token_server_of_another_house_gets_no_credentials(realm):
    server = TokenServer()

    make(server).answer(bearer(realm), used=None)

    assert server.asked[0][1:] == (None, None)


def test_a_token_server_of_another_house_gets_what_the_user_has_for_it():
    server, bob = TokenServer(), Credential(user="bob", password="b")
    door = make(server, credentials={"registry.example.org": ALICE, "tokens.test:8443": bob})

    door.answer(bearer("https://tokens.test:8443/t"), used=None)

    assert server.asked[0][1] == bob.basic()


@pytest.mark.parametrize(
    "realm",
    [
        "http://registry.example.org/t",
        "http://127.0.0.1/t",
        "file:///etc/passwd",
        "https://user:pw@registry.example.org/t",
        "https://registry.example.org/t#x",
        "https://registry.example.org:99999/t",
        "https://registry.example.org/a b",
        "https://registry.example.org/\u202e",
        "//registry.example.org",
        "",
        "https://[::1/t",
        "https://registry.example.org/" + "a" * 3000,
    ],
)
def test_a_token_server_that_cannot_be_is_not_asked(realm):
    server = TokenServer()

    with pytest.raises(Refused):
        make(server).answer(bearer(realm), used=None)

    assert server.asked == []


def test_a_plain_registry_may_have_a_plain_token_server_at_its_own_host_only():
    server = TokenServer()
    door = make(server, host="127.0.0.1:5000", plain_http=True)

    door.answer(bearer("http://127.0.0.1:5001/t"), used=None)
    with pytest.raises(Refused):
        door.answer(bearer("http://10.0.0.9/t"), used="Bearer T")

    assert [url.partition("?")[0] for url, _, _ in server.asked] == ["http://127.0.0.1:5001/t"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"token":5}',
        b'{"token":"a b"}',
        b'{"token":"a\\nb"}',
        json.dumps({"token": "x" * 70000}).encode(),
    ],
)
def test_what_is_no_token_is_not_sent(body):
    with pytest.raises((RegistryFailed, Refused)):
        make(TokenServer(body=body)).answer(bearer("https://registry.example.org/t"), used=None)


def test_a_refusing_token_server_is_told_apart_from_a_broken_one():
    with pytest.raises(Denied):
        make(TokenServer(status=401)).answer(bearer("https://registry.example.org/t"), used=None)
    with pytest.raises(RegistryFailed):
        make(TokenServer(status=302)).answer(bearer("https://registry.example.org/t"), used=None)


def test_an_unknown_way_in_is_named():
    with pytest.raises(RegistryFailed):
        make(TokenServer()).answer(["Negotiate"], used=None)


def test_a_credential_shows_no_secret():
    assert "secret" not in repr(ALICE)
    assert "R1" not in repr(Credential(refresh_token="R1"))


@pytest.mark.parametrize(
    ("registry", "server", "fine"),
    [
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.corp.example:5000", "sso.corp.example", True),
        ("ghcr.io", "ghcr.io", True),
        ("ghcr.io", "evil.io", False),
        ("shop.co.uk", "evil.co.uk", False),
        ("a.shop.co.uk", "b.shop.co.uk", True),
        ("10.0.0.1:5000", "10.0.0.2", False),
        ("10.0.0.1:5000", "x.0.0.1", False),
        ("[::1]:5000", "::2", False),
        ("localhost:5000", "evil.localhost", False),
        ("registry.example.org", "org", False),
    ],
)
def test_a_house_is_known_by_its_name(registry, server, fine):
    assert is_of_one_house(registry, server) is fine
