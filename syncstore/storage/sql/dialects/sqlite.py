"""SQLite: one file, write-ahead log, one writer at a time in the whole database.

`BEGIN IMMEDIATE` is the lock, of every user at once; readers are never blocked. SQLite itself waits for another
writer by looking again after pauses, which is slow and unfair, so the writers of one process queue for a lock of
this process first. Both waits together are bounded by the lock timeout.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Insert, Select, Table
from sqlalchemy.dialects import sqlite as sqlalchemy_sqlite
from sqlalchemy.engine import URL

from syncstore.bso import BSO
from syncstore.errors import ConfigError
from syncstore.storage.durable import StoredItem
from syncstore.storage.sql.compiling import RowsStatement
from syncstore.storage.sql.dialects.api import (
    Connection,
    Fault,
    ItemRow,
    LockedRow,
    Row,
    StagedRow,
    StoredRow,
    Waits,
    Write,
)
from syncstore.storage.sql.dialects.on_conflict import on_conflict
from syncstore.storage.sql.schema import NEVER, batch_upload_items, bso

_LOCK = "/* lock_user */ SELECT high_water, cached FROM storage_users WHERE userid = ?"
# Since 3.35 (2021): the upserts and the row values in use here.
_OLDEST = (3, 35, 0)


class _NoTurn(sqlite3.OperationalError):
    """The time was up before this process's other writers were done."""


class SqliteDialect:
    """The dialect of `sqlite:///` URLs."""

    name = "sqlite"
    error: type[Exception] = sqlite3.Error
    inline_ids = False
    nulls_first = False

    def __init__(self, url: URL, waits: Waits) -> None:
        if not url.database or url.database == ":memory:" or "mode=memory" in str(url):
            raise ConfigError(
                "sqlalchemy.url: SQLite needs a file here, since each connection would see its own memory"
            )
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ConfigError(f"SQLite {sqlite3.sqlite_version} is too old, 3.35 is needed")
        self._waits = waits
        self._turn = threading.Lock()
        self._reading = threading.Lock()
        self.compiler = sqlalchemy_sqlite.dialect(paramstyle="qmark")
        self._put = self._rows("put_items", bso, ("sortindex", "modified", "payload", "payload_size", "ttl"))
        self._touch = self._rows("touch_items", bso, ("sortindex", "modified", "ttl"))
        self._stage = self._rows(
            "stage_items",
            batch_upload_items,
            ("sortindex", "payload", "payload_size", "ttl_offset"),
            keep_null=True,
        )

    def _rows(
        self, name: str, table: Table, columns: Iterable[str], *, keep_null: bool = False
    ) -> RowsStatement:
        insert = self.upsert(table, columns, keep_null=keep_null)
        return RowsStatement(name, insert, table, self.compiler)

    def engine_options(self) -> dict[str, Any]:
        """Autocommit, and connections that may move between threads (the pool gives one to one at a time)."""
        return {
            "paramstyle": "qmark",
            "connect_args": {
                "isolation_level": None,
                "check_same_thread": False,
                "timeout": self._waits.lock,
                "cached_statements": 256,
            },
        }

    def prepare(self, connection: Connection) -> None:
        """Write-ahead log, synced at every commit.

        Syncing at checkpoints only (NORMAL) would spare a write some 150 microseconds, but a power cut would then
        take back writes that were acknowledged, and with them the high-water mark: times would come twice, and
        what the second one stands for would be hidden from every client that saw the first.
        """
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -32768")

    def fetch(self, connection: Connection, sql: str, parameters: Sequence[object]) -> list[Row]:
        """All rows of one statement, one reader of this process at a time.

        Python's driver lets go of the interpreter's lock at every row. Threads that read at the same time then hand
        it to each other row by row: two of them spent 2.4 times the CPU on a listing of a hundred items.
        """
        with self._reading:
            rows: list[Row] = connection.execute(sql, parameters).fetchall()
        return rows

    def execute(self, connection: Connection, sql: str, parameters: Sequence[object]) -> int:
        """Run one statement; the number of rows it touched."""
        touched: int = connection.execute(sql, parameters).rowcount
        return touched

    def lock_user(
        self, connection: Connection, uid: int, *, exclusive: bool, timeout: float
    ) -> LockedRow | None:
        """BEGIN IMMEDIATE, or for a shared lock a snapshot, which no writer disturbs."""
        if not exclusive:
            connection.execute("BEGIN")
            return self._row(connection, uid)
        began = time.monotonic()
        if not self._turn.acquire(timeout=timeout):
            raise _NoTurn("the writers of this process hold the database")
        try:
            # What is left of the time is for writers of other processes.
            self._begin(connection, max(0.0, timeout - (time.monotonic() - began)))
            return self._row(connection, uid)
        except BaseException:
            self._turn.release()
            raise

    def _begin(self, connection: Connection, timeout: float) -> None:
        usual = self._waits.lock
        if timeout > usual * 0.9:
            connection.execute("BEGIN IMMEDIATE")
            return
        connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
        try:
            connection.execute("BEGIN IMMEDIATE")
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(usual * 1000)}")

    def _row(self, connection: Connection, uid: int) -> LockedRow | None:
        row: LockedRow | None = connection.execute(_LOCK, (uid,)).fetchone()
        return row

    def settled(self, connection: Connection, sql: str, uid: int) -> list[Row] | None:
        """Read with the database locked, if it is free this very moment (see Dialect).

        It takes the writers' turn, too: one of this process would otherwise meet the lock in the file, and sleep.
        `sql` is run without `fetch`, whose queue of readers the writers would have to wait for.
        """
        if not self._turn.acquire(blocking=False):
            return None
        try:
            self._begin(connection, 0.0)
            rows: list[Row] | None = None
            if self._row(connection, uid) is not None:
                rows = connection.execute(sql, (uid,)).fetchall()
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if self.classify(error, connection) != "lock timeout":
                raise
            self.rollback(connection)
            return None
        else:
            return rows
        finally:
            self._turn.release()

    def transaction_ended(self, *, exclusive: bool) -> None:
        """The next writer of this process may begin."""
        if exclusive:
            self._turn.release()

    def finish(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Run the writes and COMMIT."""
        for sql, parameters in writes:
            connection.execute(sql, parameters)
        connection.execute("COMMIT")

    def rollback(self, connection: Connection) -> None:
        """ROLLBACK, unless SQLite did so itself."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def classify(self, error: Exception, connection: Connection | None) -> Fault:
        """BUSY is contention; what else SQLite reports (disk full, I/O, damage) is an outage."""
        if isinstance(error, _NoTurn):
            return "lock timeout"
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return "lock timeout"
        if isinstance(error, sqlite3.IntegrityError):
            return "duplicate"
        return "outage"

    def upsert(
        self,
        table: Table,
        columns: Iterable[str],
        *,
        select: Select[Any] | None = None,
        keep_null: bool = False,
    ) -> Insert:
        """INSERT ... ON CONFLICT DO UPDATE (see Dialect)."""
        return on_conflict(sqlalchemy_sqlite.insert(table), table, columns, select, keep_null=keep_null)

    def put_items(self, rows: Sequence[ItemRow], *, keep_payload: bool) -> Write:
        """All rows in one INSERT."""
        return (self._touch if keep_payload else self._put).write(rows)

    def stage_items(self, rows: Sequence[StagedRow]) -> Write:
        """All rows in one INSERT."""
        return self._stage.write(rows)

    def items(self, rows: Sequence[Row]) -> list[BSO]:
        """BSOs of rows that end in (id, modified in ms, sortindex, payload)."""
        return [BSO(row[-4], row[-3] // 10, row[-1], row[-2]) for row in rows]

    def whole_items(self, rows: Sequence[Row]) -> list[StoredItem]:
        """Items with their expiry (see Dialect)."""
        return [
            StoredItem(row[1], row[2] // 10, row[4], row[3], None if row[5] == NEVER else row[5])
            for row in rows
        ]

    def stored(self, rows: Sequence[Row]) -> dict[str, StoredRow]:
        """What is stored, by id (see Dialect)."""
        return {row[3]: row[4:] for row in rows if row[3] is not None}

    def text_of_id(self, value: Any) -> str:
        """SQLite returns text."""
        return str(value)
