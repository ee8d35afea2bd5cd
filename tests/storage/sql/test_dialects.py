"""A URL finds its dialect, and a dialect knows its database's errors for what they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

from syncstore.errors import ConfigError
from syncstore.storage.sql.dialects import dialect_for
from syncstore.storage.sql.dialects.api import Dialect, Waits
from syncstore.storage.sql.schema import NEVER
from syncstore.testing.sql_store import SqlStore

WAITS = Waits(1.0, 1.0, 10.0)


@pytest.mark.parametrize("url", ["oracle://localhost/sync", "mssql://localhost/sync"])
def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=url.partition(":")[0]):
        dialect_for(make_url(url), WAITS)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:sync?mode=memory&uri=true"]
)
def test_an_sqlite_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="file"):
        dialect_for(make_url(url), WAITS)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://h/d", "psycopg", "postgresql"),
        ("mysql://h/d", "MySQLdb", "mysql"),
        ("mariadb://h/d", "MySQLdb", "mysql"),
    ],
)
def test_a_missing_driver_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("syncstore.storage.sql.dialects.")]:
        if name.rpartition(".")[2] in ("mysql", "postgresql"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"syncstore\[{extra}\]"):
        dialect_for(make_url(url), WAITS)


@contextmanager
def connection(store: SqlStore) -> Iterator[Any]:
    """A raw connection, thrown away afterwards."""
    taken = store.database.connections.take()
    try:
        yield taken.dbapi_connection
    finally:
        store.database.connections.discard(taken)


def error_of(dialect: Dialect, act: Callable[[], object]) -> Exception:
    """What the driver raises."""
    with pytest.raises(dialect.error) as caught:
        act()
    return caught.value


def test_a_key_that_exists_is_a_duplicate(store: SqlStore) -> None:
    dialect = store.database.dialect
    sql = "INSERT INTO storage_users (userid, high_water) VALUES (1, 0)"
    with connection(store) as raw:
        dialect.execute(raw, sql, ())
        error = error_of(dialect, lambda: dialect.execute(raw, sql, ()))
        assert dialect.classify(error, raw) == "duplicate"


@pytest.mark.parametrize("timeout", [0.0, 0.1])
def test_a_row_that_is_held_is_a_lock_timeout(store: SqlStore, timeout: float) -> None:
    dialect = store.database.dialect
    at = store.database.lock_user(2, exclusive=True, timeout=1.0)
    with connection(store) as raw:
        error = error_of(dialect, lambda: dialect.lock_user(raw, 2, exclusive=True, timeout=timeout))
        assert dialect.classify(error, raw) == "lock timeout"
    at.rollback()


def test_a_statement_that_makes_no_sense_is_an_outage(store: SqlStore) -> None:
    dialect = store.database.dialect
    with connection(store) as raw:
        error = error_of(dialect, lambda: dialect.fetch(raw, "SELECT nothing FROM nowhere", ()))
        assert dialect.classify(error, raw) == "outage"


def test_a_value_that_does_not_fit_is_an_outage_and_is_never_cut(store: SqlStore) -> None:
    dialect = store.database.dialect
    if dialect.name == "sqlite":
        pytest.skip("SQLite has no lengths")
    row = (3, 1, "x" * 65, None, 10, "payload", 7, NEVER)
    write = dialect.put_items([row], keep_payload=False)
    with connection(store) as raw:
        error = error_of(dialect, lambda: dialect.execute(raw, write.sql, write.parameters))
        assert dialect.classify(error, raw) == "outage"


def test_a_connection_that_was_closed_is_a_disconnect(store: SqlStore) -> None:
    dialect = store.database.dialect
    if dialect.name == "sqlite":
        pytest.skip("SQLite has no server to lose")
    with connection(store) as raw:
        raw.close()
        error = error_of(dialect, lambda: dialect.fetch(raw, "SELECT 1", ()))
        assert dialect.classify(error, raw) == "disconnect"


@pytest.mark.parametrize("code", [2000, 2002, 2006, 2008, 2013, 2014, 2027, 2055, 2999])
def test_an_error_of_the_mysql_client_library_is_a_disconnect(code: int) -> None:
    mysql = pytest.importorskip("MySQLdb")
    dialect = dialect_for(make_url("mysql://h/d"), WAITS)
    for kind in (mysql.OperationalError, mysql.ProgrammingError, mysql.InternalError):
        assert dialect.classify(kind(code, "what the library says"), object()) == "disconnect"
    assert dialect.classify(mysql.OperationalError(1040, "Too many connections"), object()) == "outage"
    assert dialect.classify(mysql.OperationalError("no number"), object()) == "outage"


class ServerOfVersion:
    """A connection to a server that has a version and nothing to lock."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.sent: list[str] = []

    def get_server_info(self) -> str:
        return self.version

    def cursor(self) -> ServerOfVersion:
        return self

    def execute(self, sql: str) -> None:
        self.sent.append(sql)

    def nextset(self) -> None:
        pass

    def fetchone(self) -> None:
        pass

    def fetchall(self) -> tuple[()]:
        return ()

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("version", "share"),
    [
        ("10.11.6-MariaDB-0+deb12u1", "LOCK IN SHARE MODE"),
        ("5.5.5-11.4.2-MariaDB", "LOCK IN SHARE MODE"),
        ("8.0.36", "FOR SHARE"),
        ("8.4.0-commercial", "FOR SHARE"),
    ],
)
def test_mariadb_and_mysql_have_their_own_words_for_a_shared_lock(version: str, share: str) -> None:
    pytest.importorskip("MySQLdb")
    dialect = dialect_for(make_url("mysql://h/d"), WAITS)
    raw = ServerOfVersion(version)
    dialect.prepare(raw)
    assert dialect.settled(raw, "SELECT %s", 7) is None
    dialect.lock_user(raw, 7, exclusive=False, timeout=0)
    assert f"WHERE userid = 7 {share} SKIP LOCKED; SELECT 7; ROLLBACK" in raw.sent[-2]
    assert raw.sent[-1].endswith(f"WHERE userid = 7 {share} NOWAIT")


def test_a_deadlock_is_a_conflict(store: SqlStore) -> None:
    dialect = store.database.dialect
    if dialect.name == "sqlite":
        pytest.skip("one writer at a time cannot deadlock")
    update = "UPDATE storage_users SET high_water = 1 WHERE userid = {}"
    with connection(store) as one, connection(store) as two:
        for uid in (4, 5):
            dialect.execute(one, f"INSERT INTO storage_users (userid, high_water) VALUES ({uid}, 0)", ())
        for raw, mine in ((one, 4), (two, 5)):
            dialect.execute(raw, "BEGIN", ())
            dialect.execute(raw, update.format(mine), ())

        def cross(raw: Any, other: int) -> str:
            try:
                dialect.execute(raw, update.format(other), ())
            except dialect.error as error:
                fault = dialect.classify(error, raw)
                dialect.rollback(raw)
                return fault
            return "done"

        with ThreadPoolExecutor(2) as threads:
            outcomes = [threads.submit(cross, one, 5), threads.submit(cross, two, 4)]
            assert sorted(outcome.result(20) for outcome in outcomes) == ["conflict", "done"]
