"""The composition of the cache and the locks: settings in, the layer over the SQL store out, and a lock backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from syncstore.app_claims import claim_alone, claim_shared, is_last
from syncstore.cache.api import Provider
from syncstore.cache.memory import MemoryProvider
from syncstore.cache.states import AlwaysUp, ServerState
from syncstore.clock import Clock
from syncstore.locks.api import LockBackend
from syncstore.locks.memcached import MemcachedLocks
from syncstore.locks.sql import OpensTransactions, SqlLocks
from syncstore.settings import Settings
from syncstore.settings.cache_servers import CacheServer
from syncstore.storage.api import Storage
from syncstore.storage.durable import DurableStorage
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.placed import Chained, PlacedStorage
from syncstore.storage.layered.sampling import SampledStorage, Untrusting
from syncstore.storage.layered.store import LayeredStorage

if TYPE_CHECKING:
    from syncstore.cache.memcached.group import Group

# What the database is told of the group of cache servers in use, where there is none.
_NO_GROUP = "none"
# Seconds between looks for what has expired, where a cache does not drop it by itself.
_CULL_INTERVAL = 60.0


class Layer(NamedTuple):
    """A storage, and what ends the threads and locks that came with it; the storage closes itself."""

    storage: Storage
    stop: Callable[[], None]


def open_layer(settings: Settings, below: DurableStorage, clock: Clock) -> Layer:
    """The storage that requests see: the durable one alone, or below the cache of the settings.

    Raises ConfigError when another process has a memory of the database, or is in the way of one.
    """
    remembers = settings.cache_provider == "memory"
    claim = claim_alone(settings) if remembers else claim_shared(settings)
    try:
        return _open_layer(settings, below, clock, claim)
    except BaseException:
        if claim is not None:
            os.close(claim)
        raise


def _open_layer(settings: Settings, below: DurableStorage, clock: Clock, claim: int | None) -> Layer:
    def let_go() -> None:
        if claim is not None:
            os.close(claim)

    if settings.cache_provider not in ("none", "memory"):
        return _open_shared_layer(settings, below, clock, claim)
    from syncstore.cache.memcached.group import no_group

    # What any cache remembers of this database is old from the first write on that it is not told of.
    no_group(below.records, _NO_GROUP, clock)
    if settings.cache_provider == "none":
        return Layer(below, let_go)
    return Layer(
        _served(settings, below, _Layers(settings, below, clock, MemoryProvider(clock)), clock), let_go
    )


def _open_shared_layer(settings: Settings, below: DurableStorage, clock: Clock, claim: int | None) -> Layer:
    from syncstore.app_cache_group import describe, open_claims, open_group
    from syncstore.cache.culling import Culling
    from syncstore.cache.memcached.group import take_over
    from syncstore.cache.memcached.keeper import Keeper

    group = open_group(settings, below.records, clock)
    keeper = Keeper(
        group, open_claims(settings, group, clock), clock, flush=settings.memcached_rejoin == "flush"
    )

    culling = [Culling(member.cache, _CULL_INTERVAL, name=name) for name, member in group.members.items()]

    def stop() -> None:
        for one in culling:
            one.stop()
        keeper.stop(last=is_last(claim))
        group.close()
        if claim is not None:
            os.close(claim)

    try:
        keeper.claim_all()
        take_over(below.records, describe(settings, group), group.servers)
    except BaseException:
        group.close()
        raise
    keeper.start()
    for one in culling:
        one.start()
    return Layer(_served(settings, below, _PlacedLayers(settings, below, clock, group), clock), stop)


def open_lock_backend(settings: Settings, database: OpensTransactions, clock: Clock) -> LockBackend:
    """Where locks are kept."""
    if settings.lock_backend == "sql":
        return SqlLocks(database)
    if settings.lock_backend == "zookeeper":
        return _open_zookeeper_locks(settings)
    return _open_memcached_locks(settings, clock)


def _open_memcached_locks(settings: Settings, clock: Clock) -> LockBackend:
    from syncstore.app_memcached import open_memcached, open_placement
    from syncstore.locks.placed import PlacedLocks

    def over(server: CacheServer) -> MemcachedLocks:
        provider = open_memcached(settings, clock, server)
        return MemcachedLocks(provider, clock, ttl=settings.lock_ttl, shared_reads=settings.lock_shared_reads)

    own = settings.lock_memcached_server
    if own is not None:
        return over(CacheServer(str(own), own))
    backends = {server.name: over(server) for server in settings.memcached_servers}
    if len(backends) == 1:
        return next(iter(backends.values()))
    placement = open_placement(settings)
    return PlacedLocks(list(backends.values()), lambda uid: backends[placement.find(b"%d" % uid)])


def _open_zookeeper_locks(settings: Settings) -> LockBackend:
    from syncstore.locks.zookeeper import ZooKeeperLocks
    from syncstore.zookeeper.clusters import Clusters

    name = settings.lock_zookeeper_cluster
    clusters = Clusters(ensemble for ensemble in settings.zookeeper if ensemble.name == name)
    return ZooKeeperLocks(clusters[name], clusters.close)


def kinds(settings: Settings) -> Kinds:
    """Which collections live where."""
    return Kinds(settings.cached_only, settings.write_through)


class _Layers:
    """The layer over the one cache that is in the process."""

    def __init__(self, settings: Settings, below: DurableStorage, clock: Clock, cache: Provider) -> None:
        self._settings = settings
        self._below = below
        self._clock = clock
        self._cache = cache

    def trusting(self, wrap: Callable[[ServerState], ServerState]) -> Storage:
        """The storage, whose layer sees the state of the cache through `wrap`."""
        return layered(self._settings, self._below, self._cache, wrap(AlwaysUp()), self._clock)


class _PlacedLayers:
    """A layer over each server of a group, and over each that stands in for another."""

    def __init__(self, settings: Settings, below: DurableStorage, clock: Clock, group: Group) -> None:
        self._settings = settings
        self._below = below
        self._clock = clock
        self._group = group

    def trusting(self, wrap: Callable[[ServerState], ServerState]) -> Storage:
        """The storage, whose layers see the states of their servers through `wrap`."""
        from syncstore.cache.memcached.stand_ins import Chain, ChainState, StandIns

        settings, group = self._settings, self._group
        members = group.members

        def over(name: str, state: ServerState, *, stands_in: bool = False) -> Storage:
            cache = members[name].cache
            return layered(settings, self._below, cache, wrap(state), self._clock, stands_in=stands_in)

        if len(members) == 1:
            (only,) = members.values()
            return over(only.name, only.state)
        if not settings.memcached_allow_failover:
            layers = {name: over(name, member.state) for name, member in members.items()}
            return PlacedStorage(self._below, lambda uid: layers[group.home(b"%d" % uid).name])
        stand_ins = StandIns(group.servers, lambda: group.placement, settings.memcached_max_failover_attempts)

        def of_chain(chain: Chain) -> Storage:
            names = chain.names
            return over(names[-1], ChainState(group.servers, chain), stands_in=len(names) > 1)

        return PlacedStorage(self._below, Chained(stand_ins.chain, of_chain))


def layered(
    settings: Settings,
    below: DurableStorage,
    cache: Provider,
    state: ServerState,
    clock: Clock,
    *,
    stands_in: bool = False,
) -> LayeredStorage:
    """The layer of the settings over one cache."""
    return LayeredStorage(
        below,
        cache,
        state,
        kinds(settings),
        clock,
        batch_lifetime=settings.batch_lifetime,
        stands_in=stands_in,
    )


def _served(
    settings: Settings, below: DurableStorage, layers: _Layers | _PlacedLayers, clock: Clock
) -> Storage:
    """The storage as requests see it: sampled, where the settings want that."""
    storage = layers.trusting(lambda state: state)
    if not settings.cache_sample:
        return storage
    return SampledStorage(storage, layers.trusting(Untrusting), settings.cache_sample, clock)
