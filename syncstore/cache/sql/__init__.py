"""The provider `sql`: values in one table of the service's own database, `sql:`, or of another, `sql:URL`.

A URL is SQLAlchemy's, of SQLite, MariaDB, MySQL or PostgreSQL. The table `socache` is made by the first call where it
is missing; a user who may not make tables is told so, and its statement is `CREATE` in the module of its database. What
differs between the databases is in `sqlite`, `mysql` and `postgresql`, behind what `kinds` says; `statements` has the
statements, `database` runs them, and `provider` is the contract.

Options: `timeout`, in seconds, for each wait; `max_value`, in bytes; `connections`, which each process has at most.
"""

from __future__ import annotations

from typing import Final

from syncstore.cache.api import Provider
from syncstore.cache.making import Surroundings
from syncstore.cache.sql.address import parse_address
from syncstore.cache.sql.database import Database
from syncstore.cache.sql.kinds import kind_of
from syncstore.cache.sql.provider import SqlProvider
from syncstore.settings import values

__all__ = ["SqlProvider", "create"]

DEFAULT_TIMEOUT: Final = 2.0
DEFAULT_MAX_VALUE: Final = 1024 * 1024
DEFAULT_CONNECTIONS: Final = 8

_MIN_VALUE = 10_000
_MAX_VALUE = 64 * 1024 * 1024


def create(argument: str, surroundings: Surroundings) -> Provider:
    """The cache of an argument (see `making.Factory`). Raises ConfigError."""
    take = surroundings.options.take
    timeout = take("timeout", values.seconds(0.05, 60), DEFAULT_TIMEOUT)
    max_value = take("max_value", values.number(_MIN_VALUE, _MAX_VALUE), DEFAULT_MAX_VALUE)
    connections = take("connections", values.number(1, 1000), DEFAULT_CONNECTIONS)
    kind = kind_of(parse_address(argument, surroundings.database, surroundings.here), timeout)
    return SqlProvider(
        Database(kind, connections=connections, timeout=timeout),
        surroundings.clock,
        namespace=surroundings.namespace,
        max_value=max_value,
    )
