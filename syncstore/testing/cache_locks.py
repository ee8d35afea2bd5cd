"""Locks in a real memcached, as a process that a test starts opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.clock import SystemClock
from syncstore.locks.api import Locks
from syncstore.locks.memcached import MemcachedLocks


@contextmanager
def open_memcached_locks(
    address: str,
    *,
    ttl: float = 60.0,
    shared_reads: bool = True,
    timeout: float = 5.0,
    answer_timeout: float = 0.5,
) -> Iterator[Locks]:
    """Locks in the memcached at `address`, HOST:PORT. All times are in seconds; `timeout` is that of the Locks."""
    clock = SystemClock()
    provider = MemcachedProvider(
        Address.parse(address), clock, timeout=answer_timeout, connect_timeout=answer_timeout, pool_size=16
    )
    try:
        yield Locks(MemcachedLocks(provider, clock, ttl=ttl, shared_reads=shared_reads), clock, timeout)
    finally:
        provider.close()
