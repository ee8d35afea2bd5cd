"""The composition of the cache and the locks: settings in, the layer over the SQL store out, and a lock backend."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL

from syncstore.cache.api import Provider
from syncstore.cache.memory import MemoryProvider
from syncstore.cache.prober import Prober
from syncstore.cache.states import AlwaysUp, ServerState, SharedState
from syncstore.clock import Clock
from syncstore.databases import storage_tables
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


class Layer(NamedTuple):
    """A storage, and what ends the threads and locks that came with it; the storage closes itself."""

    storage: Storage
    stop: Callable[[], None]


def open_layer(settings: Settings, below: DurableStorage, clock: Clock) -> Layer:
    """The storage that requests see: the durable one alone, or below the cache of the settings.

    Raises ConfigError when another process has the cache of `cache.provider = memory`.
    """
    if settings.cache_provider == "none":
        return Layer(below, _nothing)
    if settings.cache_provider == "memory":
        alone = _claim_memory(settings)
        cache: Provider = MemoryProvider(clock)
        return Layer(_served(settings, below, cache, AlwaysUp(), clock), lambda: os.close(alone))
    cache = open_memcached(settings, clock)
    state = open_state(settings, below, clock)
    prober = Prober(state, cache, settings.memcached_retry_interval)
    prober.start()
    return Layer(_served(settings, below, cache, state, clock), prober.stop)


def open_memcached(settings: Settings, clock: Clock, server: CacheAddress | None = None) -> Provider:
    """The memcached of the settings, or another one with its manners. Opens no connection."""
    from syncstore.cache.memcached.address import Address
    from syncstore.cache.memcached.provider import MemcachedProvider

    return MemcachedProvider(
        Address.parse(str(server or settings.memcached_server)),
        clock,
        prefix=f"{settings.cache_key_prefix}:".encode(),
        timeout=settings.memcached_timeout,
        connect_timeout=settings.memcached_connect_timeout,
        pool_size=settings.memcached_pool_size,
    )


def open_lock_backend(settings: Settings, database: OpensTransactions, clock: Clock) -> LockBackend:
    """Where locks are kept."""
    if settings.lock_backend == "sql":
        return SqlLocks(database)
    return MemcachedLocks(
        open_memcached(settings, clock, settings.lock_memcached_server),
        clock,
        ttl=settings.lock_ttl,
        shared_reads=settings.lock_shared_reads,
    )


def open_state(settings: Settings, below: DurableStorage, clock: Clock) -> SharedState:
    """This process's view of the state of memcached, which all processes on the same database share."""
    name = f"{settings.cache_key_prefix}@{settings.memcached_server}"[:255]
    return SharedState(below, name, clock, lease=settings.memcached_state_lease)


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


def open_tools(settings: Settings, below: DurableStorage, clock: Clock) -> Tools:
    """The tools for the memcached of the settings. Raises ConfigError when there is none."""
    if settings.cache_provider == "none":
        raise ConfigError("cache.provider is none: nothing is cached")
    if settings.cache_provider == "memory":
        raise ConfigError(
            "cache.provider = memory: what is cached is inside of the process that serves, and ends with it"
        )
    cache, state, living = (
        open_memcached(settings, clock),
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


def _claim_memory(settings: Settings) -> int:
    """Be the only process with a memory of this database: two would not know of each other's writes.

    A lock on a file, which ends with the process; what it cannot see is another machine.
    """
    path = memory_lock(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"cache.provider = memory: {path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ConfigError(
            "cache.provider = memory is for one process, and another one serves this database already: "
            "stop that one, or set cache.provider = memcached, or none"
        ) from None
    return file


def memory_lock(settings: Settings) -> Path:
    """The file that the process with the memory of this database has locked."""
    url: URL = storage_tables(settings).url
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(f"{url.database}.cache-lock")
    name = hashlib.sha256(url.render_as_string(hide_password=True).encode()).hexdigest()[:16]
    return settings.here / "var" / f"{name}.memory"


def _nothing() -> None:
    """There is nothing to stop."""
