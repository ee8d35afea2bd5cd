"""The composition of the cache and the locks: settings in, the layer over the SQL store out, and a lock backend."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from syncstore.app_claims import claim_alone, claim_shared
from syncstore.cache.api import Provider
from syncstore.cache.memory import MemoryProvider
from syncstore.cache.prober import Prober
from syncstore.cache.states import AlwaysUp, ServerState, SharedState
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.locks.api import LockBackend
from syncstore.locks.memcached import MemcachedLocks
from syncstore.locks.sql import OpensTransactions, SqlLocks
from syncstore.settings import Settings
from syncstore.settings.values import CacheAddress
from syncstore.storage.api import Storage
from syncstore.storage.durable import DurableStorage
from syncstore.storage.layered.clearing import Clearing
from syncstore.storage.layered.inspecting import Inspector
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.sampling import SampledStorage, Untrusting
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.layered.verifying import Verifier

# The row of `cache_servers` that names the database itself: its number is drawn once, and odd, as no server in use has.
_INSTALLATION: Final = "installation"


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

    def let_go() -> None:
        if claim is not None:
            os.close(claim)

    try:
        return _open_layer(settings, below, clock, let_go)
    except BaseException:
        let_go()
        raise


def _open_layer(settings: Settings, below: DurableStorage, clock: Clock, let_go: Callable[[], None]) -> Layer:
    if settings.cache_provider == "memcached":
        state = open_state(settings, below, clock)
        below.fail_other_servers(_server_name(settings))
        cache = open_memcached(settings, clock, installation=installation(below))
        prober = Prober(state, cache, settings.memcached_retry_interval)

        def stop() -> None:
            prober.stop()
            let_go()

        storage = _served(settings, below, cache, state, clock)
        prober.start()
        return Layer(storage, stop)
    # What any memcached remembers of this database is old from the first write on that it is not told of.
    below.fail_other_servers("")
    if settings.cache_provider == "none":
        return Layer(below, let_go)
    return Layer(_served(settings, below, MemoryProvider(clock), AlwaysUp(), clock), let_go)


def installation(below: DurableStorage) -> str:
    """A short name for the database, of letters and digits: it is part of what is cached for it, so that another
    installation with the same prefix on the same memcached is never taken for this one. Raises Unavailable."""
    number = below.epoch(_INSTALLATION)
    if not number:
        below.advance_epoch(_INSTALLATION, 0, secrets.randbits(40) | 1)
        number = below.epoch(_INSTALLATION)
    return base64.b32encode((number & (1 << 40) - 1).to_bytes(5)).decode().lower()


def open_memcached(
    settings: Settings, clock: Clock, server: CacheAddress | None = None, *, installation: str = ""
) -> Provider:
    """The memcached of the settings, or another one with its manners. Opens no connection."""
    from syncstore.cache.memcached.address import Address
    from syncstore.cache.memcached.provider import MemcachedProvider

    return MemcachedProvider(
        Address.parse(str(server or settings.memcached_server)),
        clock,
        prefix=f"{settings.cache_key_prefix}:{installation}:".encode(),
        timeout=settings.memcached_timeout,
        connect_timeout=settings.memcached_connect_timeout,
        pool_size=settings.memcached_pool_size,
    )


def open_lock_backend(settings: Settings, database: OpensTransactions, clock: Clock) -> LockBackend:
    """Where locks are kept."""
    if settings.lock_backend == "sql":
        return SqlLocks(database)
    if settings.lock_backend == "zookeeper":
        return _open_zookeeper_locks(settings)
    return MemcachedLocks(
        open_memcached(settings, clock, settings.lock_memcached_server),
        clock,
        ttl=settings.lock_ttl,
        shared_reads=settings.lock_shared_reads,
    )


def _open_zookeeper_locks(settings: Settings) -> LockBackend:
    from syncstore.locks.zookeeper import ZooKeeperLocks
    from syncstore.zookeeper.clusters import Clusters

    name = settings.lock_zookeeper_cluster
    clusters = Clusters(ensemble for ensemble in settings.zookeeper if ensemble.name == name)
    return ZooKeeperLocks(clusters[name], clusters.close)


def open_state(settings: Settings, below: DurableStorage, clock: Clock) -> SharedState:
    """This process's view of the state of memcached, which all processes on the same database share."""
    return SharedState(below, _server_name(settings), clock, lease=settings.memcached_state_lease)


def _server_name(settings: Settings) -> str:
    return f"{settings.cache_key_prefix}@{settings.memcached_server}"[:255]


def kinds(settings: Settings) -> Kinds:
    """Which collections live where."""
    return Kinds(settings.cached_only, settings.write_through)


class Tools(NamedTuple):
    """What operators' commands use: to look at the cache, to compare it with SQL, and to clear it."""

    cache: Provider
    state: SharedState
    inspector: Inspector
    verifier: Verifier
    clearing: Clearing


def check_tools(settings: Settings) -> None:
    """Raise ConfigError when there is no cache that another process could look into."""
    if settings.cache_provider == "none":
        raise ConfigError("cache.provider is none: nothing is cached")
    if settings.cache_provider == "memory":
        raise ConfigError(
            "cache.provider = memory: what is cached is inside of the process that serves, and ends with it"
        )


def open_tools(settings: Settings, below: DurableStorage, clock: Clock) -> Tools:
    """The tools for the memcached of the settings, over a database that is prepared. Raises ConfigError."""
    check_tools(settings)
    cache, state, living = (
        open_memcached(settings, clock, installation=installation(below)),
        open_state(settings, below, clock),
        kinds(settings),
    )
    inspector = Inspector(below, cache, state, living, clock)
    layered = _layered(settings, below, cache, state, clock)
    return Tools(
        cache,
        state,
        inspector,
        Verifier(inspector, below, cache, living, clock),
        Clearing(layered, below, cache, state, living, clock),
    )


def _layered(
    settings: Settings, below: DurableStorage, cache: Provider, state: ServerState, clock: Clock
) -> LayeredStorage:
    return LayeredStorage(below, cache, state, kinds(settings), clock, batch_lifetime=settings.batch_lifetime)


def _served(
    settings: Settings, below: DurableStorage, cache: Provider, state: ServerState, clock: Clock
) -> Storage:
    """The layer as requests see it: sampled, where the settings want that."""
    layered = _layered(settings, below, cache, state, clock)
    if not settings.cache_sample:
        return layered
    reference = _layered(settings, below, cache, Untrusting(state), clock)
    return SampledStorage(layered, reference, settings.cache_sample, clock)
