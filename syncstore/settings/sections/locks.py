"""The keys of locks."""

from __future__ import annotations

from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class LocksKeys:
    """The keys of locks."""

    lock_backend: str = setting(
        "lock.backend",
        values.one_of("sql", "memcached", "zookeeper"),
        "sql",
        "Where locks live. `sql`: in the transaction that writes. `memcached`: in front of it, as leases. "
        "`zookeeper`: in front of it, as a queue.",
    )
    lock_timeout: float = setting(
        "lock.timeout",
        values.seconds(0, 60),
        5.0,
        "Seconds that a writer waits for another one before it answers 503; 0 does not wait.",
    )
    lock_ttl: float = setting(
        "lock.ttl",
        values.seconds(3, 3600),
        60.0,
        "Seconds after which a lock in memcached ends by itself, should its holder have died.",
    )
    lock_shared_reads: bool = setting(
        "lock.shared_reads",
        values.flag,
        True,
        "Whether readers share a lock in memcached; if not, each has it alone as a writer has.",
    )
    lock_memcached_server: values.CacheAddress | None = setting(  # noqa: RUF009 - as for `bind`
        "lock.memcached.server",
        values.optional_cache_address,
        None,
        "The memcached that keeps the locks, where it is another one than the cache's.",
        shown="that of `memcached.servers`",
    )

    lock_zookeeper_cluster: str = setting(
        "lock.zookeeper.cluster",
        values.text,
        "",
        "The ZooKeeper cluster that keeps the locks, one of `zk.clusters`.",
    )
