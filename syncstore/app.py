"""The composition root: settings in, a WSGI application out. The only module that knows every room."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pyramid.config import Configurator
from pyramid.router import Router

from syncstore import databases
from syncstore.app_cache import open_layer, open_lock_backend
from syncstore.app_cache_group import check_provider
from syncstore.app_shmap import check_shmap, open_shmap
from syncstore.app_tokenserver import (
    TokenServer,
    check_token_server,
    ensure_node,
    open_replaced_users,
    open_token_server,
)
from syncstore.auth.authenticator import Authenticator
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.secrets import DerivedSecrets, FixedSecrets, NodeSecrets, Secrets, load_or_create
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError
from syncstore.locks.api import Locks
from syncstore.settings import Settings, read_settings
from syncstore.storage.api import Storage
from syncstore.storage.sql.connections import PoolSizes
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.purge import Purge, Purged, Sweeper
from syncstore.storage.sql.statements import Statements
from syncstore.storage.sql.store import SqlStorage
from syncstore.tokenserver.purge import ReplacedUsers
from syncstore.web.errors import ErrorAnswers
from syncstore.web.routes import Views, add_routes
from syncstore.web.service import Notices, Service
from syncstore.web.token_routes import add_token_routes
from syncstore.web.views.collections import CollectionViews
from syncstore.web.views.info import InfoViews
from syncstore.web.views.items import ItemViews
from syncstore.web.views.site import SiteViews
from syncstore.web.views.storage import StorageViews


def make_app(ini: Mapping[str, str], here: Path | None = None, clock: Clock | None = None) -> Service:
    """The application for an ini section and the process's environment. Raises ConfigError."""
    settings = read_settings(ini, os.environ, here if here is not None else Path.cwd())
    prepare_database(settings)
    return build(settings, clock or SystemClock())


def build(settings: Settings, clock: Clock) -> Service:
    """The application for parsed settings, over a database that is prepared. When it cannot be made, nothing of it
    stays open. Raises ConfigError."""
    with ExitStack() as opened:
        database, statements = open_database(settings)
        opened.callback(database.close)
        locks = open_locks(settings, database, clock)
        opened.callback(locks.close)
        below = open_storage(settings, database, statements, locks, clock)
        layer = open_layer(settings, below, clock)
        storage = layer.storage
        opened.callback(storage.close)
        opened.callback(layer.stop)
        shmap = open_shmap(settings, below.records, clock)
        if shmap is not None:
            opened.callback(shmap.close)
        token_server = replaced = None
        if settings.tokenserver:
            secrets = open_secrets(settings)
            token_server = open_token_server(settings, secrets, open_origin(settings), clock)
            opened.callback(token_server.connections.close)
            replaced = open_replaced_users(settings, token_server.connections, storage, secrets, clock)
        router = _router(settings, storage, token_server, clock)
        purge = open_purge(settings, database, statements, locks, clock)
        sweeper = Sweeper(_AllPurges(purge, replaced), settings.purge_interval)
        opened.callback(sweeper.stop)
        sweeper.start()
        return Service(
            router,
            opened.pop_all().close,
            prefix=unquote(urlsplit(settings.public_url).path, "latin-1"),  # as WSGI has paths
            cors_max_age=settings.cors_max_age,
            notices=Notices(settings.alert, settings.backoff, settings.backoff_probability),
            block_old_ios=settings.block_old_ios,
            shmap=shmap,
        )


def _router(settings: Settings, storage: Storage, token_server: TokenServer | None, clock: Clock) -> Router:
    config = Configurator()
    authenticator = open_authenticator(settings, clock)
    errors = ErrorAnswers(
        retry_after_conflict=settings.retry_after_conflict, retry_after_outage=settings.retry_after_outage
    )
    views = _views(settings, storage, token_server)
    add_routes(config, views, authenticator, errors, clock, largest_body=settings.limits.largest_body)
    if token_server is not None:
        add_token_routes(config, token_server.tokens, token_server.events)
    return config.make_wsgi_app()


class _AllPurges(NamedTuple):
    """What the serving process purges: the storage, and replaced users where there is a token server."""

    storage: Purge
    replaced: ReplacedUsers | None

    def steps(self) -> Iterator[Purged]:
        """One pass over everything."""
        yield from self.storage.steps()
        if self.replaced is not None:
            for step in self.replaced.steps():
                yield Purged(skipped=step.skipped)


def _views(settings: Settings, storage: Storage, token_server: TokenServer | None) -> Views:
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
            check_token_server=None if token_server is None else token_server.check,
        ),
    )


def check(settings: Settings) -> None:
    """Find what is wrong with settings that were parsed, without a connection or a new file. Raises ConfigError."""
    databases.dialect(databases.storage_tables(settings), settings)
    open_origin(settings)
    if settings.tokenserver:
        check_token_server(settings, SystemClock())
    check_provider(settings, SystemClock())
    check_shmap(settings, SystemClock())
    if settings.secrets or settings.master_secrets or settings.node_secrets:
        open_secrets(settings)


def prepare_database(settings: Settings) -> None:
    """Set up empty databases; bring older schemas up to date, or refuse them, as `migrate` says."""
    for family in databases.families(settings):
        databases.prepare(family, settings)
    if settings.tokenserver:
        ensure_node(settings, SystemClock())


def open_database(settings: Settings) -> tuple[Database, Statements]:
    """The connections and statements of the storage's database."""
    dialect = databases.dialect(databases.storage_tables(settings), settings)
    pool = PoolSizes(settings.pool_size, settings.max_overflow, settings.pool_timeout)
    database = Database(database_url(settings), dialect, pool, lock_timeout=settings.lock_timeout)
    return database, Statements(dialect)


def open_storage(
    settings: Settings, database: Database, statements: Statements, locks: Locks, clock: Clock
) -> SqlStorage:
    """The storage over its database. It closes neither the locks nor the database's other users."""
    return SqlStorage(
        database, statements, locks, clock, quota=settings.quota, batch_lifetime=settings.batch_lifetime
    )


def open_locks(settings: Settings, database: Database, clock: Clock) -> Locks:
    """The locks on users. Whoever opens them closes them."""
    return Locks(open_lock_backend(settings, database, clock), clock, settings.lock_timeout)


def database_url(settings: Settings) -> str:
    """`sqlalchemy.url` with its driver. Holds the password."""
    return databases.with_password(databases.storage_tables(settings).url)


def shown_database(settings: Settings) -> str:
    """`sqlalchemy.url` for people: without its password, driver and options."""
    return databases.storage_tables(settings).shown


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
    url = databases.storage_tables(settings).url
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
