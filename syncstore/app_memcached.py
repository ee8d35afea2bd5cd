"""The composition of memcacheds: settings in, a group of servers with their states out."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from syncstore.cache.api import Provider
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.announcing import Announcer, callback
from syncstore.cache.memcached.claims import Claims
from syncstore.cache.memcached.group import Description, Group, Member, ServerCache, make_placement
from syncstore.cache.memcached.keeper import Keeper
from syncstore.cache.memcached.pool import Pool
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.records import HomeRecords, RecordStore
from syncstore.cache.memcached.ring import Placed, Placement
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import Rules
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings
from syncstore.settings.cache_servers import CacheServer


def open_memcached(
    settings: Settings, clock: Clock, server: CacheServer, *, prefix: str | None = None, connections: int = 0
) -> MemcachedProvider:
    """One of the memcacheds of the settings, or another one with their manners. Opens no connection."""
    return MemcachedProvider(
        Address.parse(str(server.address)),
        clock,
        prefix=f"{settings.cache_key_prefix if prefix is None else prefix}:".encode(),
        timeout=server.timeout or settings.memcached_timeout,
        connect_timeout=settings.memcached_connect_timeout,
        pool_size=connections or settings.memcached_pool_size,
    )


class OpenPool(NamedTuple):
    """Several memcacheds as one cache, and what ends it with its thread."""

    cache: Pool
    stop: Callable[[], None]


def open_pool(settings: Settings, below: HomeRecords, clock: Clock, scope: str) -> OpenPool:
    """The memcacheds of the settings as one cache, with states, markers and keys of its own that begin with `scope`.

    Raises ConfigError, and Unavailable when the database does not answer.
    """
    group = open_group(settings, below, clock, scope=scope)
    claims = Claims(f"{describe(settings, group)} {scope}", socket.gethostname(), clock)
    keeper = Keeper(group, claims, clock, flush=False)

    def stop() -> None:
        keeper.stop(last=False)
        group.close()

    try:
        keeper.claim_all()
    except BaseException:
        group.close()
        raise
    keeper.start()
    attempts = settings.memcached_max_failover_attempts if settings.memcached_allow_failover else 0
    return OpenPool(Pool(group, clock, attempts=attempts), stop)


def open_group(settings: Settings, below: HomeRecords, clock: Clock, *, scope: str = "") -> Group:
    """The memcacheds of the settings, as this process sees them; `below` is in the database of the data. With `scope`
    it is a group beside that of the storage, and has nothing in common with it but the servers.

    Raises Unavailable when the database does not answer.
    """
    marks = f"{scope}-marks" if scope else "syncstore"
    scope = scope or settings.cache_key_prefix
    installation = below.identity()

    def ways(server: CacheServer) -> Ways:
        return Ways(
            open_memcached(settings, clock, server, prefix=f"{scope}:{installation}"),
            open_memcached(settings, clock, server, prefix=f"{marks}:{installation}", connections=1),
        )

    return open_group_of(settings, settings.memcached_servers, ways, below, clock, scope=scope)


class Ways(NamedTuple):
    """The ways to one server: to its values, and to its markers."""

    values: ServerCache
    marks: Provider


def open_group_of(
    settings: Settings,
    several: Sequence[CacheServer],
    ways: Callable[[CacheServer], Ways],
    below: HomeRecords,
    clock: Clock,
    *,
    scope: str,
) -> Group:
    """A group of these servers, run as the settings say. Raises Unavailable when the database does not answer."""
    records = open_records(settings, below, clock)
    servers = Servers(
        records,
        [server.name for server in several],
        clock,
        Rules(
            lease=settings.memcached_state_lease,
            failure_limit=settings.memcached_failure_limit,
            stand_ins=settings.memcached_allow_failover,
        ),
        scope=scope,
        in_sql=records is below,
        tell=_announcer(settings, several),
    )
    group = Group(servers, settings.memcached_hash_strategy)
    for server in several:
        values, marks = ways(server)
        state, retry_interval = servers[server.name], _retry_interval(settings, server)
        group.add(Member(server.name, values, marks, state, retry_interval), server.weight)
    return group


def open_placement(settings: Settings) -> Placement:
    """Where users are placed."""
    placed = [Placed(server.name, server.weight) for server in settings.memcached_servers]
    return make_placement(settings.memcached_hash_strategy, placed)


def open_records(settings: Settings, below: HomeRecords, clock: Clock) -> RecordStore:
    """Where the states of the servers are shared."""
    state = settings.memcached_state
    match state.kind:
        case "sql":
            return below
        case "file":
            from syncstore.cache.memcached.records_in_file import FileRecords

            return FileRecords(state.path, clock)
        case "zookeeper":
            from syncstore.cache.memcached.records_in_zookeeper import ZooKeeperRecords
            from syncstore.zookeeper.clusters import Clusters

            clusters = Clusters(ensemble for ensemble in settings.zookeeper if ensemble.name == state.cluster)
            return ZooKeeperRecords(clusters[state.cluster], state.path, clock, clusters.close)
    from syncstore.cache.memcached.records_in_memory import MemoryRecords

    return MemoryRecords(clock)


def describe(settings: Settings, group: Group) -> Description:
    """What another process must have, too, to share a group of memcacheds. Raises Unavailable."""
    failover = "failover" if settings.memcached_allow_failover else "alone"
    rules = f"{settings.cache_key_prefix}/{settings.memcached_hash_strategy}/{failover}"
    words = [f"{server.name}*{server.weight}" for server in settings.memcached_servers]
    if settings.memcached_hash_strategy == "standard":
        # Their order counts; and a server that is added moves users between the others, who may come back with the next
        # one. So all are one word, and no such group extends another.
        words = [",".join(words)]
    lease = settings.memcached_state_lease
    return Description(group.servers.records.identity(), lease, rules, tuple(sorted(words)))


def _retry_interval(settings: Settings, server: CacheServer) -> float:
    if settings.memcached_rejoin == "manual":
        return -1.0
    own = server.retry_interval
    return settings.memcached_retry_interval if own is None else own


def _announcer(settings: Settings, servers: Sequence[CacheServer]) -> Announcer:
    addresses = {server.name: server.address for server in servers}
    name = settings.memcached_on_failure
    try:
        return Announcer(callback(name) if name else None, addresses)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"memcached.on_failure: {name} cannot be used: {error}") from error
