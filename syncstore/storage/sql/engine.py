"""The connections to the database: taking them, locking a user with one, and saying what went wrong.

Statements run in autocommit mode; a `Transaction`
is the exception, and is how every write goes. What a driver raises leaves this module only as an error of
`syncstore.errors`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NoReturn

from sqlalchemy import bindparam, insert, literal_column
from sqlalchemy.pool import PoolProxiedConnection

from syncstore.errors import LockTimeout, RolledBack, Unavailable
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.connections import Connections, PoolSizes, first_line
from syncstore.storage.sql.dialects.api import Dialect, LockedRow, Row, Write
from syncstore.storage.sql.schema import users

log = logging.getLogger(__name__)


class Database:
    """One database, as seen by one process. `lock_timeout` is in seconds."""

    def __init__(self, url: str, dialect: Dialect, pool: PoolSizes, *, lock_timeout: float) -> None:
        self.dialect = dialect
        self.lock_timeout = lock_timeout
        self.connections = Connections(url, dialect, pool)
        new = insert(users).values(userid=bindparam("uid"), high_water=literal_column("0"))
        self._add_user = Statement("add_user", new, dialect.compiler)

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
        taken = self.connections.take()
        try:
            rows = self.dialect.fetch(taken.dbapi_connection, sql, parameters)
        except self.dialect.error as error:
            self._fail(taken, error)
        except BaseException:
            self.connections.discard(taken)
            raise
        self.connections.give(taken)
        return rows

    def execute(self, statement: Statement, values: Mapping[str, object]) -> int:
        """Run one changing statement by itself; the number of rows it touched.

        For small bookkeeping only (names, rows of users): it is not repeated when the connection dies.
        """
        taken = self.connections.take()
        try:
            touched = self.dialect.execute(taken.dbapi_connection, statement.sql, statement.bind(values))
        except self.dialect.error as error:
            try:
                self._fail(taken, error)
            except _Disconnected as gone:
                raise Unavailable(f"the database went away: {gone}") from gone
        except BaseException:
            self.connections.discard(taken)
            raise
        self.connections.give(taken)
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

        A user without a row gets one when `exclusive`; else `high_water` is None and nothing is locked.
        """
        at = self._lock(uid, exclusive=exclusive, timeout=timeout)
        if at.high_water is not None or not exclusive:
            return at
        # The row first, in a transaction of its own: a row that is inserted but not committed stops nobody.
        at.rollback()
        self.insert_if_new(self._add_user, {"uid": uid})
        at = self._lock(uid, exclusive=True, timeout=timeout)
        if at.high_water is None:
            at.rollback()
            raise RolledBack("the user's row vanished while it was being locked")
        return at

    def settled(self, statement: Statement, uid: int) -> list[Row] | None:
        """All rows of a statement about a user, read while no writer of the user is at work (see Dialect.settled).

        None when one is, and when there is no such user. Waits for nobody.
        """
        try:
            return self._settled_once(statement, uid)
        except _Disconnected:
            pass
        try:
            return self._settled_once(statement, uid)
        except _Disconnected as error:
            raise Unavailable(f"the database went away: {error}") from error

    def _settled_once(self, statement: Statement, uid: int) -> list[Row] | None:
        taken = self.connections.take()
        try:
            rows = self.dialect.settled(taken.dbapi_connection, statement.sql, uid)
        except self.dialect.error as error:
            self._fail(taken, error, in_transaction=True)
        except BaseException:
            self.connections.discard(taken)
            raise
        self.connections.give(taken)
        return rows

    def _lock(self, uid: int, *, exclusive: bool, timeout: float) -> Transaction:
        try:
            return self._lock_once(uid, exclusive=exclusive, timeout=timeout)
        except _Disconnected:
            log.info("a database connection was found dead and is replaced")
        try:
            return self._lock_once(uid, exclusive=exclusive, timeout=timeout)
        except _Disconnected as error:
            raise Unavailable(f"the database went away: {error}") from error

    def _lock_once(self, uid: int, *, exclusive: bool, timeout: float) -> Transaction:
        taken = self.connections.take()
        try:
            row = self.dialect.lock_user(taken.dbapi_connection, uid, exclusive=exclusive, timeout=timeout)
        except self.dialect.error as error:
            self._fail(taken, error, in_transaction=True)
        except BaseException:
            self.connections.discard(taken)
            raise
        return Transaction(self, taken, row, exclusive=exclusive)

    def _fail(
        self, taken: PoolProxiedConnection, error: Exception, *, in_transaction: bool = False
    ) -> NoReturn:
        """Put the connection in order, or away, and raise what happened in our words."""
        fault = self.dialect.classify(error, taken.dbapi_connection)
        if fault == "disconnect":
            self.connections.discard_all(taken)
            raise _Disconnected(first_line(error)) from error
        if in_transaction:
            try:
                self.dialect.rollback(taken.dbapi_connection)
            except self.dialect.error:
                self.connections.discard_all(taken)
            else:
                self.connections.give(taken)
        else:
            self.connections.give(taken)
        if fault == "lock timeout":
            raise LockTimeout("another writer holds the user's row") from error
        if fault == "conflict":
            raise RolledBack("the database gave way to another transaction") from error
        if fault == "duplicate":
            raise _Duplicate(first_line(error)) from error
        log.error("the database failed: %s", first_line(error), exc_info=error)
        raise Unavailable(f"the database failed: {first_line(error)}") from error

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.connections.close()


class _Disconnected(Exception):
    """The connection was dead. Never leaves this module."""


class _Duplicate(Exception):
    """The key exists. Leaves this module only where `insert_if_new` was not used: a fault of ours."""


class Transaction:
    """An open transaction that holds the row of one user.

    `high_water` is the user's high-water mark in milliseconds, None when the user has no row; `cached` are the kept
    times as the column has them (`kept.py`). Ends by `finish` or `rollback`, once; then `open` is False. An error
    in between has rolled it back.
    """

    __slots__ = ("_database", "_exclusive", "_taken", "cached", "claimed", "high_water", "open")

    def __init__(
        self, database: Database, taken: PoolProxiedConnection, row: LockedRow | None, *, exclusive: bool
    ) -> None:
        self._database = database
        self._exclusive = exclusive
        self._taken = taken
        self.high_water: int | None = None
        self.cached: bytes | None = None
        if row is not None:
            self.high_water, self.cached = row
        self.open = True
        self.claimed = False  # by the one unit of work that may finish it

    def query(self, statement: Statement, values: Mapping[str, object]) -> list[Row]:
        """All rows of a statement, as of now: later than the lock."""
        return self.fetch(statement.sql, statement.bind(values))

    def fetch(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        """The same, for a statement that is bound already."""
        try:
            return self._database.dialect.fetch(self._taken.dbapi_connection, sql, parameters)
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
        self._end()
        self._database.connections.give(self._taken)

    def rollback(self) -> None:
        """End without effect. A connection that cannot even do that is thrown away, which has the same effect."""
        if not self.open:
            return
        try:
            self._database.dialect.rollback(self._taken.dbapi_connection)
        except self._database.dialect.error:
            self._abandon()
        else:
            self._end()
            self._database.connections.give(self._taken)

    def _abandon(self) -> None:
        self._database.connections.discard(self._taken)
        self._end()

    def _fail(self, error: Exception) -> NoReturn:
        try:
            self._database._fail(self._taken, error, in_transaction=True)
        except _Disconnected as gone:
            raise Unavailable(f"the database went away in a transaction: {gone}") from gone
        finally:
            self._end()

    def _end(self) -> None:
        self.open = False
        self._database.dialect.transaction_ended(exclusive=self._exclusive)
