"""Reports of the account server, signed by the mock's keys: token-api section 6.3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from syncstore.app_tokenserver import open_register
from syncstore.testing.accounts import ISSUER, MockAccountServer, SigningKey, compact, unsigned
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.token_database import TokenDatabase
from syncstore.tokenserver import errors
from syncstore.tokenserver.events import EventsView
from syncstore.tokenserver.keys import REFRESH_SECONDS, KeyCache, KeySet
from syncstore.tokenserver.rules import MAX_GENERATION
from syncstore.tokenserver.views import Endpoint

CLIENT = "5882386c6d801776"
DELETED = "https://schemas.accounts.firefox.com/event/delete-user"
CHANGED = "https://schemas.accounts.firefox.com/event/password-change"
REFUSED = {
    "status": "invalid-credentials",
    "errors": [{"location": "body", "name": "", "description": "Unauthorized"}],
}

Report = Callable[..., tuple[int, bytes]]


@pytest.fixture
def ini() -> dict[str, str]:
    return {"tokenserver.fxa_email_domain": "accounts.test"}


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey("key-of-reports")


@pytest.fixture
def report(tokens: TokenDatabase, key: SigningKey) -> Report:
    """`report(events, sub=..., ...)`: send it; status and body."""
    keys = KeySet.parse(json.dumps({"keys": [key.jwk()]}))
    register = open_register(tokens.settings, tokens.connections, tokens.clock)
    view = EventsView(keys, register, client_id=CLIENT, issuer=ISSUER)
    endpoint = Endpoint("POST", view, tokens.clock, 60)

    def send(
        events: Any, sign: Any = None, header: Any = None, method: str = "POST", **claims: Any
    ) -> tuple[int, bytes]:
        payload = {
            "iss": ISSUER,
            "aud": CLIENT,
            "sub": "ann",
            "iat": 1,
            "jti": "x",
            "events": events,
            **claims,
        }
        token = compact(
            header or {"alg": "RS256", "kid": key.key_id, "typ": "secevent+jwt"},
            json.dumps({name: value for name, value in payload.items() if value is not None}).encode(),
            sign or key.sign,
        )
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": "/1.0/webhooks/fxa/events",
            "HTTP_AUTHORIZATION": f"Bearer {token}",
        }
        reply = endpoint.answer(environ, {})
        return reply.status, reply.body

    return send


def test_a_deleted_account_is_retired(tokens: TokenDatabase, report: Report) -> None:
    tokens.add_user(nodeid=tokens.add_node())
    assert report({DELETED: {}}) == (200, b"")
    (row,) = tokens.user_rows()
    assert (row["generation"], row["replaced_at"]) == (MAX_GENERATION, tokens.clock.now_ms())
    with pytest.raises(errors.InvalidGeneration):
        tokens.assign(1235, 1234)
    (noise,) = tokens.user_rows("noise")
    assert noise["generation"] == 99


def test_a_changed_password_ends_older_tokens(tokens: TokenDatabase, report: Report) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node())
    assert report({CHANGED: {"changeTime": 2000}}) == (200, b"")
    assert tokens.user_rows()[0]["generation"] == 1999
    with pytest.raises(errors.InvalidGeneration):
        tokens.assign(1234, 1234)
    assert tokens.assign(2000, 1234).uid == uid


def test_the_generation_never_shrinks(tokens: TokenDatabase, report: Report) -> None:
    tokens.add_user(nodeid=tokens.add_node())
    assert report({CHANGED: {"changeTime": 1000}}) == (200, b"")
    assert tokens.user_rows()[0]["generation"] == 1234


@pytest.mark.parametrize(
    "events",
    [
        {},
        {"https://schemas.accounts.firefox.com/event/profile-change": {}},
        {CHANGED: {"changeTime": "soon"}},
        {CHANGED: {"changeTime": -1}},
        {CHANGED: {"changeTime": MAX_GENERATION}},
        {CHANGED: []},
    ],
)
def test_what_means_nothing_to_us_changes_nothing(tokens: TokenDatabase, report: Report, events: Any) -> None:
    tokens.add_user(nodeid=tokens.add_node())
    before = tokens.user_rows()
    assert report(events) == (200, b"")
    assert tokens.user_rows() == before


def test_of_several_audiences_one_is_enough(report: Report) -> None:
    assert report({}, aud=["another", CLIENT])[0] == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"sign": SigningKey("stranger").sign},
        {"sign": unsigned, "header": {"alg": "none"}},
        {"header": {"alg": "RS256", "kid": "unknown"}},
    ],
)
def test_a_report_that_proves_nothing_is_refused(
    tokens: TokenDatabase, report: Report, wrong: dict[str, Any]
) -> None:
    tokens.add_user(nodeid=tokens.add_node())
    before = tokens.user_rows()
    status, body = report({DELETED: {}}, **wrong)
    assert (status, json.loads(body)) == (401, REFUSED)
    assert tokens.user_rows() == before


def test_without_the_keys_nothing_is_said_against_a_report(
    tokens: TokenDatabase, key: SigningKey, clock: SteppableClock
) -> None:
    """401 would make the account server drop the report: it comes again only after an answer of 5xx."""
    published: list[bytes] = []

    def fetch() -> bytes:
        if not published:
            raise errors.AccountServerAway("away")
        return published[0]

    keys = KeyCache(fetch, clock, 1)
    register = open_register(tokens.settings, tokens.connections, tokens.clock)
    endpoint = Endpoint("POST", EventsView(keys, register, client_id=CLIENT, issuer=ISSUER), clock, 60)
    token = compact({"alg": "RS256", "kid": key.key_id}, b"{}", key.sign)
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "HTTP_AUTHORIZATION": f"Bearer {token}"}
    for _ in range(2):  # within the pause between two fetches, too
        reply = endpoint.answer(environ, {})
        assert reply.status == 503
        assert "Retry-After" in dict(reply.headers)
    published.append(json.dumps({"keys": [SigningKey("another").jwk()]}).encode())
    clock.step(REFRESH_SECONDS)
    assert endpoint.answer(environ, {}).status == 401


def test_only_post_is_taken(report: Report) -> None:
    assert report({}, method="GET")[0] == 405


def test_the_app_takes_reports_where_they_are_on(tmp_path: Any) -> None:
    from syncstore.app import make_app
    from syncstore.testing.client import InProcess

    with MockAccountServer() as mock:
        ini = {
            "tokenserver.enabled": "true",
            "tokenserver.fxa_oauth_server_url": mock.url,
            "tokenserver.events": "true",
            "tokenserver.events_client_id": CLIENT,
            "tokenserver.events_issuer": ISSUER,
        }
        token = mock.token(claims={"events": {DELETED: {}}}, header={"typ": "secevent+jwt"})
        for settings, expected in ((ini, 200), ({"tokenserver.enabled": "true"}, 404)):
            app = make_app(settings, tmp_path)
            for path in ("/1.0/webhooks/fxa/events", "/token/1.0/webhooks/fxa/events"):
                answer = InProcess(app).send("POST", path, {"Authorization": f"Bearer {token}"}, b"")
                assert answer[0] == expected
            app.close()
