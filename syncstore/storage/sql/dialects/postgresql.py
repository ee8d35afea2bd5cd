"""PostgreSQL through psycopg 3.

Many rows travel as one JSON parameter that the server turns into rows: a fifth of the cost of a placeholder for
every value. The writes of a unit of work go out as one statement. READ COMMITTED, because what is
read after the lock was granted must be newer than the lock.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg
from sqlalchemy import (
    JSON,
    BigInteger,
    Insert,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy import column as sql_column
from sqlalchemy.dialects import postgresql as sqlalchemy_postgresql
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import Dialect as SqlalchemyDialect

from syncstore.bso import BSO
from syncstore.storage.durable import StoredItem
from syncstore.storage.sql.compiling import Statement
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

_LOCK = "BEGIN; /* lock_user */ SELECT high_water, cached FROM storage_users WHERE userid = %d "
_SETTLED = "BEGIN; /* share_user */ SELECT 1 FROM storage_users WHERE userid = %d FOR SHARE SKIP LOCKED; %s; ROLLBACK"
_ITEM_COLUMNS = ("sortindex", "modified", "payload", "payload_size", "ttl")
# How much longer we wait than the server, in seconds: an answer of its own, if only that time is up, is better.
_GRACE = 1.0


class PostgresqlDialect:
    """The dialect of `postgresql://` URLs."""

    name = "postgresql"
    error: type[Exception] = psycopg.Error
    inline_ids = False
    nulls_first = True

    def __init__(self, url: URL, waits: Waits) -> None:
        self._url = url
        self._waits = waits
        self.compiler: SqlalchemyDialect = sqlalchemy_postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # its constructor has no types
        self._put = _FromJson("put_items", self, bso, _ITEM_COLUMNS)
        self._touch = _FromJson("touch_items", self, bso, ("sortindex", "modified", "ttl"))
        self._stage = _FromJson(
            "stage_items",
            self,
            batch_upload_items,
            ("sortindex", "payload", "payload_size", "ttl_offset"),
            keep_null=True,
        )

    def engine_options(self) -> dict[str, Any]:
        """Autocommit, and an end to every wait: the server's own, and ours for a server that says nothing."""
        positional, named = self._url.get_dialect()().create_connect_args(self._url)
        named = {
            **named,
            "autocommit": True,
            "connect_timeout": max(2, round(self._waits.connect)),
            "keepalives_idle": 30,
            "tcp_user_timeout": int(self._waits.answer * 1000),
            "options": (
                "-c default_transaction_isolation=read\\ committed"
                f" -c lock_timeout={int(self._waits.lock * 1000)}"
                f" -c statement_timeout={int(self._waits.answer * 1000)}"
                f" -c idle_in_transaction_session_timeout={int(self._waits.answer * 2000)}"
            ),
        }

        def connect() -> _Connection:
            made = _Connection.connect(*positional, **named)
            made.patience = self._waits.answer + _GRACE
            return made

        return {"paramstyle": "format", "creator": connect}

    def prepare(self, connection: Connection) -> None:
        """Everything is in the connection's options already."""

    def fetch(self, connection: Connection, sql: str, parameters: Sequence[object]) -> list[Row]:
        """All rows of one statement; binary, or payloads would come as hexadecimal text."""
        rows: list[Row] = connection.execute(sql, parameters, binary=True).fetchall()
        return rows

    def execute(self, connection: Connection, sql: str, parameters: Sequence[object]) -> int:
        """Run one statement; the number of rows it touched."""
        touched: int = connection.execute(sql, parameters).rowcount
        return touched

    def lock_user(
        self, connection: Connection, uid: int, *, exclusive: bool, timeout: float
    ) -> LockedRow | None:
        """BEGIN and SELECT ... FOR UPDATE in one message."""
        sql = _LOCK % uid + ("FOR UPDATE" if exclusive else "FOR SHARE")
        if timeout <= 0:
            sql += " NOWAIT"
        elif timeout != self._waits.lock:
            sql = sql.replace("BEGIN;", f"BEGIN; SET LOCAL lock_timeout = {max(1, int(timeout * 1000))};")
        cursor = connection.execute(sql, prepare=False)
        while cursor.nextset():
            pass
        row: LockedRow | None = cursor.fetchone()
        return row

    def settled(self, connection: Connection, sql: str, uid: int) -> list[Row] | None:
        """All in one message (see Dialect); at READ COMMITTED each statement in it has a snapshot of its own."""
        cursor = connection.execute(_SETTLED % (uid, sql % uid), prepare=False)
        cursor.nextset()
        granted = cursor.fetchone() is not None
        cursor.nextset()
        rows: list[Row] = cursor.fetchall()
        return rows if granted else None

    def finish(self, connection: Connection, writes: Sequence[Write]) -> None:
        """All writes in one statement, then COMMIT.

        Each write but the last becomes a common table expression. They see one snapshot and run in any order,
        which is right because no two of a unit of work touch the same row. A pipeline would save one round trip
        more, but costs 80 microseconds of the driver's time.
        """
        if writes:
            *others, last = writes
            named = ", ".join([f"w{number} AS ({write.sql})" for number, write in enumerate(others)])
            parameters = [value for write in writes for value in write.parameters]
            connection.execute(f"WITH {named} {last.sql}" if named else last.sql, parameters)
        connection.execute("COMMIT")

    def rollback(self, connection: Connection) -> None:
        """ROLLBACK."""
        connection.execute("ROLLBACK")

    def transaction_ended(self, *, exclusive: bool) -> None:
        """Nothing to do: the lock went with the transaction."""

    def classify(self, error: Exception, connection: Connection | None) -> Fault:
        """By SQLSTATE, and by whether the connection still lives."""
        state = getattr(error, "sqlstate", None)
        if connection is None:
            return "outage"
        if connection.closed or (state is not None and state.startswith(("08", "57P"))):
            return "disconnect"
        if state == "55P03":
            return "lock timeout"
        if state in ("40P01", "40001"):
            return "conflict"
        if state == "23505":
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
        return on_conflict(sqlalchemy_postgresql.insert(table), table, columns, select, keep_null=keep_null)

    def put_items(self, rows: Sequence[ItemRow], *, keep_payload: bool) -> Write:
        """All rows in one JSON parameter."""
        return (self._touch if keep_payload else self._put).write(rows)

    def stage_items(self, rows: Sequence[StagedRow]) -> Write:
        """All rows in one JSON parameter."""
        return self._stage.write(rows)

    def items(self, rows: Sequence[Row]) -> list[BSO]:
        """BSOs of rows that end in (id, modified in ms, sortindex, payload); payloads come as bytes."""
        return [BSO(row[-4], row[-3] // 10, row[-1].decode(), row[-2]) for row in rows]

    def whole_items(self, rows: Sequence[Row]) -> list[StoredItem]:
        """Items with their expiry (see Dialect); payloads come as bytes."""
        return [
            StoredItem(row[1], row[2] // 10, row[4].decode(), row[3], None if row[5] == NEVER else row[5])
            for row in rows
        ]

    def stored(self, rows: Sequence[Row]) -> dict[str, StoredRow]:
        """What is stored, by id (see Dialect)."""
        return {row[3]: row[4:] for row in rows if row[3] is not None}

    def text_of_id(self, value: Any) -> str:
        """PostgreSQL returns text."""
        return str(value)


class _Connection(psycopg.Connection[Any]):
    """A connection that gives a silent server up after `patience` seconds.

    psycopg waits for ever for a server that is frozen or cut off: its machine may still acknowledge what we
    send, so no TCP timeout ends that. The bound is for each wait, of which a pipeline is one.
    """

    patience = 30.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Run psycopg's steps of one exchange to their end (see psycopg). Raises OperationalError."""
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:
                # Not the server's word. An answer that came later would pass for that of the next statement.
                self.close()
            raise


class _FromJson:
    """An upsert whose rows are the elements of one JSON parameter, objects with the columns' names.

    JSON in PostgreSQL cannot carry U+0000. A payload that has one is rare (no client is known to send any), so
    the whole statement then takes its payloads as base64.
    """

    def __init__(
        self,
        name: str,
        dialect: PostgresqlDialect,
        table: Table,
        columns: Iterable[str],
        *,
        keep_null: bool = False,
    ) -> None:
        self._columns = tuple(table.columns.keys())
        self._payload = self._columns.index("payload")
        self._row = msgspec.defstruct(f"{name}_row", map(str, self._columns), gc=False)
        types = {
            column.name: Integer if isinstance(column.type, Integer) else Text for column in table.columns
        }
        types |= {column.name: BigInteger for column in table.columns if isinstance(column.type, BigInteger)}
        rows = (
            func.json_to_recordset(bindparam("rows", type_=JSON))
            .table_valued(*(sql_column(name, kind) for name, kind in types.items()))
            .render_derived(name="r", with_types=True)
        )
        self._statements = []
        for function, argument in ((func.convert_to, "'UTF8'"), (func.decode, "'base64'")):
            payload = function(rows.c.payload, literal_column(argument))
            source = select(*(payload if name == "payload" else rows.c[name] for name in self._columns))
            insert = dialect.upsert(table, columns, select=source, keep_null=keep_null)
            self._statements.append(Statement(name, insert, dialect.compiler))

    def write(self, rows: Sequence[tuple[Any, ...]]) -> Write:
        """The statement for these rows, each in the order of the table's columns."""
        text, encoded = self._statements
        statement = text
        at = self._payload
        if any("\0" in row[at] for row in rows if row[at] is not None):
            statement = encoded
            rows = [
                (
                    *row[:at],
                    None if row[at] is None else base64.b64encode(row[at].encode()).decode(),
                    *row[at + 1 :],
                )
                for row in rows
            ]
        row_type = self._row
        document = msgspec.json.encode([row_type(*row) for row in rows]).decode()
        return Write(statement.sql, (document,))
