"""Which database an argument of the provider `sql` names. No error quotes it: it may hold a password."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from syncstore.errors import ConfigError

# The driver that each kind of database is spoken to with; a URL may name it or leave it out. As for the service's own.
DRIVERS: Final = {"sqlite": "pysqlite", "mysql": "mysqldb", "mariadb": "mysqldb", "postgresql": "psycopg"}


def parse_address(argument: str, own: str, here: Path) -> URL:
    """The URL of a database, with its driver: the service's `own` where the argument is empty. The path of an SQLite
    file starts from `here`. Raises ConfigError."""
    try:
        url = make_url(argument or own)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "sql: must have no argument, for the database of the service, or the URL of a database, as in "
            "sql:postgresql://sync@db.example.com/caches"
        ) from None
    backend, _, driver = url.drivername.partition("+")
    expected = DRIVERS.get(backend)
    if expected is None:
        raise ConfigError(f"sql: has the URL of a database of {', '.join(DRIVERS)}, and not of {backend}")
    if driver not in ("", expected):
        raise ConfigError(f"sql: names the driver {driver}; for {backend} it is {expected}")
    url = url.set(drivername=f"{backend}+{expected}")
    if backend == "sqlite":
        path = url.database or ""
        if not path or path.startswith((":memory:", "file:")) or "mode" in url.query:
            raise ConfigError("sql: SQLite needs a file here, as in sql:sqlite:////var/lib/sync/caches.db")
        if argument:
            url = url.set(database=str(here / path))
    elif not url.database:
        raise ConfigError(
            f"sql: the URL must name a database, as in sql:{backend}://sync@db.example.com/caches"
        )
    return url


def shown(url: URL) -> str:
    """The URL for people: without its password, driver and options."""
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string(hide_password=True)
