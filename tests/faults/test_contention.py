"""Somebody else holds what a write needs: 503 after about lock.timeout, never a 500, and no word of the cause."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from syncstore.app import make_app
from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply
from syncstore.testing.transports import InProcess

SECRET = "a-secret-of-the-fault-tests"
LOCK_TIMEOUT = 1.0
SLACK = 5.0  # seconds that a busy machine may add


@pytest.fixture(scope="module")
def app(database_url: str) -> Iterator[Any]:
    settings = {"auth.secrets": SECRET, "migrate": "auto", "lock.timeout": str(LOCK_TIMEOUT)}
    made = make_app({"sqlalchemy.url": database_url, **settings})
    yield made
    made.close()


@pytest.fixture(scope="module")
def outsider(database_url: str, app: Any) -> Iterator[Engine]:
    """Another program on the same database, after its tables are there."""
    engine = create_engine(database_url, poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def sync(app: Any) -> SyncClient:
    """A user with an item of two collections."""
    client = SyncClient(random.randrange(1, 2**31), SECRET, InProcess(app))
    client.put("/storage/col/a", {"payload": "before"})
    client.put("/storage/other/a", {"payload": "before"})
    return client


@contextmanager
def user_row_held(outsider: Engine, uid: int) -> Iterator[None]:
    """Hold what a writer of this user locks first."""
    with outsider.connect() as connection:
        if outsider.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(
                f"SELECT high_water FROM storage_users WHERE userid = {uid} FOR UPDATE"
            )
        yield
        connection.rollback()


WRITES: dict[str, Callable[[SyncClient], Reply]] = {
    "put": lambda sync: sync.put("/storage/col/a", {"payload": "after"}),
    "put into a new collection": lambda sync: sync.put(
        f"/storage/{uuid.uuid4().hex}/a", {"payload": "after"}
    ),
    "post": lambda sync: sync.post("/storage/col", [{"id": "a", "payload": "after"}]),
    "new batch": lambda sync: sync.post("/storage/col?batch=true", [{"id": "a", "payload": "after"}]),
    "delete": lambda sync: sync.delete("/storage/col/a"),
    "delete collection": lambda sync: sync.delete("/storage/col"),
    "delete everything": lambda sync: sync.delete(""),
}


def test_a_held_lock_is_503_after_its_timeout(
    sync: SyncClient, outsider: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """For every kind of write; all at once, since each waits for the whole timeout."""
    replies: dict[str, tuple[Reply, float]] = {}

    def write(kind: str) -> None:
        client, began = sync.on_a_new_connection(), time.monotonic()
        replies[kind] = WRITES[kind](client), time.monotonic() - began

    threads = [threading.Thread(target=write, args=(kind,)) for kind in WRITES]
    with user_row_held(outsider, sync.uid):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert replies.keys() == WRITES.keys()
    for reply, waited in replies.values():
        assert (reply.status, reply.body) == (503, b"0")
        assert int(reply["Retry-After"]) >= 10
        assert LOCK_TIMEOUT * 0.9 <= waited < LOCK_TIMEOUT + SLACK
        assert_nothing_told(reply)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(WRITES)
    assert sync.get("/storage/col/a").json["payload"] == "before"
    for again in WRITES.values():
        assert again(sync).status in (200, 202)


def test_reads_do_not_wait_for_a_writer(sync: SyncClient, outsider: Engine) -> None:
    with user_row_held(outsider, sync.uid):
        assert sync.get("/storage/col?full=1").json[0]["payload"] == "before"
        assert sync.get("/info/collections").status == 200


def test_a_writer_who_ends_in_time_is_waited_for(sync: SyncClient, outsider: Engine) -> None:
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with user_row_held(outsider, sync.uid):
            holding.set()
            done.wait(LOCK_TIMEOUT / 2)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(10)
    reply = sync.put("/storage/col/a", {"payload": "after"})
    thread.join()

    assert reply.status == 200


def test_a_deadlock_is_solved_by_trying_again_or_told_as_503(sync: SyncClient, outsider: Engine) -> None:
    """The outsider holds the collection's row and asks for the user's, which the request holds."""
    if outsider.dialect.name == "sqlite":
        pytest.skip("SQLite has one lock for everything, so nobody waits crosswise")
    replies: list[Reply] = []
    row = f"userid = {sync.uid} AND collection = (SELECT collectionid FROM collections WHERE name = 'col')"
    with outsider.connect() as connection:
        connection.exec_driver_sql(f"UPDATE user_collections SET last_modified = last_modified WHERE {row}")
        thread = threading.Thread(
            target=lambda: replies.append(sync.put("/storage/col/a", {"payload": "after"}))
        )
        thread.start()
        _await_waiter(outsider)
        with suppress(DBAPIError):  # when it is the outsider who must give way
            connection.exec_driver_sql(
                f"SELECT high_water FROM storage_users WHERE userid = {sync.uid} FOR UPDATE"
            )
        connection.rollback()
        thread.join(30)

    (reply,) = replies
    assert reply.status in (200, 503)
    assert sync.get("/storage/col/a").json["payload"] == ("after" if reply.status == 200 else "before")
    assert sync.put("/storage/col/a", {"payload": "again"}).status == 200


def test_all_connections_in_use_is_503(database_url: str, outsider: Engine) -> None:
    """More writers than the pool may ever have connections, of which all wait for one lock."""
    settings = {"sqlalchemy.pool_size": "1", "sqlalchemy.max_overflow": "0", "sqlalchemy.pool_timeout": "0.2"}
    settings |= {"auth.secrets": SECRET, "lock.timeout": str(LOCK_TIMEOUT), "sqlalchemy.url": database_url}
    small: Any = make_app(settings)
    client = SyncClient(random.randrange(1, 2**31), SECRET, InProcess(small))
    client.put("/storage/col/a", {"payload": "before"})
    replies: list[Reply] = []

    def write() -> None:
        replies.append(client.on_a_new_connection().put("/storage/col/a", {"payload": "after"}))

    threads = [threading.Thread(target=write) for _ in range(3)]
    with user_row_held(outsider, client.uid):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    after = client.put("/storage/col/a", {"payload": "after"})
    small.close()

    assert [reply.status for reply in replies] == [503] * 3
    assert after.status == 200


def _await_waiter(outsider: Engine) -> None:
    """Return when somebody waits for a row lock in this database."""
    if outsider.dialect.name == "postgresql":
        sql = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    else:
        sql = (
            "SELECT CAST(variable_value AS INTEGER) FROM information_schema.global_status "
            "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'"
        )
    deadline = time.monotonic() + 10
    with outsider.connect() as connection:
        while connection.exec_driver_sql(sql).scalar() == 0:
            connection.rollback()
            assert time.monotonic() < deadline, "nobody waits"


def assert_nothing_told(reply: Reply) -> None:
    everything = reply.body.decode().lower() + str(dict(reply.headers)).lower()
    for word in ("locked", "busy", "sql", "timeout", "database"):
        assert word not in everything
