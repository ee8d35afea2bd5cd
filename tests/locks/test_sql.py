"""The locks that are rows of the database keep every rule of locks, and share one transaction per user."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import make_url

from syncstore.clock import SystemClock
from syncstore.errors import LockLost, LockTimeout, LockUpgradeError
from syncstore.locks.api import WHOLE_STORAGE, Locks
from syncstore.locks.sql import SqlLocks, UserTransaction
from syncstore.storage.sql import migrate
from syncstore.testing.lock_conformance import LockConformance
from syncstore.testing.lock_holder import OpenLocks
from syncstore.testing.processes import free_port
from syncstore.testing.sql_store import open_sql_locks


@pytest.fixture(scope="module")
def migrated_url(database_url: str) -> str:
    migrate.upgrade(database_url)
    return database_url


class TestSqlLocks(LockConformance):
    @pytest.fixture(autouse=True)
    def abilities(self, migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """SQLite has one writer in the whole database, and snapshots for its readers.

        PostgreSQL lets FOR SHARE join others who share the row, whoever waits for it. Nothing takes a lock for
        reading on a busy row, so no write pays for the queue of advisory locks that would mend it.
        """
        if migrated_url.startswith("postgresql"):
            monkeypatch.setattr(type(self), "readers_let_writers_in", False)
        if migrated_url.startswith("sqlite"):
            monkeypatch.setattr(type(self), "readers_keep_writers_out", False)
            monkeypatch.setattr(type(self), "users_are_independent", False)

    @pytest.fixture
    def open_locks(self, migrated_url: str) -> OpenLocks:
        return partial(open_sql_locks, migrated_url)

    @pytest.fixture
    def open_unreachable_locks(self, migrated_url: str, tmp_path: Path) -> OpenLocks:
        if migrated_url.startswith("sqlite"):
            return partial(open_sql_locks, f"sqlite:///{tmp_path / 'missing' / 'sync.db'}")
        nobody = make_url(migrated_url).set(port=free_port())
        return partial(open_sql_locks, nobody.render_as_string(hide_password=False))


class Database:
    """A database without rows or connections, that counts."""

    def __init__(self) -> None:
        self.begun: list[Transaction] = []
        self.asked: list[tuple[int, bool, float]] = []

    def lock_user(self, uid: int, *, exclusive: bool, timeout: float) -> UserTransaction:
        self.asked.append((uid, exclusive, timeout))
        if any(at.open for at in self.begun):
            raise LockTimeout("a transaction waits for another one of its own thread")
        self.begun.append(Transaction())
        return self.begun[-1]


class Transaction:
    def __init__(self) -> None:
        self.open = True

    def rollback(self) -> None:
        self.open = False


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def locks(database: Database) -> Locks:
    return Locks(SqlLocks(database), SystemClock(), 5.0)


def test_two_collections_of_a_user_share_one_transaction(locks: Locks, database: Database) -> None:
    with locks.write(7, WHOLE_STORAGE) as one, locks.write(7, "a") as two, locks.read(7, "b") as three:
        assert one.valid()
        assert two.valid()
        assert three.valid()
    assert database.asked == [(7, True, 5.0)]
    assert not database.begun[0].open


def test_the_transaction_ends_with_the_last_of_them(locks: Locks, database: Database) -> None:
    one, two = locks.write(7, "a"), locks.write(7, "b")
    one.__exit__(None, None, None)
    assert two.valid()
    two.__exit__(None, None, None)
    assert not database.begun[0].open
    with locks.write(7, "a"):
        assert len(database.begun) == 2


def test_a_row_held_for_reading_is_not_asked_for_writing(locks: Locks, database: Database) -> None:
    with locks.read(7, "a") as reading:
        with pytest.raises(LockUpgradeError):
            locks.write(7, "b")
        assert reading.valid()
    with locks.write(7, "b"):
        pass
    assert [exclusive for _, exclusive, _ in database.asked] == [False, True]


def test_a_commit_inside_ends_the_lock_for_all_who_share_it(locks: Locks, database: Database) -> None:
    with locks.write(7, "a") as one, locks.write(7, "b") as two:
        database.begun[0].open = False
        assert not one.valid()
        with pytest.raises(LockLost):
            two.check()


def test_a_lock_taken_after_a_commit_does_not_bring_the_lost_one_back(
    locks: Locks, database: Database
) -> None:
    with locks.write(7, "a") as lost:
        database.begun[0].open = False
        with locks.write(7, "b") as fresh:
            assert fresh.valid()
            assert not lost.valid()
        assert not database.begun[1].open


def test_a_lock_that_was_not_granted_leaves_nothing_behind(locks: Locks, database: Database) -> None:
    database.begun.append(Transaction())
    with pytest.raises(LockTimeout):
        locks.write(7, "a")
    database.begun[0].open = False
    with locks.write(7, "a") as handle:
        assert handle.depth == 1
