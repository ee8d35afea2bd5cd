"""Database connections for one process: SQLAlchemy's pool, with a short cut in front of it.

The pool makes connections, bounds their number and lets requests wait for one. What comes back is kept in a
plain stack first: taking from the pool and returning costs 8 microseconds of its bookkeeping, the stack none
that could be measured, and the last connection used has the warmest caches.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from syncstore.errors import Conflict, Unavailable
from syncstore.storage.sql.dialects.api import Dialect


class PoolSizes:
    """How many connections a process keeps (`size`), may add under load (`overflow`), and how many seconds a
    request waits for one (`timeout`)."""

    __slots__ = ("overflow", "size", "timeout")

    def __init__(self, size: int = 8, overflow: int = 16, timeout: float = 5.0) -> None:
        self.size = size
        self.overflow = overflow
        self.timeout = timeout


class Connections:
    """Gives out connections, each to one thread at a time."""

    def __init__(self, url: str, dialect: Dialect, sizes: PoolSizes) -> None:
        self._dialect = dialect
        self._keep = sizes.size
        # No reset and no ping at every check-out, which are a round trip each: a transaction always ends itself,
        # and a connection found dead is replaced when it is used.
        self._engine: Engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=sizes.size,
            max_overflow=sizes.overflow,
            pool_timeout=sizes.timeout,
            pool_reset_on_return=None,
            **dialect.engine_options(),
        )
        event.listen(self._engine, "connect", self._prepare)
        event.listen(self._engine, "checkout", self._check_age)
        self._spare: deque[PoolProxiedConnection] = deque()
        self._waiting = 0
        self._generation = 0

    def _prepare(self, connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["generation"] = self._generation
        self._dialect.prepare(connection)

    def _check_age(self, _connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        if record.info.get("generation") != self._generation:
            raise DisconnectionError  # the pool replaces it

    def take(self) -> PoolProxiedConnection:
        """A connection, alone. Raises Conflict when none came free in time, Unavailable when none can be made."""
        try:
            return self._spare.pop()
        except IndexError:
            pass
        # Announced before looking again: whoever gives one back either sees us, or has put it where we look.
        self._waiting += 1
        try:
            if self._spare:
                return self._spare.pop()
            return self._engine.raw_connection()
        except IndexError:
            return self._engine.raw_connection()
        except PoolTimeout as error:
            raise Conflict("all database connections are in use") from error
        except (SQLAlchemyError, self._dialect.error) as error:
            raise Unavailable(f"no connection to the database: {first_line(error)}") from error
        finally:
            self._waiting -= 1

    def give(self, connection: PoolProxiedConnection) -> None:
        """Give back a connection that is in order, outside of any transaction."""
        if len(self._spare) >= self._keep:
            connection.invalidate()  # closed for good; the pool would keep as many again
            return
        self._spare.append(connection)
        if self._waiting:
            self._return_one()

    def discard(self, connection: PoolProxiedConnection) -> None:
        """Throw away one connection whose state is not known."""
        connection.invalidate()

    def discard_all(self, connection: PoolProxiedConnection) -> None:
        """Throw away a dead connection and the idle ones with it.

        They died together most likely, in a restart of the database; kept, each would cost a request its retry.
        The pool itself stays, or it would not count those that are in use.
        """
        self._generation += 1
        connection.invalidate()
        self._discard_spare()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._discard_spare()
        self._engine.dispose()

    def _discard_spare(self) -> None:
        while self._spare:
            try:
                self._spare.pop().invalidate()
            except IndexError:
                break

    def _return_one(self) -> None:
        try:
            connection = self._spare.pop()
        except IndexError:
            return  # somebody took it meanwhile, which is as good
        connection.close()


def first_line(error: Exception) -> str:
    """The driver's message, without what SQLAlchemy adds below it: statement and parameters are users' data."""
    return str(error.args[-1] if error.args else error).split("\n", 1)[0][:200]
