"""The composition root: settings in, a WSGI application out. The only module that knows every room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from pyramid.config import Configurator
from sqlalchemy import URL, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from syncstore.auth.authenticator import Authenticator
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.secrets import DerivedSecrets, FixedSecrets, NodeSecrets, Secrets, load_or_create
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError, Unavailable
from syncstore.locks.api import Locks
from syncstore.locks.sql import SqlLocks
from syncstore.settings import Settings, read_settings
from syncstore.storage.api import Storage
from syncstore.storage.sql import migrate, schema
from syncstore.storage.sql.connections import PoolSizes
from syncstore.storage.sql.dialects import dialect_for
from syncstore.storage.sql.dialects.api import Dialect, Waits
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.purge import Purge, Sweeper
from syncstore.storage.sql.statements import Statements
from syncstore.storage.sql.store import SqlStorage
from syncstore.web.errors import ErrorAnswers
from syncstore.web.routes import Views, add_routes
from syncstore.web.service import Notices, Service
from syncstore.web.views.collections import CollectionViews
from syncstore.web.views.info import InfoViews
from syncstore.web.views.items import ItemViews
from syncstore.web.views.site import SiteViews
from syncstore.web.views.storage import StorageViews

# The driver that each kind of database is spoken to with; a URL may name it or leave it out.
_DRIVERS = {"sqlite": "pysqlite", "mysql": "mysqldb", "mariadb": "mysqldb", "postgresql": "psycopg"}


def make_app(ini: Mapping[str, str], here: Path | None = None, clock: Clock | None = None) -> Service:
    """The application for an ini section and the process's environment. Raises ConfigError."""
    settings = read_settings(ini, os.environ, here if here is not None else Path.cwd())
    prepare_database(settings)
    return build(settings, clock or SystemClock())


def build(settings: Settings, clock: Clock) -> Service:
    """The application for parsed settings, over a database that is prepared."""
    database, statements = open_database(settings)
    locks = Locks(SqlLocks(database), clock, settings.lock_timeout)
    storage = SqlStorage(
        database, statements, locks, clock, quota=settings.quota, batch_lifetime=settings.batch_lifetime
    )
    sweeper = Sweeper(open_purge(settings, database, statements, locks, clock), settings.purge_interval)
    sweeper.start()

    def close() -> None:
        sweeper.stop()
        storage.close()

    config = Configurator()
    authenticator = open_authenticator(settings, clock)
    errors = ErrorAnswers(
        retry_after_conflict=settings.retry_after_conflict, retry_after_outage=settings.retry_after_outage
    )
    add_routes(config, _views(settings, storage), authenticator, errors, clock)
    return Service(
        config.make_wsgi_app(),
        close,
        prefix=urlsplit(settings.public_url).path,
        cors_max_age=settings.cors_max_age,
        notices=Notices(settings.alert, settings.backoff, settings.backoff_probability),
        block_old_ios=settings.block_old_ios,
    )


def _views(settings: Settings, storage: Storage) -> Views:
    limits, batches = settings.limits, settings.batch_enabled
    version_file = settings.here / settings.version_file if settings.version_file else None
    return Views(
        InfoViews(storage, limits, settings.quota, batches=batches),
        CollectionViews(storage, limits, batches=batches),
        ItemViews(storage, limits),
        StorageViews(storage),
        SiteViews(
            storage,
            version("syncstore"),
            version_file,
            settings.quota,
            origin=open_origin(settings),
            configured=bool(settings.public_url),
        ),
    )


def check(settings: Settings) -> None:
    """Find what is wrong with settings that were parsed, without a connection or a new file. Raises ConfigError."""
    _dialect(settings)
    open_origin(settings)
    if settings.secrets or settings.master_secrets or settings.node_secrets:
        open_secrets(settings)


def prepare_database(settings: Settings) -> None:
    """Set up an empty database; bring an older schema up to date, or refuse it, as `migrate` says."""
    _dialect(settings)  # a missing driver is said before anything is tried
    _make_folder(settings)
    url = database_url(settings)
    if settings.migrate == "check":
        found, needed = migrate.version(url), migrate.newest()
        if found not in (None, needed):
            raise ConfigError(
                f"the database has schema {found} and {needed} is needed: "
                "run `syncstore migrate`, or set migrate = auto"
            )
    migrate_database(settings)


def migrate_database(settings: Settings) -> bool:
    """Bring the schema up to date; whether there was anything to do.

    Raises ConfigError for a database with tables of ours that were never migrated, which are another server's:
    the steps pass over tables that exist, and would take those for their own.
    """
    _dialect(settings)
    _make_folder(settings)
    url = database_url(settings)
    if migrate.version(url) is None:
        tables = _tables(url)
        foreign = sorted(tables & set(schema.metadata.tables))
        # Alembic's table comes first: with it the others are ours, of a process that is at it or was killed.
        if foreign and "alembic_version" not in tables:
            raise ConfigError(
                f"the database has tables that syncstore did not make ({', '.join(foreign)}): "
                "give it a database of its own"
            )
    return migrate.upgrade(url)


def _make_folder(settings: Settings) -> None:
    """The folder of an SQLite database, which must be one that SQLite can write its journals to."""
    url = _parsed_url(settings)
    if url.get_backend_name() == "sqlite" and url.database:
        folder = Path(url.database).parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"sqlalchemy.url: {folder} cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"sqlalchemy.url: no file can be written in {folder}")


def _tables(url: str) -> set[str]:
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            return set(inspect(connection).get_table_names())
    except SQLAlchemyError as error:
        raise Unavailable("the database cannot be asked for its tables") from error


def open_database(settings: Settings) -> tuple[Database, Statements]:
    """The connections and statements of the database that the settings name."""
    dialect = _dialect(settings)
    pool = PoolSizes(settings.pool_size, settings.max_overflow, settings.pool_timeout)
    database = Database(database_url(settings), dialect, pool, lock_timeout=settings.lock_timeout)
    return database, Statements(dialect)


def database_url(settings: Settings) -> str:
    """`sqlalchemy.url` with its driver, which SQLAlchemy's versions would choose differently. Holds the password."""
    return _parsed_url(settings).render_as_string(hide_password=False)


def shown_database(settings: Settings) -> str:
    """`sqlalchemy.url` for people: without its password, driver and options."""
    url = _parsed_url(settings)
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string(hide_password=True)


def _parsed_url(settings: Settings) -> URL:
    try:
        url = make_url(settings.sqlalchemy_url)
    except (ArgumentError, ValueError):  # whose texts may quote a password
        raise ConfigError("sqlalchemy.url is not a database URL such as sqlite:////var/lib/sync.db") from None
    backend, _, driver = url.drivername.partition("+")
    expected = _DRIVERS.get(backend, driver)
    if driver not in ("", expected):
        raise ConfigError(f"sqlalchemy.url names the driver {driver}; for {backend} it is {expected}")
    return url.set(drivername=f"{backend}+{expected}" if expected else backend)


def _dialect(settings: Settings) -> Dialect:
    waits = Waits(settings.lock_timeout, settings.connect_timeout, settings.answer_timeout)
    return dialect_for(_parsed_url(settings), waits)


def open_purge(
    settings: Settings, database: Database, statements: Statements, locks: Locks, clock: Clock
) -> Purge:
    """What deletes expired rows."""
    return Purge(
        database,
        statements,
        locks,
        clock,
        grace=settings.purge_grace,
        batch_lifetime=settings.batch_lifetime,
        step=settings.purge_step,
    )


def open_secrets(settings: Settings) -> Secrets:
    """The secrets that sign tokens; without any in the settings, one that is generated once and kept."""
    if settings.node_secrets:
        return NodeSecrets.load(settings.here / settings.node_secrets)
    if settings.master_secrets:
        return DerivedSecrets(settings.master_secrets)
    if settings.secrets:
        return FixedSecrets(settings.secrets)
    path = secret_path(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"auth.secrets: the folder of {path} cannot be made: {error.strerror}") from error
    return FixedSecrets([load_or_create(path)])


def secret_path(settings: Settings) -> Path:
    """Where the generated secret is kept: beside an SQLite database, else in `var` beside the ini file."""
    url = _parsed_url(settings)
    folder = Path(url.database or "").parent if url.get_backend_name() == "sqlite" else settings.here / "var"
    return folder / "secret"


def open_origin(settings: Settings) -> ClientOrigin:
    """What finds out how the client addressed a request."""
    return ClientOrigin(settings.public_url or None, settings.trusted_proxies)


def open_authenticator(settings: Settings, clock: Clock) -> Authenticator:
    """What decides who sends a request."""
    return Authenticator(
        open_secrets(settings),
        open_origin(settings),
        clock,
        accepted_nodes=[*filter(None, [settings.public_url]), *settings.nodes],
        check_node=settings.check_node,
        expired_token_window=settings.expired_token_window,
        verify_payload_hash=settings.verify_payload_hash,
        cache_size=settings.token_cache_size,
    )
