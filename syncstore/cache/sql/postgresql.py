"""PostgreSQL for the provider `sql`, through psycopg 3.

Several statements travel in a pipeline. READ COMMITTED: a statement that waited for another writer's row looks at it
again as that writer left it, and so touches none that is in another state than it says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL
from sqlalchemy.dialects import postgresql

from syncstore.cache.pooled import quiet, silence
from syncstore.cache.sql.address import shown
from syncstore.cache.sql.kinds import Fault, Link, NotAllowed, Result, Step, settled
from syncstore.cache.sql.statements import INCARNATION, Statements

CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS socache (ns BYTEA NOT NULL, key BYTEA NOT NULL, value BYTEA NOT NULL,"
    " expires DOUBLE PRECISION NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (ns, key))",
    "CREATE INDEX IF NOT EXISTS socache_expires ON socache (ns, expires) WHERE expires > 0",
)
_FIND: Final = "SELECT value FROM socache WHERE ns = '' AND key = %s"
_ENTER: Final = "INSERT INTO socache VALUES ('', %s, %s, 0, 0) ON CONFLICT DO NOTHING"
_IN_THE_WAY: Final = {"55P03", "40P01", "40001"}
_OTHERS_MADE_IT: Final = {"23505", "42P07", "42710", "XX000", *_IN_THE_WAY}
_NOT_ALLOWED: Final = "42501"
_FASTEST: Final = 0.05


class _Connection(psycopg.Connection[Any]):
    """A connection that gives a silent server up: psycopg waits for ever for one that is frozen or cut off."""

    end = 0.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Run psycopg's steps of one exchange to their end (see psycopg). Raises OperationalError."""
        if timeout is None and self.end:
            timeout = max(_FASTEST, self.end - time.monotonic())
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and not isinstance(error, psycopg.errors.PipelineAborted):
                # Not the server's word. An answer that came later would pass for that of the next statement.
                self.close()
            raise


class PostgresqlLink:
    """A connection."""

    room = None

    def __init__(self, connection: _Connection, incarnation: str) -> None:
        self.connection = connection
        self.incarnation = incarnation

    def usable(self) -> bool:
        return not self.connection.closed and quiet(self.connection.fileno())

    def wait_until(self, end: float) -> None:
        self.connection.end = end

    def one(self, step: Step) -> Result:
        """Binary, or values would come as hexadecimal text."""
        cursor = self.connection.execute(step.sql, step.parameters, binary=True)
        return cursor.fetchall() if step.looks else cursor.rowcount

    def together(self, steps: Sequence[Step]) -> list[Result]:
        run = self.connection.execute
        pipeline: AbstractContextManager[object] = (
            self.connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()
        )
        with pipeline:
            run("BEGIN")
            cursors = [run(step.sql, step.parameters, binary=True) for step in steps]
            run("COMMIT")
        return [
            cursor.fetchall() if step.looks else cursor.rowcount
            for cursor, step in zip(cursors, steps, strict=True)
        ]

    def restore(self) -> None:
        if self.connection.info.transaction_status != TransactionStatus.IDLE:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        with suppress(psycopg.Error):
            self.connection.close()

    def abandon(self) -> bool:
        with suppress(psycopg.Error):
            silence(self.connection.fileno())
        return True


class Postgresql:
    """The database that a URL names."""

    error: type[Exception] = psycopg.Error
    shared_hosts = True
    size = None
    patient = False

    def __init__(self, url: URL, timeout: float) -> None:
        self.shown = shown(url)
        self._timeout = timeout
        made: Any = url.get_dialect()()
        self._arguments, named = made.create_connect_args(url)
        waits = {"lock_timeout": 0.75, "statement_timeout": 0.9, "idle_in_transaction_session_timeout": 2.0}
        options = [f"-c {name}={max(1, int(timeout * share * 1000))}" for name, share in waits.items()]
        isolation = "-c default_transaction_isolation=read\\ committed"
        self._named = {
            **named,
            "autocommit": True,
            "connect_timeout": max(2, round(timeout)),
            "tcp_user_timeout": int(timeout * 1000),
            "options": " ".join([named.get("options", ""), isolation, *options]).strip(),
        }
        dialect: Any = postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # its constructor has no types
        self.statements = Statements(dialect)

    def connect(self) -> Link:
        connection = _Connection.connect(*self._arguments, **self._named)
        try:
            connection.end = time.monotonic() + self._timeout
            return PostgresqlLink(connection, _incarnation(connection))
        except BaseException:
            connection.close()
            raise

    def fault(self, error: Exception, link: Link | None) -> Fault:
        """By SQLSTATE, and by whether the connection still lives."""
        state = getattr(error, "sqlstate", None) or ""
        if state.startswith(("08", "57P")) or (isinstance(link, PostgresqlLink) and link.connection.closed):
            return "gone"
        if state in _IN_THE_WAY:
            return "in the way"
        if state == "42P01":
            return "missing"
        if state == "53100":
            return "full"
        return "elsewhere" if state == "25006" else "refused"


def _incarnation(connection: _Connection) -> str:
    def look() -> bytes | None:
        try:
            row: tuple[bytes] | None = connection.execute(_FIND, (INCARNATION,), binary=True).fetchone()
        except psycopg.errors.UndefinedTable as error:
            raise LookupError from error
        return row and row[0]

    def make() -> None:
        try:
            connection.execute("BEGIN")
            for statement in CREATE:
                connection.execute(statement)
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if not connection.closed:
                connection.execute("ROLLBACK")
            if error.sqlstate == _NOT_ALLOWED:
                raise NotAllowed(str(error).split("\n", 1)[0]) from error
            # Two who make it at once may both find it missing: one of them fails, when the other is done.
            if error.sqlstate not in _OTHERS_MADE_IT:
                raise

    def enter(incarnation: bytes) -> None:
        connection.execute(_ENTER, (INCARNATION, incarnation))

    return settled(look, make, enter)
