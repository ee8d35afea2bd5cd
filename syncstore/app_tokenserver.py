"""The composition of the token server: settings in, its store, views and purge out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import create_engine, event
from sqlalchemy.pool import QueuePool

from syncstore import databases
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.secrets import Secrets
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings
from syncstore.storage.api import Storage
from syncstore.tokenserver.access import Access
from syncstore.tokenserver.account_server import AccountServer
from syncstore.tokenserver.connections import Connections
from syncstore.tokenserver.events import EventsView
from syncstore.tokenserver.issuing import Issuer
from syncstore.tokenserver.keys import KeyCache, KeySource, read_keys
from syncstore.tokenserver.nodes import Nodes
from syncstore.tokenserver.oauth import TokenVerifier
from syncstore.tokenserver.purge import RemoteNode, ReplacedUsers
from syncstore.tokenserver.register import Register
from syncstore.tokenserver.store import UserStore
from syncstore.tokenserver.views import Endpoint, TokenView

_NODE_TIMEOUT = 60.0
_NODE_TYPES = {"postgresql": "postgres"}  # as the field calls it


class TokenServer(NamedTuple):
    """The token server's endpoints, and what else is asked of it. `events` is None where they are off."""

    connections: Connections
    tokens: Endpoint
    events: Endpoint | None

    def check(self) -> None:
        """Ask the database for a sign of life. Raises TokenError."""
        self.connections.read(lambda _connection, _service: None)


def open_token_server(
    settings: Settings, secrets: Secrets, origin: ClientOrigin, clock: Clock
) -> TokenServer:
    """The token server, over a database that is prepared."""
    connections = open_connections(settings)
    server = _account_server(settings, clock)
    keys = _keys(settings, server, clock)
    verifier = TokenVerifier(
        keys, server, clock, email_domain=settings.fxa_email_domain, issuer=settings.fxa_issuer
    )
    issuer = Issuer(
        secrets,
        clock,
        metrics_secret=settings.metrics_secret,
        node_type=_NODE_TYPES.get(connections.kind, connections.kind),
    )
    users = open_users(settings, connections, clock)
    view = TokenView(verifier, users, issuer, origin, settings.token_duration)
    tokens = Endpoint("GET", view, clock, settings.retry_after_outage)
    if not settings.account_events:
        return TokenServer(connections, tokens, None)
    events = EventsView(
        keys,
        open_register(settings, connections, clock),
        client_id=settings.events_client_id,
        issuer=settings.events_issuer,
    )
    return TokenServer(connections, tokens, Endpoint("POST", events, clock, settings.retry_after_outage))


def check_token_server(settings: Settings, clock: Clock) -> None:
    """Find what is wrong with its settings, without a connection. Raises ConfigError."""
    databases.dialect(databases.token_tables(settings), settings)
    _keys(settings, _account_server(settings, clock), clock)


def _account_server(settings: Settings, clock: Clock) -> AccountServer:
    try:
        return AccountServer(settings.fxa_oauth_server_url, settings.fxa_timeout, clock)
    except ValueError as error:
        raise ConfigError(f"tokenserver.fxa_oauth_server_url: {error}") from error


def _keys(settings: Settings, server: AccountServer, clock: Clock) -> KeySource:
    if not settings.fxa_jwks:
        return KeyCache(server.fetch_keys, clock, settings.fxa_timeout)
    try:
        return read_keys(settings.fxa_jwks, settings.here)
    except ValueError as error:
        raise ConfigError(f"tokenserver.fxa_jwks: {error}") from error


def open_connections(settings: Settings) -> Connections:
    """The connections to its database. A pool of its own also in a shared one: the storage's has other habits."""
    family = databases.token_tables(settings)
    dialect = databases.dialect(family, settings)
    engine = create_engine(
        family.url,
        poolclass=QueuePool,
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=settings.pool_timeout,
        pool_pre_ping=True,  # a round trip that matters little here; nobody notices that a database restarted
        **dialect.engine_options(),
    )
    event.listen(engine, "connect", lambda connection, _record: dialect.prepare(connection))
    return Connections(engine, dialect.classify)


def open_users(settings: Settings, connections: Connections, clock: Clock) -> UserStore:
    """The store of users."""
    return UserStore(connections, Access(allow_new_users=settings.allow_new_users), clock)


def open_nodes(connections: Connections, clock: Clock) -> Nodes:
    """What an operator does with nodes."""
    return Nodes(connections, clock)


def open_register(settings: Settings, connections: Connections, clock: Clock) -> Register:
    """What an operator and the account server do with users."""
    return Register(connections, clock, settings.fxa_email_domain)


def open_replaced_users(
    settings: Settings,
    connections: Connections,
    storage: Storage,
    secrets: Secrets,
    clock: Clock,
    *,
    force: bool = False,
) -> ReplacedUsers:
    """What forgets replaced users, with their data in `storage`."""
    return ReplacedUsers(
        connections,
        clock,
        _deletes_from(storage),
        RemoteNode(secrets, clock, _NODE_TIMEOUT).delete,
        own_names=[*filter(None, [settings.public_url]), *settings.nodes],
        grace=settings.purge_grace,
        force=force,
    )


def _deletes_from(storage: Storage) -> Callable[[int], None]:
    def delete(uid: int) -> None:
        with storage.lock_for_write(uid, None) as work:
            work.delete_all()

    return delete


def ensure_node(settings: Settings, clock: Clock) -> None:
    """Put this server among the nodes, where there are none."""
    connections = open_connections(settings)
    try:
        open_nodes(connections, clock).ensure_this(settings.node_capacity)
    finally:
        connections.close()
