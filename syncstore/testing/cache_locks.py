"""Locks in a real memcached, as a process that a test starts opens them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.clock import SystemClock
from syncstore.locks.api import Locks
from syncstore.locks.memcached import MemcachedLocks
from syncstore.locks.placed import PlacedLocks


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
    locks = _open(address, ttl, answer_timeout, shared_reads=shared_reads)
    try:
        yield Locks(locks, clock, timeout)
    finally:
        locks.close()


@contextmanager
def open_placed_locks(
    addresses: Sequence[str], *, ttl: float = 60.0, timeout: float = 5.0, answer_timeout: float = 0.5
) -> Iterator[Locks]:
    """The same on several memcacheds, which users are placed on by their numbers."""
    servers = [_open(address, ttl, answer_timeout, shared_reads=True) for address in addresses]
    locks = PlacedLocks(servers, lambda uid: servers[uid % len(servers)])
    try:
        yield Locks(locks, SystemClock(), timeout)
    finally:
        locks.close()


def _open(address: str, ttl: float, answer_timeout: float, *, shared_reads: bool) -> MemcachedLocks:
    clock = SystemClock()
    provider = MemcachedProvider(
        Address.parse(address), clock, timeout=answer_timeout, connect_timeout=answer_timeout, pool_size=16
    )
    return MemcachedLocks(provider, clock, ttl=ttl, shared_reads=shared_reads)
