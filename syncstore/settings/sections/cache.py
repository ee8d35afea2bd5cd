"""The keys of the cache of times and small collections."""

from __future__ import annotations

from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.cache_servers import (
    CacheServer,
    StateStore,
    cache_provider,
    cache_servers,
    retry_interval,
    state_store,
)
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class CacheKeys:
    """The keys of the cache of times and small collections."""

    cache_described: str = setting(
        "cache.provider",
        cache_provider,
        "none",
        "Where times and small collections are cached: `memcached`, or `memory` for a server of one process, or "
        "another provider with its argument and options, such as `zookeeper:<cluster>/<path>`.",
    )
    cached_only: tuple[str, ...] = setting(
        "cache.cached_only",
        values.collections,
        (),
        "Collections that live in the cache alone, such as `tabs`: what the cache loses, clients upload again.",
    )
    write_through: tuple[str, ...] = setting(
        "cache.write_through",
        values.collections,
        (),
        "Collections of which the cache has a copy, such as `meta crypto clients`.",
    )
    cache_key_prefix: str = setting(
        "cache.key_prefix",
        values.key_prefix,
        "sync",
        "What all keys in the cache begin with; a copy of a database that shares a memcached needs another one.",
    )
    cache_sample: float = setting(
        "cache.sample",
        values.share,
        0.0,
        "The share of reads, from 0 to 1, that are compared with SQL to count where the cache was wrong.",
    )
    memcached_servers: tuple[CacheServer, ...] = setting(
        "memcached.servers",
        cache_servers,
        (CacheServer("127.0.0.1:11211", values.CacheAddress("127.0.0.1", 11211)),),
        "The memcacheds, each HOST:PORT or the path of a unix socket, with `name=`, `weight=`, `timeout=` and "
        "`retry_interval=` after it where needed.",
        shown="`127.0.0.1:11211`",
    )
    memcached_connect_timeout: float = setting(
        "memcached.connect_timeout",
        values.seconds(0.01, 60),
        0.25,
        "Seconds to wait for a connection to memcached.",
    )
    memcached_timeout: float = setting(
        "memcached.timeout",
        values.seconds(0.01, 60),
        0.5,
        "Seconds to wait for an answer of memcached before requests go on without it.",
    )
    memcached_pool_size: int = setting(
        "memcached.pool_size",
        values.number(1, 1024),
        16,
        "Connections to memcached that each process keeps at most: one for each of its threads is enough.",
    )
    memcached_state_lease: float = setting(
        "memcached.state_lease",
        values.seconds(0.1, 60),
        1.0,
        "Seconds for which a process may rely on what it last read of memcached's state; also how long writes wait "
        "when memcached fails.",
    )
    memcached_retry_interval: float = setting(
        "memcached.retry_interval",
        retry_interval,
        15.0,
        "Seconds between attempts to use a memcached again that was declared failed; -1 leaves it to "
        "`syncstore cache up`.",
    )
    memcached_failure_limit: int = setting(
        "memcached.failure_limit",
        values.number(1, 1000),
        3,
        "Faults in a row after which a reader declares a memcached failed for all; a writer that cannot tell it of a "
        "write does so at once.",
    )
    memcached_allow_failover: bool = setting(
        "memcached.allow_failover",
        values.flag,
        False,
        "Whether another memcached stands in for one that has failed; if not, its users are served from the database.",
    )
    memcached_max_failover_attempts: int = setting(
        "memcached.max_failover_attempts",
        values.number(1, 100),
        20,
        "How often a stand-in is looked for.",
    )
    memcached_hash_strategy: str = setting(
        "memcached.hash_strategy",
        values.one_of("consistent", "standard"),
        "consistent",
        "How users are placed on memcacheds: `consistent`, or `standard`, which moves most of them when a server is "
        "added.",
    )
    memcached_state: StateStore = setting(  # noqa: RUF009 - as for `bind`
        "memcached.state",
        state_store,
        StateStore("sql"),
        "Where all processes share which memcached has failed: `sql`, `zookeeper:<cluster>/<path>`, `file:<path>` for "
        "one machine, `memory` for one process.",
        shown="`sql`",
    )
    memcached_rejoin: str = setting(
        "memcached.rejoin",
        values.one_of("epoch", "flush", "manual"),
        "epoch",
        "How a memcached comes back: `epoch` gives all its keys new names, `flush` empties it besides, `manual` waits "
        "for `syncstore cache up`.",
    )
    memcached_on_failure: str = setting(
        "memcached.on_failure",
        values.callback,
        "",
        "A function, as `module:name`, that is called with host, port and reason when a memcached is declared failed.",
    )
