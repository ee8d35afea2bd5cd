"""Connections die, run out and collide, and what comes of it is an error of ours or no error at all."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import NullPool, create_engine, make_url, select, text
from sqlalchemy.engine import Connection

from syncstore.bso import Change
from syncstore.errors import Conflict, LockTimeout, NotFound, RolledBack, Unavailable
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.connections import PoolSizes
from syncstore.storage.sql.dialects.api import Write
from syncstore.storage.sql.engine import Transaction
from syncstore.testing.processes import free_port
from syncstore.testing.sql_store import SqlStore

OpenStore = Callable[..., SqlStore]


@pytest.fixture
def server_url(migrated_url: str) -> str:
    """The URL of a database that is a server."""
    if migrated_url.startswith("sqlite"):
        pytest.skip("SQLite is no server")
    return migrated_url


def kill_connections(url: str) -> int:
    """End all connections to the database but our own, as a restart of the server would; how many."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return (_kill_mysql if "mysql" in url else _kill_postgresql)(connection)


def _kill_postgresql(connection: Connection) -> int:
    others = "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    killed = connection.execute(
        text(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity {others}")
    )
    return len(killed.all())


def _kill_mysql(connection: Connection) -> int:
    ours = "FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    numbers = connection.execute(text(f"SELECT id {ours}")).scalars().all()
    for number in numbers:
        connection.execute(text(f"KILL {number}"))
    return len(numbers)


def fill_pool(store: SqlStore, count: int) -> None:
    """Have `count` idle connections."""
    held = [store.database.connections.take() for _ in range(count)]
    for connection in held:
        store.database.connections.give(connection)


def put(store: SqlStore, uid: int, payload: str = "x") -> int:
    with store.storage.lock_for_write(uid, "col", ["a"], create=True) as work:
        return work.put([Change("a", payload)])


def set_mark(uid: int, mark: int) -> Write:
    return Write(f"UPDATE storage_users SET high_water = {mark} WHERE userid = {uid}", ())


def lock(store: SqlStore, uid: int, timeout: float | None = None) -> Transaction:
    seconds = store.database.lock_timeout if timeout is None else timeout
    return store.database.lock_user(uid, exclusive=True, timeout=seconds)


# -- dead connections


def test_idle_connections_that_died_are_replaced_unseen(server_url: str, store: SqlStore) -> None:
    put(store, 1)
    for use in (partial(put, store, 1), partial(store.storage.item, 1, "col", "a"), store.storage.check):
        fill_pool(store, 4)
        assert kill_connections(server_url) == 4
        for _ in range(4):
            use()


def test_a_connection_that_dies_in_a_transaction_takes_it_back(server_url: str, store: SqlStore) -> None:
    before = put(store, 2)
    steps: list[Callable[[Transaction], object]] = [
        lambda at: at.query(store.statements.ping, {}),
        lambda at: at.execute(set_mark(2, 10**15)),
        lambda at: at.finish([set_mark(2, 10**15)]),
    ]
    for step in steps:
        at = lock(store, 2)
        at.execute(set_mark(2, 10**15))
        assert kill_connections(server_url) >= 1
        with pytest.raises(Unavailable) as caught:
            step(at)
        assert not isinstance(caught.value, Conflict)
        assert not at.open
        at.rollback()  # does nothing any more
        assert store.storage.collection_times(2).modified == before


def test_the_rollback_of_a_dead_transaction_is_no_error(server_url: str, store: SqlStore) -> None:
    at = lock(store, 3)
    kill_connections(server_url)
    at.rollback()
    put(store, 3)


@pytest.mark.usefixtures("server_url")
def test_other_transactions_survive_the_death_of_one(store: SqlStore) -> None:
    put(store, 4)
    going_on = lock(store, 4)
    dead = lock(store, 5)
    dead._taken.dbapi_connection.close()  # type: ignore[union-attr]  # what a firewall does, to one only
    with pytest.raises(Unavailable):
        dead.query(store.statements.ping, {})
    assert going_on.query(store.statements.ping, {})
    going_on.finish([set_mark(4, 10**14)])
    assert store.storage.collection_times(4).modified == 10**13
    store.database.close()
    gc.collect()  # a connection that was forgotten open complains now


def test_a_database_that_is_not_there_is_unavailable(migrated_url: str, open_store: OpenStore) -> None:
    if migrated_url.startswith("sqlite"):
        url = "sqlite:////nonexistent/folder/sync.db"
    else:
        url = make_url(migrated_url).set(port=free_port()).render_as_string(hide_password=False)
    store = open_store(url)
    for use in (
        store.storage.check,
        partial(store.storage.item, 1, "bookmarks", "a"),
        partial(store.storage.collection_times, 1),
        partial(put, store, 1),
    ):
        with pytest.raises(Unavailable) as caught:
            use()
        assert not isinstance(caught.value, Conflict | NotFound)


def test_a_statement_that_fails_is_an_outage_and_spoils_no_connection(
    store: SqlStore, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Statement("broken", select(text("nothing FROM nowhere")), store.database.dialect.compiler)
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.database.query(broken, {})
    at = lock(store, 6)
    with pytest.raises(Unavailable):
        at.query(broken, {})
    assert not at.open
    put(store, 6)
    assert "the database failed" in caplog.text


# -- the pool


def test_a_pool_that_is_used_up_is_a_conflict(migrated_url: str, open_store: OpenStore) -> None:
    store = open_store(migrated_url, pool=PoolSizes(1, 0, 0.1))
    at = lock(store, 10)
    with pytest.raises(Conflict) as caught:
        store.storage.check()
    assert caught.value.retry_after is None  # the setting retry_after.conflict decides
    with pytest.raises(Conflict):
        lock(store, 11)
    at.rollback()
    store.storage.check()


def test_who_waits_for_a_connection_gets_the_next_one(migrated_url: str, open_store: OpenStore) -> None:
    store = open_store(migrated_url, pool=PoolSizes(2, 0, 20.0))
    together = threading.Barrier(8)

    def use(number: int) -> None:
        together.wait(20)
        for _ in range(20):
            store.storage.collection_times(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_whatever_interrupts_a_statement_costs_its_connection(
    migrated_url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    store = open_store(migrated_url, pool=PoolSizes(1, 0, 0.1))

    def interrupted(*_: object) -> None:
        raise error

    at = lock(store, 12)
    with monkeypatch.context() as patch:
        patch.setattr(store.database.dialect, "fetch", interrupted)
        with pytest.raises(error):
            at.query(store.statements.ping, {})
        assert not at.open
        with pytest.raises(error):
            store.storage.check()
    lock(store, 12).rollback()
    store.storage.check()


# -- collisions


def test_a_row_that_is_there_is_not_inserted_again(store: SqlStore) -> None:
    values = {"collection": 500_001, "name": "twice"}
    assert store.database.insert_if_new(store.statements.add_collection_name, values) is True
    assert store.database.insert_if_new(store.statements.add_collection_name, values) is False
    store.storage.check()


def test_a_held_row_is_a_lock_timeout(migrated_url: str, open_store: OpenStore) -> None:
    store = open_store(migrated_url, lock_timeout=1.0)
    at = lock(store, 20)
    for timeout in (None, 0.0, 0.2):
        with pytest.raises(LockTimeout) as caught:
            lock(store, 20, timeout)
        assert caught.value.retry_after is None  # the setting retry_after.conflict decides
    at.rollback()
    lock(store, 20, 0.0).rollback()


def test_a_short_timeout_of_one_lock_does_not_stay_with_the_connection(
    migrated_url: str, open_store: OpenStore
) -> None:
    store = open_store(migrated_url, pool=PoolSizes(2, 0, 1.0), lock_timeout=20.0)
    at = lock(store, 21)
    with pytest.raises(LockTimeout):
        lock(store, 21, 0.1)
    with ThreadPoolExecutor(1) as elsewhere:
        waiting = elsewhere.submit(lock, store, 21)
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        at.rollback()
        waiting.result(20).rollback()


def test_a_row_that_another_transaction_holds_is_a_lock_timeout_at_the_commit(
    server_url: str, open_store: OpenStore
) -> None:
    store = open_store(server_url, lock_timeout=1.0)
    one, two = lock(store, 22), lock(store, 23)
    with pytest.raises(LockTimeout):
        two.finish([set_mark(23, 5 * 10**12), set_mark(22, 5 * 10**12)])
    one.rollback()
    assert store.storage.collection_times(23).modified == 0


def test_one_of_two_who_deadlock_is_rolled_back_and_may_try_again(
    server_url: str, open_store: OpenStore
) -> None:
    store = open_store(server_url, lock_timeout=20.0)
    one, two = lock(store, 24), lock(store, 25)

    def finish(at: Transaction, mine: int, other: int) -> str:
        try:
            at.finish([set_mark(other, 10**13 + mine), set_mark(mine, 10**13 + mine)])
        except RolledBack:
            return "rolled back"
        return "committed"

    with ThreadPoolExecutor(2) as threads:
        outcomes = [threads.submit(finish, one, 24, 25), threads.submit(finish, two, 25, 24)]
        assert sorted(outcome.result(30) for outcome in outcomes) == ["committed", "rolled back"]
    assert store.storage.collection_times(24) == store.storage.collection_times(25)


def test_a_reader_never_waits_for_a_writer(store: SqlStore) -> None:
    before = put(store, 26)
    at = lock(store, 26)
    at.execute(set_mark(26, 10**15))
    assert store.storage.collection_times(26).modified == before
    assert store.storage.item(26, "col", "a").payload == "x"
    at.rollback()
