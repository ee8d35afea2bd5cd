"""The databases that the settings name: their URLs with the right driver, and bringing them up to date."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from syncstore.errors import ConfigError, Unavailable
from syncstore.settings import Settings
from syncstore.storage.sql import migrate, schema
from syncstore.storage.sql.dialects import dialect_for
from syncstore.storage.sql.dialects.api import Dialect, Waits
from syncstore.tokenserver import schema as token_schema

# The driver that each kind of database is spoken to with; a URL may name it or leave it out.
_DRIVERS = {"sqlite": "pysqlite", "mysql": "mysqldb", "mariadb": "mysqldb", "postgresql": "psycopg"}


class Family(NamedTuple):
    """Tables that go together, and the setting and URL of the database that they are in."""

    key: str
    url: URL
    branch: migrate.Branch
    tables: frozenset[str]

    @property
    def shown(self) -> str:
        """The URL for people: without its password, driver and options."""
        return self.url.set(drivername=self.url.get_backend_name(), query={}).render_as_string(
            hide_password=True
        )


def storage_tables(settings: Settings) -> Family:
    """The storage's."""
    key = "sqlalchemy.url"
    url = parse(settings.sqlalchemy_url, key)
    return Family(key, url, migrate.STORAGE, frozenset(schema.metadata.tables))


def token_tables(settings: Settings) -> Family:
    """The token server's: in a database of its own, or beside the storage's."""
    key, text = "sqlalchemy.url", settings.sqlalchemy_url
    if settings.tokenserver_url:
        key, text = "tokenserver.sqlalchemy.url", settings.tokenserver_url
    return Family(key, parse(text, key), migrate.TOKENSERVER, frozenset(token_schema.metadata.tables))


def families(settings: Settings) -> list[Family]:
    """All that these settings need."""
    return [storage_tables(settings), *([token_tables(settings)] if settings.tokenserver else [])]


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


def dialect(family: Family, settings: Settings) -> Dialect:
    """What speaks to the database. Raises ConfigError for another kind, or a driver that is missing."""
    waits = Waits(settings.lock_timeout, settings.connect_timeout, settings.answer_timeout)
    return dialect_for(family.url, waits)


def with_password(url: URL) -> str:
    """The URL as SQLAlchemy takes it."""
    return url.render_as_string(hide_password=False)


def prepare(family: Family, settings: Settings) -> None:
    """Set up an empty database; bring an older schema up to date, or refuse it, as `migrate` says."""
    dialect(family, settings)  # a missing driver is said before anything is tried
    _make_folder(family)
    if settings.migrate == "check":
        url, needed = with_password(family.url), migrate.newest(family.branch)
        found = migrate.version(url, family.branch)
        if found not in (None, needed):
            found = migrate.settled_version(url, family.branch)
        if found not in (None, needed):
            raise ConfigError(
                f"the database has schema {found} and {needed} is needed: "
                "run `syncstore migrate`, or set migrate = auto"
            )
    upgrade(family, settings)


def upgrade(family: Family, settings: Settings) -> bool:
    """Bring the schema up to date; whether there was anything to do.

    Raises ConfigError for a database with tables of ours that were never migrated, which are another server's:
    the steps pass over tables that exist, and would take those for their own.
    """
    dialect(family, settings)
    _make_folder(family)
    url = with_password(family.url)
    if migrate.version(url, family.branch) is None:
        tables = _tables(url)
        foreign = sorted(tables & family.tables)
        # Alembic's table comes first: with it the others are ours, of a process that is at it or was killed.
        if foreign and family.branch.version_table not in tables:
            raise ConfigError(
                f"the database has tables that syncstore did not make ({', '.join(foreign)}): "
                "give it a database of its own"
            )
    return migrate.upgrade(url, family.branch)


def _make_folder(family: Family) -> None:
    """The folder of an SQLite database, which must be one that SQLite can write its journals to."""
    url = family.url
    if url.get_backend_name() == "sqlite" and url.database:
        folder = Path(url.database).parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{family.key}: {folder} cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"{family.key}: no file can be written in {folder}")


def _tables(url: str) -> set[str]:
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            return set(inspect(connection).get_table_names())
    except SQLAlchemyError as error:
        raise Unavailable("the database cannot be asked for its tables") from error
