"""What the provider `sql` asks of each kind of database: to connect, to run statements in few round trips, and to say
what an error of its driver means."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import URL

from syncstore.cache.pooled import Connection
from syncstore.cache.sql.statements import Statements
from syncstore.errors import ConfigError

Row = tuple[Any, ...]

Fault = Literal["in the way", "gone", "missing", "full", "elsewhere", "refused"]
"""Why a driver raised: others were in the way, and nothing was done; the connection has ended, or says nothing, and
what was sent last may have been done; there is no table; there is no room; this server may not be written to, and
another one may; or whatever else."""


class Step(NamedTuple):
    """A statement with its parameters. Of one that `looks` the rows are of interest, else how many it touched."""

    sql: str
    parameters: Sequence[object]
    looks: bool = False


Result = int | list[Row]


class Link(Connection, Protocol):
    """A connection to a database, outside of any transaction between calls."""

    incarnation: str
    """Of its table, which it has found or made."""

    @property
    def room(self) -> int | None:
        """How many bytes a statement may have with all its values, None for more than anybody stores."""

    def wait_until(self, end: float) -> None:
        """Let the next calls end then, in monotonic seconds, as far as the driver can be told."""

    def one(self, step: Step) -> Result:
        """Run one statement, by itself."""

    def together(self, steps: Sequence[Step]) -> list[Result]:
        """Run several in this order in one transaction, and in one round trip where there are any."""

    def restore(self) -> None:
        """End the transaction that an error may have left open."""


class Kind(Protocol):
    """One kind of database, at one address. Nothing is connected by making it."""

    shown: str
    """The address for people."""
    error: type[Exception]
    """The root of what the driver raises."""
    statements: Statements
    shared_hosts: bool
    patient: bool
    """Whether what was in the way is waited for by trying again, and not in the database."""

    @property
    def size(self) -> int | None:
        """How many connections of a process are of use, None for as many as the settings say."""

    def connect(self) -> Link:
        """A connection, whose table is there. Raises `error`, OSError, or NotAllowed."""

    def fault(self, error: Exception, link: Link | None) -> Fault:
        """What an error means; without a link, one of connecting."""


class NotAllowed(Exception):
    """There is no table, and this user may not make it."""


def kind_of(url: URL, timeout: float) -> Kind:
    """The kind of a URL, each of whose waits ends after `timeout` seconds. Raises ConfigError for a missing driver."""
    backend = url.get_backend_name()
    try:
        # Each driver is an optional dependency, so it is imported only where it is used.
        if backend == "sqlite":
            from syncstore.cache.sql.sqlite import Sqlite

            return Sqlite(url)
        if backend == "postgresql":
            from syncstore.cache.sql.postgresql import Postgresql

            return Postgresql(url, timeout)
        from syncstore.cache.sql.mysql import Mysql

        return Mysql(url, timeout)
    except ImportError as error:
        extra = "postgresql" if backend == "postgresql" else "mysql"
        raise ConfigError(
            f"sql: the driver for {backend} is not installed ({error.name}): pip install syncstore[{extra}]"
        ) from error


def first_line(error: Exception) -> str:
    """A driver's message without what it adds below: that may be a value."""
    lines = str(error.args[-1] if error.args else error).split("\n", 1)[0].strip()
    return lines[:200] or type(error).__name__


_FIRST_TRIES = 10


def settled(
    look: Callable[[], bytes | None], make: Callable[[], None], enter: Callable[[bytes], None]
) -> str:
    """The incarnation of the table, made where it is missing, while others do the same.

    `look` gives None where the row of the incarnation is missing, and raises LookupError where the table is. `make` and
    `enter` do nothing where others were faster.
    """
    for _ in range(_FIRST_TRIES):
        try:
            found = look()
        except LookupError:
            make()
            continue
        if found is not None:
            return found.decode("ascii")
        enter(secrets.token_hex(8).encode())
    raise NotAllowed("the table is removed as fast as it is made")
