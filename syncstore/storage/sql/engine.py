"""The connections to the database: taking them, locking a user with one, and saying what went wrong.

A `Database` hands out raw connections from SQLAlchemy's pool. Statements run in autocommit mode; a `Transaction`
is the exception, and is how every write goes. What a driver raises leaves this module only as an error of
`syncstore.errors`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NoReturn

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from syncstore.errors import Conflict, LockTimeout, Unavailable
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.dialects.api import Connection, Dialect, Row, Write

log = logging.getLogger(__name__)

_RETRY_AFTER_CONFLICT = 10


class PoolSizes:
    """How many connections a process keeps (`size`), may add under load (`overflow`), and how many seconds a
    request waits for one (`timeout`)."""

    __slots__ = ("overflow", "size", "timeout")

    def __init__(self, size: int = 8, overflow: int = 16, timeout: float = 5.0) -> None:
        self.size = size
        self.overflow = overflow
        self.timeout = timeout


class Database:
    """One database, as seen by one process."""

    def __init__(self, url: str, dialect: Dialect, pool: PoolSizes, *, lock_timeout: float) -> None:
        self.dialect = dialect
        self.lock_timeout = lock_timeout
        # No reset and no ping at every check-out, which are a round trip each: a transaction always ends itself,
        # and a connection found dead is replaced when it is used.
        self._engine: Engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=pool.size,
            max_overflow=pool.overflow,
            pool_timeout=pool.timeout,
            pool_reset_on_return=None,
            **dialect.engine_options(),
        )
        event.listen(self._engine, "connect", self._prepare)

    def _prepare(self, connection: Connection, _record: object) -> None:
        self.dialect.prepare(connection)

    def query(self, statement: Statement, values: Mapping[str, object]) -> list[Row]:
        """All rows of one reading statement, from one snapshot.

        A connection that turns out to be dead is replaced once: reading again changes nothing.
        """
        parameters = statement.bind(values)
        try:
            return self._once(statement.sql, parameters)
        except _Disconnected:
            return self._last_time(statement.sql, parameters)

    def _last_time(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        try:
            return self._once(sql, parameters)
        except _Disconnected as error:
            raise Unavailable(f"the database went away: {error}") from error

    def _once(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        taken = self._take()
        try:
            rows = self.dialect.fetch(taken.dbapi_connection, sql, parameters)
        except self.dialect.error as error:
            self._fail(taken, error)
        except BaseException:
            taken.invalidate()
            raise
        taken.close()
        return rows

    def execute(self, statement: Statement, values: Mapping[str, object]) -> int:
        """Run one changing statement by itself; the number of rows it touched.

        For small bookkeeping only (names, rows of users): it is not repeated when the connection dies.
        """
        taken = self._take()
        try:
            touched = self.dialect.execute(taken.dbapi_connection, statement.sql, statement.bind(values))
        except self.dialect.error as error:
            try:
                self._fail(taken, error)
            except _Disconnected as gone:
                raise Unavailable(f"the database went away: {gone}") from gone
        except BaseException:
            taken.invalidate()
            raise
        taken.close()
        return touched

    def insert_if_new(self, statement: Statement, values: Mapping[str, object]) -> bool:
        """Insert one row by itself, unless its key exists: False then."""
        try:
            self.execute(statement, values)
        except _Duplicate:
            return False
        return True

    def lock_user(self, uid: int, *, exclusive: bool, timeout: float) -> Transaction:
        """Begin a transaction that holds the user's row. Raises LockTimeout after `timeout` seconds.

        A user without a row has `high_water` None; nothing is locked then, but on SQLite.
        """
        try:
            return self._lock_once(uid, exclusive=exclusive, timeout=timeout)
        except _Disconnected:
            log.info("a database connection was found dead and is replaced")
        try:
            return self._lock_once(uid, exclusive=exclusive, timeout=timeout)
        except _Disconnected as error:
            raise Unavailable(f"the database went away: {error}") from error

    def _lock_once(self, uid: int, *, exclusive: bool, timeout: float) -> Transaction:
        taken = self._take()
        try:
            high_water = self.dialect.lock_user(
                taken.dbapi_connection, uid, exclusive=exclusive, timeout=timeout
            )
        except self.dialect.error as error:
            self._fail(taken, error, in_transaction=True)
        except BaseException:
            taken.invalidate()
            raise
        return Transaction(self, taken, high_water)

    def _take(self) -> PoolProxiedConnection:
        try:
            return self._engine.raw_connection()
        except PoolTimeout as error:
            raise Conflict("all database connections are in use", _RETRY_AFTER_CONFLICT) from error
        except (SQLAlchemyError, self.dialect.error) as error:
            raise Unavailable(f"no connection to the database: {_first_line(error)}") from error

    def _fail(
        self, taken: PoolProxiedConnection, error: Exception, *, in_transaction: bool = False
    ) -> NoReturn:
        """Put the connection in order, or away, and raise what happened in our words."""
        fault = self.dialect.classify(error, taken.dbapi_connection)
        if fault == "disconnect":
            self._put_away(taken)
            raise _Disconnected(_first_line(error)) from error
        if in_transaction:
            try:
                self.dialect.rollback(taken.dbapi_connection)
            except self.dialect.error:
                self._put_away(taken)
            else:
                taken.close()
        else:
            taken.close()
        if fault == "lock timeout":
            raise LockTimeout("another writer holds the user's row", _RETRY_AFTER_CONFLICT) from error
        if fault == "conflict":
            raise Conflict("the database gave way to another transaction", _RETRY_AFTER_CONFLICT) from error
        if fault == "duplicate":
            raise _Duplicate(_first_line(error)) from error
        log.error("the database failed: %s", _first_line(error), exc_info=error)
        raise Unavailable(f"the database failed: {_first_line(error)}") from error

    def _put_away(self, taken: PoolProxiedConnection) -> None:
        # When one connection is dead the idle ones are, too, most likely (a restart of the database): drop them
        # all, or each would cost a request its one retry.
        taken.invalidate()
        self._engine.dispose()

    def begin_schema_change(self) -> Engine:
        """The engine itself, for migrations, which run through SQLAlchemy."""
        return self._engine

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()


class _Disconnected(Exception):
    """The connection was dead. Never leaves this module."""


class _Duplicate(Exception):
    """The key exists. Leaves this module only where `insert_if_new` was not used: a fault of ours."""


class Transaction:
    """An open transaction that holds the row of one user.

    `high_water` is the user's high-water mark in milliseconds, None when the user has no row. Ends by `finish`
    or `rollback`, once; then `open` is False. An error in between has rolled it back.
    """

    __slots__ = ("_database", "_taken", "claimed", "high_water", "open")

    def __init__(self, database: Database, taken: PoolProxiedConnection, high_water: int | None) -> None:
        self._database = database
        self._taken = taken
        self.high_water = high_water
        self.open = True
        self.claimed = False  # by the one unit of work that may finish it

    def query(self, statement: Statement, values: Mapping[str, object]) -> list[Row]:
        """All rows of a statement, as of now: later than the lock."""
        try:
            return self._database.dialect.fetch(
                self._taken.dbapi_connection, statement.sql, statement.bind(values)
            )
        except self._database.dialect.error as error:
            self._fail(error)
        except BaseException:
            self._abandon()
            raise

    def execute(self, write: Write) -> int:
        """Run one statement inside the transaction; the number of rows it touched."""
        try:
            return self._database.dialect.execute(self._taken.dbapi_connection, write.sql, write.parameters)
        except self._database.dialect.error as error:
            self._fail(error)
        except BaseException:
            self._abandon()
            raise

    def finish(self, writes: Sequence[Write]) -> None:
        """Run the writes and COMMIT: the commit point.

        Unavailable means that it is not known whether the commit took place: the connection died before its
        answer. Any other error rolled everything back.
        """
        try:
            self._database.dialect.finish(self._taken.dbapi_connection, writes)
        except self._database.dialect.error as error:
            self._fail(error)
        except BaseException:
            self._abandon()
            raise
        self.open = False
        self._taken.close()

    def rollback(self) -> None:
        """End without effect. A connection that cannot even do that is thrown away, which has the same effect."""
        if not self.open:
            return
        self.open = False
        try:
            self._database.dialect.rollback(self._taken.dbapi_connection)
        except self._database.dialect.error:
            self._taken.invalidate()
        else:
            self._taken.close()

    def _abandon(self) -> None:
        self.open = False
        self._taken.invalidate()

    def _fail(self, error: Exception) -> NoReturn:
        self.open = False
        try:
            self._database._fail(self._taken, error, in_transaction=True)
        except _Disconnected as gone:
            raise Unavailable(f"the database went away in a transaction: {gone}") from gone


def _first_line(error: Exception) -> str:
    # The text that SQLAlchemy adds below the first line repeats statement and parameters: users' data.
    return str(error.args[-1] if error.args else error).split("\n", 1)[0][:200]
