"""The databases that the settings name: their URLs with the right driver, and what speaks to them."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from syncstore.errors import ConfigError
from syncstore.settings import Settings
from syncstore.storage.sql.dialects import dialect_for
from syncstore.storage.sql.dialects.api import Dialect, Waits

# The driver that each kind of database is spoken to with; a URL may name it or leave it out.
_DRIVERS = {"sqlite": "pysqlite", "mysql": "mysqldb", "mariadb": "mysqldb", "postgresql": "psycopg"}


def parse(text: str, key: str) -> URL:
    """The URL of the setting `key` with its driver, which SQLAlchemy's versions would choose differently."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # whose texts may quote a password
        raise ConfigError(f"{key} is not a database URL such as sqlite:////var/lib/sync.db") from None
    backend, _, driver = url.drivername.partition("+")
    expected = _DRIVERS.get(backend, driver)
    if driver not in ("", expected):
        raise ConfigError(f"{key} names the driver {driver}; for {backend} it is {expected}")
    return url.set(drivername=f"{backend}+{expected}" if expected else backend)


def dialect(url: URL, settings: Settings) -> Dialect:
    """What speaks to the database. Raises ConfigError for another kind, or a driver that is missing."""
    return dialect_for(url, Waits(settings.lock_timeout, settings.connect_timeout, settings.answer_timeout))


def with_password(url: URL) -> str:
    """The URL as SQLAlchemy takes it."""
    return url.render_as_string(hide_password=False)


def shown(url: URL) -> str:
    """The URL for people: without its password, driver and options."""
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string(hide_password=True)
