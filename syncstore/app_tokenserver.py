"""The composition of the token server: settings in, its store, its views and its purge out."""

from __future__ import annotations

from sqlalchemy import URL, create_engine, event
from sqlalchemy.pool import QueuePool

from syncstore import databases
from syncstore.clock import Clock
from syncstore.settings import Settings
from syncstore.tokenserver.access import Access
from syncstore.tokenserver.connections import Connections
from syncstore.tokenserver.nodes import Nodes
from syncstore.tokenserver.store import UserStore


def token_database(settings: Settings) -> URL:
    """The token server's database: its own, or the storage's."""
    if settings.tokenserver_url:
        return databases.parse(settings.tokenserver_url, "tokenserver.sqlalchemy.url")
    return databases.parse(settings.sqlalchemy_url, "sqlalchemy.url")


def open_connections(settings: Settings) -> Connections:
    """The connections to it. A pool of its own, also in a shared database: the storage's has other habits."""
    url = token_database(settings)
    dialect = databases.dialect(url, settings)
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout,
        pool_pre_ping=True,  # a round trip that matters little here, and a restarted database is not noticed
        **dialect.engine_options(),
    )
    event.listen(engine, "connect", lambda connection, _record: dialect.prepare(connection))

    def fault(error: Exception) -> str:
        return dialect.classify(error, None)

    return Connections(engine, fault)


def open_users(settings: Settings, connections: Connections, clock: Clock) -> UserStore:
    """The store of users."""
    return UserStore(connections, Access(allow_new_users=settings.allow_new_users), clock)


def open_nodes(connections: Connections, clock: Clock) -> Nodes:
    """What an operator does with nodes."""
    return Nodes(connections, clock)
