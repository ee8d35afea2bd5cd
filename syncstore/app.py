"""The composition root: settings in, a WSGI application out. The only module that knows every room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from pyramid.config import Configurator
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from syncstore.auth.authenticator import Authenticator
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.secrets import DerivedSecrets, FixedSecrets, NodeSecrets, Secrets, load_or_create
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError
from syncstore.locks.api import Locks
from syncstore.locks.sql import SqlLocks
from syncstore.settings import Settings, read_settings
from syncstore.storage.api import Storage
from syncstore.storage.sql import migrate
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


def make_app(ini: Mapping[str, str], here: Path | None = None, clock: Clock | None = None) -> Service:
    """The application for an ini section and the process's environment. Raises ConfigError."""
    settings = read_settings(ini, os.environ, here if here is not None else Path.cwd())
    return build(settings, clock or SystemClock())


def build(settings: Settings, clock: Clock) -> Service:
    """The application for parsed settings."""
    prepare_database(settings)
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
        SiteViews(storage, version("syncstore"), version_file, settings.quota),
    )


def prepare_database(settings: Settings) -> None:
    """Bring the schema up to date, or refuse an old one, as `migrate` says."""
    url = settings.sqlalchemy_url
    _dialect(settings)  # a wrong URL or a missing driver is said before anything is tried
    if settings.migrate == "auto":
        migrate.upgrade(url)
        return
    found, needed = migrate.version(url), migrate.newest()
    if found != needed:
        raise ConfigError(
            f"the database has schema {found or 'nothing'} and {needed} is needed: "
            "run `syncstore migrate`, or set migrate = auto"
        )


def open_database(settings: Settings) -> tuple[Database, Statements]:
    """The connections and statements of the database that the settings name."""
    dialect = _dialect(settings)
    pool = PoolSizes(settings.pool_size, settings.max_overflow, settings.pool_timeout)
    database = Database(settings.sqlalchemy_url, dialect, pool, lock_timeout=settings.lock_timeout)
    return database, Statements(dialect)


def _dialect(settings: Settings) -> Dialect:
    try:
        url = make_url(settings.sqlalchemy_url)
    except ArgumentError:
        raise ConfigError("sqlalchemy.url is not a database URL such as sqlite:////var/lib/sync.db") from None
    waits = Waits(settings.lock_timeout, settings.connect_timeout, settings.answer_timeout)
    return dialect_for(url, waits)


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
    return FixedSecrets([load_or_create(secret_path(settings))])


def secret_path(settings: Settings) -> Path:
    """Where the generated secret is kept: beside an SQLite database, else in `var` beside the ini file."""
    url = make_url(settings.sqlalchemy_url)
    folder = Path(url.database or "").parent if url.get_backend_name() == "sqlite" else settings.here / "var"
    return folder / "secret"


def open_authenticator(settings: Settings, clock: Clock) -> Authenticator:
    """What decides who sends a request."""
    public_url = settings.public_url or None
    return Authenticator(
        open_secrets(settings),
        ClientOrigin(public_url, settings.trusted_proxies),
        clock,
        accepted_nodes=[*([public_url] if public_url else []), *settings.nodes],
        check_node=settings.check_node,
        expired_token_window=settings.expired_token_window,
        verify_payload_hash=settings.verify_payload_hash,
        cache_size=settings.token_cache_size,
    )
