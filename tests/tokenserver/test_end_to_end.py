"""From an account's token to an item in the storage, over HTTP, with an account server that may fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from syncstore.app import make_app
from syncstore.testing.accounts import SCOPE, UID, Fault, MockAccountServer, SigningKey, unsigned
from syncstore.testing.client import Credentials, InProcess, Live, SyncClient, Transport
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.service import SECRET, SyncServer
from syncstore.tokenserver.keys import MAX_AGE_SECONDS, REFRESH_SECONDS

KEY_ID = "0000001234-qqo"  # keysChangedAt 1234, client state aaaa
PATH = "/1.0/sync/1.5"

INVALID = {
    "status": "invalid-credentials",
    "errors": [{"location": "body", "name": "", "description": "Unauthorized"}],
}
AWAY = {
    "status": "error",
    "errors": [{"location": "body", "name": "", "description": "Resource is not available"}],
}


class Answer(NamedTuple):
    """What the token server answers; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]


class Firefox:
    """A client with an account: it asks for a token and goes where it is sent."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def ask(self, token: str, path: str = PATH, key_id: str = KEY_ID) -> Answer:
        """Ask the token server."""
        headers = {"Authorization": f"Bearer {token}", "X-KeyID": key_id}
        status, pairs, body = self.transport.send("GET", self.transport.prefix + path, headers, None)
        return Answer(status, {name.lower(): value for name, value in pairs}, json.loads(body))

    def storage(self, answer: Answer) -> SyncClient:
        """A client of the storage that an answer leads to, with its token."""
        assert answer.status == 200, answer
        body = answer.body
        assert body["api_endpoint"].endswith(f"/1.5/{body['uid']}")
        client = SyncClient(body["uid"], "not the secret", self.transport)
        client.credentials = Credentials(body["id"], body["key"])
        return client


def settings_for(mock: MockAccountServer, **more: str) -> dict[str, str]:
    return {
        "tokenserver.enabled": "true",
        "tokenserver.fxa_oauth_server_url": mock.url,
        "tokenserver.fxa_timeout": "5",
        **{f"tokenserver.{key}": value for key, value in more.items()},
    }


@pytest.fixture(scope="module")
def shared_mock() -> Iterator[MockAccountServer]:
    with MockAccountServer() as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(database_url: str, shared_mock: MockAccountServer) -> Iterator[SyncServer]:
    with SyncServer(database_url, settings_for(shared_mock)) as server:
        yield server


@pytest.fixture
def firefox(shared_server: SyncServer) -> Iterator[Firefox]:
    transport = Live(shared_server.url)
    yield Firefox(transport)
    transport.close()


@pytest.fixture
def mock() -> Iterator[MockAccountServer]:
    with MockAccountServer() as server:
        yield server


Serve = Callable[..., Firefox]


@pytest.fixture
def serve(mock: MockAccountServer, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server of one process, so that a test knows what keys it has. SQLite: no database matters here."""
    with ExitStack() as stack:

        def start(**settings: str) -> Firefox:
            ini = settings_for(mock, **settings)
            server = SyncServer(f"sqlite:///{tmp_path / 'sync.db'}", ini, workers=1)
            transport = Live(stack.enter_context(server).url)
            stack.callback(transport.close)
            return Firefox(transport)

        yield start


# -- the way in


def test_an_account_token_opens_the_storage(firefox: Firefox, shared_mock: MockAccountServer) -> None:
    answer = firefox.ask(shared_mock.token("a" * 32, {"fxa-generation": 1234}))
    storage = firefox.storage(answer)
    assert storage.put("/storage/bookmarks/one", {"payload": "what only the client can read"}).status == 200
    assert storage.get("/storage/bookmarks/one").json["payload"] == "what only the client can read"
    assert list(storage.get("/info/collections").json) == ["bookmarks"]
    assert answer.body["duration"] == 3600
    assert answer.body["hashalg"] == "sha256"


def test_the_path_of_the_self_hosting_bundle_leads_to_the_same_user(
    firefox: Firefox, shared_mock: MockAccountServer
) -> None:
    first = firefox.ask(shared_mock.token("b" * 32))
    second = firefox.ask(shared_mock.token("b" * 32), "/token" + PATH)
    assert first.body["uid"] == second.body["uid"]
    assert firefox.storage(second).get("/info/collections").status == 200


def test_a_token_that_the_account_server_verifies_opens_the_storage(
    firefox: Firefox, shared_mock: MockAccountServer
) -> None:
    answer = firefox.ask(shared_mock.opaque_token("c" * 32, generation=1234))
    assert firefox.storage(answer).get("/info/quota").status == 200


def test_an_account_sees_its_own_storage_alone(firefox: Firefox, shared_mock: MockAccountServer) -> None:
    one = firefox.storage(firefox.ask(shared_mock.token("d" * 32)))
    two = firefox.storage(firefox.ask(shared_mock.token("e" * 32)))
    one.put("/storage/tabs/mine", {"payload": "p"})
    assert two.get("/storage/tabs/mine").status == 404
    assert two.get("/storage/tabs/mine", at=f"/1.5/{one.uid}").status == 401


def test_a_changed_key_leads_to_a_new_empty_storage(firefox: Firefox, shared_mock: MockAccountServer) -> None:
    old = firefox.storage(firefox.ask(shared_mock.token("f" * 32, {"fxa-generation": 1234})))
    old.put("/storage/tabs/mine", {"payload": "p"})
    changed = firefox.ask(shared_mock.token("f" * 32, {"fxa-generation": 2345}), key_id="2345-u7s")
    new = firefox.storage(changed)
    assert new.uid != old.uid
    assert new.get("/info/collections").json == {}
    stale = firefox.ask(shared_mock.token("f" * 32, {"fxa-generation": 1234}))
    assert (stale.status, stale.body["status"]) == (401, "invalid-client-state")


def test_first_requests_at_once_are_one_user(
    shared_server: SyncServer, shared_mock: MockAccountServer
) -> None:
    token = shared_mock.token("0" * 32)
    ready = threading.Barrier(20)

    def ask() -> int:
        transport = Live(shared_server.url)
        ready.wait()
        try:
            return int(Firefox(transport).ask(token).body["uid"])
        finally:
            transport.close()

    with ThreadPoolExecutor(20) as pool:
        assert len({future.result() for future in [pool.submit(ask) for _ in range(20)]}) == 1


REFUSED: dict[str, Callable[[MockAccountServer], str]] = {
    "expired": lambda mock: mock.token(claims={"exp": 1_500_000_000}),
    "not valid yet": lambda mock: mock.token(claims={"nbf": 9_999_999_999}),
    "of another scope": lambda mock: mock.token(claims={"scope": "profile"}),
    "of another type": lambda mock: mock.token(header={"typ": "JWT"}),
    "unsigned": lambda mock: mock.token(header={"alg": "none"}, sign=unsigned),
    "signed by somebody": lambda mock: mock.token(sign=SigningKey("key-1").sign),
    "unknown to the account server": lambda mock: "0123456789abcdef" * 4,
    "refused by the account server": lambda mock: mock.opaque_token(status=401),
    "a verdict without scope": lambda mock: mock.opaque_token(scope=[]),
    "a verdict of another shape": lambda mock: json.dumps({"body": [SCOPE], "status": 200}),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_a_token_that_proves_nothing_is_refused(
    firefox: Firefox, shared_mock: MockAccountServer, make: Callable[[MockAccountServer], str]
) -> None:
    status, headers, body = firefox.ask(make(shared_mock))
    assert (status, body) == (401, INVALID)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-timestamp"].isdigit()


def test_no_token_is_ever_logged(
    shared_server: SyncServer, firefox: Firefox, shared_mock: MockAccountServer
) -> None:
    tokens = [shared_mock.token(), shared_mock.token(claims={"exp": 1}), shared_mock.opaque_token(status=401)]
    answers = [firefox.ask(token) for token in tokens]
    log = shared_server.log.read_text()
    assert "401 " in log
    for secret in (
        *(token.split(".")[-1] for token in tokens),
        answers[0].body["id"],
        answers[0].body["key"],
        SECRET,
    ):
        assert secret not in log


# -- the account server fails


def put_off(answer: Answer) -> bool:
    """Whether the client is told to come again, and nothing is said against its token."""
    return (answer.status, answer.body) == (503, AWAY) and int(answer.headers["retry-after"]) > 0


def test_through_an_outage_whose_key_is_known_comes_in(serve: Serve, mock: MockAccountServer) -> None:
    firefox = serve()
    storage = firefox.storage(firefox.ask(mock.token()))
    mock.stop()
    assert firefox.ask(mock.token()).status == 200
    assert firefox.ask(mock.token("another")).status == 200
    assert storage.put("/storage/tabs/one", {"payload": "p"}).status == 200
    assert put_off(firefox.ask(mock.opaque_token()))
    mock.start()
    assert firefox.ask(mock.opaque_token()).status == 200


def test_an_outage_at_the_first_token_puts_off_and_nothing_more(
    serve: Serve, mock: MockAccountServer
) -> None:
    mock.stop()
    firefox = serve()
    assert put_off(firefox.ask(mock.token()))
    assert put_off(firefox.ask(mock.opaque_token()))
    mock.start()
    firefox.storage(firefox.ask(mock.token())).put("/storage/tabs/one", {"payload": "p"})


def test_configured_keys_need_no_account_server(
    serve: Serve, mock: MockAccountServer, tmp_path: Path
) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [mock.keys[0].jwk()]}))
    mock.stop()
    firefox = serve(fxa_jwks=str(path))
    assert firefox.ask(mock.token()).status == 200
    assert not mock.requests


def test_a_key_rotated_a_moment_ago_is_no_reason_to_refuse(serve: Serve, mock: MockAccountServer) -> None:
    firefox = serve()
    old = mock.token()
    uid = firefox.ask(old).body["uid"]
    mock.rotate()
    assert firefox.ask(mock.token()).body["uid"] == uid
    assert firefox.ask(old).body["uid"] == uid


@pytest.mark.parametrize(
    "document",
    [b'{"keys":[{"fake":"RSA key"}]}', b"<html>", b'{"keys": []}', b"{", b"[" * 50_000],
    ids=["fake", "html", "none", "cut", "deep"],
)
def test_without_a_usable_key_the_account_servers_word_counts(
    serve: Serve, mock: MockAccountServer, document: bytes
) -> None:
    mock.keys_document = document
    firefox = serve()
    firefox.storage(firefox.ask(mock.token())).put("/storage/tabs/one", {"payload": "p"})
    refused = firefox.ask(mock.token(sign=SigningKey("key-1").sign))
    assert (refused.status, refused.body) == (401, INVALID)


def test_garbage_from_the_account_server_opens_nothing(serve: Serve, mock: MockAccountServer) -> None:
    firefox = serve()
    mock.fault = Fault.GARBAGE
    for token in (mock.opaque_token(), mock.token()):
        answer = firefox.ask(token)
        assert (answer.status, answer.body) == (401, INVALID)
    for fault in (Fault.NOT_HTTP, Fault.OVERSIZE, Fault.TRUNCATED, Fault.HANGING_UP, Fault.BROKEN):
        mock.fault = fault
        assert put_off(firefox.ask(mock.opaque_token())), fault
    mock.fault = None
    assert firefox.ask(mock.opaque_token()).status == 200


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.DRIPPING])
def test_a_silent_account_server_leaves_the_storage_to_its_users(
    serve: Serve, mock: MockAccountServer, fault: Fault
) -> None:
    firefox = serve(fxa_timeout="0.5")
    storage = firefox.storage(firefox.ask(mock.token()))
    mock.fault = fault
    for _ in range(30):  # far more than there are threads
        assert put_off(firefox.ask(mock.opaque_token()))
    assert mock.requests["/v1/verify"] < 30
    assert firefox.ask(mock.token()).status == 200
    assert storage.put("/storage/tabs/one", {"payload": "p"}).status == 200


# -- keys grow old: with a clock that tests step, in process


class Aging(NamedTuple):
    firefox: Firefox
    clock: SteppableClock


@pytest.fixture
def aging(mock: MockAccountServer, tmp_path: Path) -> Iterator[Aging]:
    clock = SteppableClock()
    url = f"sqlite:///{tmp_path / 'sync.db'}"
    app = make_app({"sqlalchemy.url": url, "auth.secrets": SECRET, **settings_for(mock)}, tmp_path, clock)
    yield Aging(Firefox(InProcess(app)), clock)
    app.close()


def test_keys_are_fetched_once_an_hour(aging: Aging, mock: MockAccountServer) -> None:
    for _ in range(5):
        assert aging.firefox.ask(mock.token()).status == 200
    assert mock.requests == {"/v1/jwks": 1}
    aging.clock.step(MAX_AGE_SECONDS + 1)
    for _ in range(5):
        assert aging.firefox.ask(mock.token()).status == 200
    assert mock.requests == {"/v1/jwks": 2}


def test_a_rotation_goes_unnoticed(aging: Aging, mock: MockAccountServer) -> None:
    aging.firefox.ask(mock.token())
    aging.clock.step(REFRESH_SECONDS)
    mock.rotate()
    assert aging.firefox.ask(mock.token()).status == 200
    assert mock.requests == {"/v1/jwks": 2}


def test_a_withdrawn_key_opens_nothing_any_more(aging: Aging, mock: MockAccountServer) -> None:
    old = mock.token()
    assert aging.firefox.ask(old).status == 200
    mock.rotate(keep=False)
    aging.clock.step(MAX_AGE_SECONDS + 1)
    answer = aging.firefox.ask(old)
    assert (answer.status, answer.body) == (401, INVALID)
    assert aging.firefox.ask(mock.token()).status == 200


def test_invented_key_ids_are_no_lever_against_the_account_server(
    aging: Aging, mock: MockAccountServer
) -> None:
    for number in range(20):
        forged = mock.token(
            header={"kid": str(number)}, sign=SigningKey("x").sign if number == 0 else unsigned
        )
        assert aging.firefox.ask(forged).status == 401
    assert mock.requests["/v1/jwks"] == 1


def test_an_outage_of_days_stops_nobody_whose_key_is_known(aging: Aging, mock: MockAccountServer) -> None:
    aging.firefox.ask(mock.token(UID))
    mock.stop()
    for _ in range(3):
        aging.clock.step(86400)
        assert aging.firefox.ask(mock.token(UID)).status == 200
