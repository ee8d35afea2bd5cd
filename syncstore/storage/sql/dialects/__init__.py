"""What differs between SQLite, MariaDB/MySQL and PostgreSQL: connecting, locking, upserts, errors."""

from __future__ import annotations

from sqlalchemy.engine import URL

from syncstore.errors import ConfigError
from syncstore.storage.sql.dialects.api import Dialect, Waits


def dialect_for(url: URL, waits: Waits) -> Dialect:
    """The dialect of a database URL. Raises ConfigError for another database or a missing driver."""
    backend = url.get_backend_name()
    try:
        # Each driver is an optional dependency, so it is imported only where it is used.
        if backend == "sqlite":
            from syncstore.storage.sql.dialects.sqlite import SqliteDialect

            return SqliteDialect(url, waits)
        if backend in ("mysql", "mariadb"):
            from syncstore.storage.sql.dialects.mysql import MysqlDialect

            return MysqlDialect(url, waits)
        if backend == "postgresql":
            from syncstore.storage.sql.dialects.postgresql import PostgresqlDialect

            return PostgresqlDialect(url, waits)
    except ImportError as error:
        extra = "postgresql" if backend == "postgresql" else "mysql"
        raise ConfigError(
            f"sqlalchemy.url names {backend}, whose driver is not installed ({error.name}): "
            f"install syncstore[{extra}]"
        ) from error
    raise ConfigError(f"sqlalchemy.url names {backend}; sqlite, mysql, mariadb and postgresql are supported")
