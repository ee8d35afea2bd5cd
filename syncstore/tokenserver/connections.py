"""Reading and writing in the token server's database, as short units of work with an end to every wait.

A unit of work is a function of a connection, since a transaction that the database rolled back in favour of
another one (a deadlock) is simply run again. What the driver raises leaves this module as a TokenError.

Every writer first locks the row of the service. So writers queue, over all processes, and what they read after
that is the latest: one account's simultaneous first requests make one user, and the counters of nodes, which
are shared by all accounts anyway, stay exact. A lock per account would let two writers of different accounts
choose the same last place of a node. It costs little: an account writes when it is new or its password changed,
and every other request only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from syncstore.tokenserver.errors import DatabaseAway, DatabaseTimeout, InternalError
from syncstore.tokenserver.schema import SERVICE, services

T = TypeVar("T")

_ATTEMPTS = 3
_STATEMENT_TIMEOUT = "57014"  # PostgreSQL's; the others end the connection, which looks like an outage


class Service(NamedTuple):
    """The row of the service that is served: its number, and the pattern of its endpoints."""

    id: int
    pattern: str


class Connections:
    """The database, as seen by one process.

    `engine` gives connections in autocommit mode; `fault` names why the driver raised an error on one of its
    connections: "lock timeout", "conflict" or another word.
    """

    def __init__(self, engine: Engine, fault: Callable[[Exception, Any], str]) -> None:
        self._engine = engine
        self._fault = fault
        # SQLite locks the whole file, and must do so before it reads: a reader cannot become a writer later.
        self._begin = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN"

    @property
    def kind(self) -> str:
        """`sqlite`, `mysql` or `postgresql`."""
        return self._engine.dialect.name

    def read(self, work: Callable[[Connection, Service], T]) -> T:
        """What `work` finds; each of its statements sees the database as it is then."""
        with self._connection() as connection:
            return work(connection, _service(connection, lock=False))

    def write(self, work: Callable[[Connection, Service], T]) -> T:
        """Run `work` in a transaction, alone among all writers; committed at its end, unless it raises."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._write(work)
            except _RolledBack:
                continue
        return self._write(work)

    def _write(self, work: Callable[[Connection, Service], T]) -> T:
        with self._connection() as connection:
            connection.exec_driver_sql(self._begin)
            done = work(connection, _service(connection, lock=True))
            connection.commit()
            return done

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection, and what goes wrong with it in our words."""
        try:
            connection = self._engine.connect()
        except SQLAlchemyError as error:
            self._refuse(error, None)
        with connection:
            try:
                yield connection
            except SQLAlchemyError as error:
                self._refuse(error, connection)

    def _refuse(self, error: SQLAlchemyError, connection: Connection | None) -> NoReturn:
        if isinstance(error, PoolTimeout):
            raise DatabaseTimeout("all database connections are in use") from error
        # The driver's own words: what SQLAlchemy adds below are the statement and its parameters.
        cause = getattr(error, "orig", None)
        words = str(cause or type(error).__name__).split("\n", 1)[0][:200]
        if getattr(cause, "sqlstate", None) == _STATEMENT_TIMEOUT:
            raise DatabaseTimeout(f"the database was too slow: {words}") from error
        fault = self._fault(cause, _driver_connection(connection)) if isinstance(cause, Exception) else ""
        if fault == "lock timeout":
            raise DatabaseTimeout(f"other writers held the database: {words}") from error
        if fault == "conflict":
            raise _RolledBack(f"the database gave way to another transaction: {words}") from error
        raise DatabaseAway(f"the token server's database failed: {words}") from error

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.dispose()


class _RolledBack(DatabaseAway):
    """The transaction was taken back and may be run again."""


def _driver_connection(connection: Connection | None) -> Any:
    """What the driver gave; None when SQLAlchemy has thrown it away."""
    if connection is None or connection.invalidated:
        return None
    return connection.connection.dbapi_connection


def _service(connection: Connection, *, lock: bool) -> Service:
    statement = select(services.c.id, services.c.pattern).where(services.c.service == SERVICE)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    if row is None:
        raise InternalError(f"the table services has no row for {SERVICE}")
    return Service(row.id, row.pattern or "")
