"""MariaDB and MySQL through mysqlclient.

The driver writes parameters into the text, escaped, so several statements travel in one packet: BEGIN with the
lock, and all writes with COMMIT. That makes a write transaction of three round trips. READ COMMITTED is enough,
since every writer holds the user's row, and it keeps InnoDB from locking gaps beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import MySQLdb
from MySQLdb.constants import CLIENT
from sqlalchemy import Insert, Select, Table, func
from sqlalchemy.dialects import mysql as sqlalchemy_mysql
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import Dialect as SqlalchemyDialect

from syncstore.bso import BSO
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
from syncstore.storage.sql.schema import NEVER, batch_upload_items, bso

_LOCK = "BEGIN; /* lock_user */ SELECT high_water, cached FROM storage_users WHERE userid = %d "
_SETTLED = (
    "BEGIN; /* share_user */ SELECT 1 FROM storage_users WHERE userid = %d {share} SKIP LOCKED; %s; ROLLBACK"
)
_SHARE_MARIADB, _SHARE_MYSQL = "LOCK IN SHARE MODE", "FOR SHARE"  # each refuses the other's before NOWAIT
_POLL_SECONDS = 0.02

# Codes of the server and the client library (errmsg.h, mysqld_error.h).
_LOCK_TIMEOUT = {1205, 3572}
_CONFLICT = {1213, 1020}  # deadlock; a row changed under a reader (MariaDB's snapshot check)
_DUPLICATE = {1062}
_DISCONNECT = {1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 4031}
# The client library's own: no server, no answer, an answer out of turn. After any of them nobody knows what the
# connection would say next.
_CLIENT = range(2000, 3000)


class MysqlDialect:
    """The dialect of `mysql://` and `mariadb://` URLs."""

    name = "mysql"
    error: type[Exception] = MySQLdb.Error
    inline_ids = True
    nulls_first = False

    def __init__(self, url: URL, waits: Waits) -> None:
        self._waits = waits
        self._share = _SHARE_MARIADB
        self.compiler = sqlalchemy_mysql.dialect(paramstyle="format")
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
    ) -> _InlineRows:
        return _InlineRows(name, self.upsert(table, columns, keep_null=keep_null), table, self.compiler)

    def engine_options(self) -> dict[str, Any]:
        """Autocommit, full Unicode, and an end to every wait: whole seconds, the driver knows no others.

        CLIENT.FOUND_ROWS is left out: a row count is the number of rows changed.
        """
        return {
            "paramstyle": "format",
            "connect_args": {
                "autocommit": True,
                "charset": "utf8mb4",
                "connect_timeout": max(1, round(self._waits.connect)),
                "read_timeout": max(1, round(self._waits.answer)),
                "write_timeout": max(1, round(self._waits.answer)),
                "client_flag": CLIENT.MULTI_STATEMENTS,
            },
        }

    def prepare(self, connection: Connection) -> None:
        """Isolation, the bound of lock waits, and no silent truncation of a value."""
        self._share = _SHARE_MARIADB if "MariaDB" in connection.get_server_info() else _SHARE_MYSQL
        cursor = connection.cursor()
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, int(self._waits.lock))}")
        cursor.execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")
        cursor.close()

    def fetch(self, connection: Connection, sql: str, parameters: Sequence[object]) -> list[Row]:
        """All rows of one statement."""
        cursor = connection.cursor()
        cursor.execute(sql, parameters)
        rows: list[Row] = list(cursor.fetchall())
        cursor.close()
        return rows

    def execute(self, connection: Connection, sql: str, parameters: Sequence[object]) -> int:
        """Run one statement; the number of rows it touched."""
        cursor = connection.cursor()
        touched: int = cursor.execute(sql, parameters)
        cursor.close()
        return touched

    def lock_user(
        self, connection: Connection, uid: int, *, exclusive: bool, timeout: float
    ) -> LockedRow | None:
        """BEGIN and SELECT ... FOR UPDATE in one packet.

        InnoDB waits whole seconds and at least one. A shorter timeout than that asks again and again without
        waiting, which only locks of odd settings do.
        """
        sql = _LOCK % uid + ("FOR UPDATE" if exclusive else self._share)
        if timeout == self._waits.lock and timeout >= 1:
            return self._begin(connection, sql)
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self._begin(connection, sql + " NOWAIT")
            except MySQLdb.OperationalError as error:
                if self.classify(error, connection) != "lock timeout" or time.monotonic() >= deadline:
                    raise
                self.rollback(connection)
                time.sleep(_POLL_SECONDS)

    def _begin(self, connection: Connection, sql: str) -> LockedRow | None:
        cursor = connection.cursor()
        cursor.execute(sql)
        cursor.nextset()
        row: LockedRow | None = cursor.fetchone()
        cursor.close()
        return row

    def settled(self, connection: Connection, sql: str, uid: int) -> list[Row] | None:
        """All in one packet (see Dialect); at READ COMMITTED each statement in it has a snapshot of its own."""
        cursor = connection.cursor()
        cursor.execute(_SETTLED.format(share=self._share) % (uid, sql % uid))
        cursor.nextset()
        granted = cursor.fetchone() is not None
        cursor.nextset()
        rows: list[Row] = list(cursor.fetchall())
        cursor.nextset()
        cursor.close()
        return rows if granted else None

    def finish(self, connection: Connection, writes: Sequence[Write]) -> None:
        """The writes and COMMIT in one packet; the server stops at the first statement that fails."""
        cursor = connection.cursor()
        if not writes:
            cursor.execute("COMMIT")
        else:
            parameters = [value for write in writes for value in write.parameters]
            cursor.execute("; ".join([write.sql for write in writes]) + "; COMMIT", parameters)
            while cursor.nextset() is not None:
                pass
        cursor.close()

    def rollback(self, connection: Connection) -> None:
        """ROLLBACK."""
        connection.rollback()

    def transaction_ended(self, *, exclusive: bool) -> None:
        """Nothing to do: the lock went with the transaction."""

    def classify(self, error: Exception, connection: Connection | None) -> Fault:
        """By the error's number; 1040 (too many connections) and the rest are outages."""
        code = error.args[0] if error.args else None
        if code in _LOCK_TIMEOUT:
            return "lock timeout"
        if code in _CONFLICT:
            return "conflict"
        if code in _DUPLICATE:
            return "duplicate"
        if code in _DISCONNECT or code in _CLIENT or isinstance(error, MySQLdb.InterfaceError):
            return "disconnect"
        return "outage"

    def upsert(
        self,
        table: Table,
        columns: Iterable[str],
        *,
        select: Select[Any] | None = None,
        keep_null: bool = False,
    ) -> Insert:
        """INSERT ... ON DUPLICATE KEY UPDATE (see Dialect)."""
        insert = sqlalchemy_mysql.insert(table)
        if select is not None:
            insert = insert.from_select(list(table.columns.keys()), select)
        new = insert.inserted
        return insert.on_duplicate_key_update(
            {name: func.coalesce(new[name], table.c[name]) if keep_null else new[name] for name in columns}
        )

    def put_items(self, rows: Sequence[ItemRow], *, keep_payload: bool) -> Write:
        """All rows in one INSERT."""
        return (self._touch if keep_payload else self._put).write(rows)

    def stage_items(self, rows: Sequence[StagedRow]) -> Write:
        """All rows in one INSERT."""
        return self._stage.write(rows)

    def items(self, rows: Sequence[Row]) -> list[BSO]:
        """BSOs of rows that end in (id, modified in ms, sortindex, payload); ids come as bytes."""
        return [BSO(row[-4].decode("ascii"), row[-3] // 10, row[-1], row[-2]) for row in rows]

    def whole_items(self, rows: Sequence[Row]) -> list[StoredItem]:
        """Items with their expiry (see Dialect); ids come as bytes."""
        return [
            StoredItem(
                row[1].decode("ascii"), row[2] // 10, row[4], row[3], None if row[5] == NEVER else row[5]
            )
            for row in rows
        ]

    def stored(self, rows: Sequence[Row]) -> dict[str, StoredRow]:
        """What is stored, by id (see Dialect)."""
        return {row[3].decode("ascii"): row[4:] for row in rows if row[3] is not None}

    def text_of_id(self, value: Any) -> str:
        """A VARBINARY comes as bytes."""
        text: str = value.decode("ascii")
        return text


class _InlineRows:
    """An INSERT of many rows that leaves nothing but large payloads to the driver to escape.

    The driver makes text of each parameter in Python, and escapes character by character: 5 microseconds for a
    payload of 500 bytes, 0.8 for a number. Numbers need no escaping, and a text is written as a hexadecimal
    literal of its bytes, which needs none either. That doubles its size on the wire, hence the limit.
    """

    _LARGE = 65536

    def __init__(self, name: str, insert: Insert, table: Table, compiler: SqlalchemyDialect) -> None:
        self._before, self._after = RowsStatement(name, insert, table, compiler).around
        columns = list(table.columns.keys())
        self._payload = columns.index("payload")
        # One format for a row: texts in hexadecimal quotes, the rest as it is.
        self._format = "(" + ",".join("X'%s'" if name == "id" else "%s" for name in columns) + ")"
        self._id = columns.index("id")

    def write(self, rows: Sequence[tuple[Any, ...]]) -> Write:
        """The statement for these rows, each in the order of the table's columns."""
        large: list[object] = []
        groups = ",".join([self._group(row, large) for row in rows])
        return Write(self._before + groups + self._after, large)

    def _group(self, row: tuple[Any, ...], large: list[object]) -> str:
        values = ["NULL" if value is None else value for value in row]
        values[self._id] = row[self._id].encode().hex()
        payload = row[self._payload]
        if payload is not None:
            if len(payload) > self._LARGE:
                large.append(payload)
                values[self._payload] = "%s"
            else:
                values[self._payload] = f"X'{payload.encode().hex()}'"
        return self._format % tuple(values)
