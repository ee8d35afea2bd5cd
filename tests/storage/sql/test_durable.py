"""What a cache rests on, where the databases differ: snapshots and locks, and what a damaged column spoils."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

from syncstore.bso import Change
from syncstore.errors import Conflict, RolledBack, Unavailable
from syncstore.storage.durable import Being, KeptTime, Times
from syncstore.testing.sql_store import SqlStore
from syncstore.testing.waiting import await_that

# What PostgreSQL and MariaDB say of a session that waits for an advisory lock, and how one is taken.
_WAITING = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event = 'advisory'",
    "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User lock'",
}
_TAKE = {"postgresql": "SELECT pg_advisory_lock(4711)", "mysql": "SELECT GET_LOCK('durable', 20)"}
_GIVE = {"postgresql": "SELECT pg_advisory_unlock(4711)", "mysql": "SELECT RELEASE_LOCK('durable')"}


@pytest.fixture
def server(store: SqlStore) -> SqlStore:
    """A store on a database that locks rows."""
    if store.database.dialect.name == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    return store


@contextmanager
def raw(store: SqlStore) -> Iterator[Any]:
    """A connection as the store has them, thrown away afterwards with whatever it had begun."""
    taken = store.database.connections.take()
    try:
        yield taken.dbapi_connection
    finally:
        store.database.connections.discard(taken)


def run(store: SqlStore, connection: Any, sql: str) -> list[Any]:
    return store.database.dialect.fetch(connection, sql, ())


def put(store: SqlStore, uid: int, payload: str = "x") -> int:
    with store.storage.lock_for_write(uid, "col", ["a"], create=True) as work:
        return work.put([Change("a", payload)])


def keep(store: SqlStore, uid: int, collection: str = "tabs") -> KeptTime:
    with store.storage.lock_for_times(uid, collection) as work:
        kept = KeptTime(work.draw_time(), Being.LIVE, 2, 10)
        work.keep_time(collection, kept)
    return kept


# -- what settled times rest on


def test_what_follows_the_lock_in_one_message_is_newer_than_the_lock(server: SqlStore) -> None:
    """The message has read before; a writer commits; it goes on to the lock and to the times."""
    dialect, uid = server.database.dialect, 1
    first = put(server, uid)
    times = server.statements.times.sql % uid
    with raw(server) as holder, raw(server) as watcher, raw(server) as reader:
        run(server, holder, _TAKE[dialect.name])
        with ThreadPoolExecutor(1) as elsewhere:
            cursor = reader.cursor()
            message = (
                f"BEGIN; {times}; {_TAKE[dialect.name]}; "
                f"SELECT 1 FROM storage_users WHERE userid = {uid} {share(dialect)} SKIP LOCKED; {times}; ROLLBACK"
            )
            reading = elsewhere.submit(cursor.execute, message)
            await_that(lambda: run(server, watcher, _WAITING[dialect.name])[0][0])
            second = put(server, uid)
            run(server, holder, _GIVE[dialect.name])
            reading.result(20)
        results = all_results(cursor)
    before, _, granted, after = results
    assert (before[0][0], before[0][2]) == (first * 10, first * 10)
    assert len(granted) == 1
    assert (after[0][0], after[0][2]) == (second * 10, second * 10)


def share(dialect: Any) -> str:
    return "FOR SHARE" if dialect.name == "postgresql" else dialect._share


def all_results(cursor: Any) -> list[Any]:
    """The rows of each statement that has any."""
    results = []
    while True:
        if cursor.description:
            results.append(cursor.fetchall())
        if not cursor.nextset():
            return results


def test_a_user_whose_row_is_not_committed_has_no_settled_times(store: SqlStore) -> None:
    with raw(store) as connection:
        run_write(connection, "BEGIN")
        run_write(connection, "INSERT INTO storage_users (userid, high_water) VALUES (2, 10)")
        assert store.storage.settled_times(2) is None
        assert store.storage.times(2) == Times(0, {}, {})
        run_write(connection, "COMMIT")
        assert store.storage.settled_times(2) == Times(1, {}, {})


def run_write(connection: Any, sql: str) -> None:
    cursor = connection.cursor()
    cursor.execute(sql)
    cursor.close()


def test_a_row_that_is_written_without_having_been_locked_is_not_settled(store: SqlStore) -> None:
    at = put(store, 3)
    with raw(store) as connection:
        run_write(connection, "BEGIN")
        run_write(connection, f"UPDATE storage_users SET high_water = {at * 10 + 10} WHERE userid = 3")
        assert store.storage.settled_times(3) is None
        run_write(connection, "ROLLBACK")
    assert store.storage.settled_times(3) == Times(at, {"col": at}, {})


def test_those_who_share_the_row_do_not_disturb_each_other(server: SqlStore) -> None:
    at = put(server, 4)
    sharing = server.database.lock_user(4, exclusive=False, timeout=1.0)
    assert server.storage.settled_times(4) == Times(at, {"col": at}, {})
    sharing.rollback()


def test_writers_of_other_users_do_not_matter(server: SqlStore) -> None:
    at = put(server, 5)
    with server.storage.lock_for_write(6, "col", create=True) as work:
        work.put([])
        assert server.storage.settled_times(5) == Times(at, {"col": at}, {})


def test_settled_times_leave_no_transaction_open(store: SqlStore) -> None:
    put(store, 7)
    for _ in range(3):
        assert store.storage.settled_times(7) is not None
        assert store.storage.settled_times(8) is None
        store.database.lock_user(7, exclusive=True, timeout=0).rollback()


def test_settled_times_are_read_over_a_connection_that_died(server: SqlStore) -> None:
    at = put(server, 9)
    for connection in [server.database.connections.take() for _ in range(2)]:
        assert connection.dbapi_connection is not None
        connection.dbapi_connection.close()
        server.database.connections.give(connection)
    assert server.storage.settled_times(9) == Times(at, {"col": at}, {})


def test_sqlite_reads_settled_times_only_of_a_free_database(
    store: SqlStore, migrated_url: str, open_store: Callable[..., SqlStore]
) -> None:
    if store.database.dialect.name != "sqlite":
        pytest.skip("about SQLite")
    at = put(store, 10)
    patient = open_store(migrated_url, lock_timeout=20.0)
    other = sqlite3.connect(str(make_url(migrated_url).database), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")  # as a writer of another process
        for one in (store, patient):
            began = time.monotonic()
            assert one.storage.settled_times(10) is None
            assert time.monotonic() - began < 10, "it waited for the lock"
            assert one.storage.times(10) == Times(at, {"col": at}, {})
    finally:
        other.close()
    assert store.storage.settled_times(10) == Times(at, {"col": at}, {})
    with raw(patient) as connection:
        assert run(patient, connection, "PRAGMA busy_timeout") == [(20_000,)]
    with store.storage.lock_for_write(11, "col", create=True):
        assert store.storage.settled_times(10) is None


def test_who_reads_settled_times_in_one_process_refuses_no_writer_in_another(
    store: SqlStore, migrated_url: str, open_store: Callable[..., SqlStore]
) -> None:
    other = open_store(migrated_url)
    done = threading.Event()
    put(store, 12)

    def read() -> int:
        settled = 0
        while not done.is_set():
            acknowledged = store.storage.times(12).modified
            times = other.storage.settled_times(12)
            if times is not None:
                assert times.modified >= acknowledged
                assert times.collections == {"col": times.modified}
                settled += 1
        return settled

    with ThreadPoolExecutor(1) as elsewhere:
        reading = elsewhere.submit(read)
        try:
            last = [put(store, 12, str(number)) for number in range(200)][-1]
        finally:
            done.set()
        reading.result(20)
    assert other.storage.settled_times(12) == Times(last, {"col": last}, {})


# -- epochs


def test_a_work_reads_the_epoch_that_was_committed_after_its_lock(server: SqlStore) -> None:
    with ThreadPoolExecutor(1) as elsewhere, server.storage.lock_for_times(20, "tabs") as work:
        records = server.storage.records
        for seen in range(0, 24, 8):
            assert work.epoch("a:11211") == seen
            assert elsewhere.submit(records.advance, "a:11211", seen, seen + 8, "").result(20) is True
            assert work.epoch("a:11211") == seen + 8
            assert records.read(["a:11211"])[0].epoch == seen + 8


def test_an_epoch_waits_for_nobody_who_read_it(server: SqlStore) -> None:
    server.storage.records.advance("b", 0, 8, "")
    with server.storage.lock_for_times(21, "tabs") as work:
        assert work.epoch("b") == 8
        work.keep_time("tabs", KeptTime(work.draw_time()))
        assert server.storage.records.advance("b", 8, 17, "") is True


def test_an_epoch_can_be_advanced_as_soon_as_a_work_has_failed(store: SqlStore) -> None:
    def fail() -> None:
        with store.storage.lock_for_times(22, "tabs") as work:
            work.keep_time("tabs", KeptTime(work.draw_time()))
            raise Unavailable("the mark was not confirmed")

    with pytest.raises(Unavailable):
        fail()
    assert store.storage.records.advance("c", 0, 8, "") is True
    assert store.storage.records.read(["c"])[0].epoch == 8


# -- kept times


def test_a_time_that_was_not_drawn_yet_is_not_kept(store: SqlStore) -> None:
    with store.storage.lock_for_times(30, "tabs") as work:
        at = work.draw_time()
        with pytest.raises(RuntimeError):
            work.keep_time("tabs", KeptTime(at + 1))
    assert store.storage.times(30) == Times(at, {}, {})


def test_a_kept_time_makes_no_name_of_a_collection(store: SqlStore) -> None:
    keep(store, 31, "kept-and-nowhere-else")
    assert store.database.query(store.statements.collection_id, {"name": "kept-and-nowhere-else"}) == []


def test_only_who_asks_for_kept_times_reads_the_column(store: SqlStore) -> None:
    """One that cannot be read stops nobody else."""
    keep(store, 32)
    damaged = "X'C1'" if store.database.dialect.name != "postgresql" else "decode('C1', 'hex')"
    with raw(store) as connection:
        run_write(connection, f"UPDATE storage_users SET cached = {damaged} WHERE userid = 32")
    assert put(store, 32) == store.storage.collection_times(32).modified
    for ask in (
        store.storage.times,
        store.storage.settled_times,
        store.storage.sums,
        lambda uid: keep(store, uid),
    ):
        with pytest.raises(Unavailable):
            ask(32)
    assert put(store, 32) == store.storage.collection_times(32).modified


def test_the_purge_leaves_kept_times_alone(store: SqlStore, clock: Any) -> None:
    with store.storage.lock_for_write(33, "col", ["a"], create=True) as work:
        work.put([Change("a", "x", ttl=1)])
    kept = keep(store, 33)
    clock.step(10)
    assert sum(step.items for step in store.purge().steps()) == 1
    assert store.storage.times(33).kept == {"tabs": kept}
    assert store.storage.settled_times(33) == store.storage.times(33)


def test_a_work_whose_statement_failed_does_not_pass_for_committed(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keep(store, 34)

    def broken(*_: object) -> None:
        raise store.database.dialect.error("it failed")

    def go_on_after_an_error() -> None:
        with store.storage.lock_for_times(34, "tabs") as work:
            work.keep_time("tabs", KeptTime(work.draw_time()))
            with monkeypatch.context() as patch:
                patch.setattr(store.database.dialect, "fetch", broken)
                with pytest.raises(Unavailable):
                    work.epoch("d")

    with pytest.raises(RolledBack):
        go_on_after_an_error()
    assert store.storage.times(34).kept == {"tabs": before}
    with pytest.raises(Conflict):  # which a RolledBack is: whoever sees one knows that nothing was written
        go_on_after_an_error()
