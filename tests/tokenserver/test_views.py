"""Answers and errors as clients see them: every row of section 3's table, and section 2's success."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncstore.auth.origin import ClientOrigin
from syncstore.auth.secrets import FixedSecrets, NodeSecrets
from syncstore.auth.tokens import derive_key, read_token
from syncstore.errors import InvalidRequest
from syncstore.testing.processes import free_port
from syncstore.testing.token_database import DOMAIN, NODE, TokenDatabase, open_token_database
from syncstore.tokenserver.errors import AccountServerAway, InvalidCredentials
from syncstore.tokenserver.issuing import Issuer
from syncstore.tokenserver.oauth import Account
from syncstore.tokenserver.rules import MAX_GENERATION
from syncstore.tokenserver.views import Endpoint, TokenView

SECRET = "a-secret-of-the-views"
RETRY_AFTER = 60


class FakeVerifier:
    """Believes `good`, and `good <generation>`."""

    def verify(self, token: str) -> Account:
        word, _, generation = token.partition(" ")
        if word == "away":
            raise AccountServerAway("a test")
        if word != "good":
            raise InvalidCredentials("a test")
        return Account("ann", int(generation) if generation else None, f"ann@{DOMAIN}")


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: dict[str, str], body: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Asking:
    """A client of one endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(
        self,
        token: str | None = "Bearer good",
        key_id: str | None = "1234-qqo",
        *,
        state: str | None = None,
        query: str = "",
        app: str = "sync",
        version: str = "1.5",
        method: str = "GET",
    ) -> Answer:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": f"/1.0/{app}/{version}",
            "QUERY_STRING": query,
            "SCRIPT_NAME": "",
            "HTTP_HOST": "sync.example.com",
            "wsgi.url_scheme": "https",
        }
        for name, value in (("AUTHORIZATION", token), ("X_KEYID", key_id), ("X_CLIENT_STATE", state)):
            if value is not None:
                environ[f"HTTP_{name}"] = value
        reply = self._endpoint.answer(environ, {"application": app, "version": version})
        return Answer(reply.status, dict(reply.headers), json.loads(reply.body))


def asking(tokens: TokenDatabase, **options: Any) -> Asking:
    secrets = options.pop("secrets", FixedSecrets([SECRET]))
    issuer = Issuer(secrets, tokens.clock, node_type="sqlite", **options)
    view = TokenView(FakeVerifier(), tokens.users, issuer, ClientOrigin(), 3600)
    return Asking(Endpoint("GET", view, tokens.clock, RETRY_AFTER))


@pytest.fixture
def ask(tokens: TokenDatabase) -> Asking:
    tokens.add_node()
    return asking(tokens)


def error(status: str, description: str, location: str = "body", name: str = "") -> dict[str, Any]:
    return {
        "status": status,
        "errors": [{"location": location, "name": name, "description": description}],
    }


# -- success


def test_a_token(tokens: TokenDatabase) -> None:
    tokens.add_node()
    ask = asking(tokens, metrics_secret="metrics-secret")
    answer = ask("Bearer good 2345", "2345-u7s")
    now = int(tokens.clock.seconds())
    (row,) = tokens.user_rows()
    body = answer.body
    token = read_token(body["id"], [SECRET])
    assert answer.status == 200
    assert body == {
        "id": body["id"],
        "key": derive_key(body["id"], SECRET),
        "uid": row["uid"],
        "api_endpoint": f"{NODE}/1.5/{row['uid']}",
        "duration": 3600,
        "hashalg": "sha256",
        "hashed_fxa_uid": token.hashed_fxa_uid,
        "node_type": "sqlite",
    }
    assert (token.uid, token.node, token.expires) == (row["uid"], NODE, now + 3600)
    assert (token.fxa_uid, token.fxa_kid) == ("ann", "0000000002345-u7s")
    assert len(token.hashed_device_id or "") == len(body["hashed_fxa_uid"]) == 32
    assert answer.headers["X-Timestamp"] == str(now)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("query", "seconds"), [("duration=12", 12), ("duration=4000", 3600)])
def test_a_shorter_life(ask: Asking, tokens: TokenDatabase, query: str, seconds: int) -> None:
    body = ask(query=query).body
    assert body["duration"] == seconds
    assert read_token(body["id"], [SECRET]).expires == int(tokens.clock.seconds()) + seconds


def test_this_server_is_named_as_the_client_knows_it(tokens: TokenDatabase) -> None:
    tokens.nodes.ensure_this(100)
    body = asking(tokens)().body
    assert body["api_endpoint"] == f"https://sync.example.com/1.5/{body['uid']}"
    assert read_token(body["id"], [SECRET]).node == "https://sync.example.com"


def test_the_newest_secret_of_the_node_signs(tokens: TokenDatabase) -> None:
    tokens.add_node()
    body = asking(tokens, secrets=NodeSecrets([f"{NODE},1:old,2:new", "https://other,1:foreign"]))().body
    assert read_token(body["id"], ["new"]).node == NODE


def test_pseudonyms_are_those_of_the_field(tokens: TokenDatabase) -> None:
    issuer = Issuer(FixedSecrets([SECRET]), tokens.clock, metrics_secret="metrics-secret", node_type="x")
    assigned = _some_assignment(tokens)
    body = issuer.issue("00112233445566778899aabbccddeeff", assigned, "https://x", 10)
    assert body["hashed_fxa_uid"] == "59b823a0d2dc18e45808e9c0e653cd07"
    token = read_token(body["id"], [SECRET])
    assert token.hashed_device_id == "6bb2bb13f1618fa92c85d8f93ebcb275"


def _some_assignment(tokens: TokenDatabase) -> Any:
    tokens.add_node()
    return tokens.assign(1234, 1234)


def test_zero_claims_are_absent_ones(ask: Asking, tokens: TokenDatabase) -> None:
    assert ask("Bearer good 0", "0-qqo").status == 200
    (row,) = tokens.user_rows()
    assert (row["generation"], row["keys_changed_at"]) == (0, None)


# -- errors, by the rows of the table

ROWS: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "1 nothing": ({"token": None}, 401, error("error", "Unauthorized")),
    "1 no blank": ({"token": "Bearer"}, 401, error("error", "Unauthorized")),
    "2": ({"token": "BrowserID x"}, 401, error("error", "Unsupported")),
    "3": ({"token": "Bearer bad"}, 401, error("invalid-credentials", "Unauthorized")),
    "4": ({"key_id": None}, 401, error("invalid-key-id", "Missing X-KeyID header", "header")),
    "5": ({"key_id": "1-\xe9"}, 401, error("invalid-key-id", "Invalid X-KeyID header", "header")),
    "6": ({"key_id": "1234-state!"}, 401, error("invalid-credentials", "Unauthorized")),
    "7": (
        {"state": "state!"},
        400,
        error("error", "Invalid client state value", "header", "X-Client-State"),
    ),
    "8": ({"state": "bbbb"}, 401, error("invalid-client-state", "Unauthorized")),
    "17": ({"app": "xXx"}, 404, error("error", "Unsupported application", "url", "application")),
    "18": ({"version": "1.2"}, 404, error("error", "Unsupported application version", "url", "1.2")),
    "21": ({"token": "Bearer away"}, 503, error("error", "Resource is not available")),
    "405": ({"method": "POST"}, 405, error("error", "Method not allowed")),
}


@pytest.mark.parametrize(("options", "http", "body"), ROWS.values(), ids=ROWS.keys())
def test_a_refusal_before_the_account_is_looked_up(
    ask: Asking, tokens: TokenDatabase, options: dict[str, Any], http: int, body: dict[str, Any]
) -> None:
    answer = ask(**options)
    assert (answer.status, answer.body) == (http, body)
    assert answer.headers["X-Timestamp"] == str(int(tokens.clock.seconds()))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ("Retry-After" in answer.headers) == (http == 503)
    assert tokens.user_rows() == []


def state_error(description: str) -> dict[str, Any]:
    text = f"Unacceptable client-state value {description}"
    return error("invalid-client-state", text, "header", "X-Client-State")


RULES = {
    "9": (("Bearer good 2345", "2345-"), state_error("empty string")),
    "10": (("Bearer good 2345", "2345-7u4"), state_error("stale value")),
    "11": (("Bearer good 1234", "1234-u7s"), state_error("new value with no generation change")),
    "12": (("Bearer good 2345", "1234-u7s"), state_error("new value with no keys_changed_at change")),
    "13": (("Bearer good 1233", "1234-qqo"), error("invalid-generation", "Unauthorized")),
    "14 lower": (("Bearer good 1234", "1233-qqo"), error("invalid-keysChangedAt", "Unauthorized")),
    "14 above": (("Bearer good 1234", "1235-qqo"), error("invalid-keysChangedAt", "Unauthorized")),
    "14 gone": (("Bearer good 1234", "0-qqo"), error("invalid-keysChangedAt", "Unauthorized")),
}


@pytest.mark.parametrize(("request_", "body"), RULES.values(), ids=RULES.keys())
def test_a_refusal_by_the_account_s_history(
    tokens: TokenDatabase, request_: tuple[str, str], body: dict[str, Any]
) -> None:
    node = tokens.add_node()
    tokens.add_user(
        nodeid=node, generation=1, client_state="eeee", keys_changed_at=1, created_at=1, replaced_at=9
    )
    tokens.add_user(nodeid=node)
    before = tokens.user_rows()
    answer = asking(tokens)(*request_)
    assert (answer.status, answer.body) == (401, body)
    assert tokens.user_rows() == before


class TestWithoutNewUsers:
    @pytest.fixture
    def ini(self) -> dict[str, str]:
        return {"tokenserver.allow_new_users": "false"}

    def test_row_16(self, ask: Asking) -> None:
        answer = ask()
        assert (answer.status, answer.body) == (403, error("new-users-disabled", "New users are not allowed"))


SERVER_ERROR = error("internal-error", "Server error", "internal")


def test_row_19_no_node(tokens: TokenDatabase) -> None:
    answer = asking(tokens)()
    assert (answer.status, answer.body) == (503, SERVER_ERROR)
    assert RETRY_AFTER <= int(answer.headers["Retry-After"]) <= RETRY_AFTER + 5


def test_row_20_a_retired_user_without_a_node(tokens: TokenDatabase) -> None:
    tokens.add_user(nodeid=777, generation=MAX_GENERATION)
    answer = asking(tokens)(f"Bearer good {MAX_GENERATION}")
    assert (answer.status, answer.body) == (500, SERVER_ERROR)


def test_row_20_a_fault_of_ours(tokens: TokenDatabase, caplog: pytest.LogCaptureFixture) -> None:
    def view(environ: Any, match: Any) -> Any:
        raise ZeroDivisionError("a test")

    answer = Asking(Endpoint("GET", view, tokens.clock, RETRY_AFTER))()
    assert (answer.status, answer.body) == (500, SERVER_ERROR)
    assert "ZeroDivisionError: a test" in caplog.text


def test_a_node_without_a_secret_is_a_fault(tokens: TokenDatabase, caplog: pytest.LogCaptureFixture) -> None:
    tokens.add_node()
    answer = asking(tokens, secrets=NodeSecrets(["https://other,1:foreign"]))()
    assert (answer.status, answer.body) == (500, SERVER_ERROR)
    assert f"there is no secret for the node {NODE}" in caplog.text


def test_row_21_a_database_that_is_away(tokens: TokenDatabase, tmp_path: Any) -> None:
    from sqlalchemy import make_url

    if tokens.url.startswith("sqlite"):
        url = f"sqlite:///{tmp_path}/gone/sync.db"
    else:
        url = make_url(tokens.url).set(port=free_port()).render_as_string(hide_password=False)
    gone = open_token_database(url, {"database.connect_timeout": "2"})
    answer = asking(gone)()
    assert (answer.status, answer.body) == (503, error("error", "Resource is not available"))
    gone.connections.close()


@pytest.fixture
def busy(tokens: TokenDatabase) -> Iterator[None]:
    """Another writer, who does not come to an end."""
    from sqlalchemy import NullPool, create_engine

    with create_engine(tokens.url, poolclass=NullPool).connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SELECT * FROM services FOR UPDATE")
        yield
        connection.rollback()


class TestWhileTheDatabaseIsBusy:
    @pytest.fixture
    def ini(self) -> dict[str, str]:
        return {"lock.timeout": "1"}

    def test_row_22(self, ask: Asking, busy: None) -> None:
        answer = ask()
        assert (answer.status, answer.body) == (504, error("elapsed", "Elapsed"))

    def test_who_is_known_and_changes_nothing_does_not_wait(
        self, tokens: TokenDatabase, ask: Asking, request: pytest.FixtureRequest
    ) -> None:
        uid = ask().body["uid"]
        request.getfixturevalue("busy")
        assert ask().body["uid"] == uid


def test_row_23_no_pattern(tokens: TokenDatabase, ask: Asking, restored_pattern: None) -> None:
    tokens.execute("UPDATE services SET pattern = NULL")
    answer = ask()
    text = "The api_endpoint pattern for 'sync-1.5' is not known"
    assert (answer.status, answer.body) == (503, error("error", text))


def test_another_pattern_is_followed(tokens: TokenDatabase, ask: Asking, restored_pattern: None) -> None:
    tokens.execute("UPDATE services SET pattern = '{node}/storage/{service}/{uid}'")
    body = ask().body
    assert body["api_endpoint"] == f"{NODE}/storage/1.5/{body['uid']}"


@pytest.fixture
def restored_pattern(tokens: TokenDatabase) -> Iterator[None]:
    yield
    tokens.execute("UPDATE services SET pattern = '{node}/1.5/{uid}'")


def test_a_host_that_is_none_is_400(tokens: TokenDatabase) -> None:
    def view(environ: Any, match: Any) -> Any:
        raise InvalidRequest("a test")

    assert Asking(Endpoint("GET", view, tokens.clock, RETRY_AFTER))().status == 400


def test_the_account_is_never_logged_with_its_token(
    ask: Callable[..., Answer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "syncstore")
    body = ask().body
    assert body["id"] not in caplog.text
    assert body["key"] not in caplog.text
