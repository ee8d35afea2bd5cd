"""Forgetting replaced records: here, on another node, on one that is gone, down or does not want to."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from syncstore import app, app_tokenserver
from syncstore.app import make_app
from syncstore.auth.secrets import FixedSecrets
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.settings import read_settings
from syncstore.testing.client import InProcess, Live, SyncClient
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.service import SECRET, SyncServer
from syncstore.testing.token_database import NODE, TokenDatabase
from syncstore.tokenserver.purge import Forgotten, NotDeleted, RemoteNode, Replaced, ReplacedUsers
from syncstore.tokenserver.rules import Claim

GRACE = 60


class Deletions:
    """What was asked to be deleted; fails for the uids in `failing`."""

    def __init__(self) -> None:
        self.here: list[int] = []
        self.there: list[Replaced] = []
        self.failing: set[int] = set()

    def delete_here(self, uid: int) -> None:
        if uid in self.failing:
            raise Unavailable("a test")
        self.here.append(uid)

    def delete_there(self, record: Replaced) -> None:
        if record.uid in self.failing:
            raise NotDeleted("a test")
        self.there.append(record)


@pytest.fixture
def deletions() -> Deletions:
    return Deletions()


def purge(tokens: TokenDatabase, deletions: Deletions, **options: Any) -> Forgotten:
    replaced = ReplacedUsers(
        tokens.connections,
        tokens.clock,
        deletions.delete_here,
        deletions.delete_there,
        own_names=["https://mine"],
        grace=GRACE,
        **options,
    )
    steps = list(replaced.steps())
    return Forgotten(sum(step.deleted for step in steps), sum(step.skipped for step in steps))


def long_ago(tokens: TokenDatabase) -> int:
    return tokens.clock.now_ms() - GRACE * 1000 - 1


@pytest.mark.parametrize("name", ["*", "https://mine"])
def test_a_record_of_this_server_goes_with_its_data(
    tokens: TokenDatabase, deletions: Deletions, name: str
) -> None:
    node = tokens.add_node(name, current_load=2, available=3)
    old = tokens.add_user(nodeid=node, replaced_at=long_ago(tokens))
    present = tokens.add_user(nodeid=node, created_at=2_000)
    assert purge(tokens, deletions) == Forgotten(1, 0)
    assert deletions.here == [old]
    assert [row["uid"] for row in tokens.user_rows()] == [present]
    assert (tokens.node_row(name)["current_load"], tokens.node_row(name)["available"]) == (1, 4)


def test_within_the_grace_it_stays(tokens: TokenDatabase, deletions: Deletions) -> None:
    tokens.add_user(nodeid=tokens.add_node(), replaced_at=long_ago(tokens) + 1)
    assert purge(tokens, deletions) == Forgotten(0, 0)


def test_another_node_is_told(tokens: TokenDatabase, deletions: Deletions) -> None:
    uid = tokens.add_user(nodeid=tokens.add_node(current_load=1), replaced_at=1)
    assert purge(tokens, deletions) == Forgotten(1, 0)
    (record,) = deletions.there
    assert (record.uid, record.endpoint) == (uid, f"{NODE}/1.5/{uid}")
    assert deletions.here == []


def test_without_its_node_only_the_record_goes(tokens: TokenDatabase, deletions: Deletions) -> None:
    tokens.add_user(nodeid=777, replaced_at=1)
    tokens.add_user(nodeid=None, replaced_at=1)
    assert purge(tokens, deletions) == Forgotten(2, 0)
    assert (deletions.here, deletions.there, tokens.user_rows()) == ([], [], [])


def test_a_node_that_is_down_is_waited_for_unless_forced(tokens: TokenDatabase, deletions: Deletions) -> None:
    tokens.add_user(nodeid=tokens.add_node(downed=1, current_load=1), replaced_at=1)
    assert purge(tokens, deletions) == Forgotten(0, 1)
    assert purge(tokens, deletions, force=True) == Forgotten(1, 0)
    assert deletions.there == []
    assert tokens.node_row(NODE)["current_load"] == 0


def test_what_fails_is_tried_again_later_and_stops_nobody(
    tokens: TokenDatabase, deletions: Deletions
) -> None:
    here, there = tokens.add_node("*"), tokens.add_node()
    uids = [tokens.add_user(nodeid=node, replaced_at=1) for node in (here, there, here, there)]
    deletions.failing = set(uids[:2])
    assert purge(tokens, deletions) == Forgotten(2, 2)
    rows = tokens.user_rows()
    assert [(row["uid"], row["replaced_at"]) for row in rows] == [
        (uid, tokens.clock.now_ms()) for uid in uids[:2]
    ]
    deletions.failing = set()
    assert purge(tokens, deletions) == Forgotten(0, 0)
    tokens.clock.step(GRACE + 1)
    assert purge(tokens, deletions) == Forgotten(2, 0)


def test_many_go_in_small_steps(tokens: TokenDatabase, deletions: Deletions) -> None:
    node = tokens.add_node("*", current_load=25)
    uids = [tokens.add_user(nodeid=node, replaced_at=1) for _ in range(25)]
    assert purge(tokens, deletions) == Forgotten(25, 0)
    assert deletions.here == uids
    assert tokens.node_row("*")["current_load"] == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_user_that_is_present_again_keeps_its_data(
    tokens: TokenDatabase, deletions: Deletions, *, fails: bool
) -> None:
    """Somebody takes a replacement back while the records before it are deleted, or its own deletion fails."""
    node = tokens.add_node("*", current_load=2)
    first, second = (tokens.add_user(nodeid=node, replaced_at=1) for _ in range(2))
    revived = first if fails else second

    def delete_here(uid: int) -> None:
        deletions.here.append(uid)
        if uid == first:
            tokens.execute("UPDATE users SET replaced_at = NULL WHERE uid = :uid", uid=revived)
        if fails:
            raise Unavailable("a test")

    list(
        ReplacedUsers(
            tokens.connections, tokens.clock, delete_here, deletions.delete_there, own_names=[], grace=GRACE
        ).steps()
    )
    assert deletions.here == ([first, second] if fails else [first])
    assert {row["uid"]: row["replaced_at"] for row in tokens.user_rows()}[revived] is None


# -- the signed DELETE


def record_on(node: str, uid: int) -> Replaced:
    return Replaced(
        uid=uid,
        email="ann@accounts.test",
        generation=1234,
        client_state="aaaa",
        keys_changed_at=1234,
        replaced_at=1,
        node_id=1,
        node=node,
        downed=False,
        endpoint=f"{node}/1.5/{uid}",
    )


def test_a_real_node_deletes_what_the_signed_request_names(tmp_path: Path) -> None:
    with SyncServer(f"sqlite:///{tmp_path}/sync.db", workers=1) as server:
        transport = Live(server.url)
        clients = {uid: SyncClient(uid, SECRET, transport) for uid in (7, 8)}
        for client in clients.values():
            client.put("/storage/tabs/one", {"payload": "p"})
        RemoteNode(FixedSecrets([SECRET]), SystemClock(), 10).delete(record_on(server.url, 7))
        assert clients[7].get("/info/collections").json == {}
        assert "tabs" in clients[8].get("/info/collections").json
        with pytest.raises(NotDeleted, match="answers 401"):
            RemoteNode(FixedSecrets(["wrong"]), SystemClock(), 10).delete(record_on(server.url, 8))
        transport.close()


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[str]:
    """A node that answers every DELETE with the parameter."""

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()
        thread.join()


def remote(tokens: TokenDatabase) -> RemoteNode:
    return RemoteNode(FixedSecrets([SECRET]), tokens.clock, 5)


@pytest.mark.parametrize("node", [200, 204, 404], indirect=True)
def test_what_is_not_there_is_deleted(tokens: TokenDatabase, node: str) -> None:
    remote(tokens).delete(record_on(node, 7))


@pytest.mark.parametrize("node", [301, 302, 308, 401, 500, 503], indirect=True)
def test_a_refusal_is_not_a_deletion(tokens: TokenDatabase, node: str) -> None:
    with pytest.raises(NotDeleted):
        remote(tokens).delete(record_on(node, 7))


def test_a_node_that_does_not_answer_has_deleted_nothing(tokens: TokenDatabase) -> None:
    with pytest.raises(NotDeleted, match="ConnectionRefusedError"):
        remote(tokens).delete(record_on(f"http://{HOST}:{free_port()}", 7))
    with pytest.raises(NotDeleted):
        remote(tokens).delete(record_on("nowhere", 7))


def test_a_client_state_of_another_server_that_is_no_hex_stops_nobody(tokens: TokenDatabase) -> None:
    with pytest.raises(NotDeleted, match="ValueError"):
        remote(tokens).delete(
            dataclasses.replace(record_on(f"http://{HOST}:{free_port()}", 7), client_state="x.y")
        )


def test_a_node_that_drips_is_left_at_the_deadline() -> None:
    """A byte now and then keeps each single wait in time."""
    ended = Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not ended.wait(0.02):
                connection.sendall(b".")

    with socket.create_server((HOST, 0)) as listener:
        thread = Thread(target=drip, args=[listener])
        thread.start()
        try:
            with pytest.raises(NotDeleted, match="TimeoutError"):
                RemoteNode(FixedSecrets([SECRET]), SystemClock(), 0.3).delete(
                    record_on(f"http://{HOST}:{listener.getsockname()[1]}", 7)
                )
        finally:
            ended.set()
            thread.join()


# -- in the serving process


def test_the_app_s_own_storage_is_emptied(tmp_path: Path) -> None:
    ini = {"tokenserver.enabled": "true", "auth.secrets": SECRET, "purge.grace": "0"}
    made = make_app(ini, tmp_path)
    settings = read_settings(ini, {}, tmp_path)
    clock = SystemClock()
    connections = app_tokenserver.open_connections(settings)
    users = app_tokenserver.open_users(settings, connections, clock)
    old = users.assign("ann", "ann@x", Claim(1, 1, "aaaa")).uid
    client = SyncClient(old, SECRET, InProcess(made))
    client.put("/storage/tabs/one", {"payload": "p"})
    new = users.assign("ann", "ann@x", Claim(2, 2, "bbbb")).uid
    SyncClient(new, SECRET, InProcess(made)).put("/storage/tabs/one", {"payload": "p"})
    database, statements = app.open_database(settings)
    locks = app.open_locks(settings, database, clock)
    storage = app.open_storage(settings, database, statements, locks, clock)
    purge_ = app_tokenserver.open_replaced_users(
        settings, connections, storage, FixedSecrets([SECRET]), clock
    )
    clock.sleep(0.002)
    assert sum(step.deleted for step in purge_.steps()) == 1
    assert client.get("/info/collections").json == {}
    assert "tabs" in SyncClient(new, SECRET, InProcess(made)).get("/info/collections").json
    storage.close()
    connections.close()
    made.close()
