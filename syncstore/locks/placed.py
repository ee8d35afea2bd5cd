"""Locks on several memcacheds: each user's are on the server that is his home, as all that is cached of him."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from syncstore.locks.api import Grant, Key, Mode
from syncstore.locks.memcached import MemcachedLocks


class PlacedLocks:
    """The locks of several servers as one backend (see LockBackend). `of` gives those of a user's home.

    They never move to another server: two of them would give the same lock to two holders. While its server is away
    a lock cannot be had.
    """

    name = "memcached"

    def __init__(self, servers: Sequence[MemcachedLocks], of: Callable[[int], MemcachedLocks]) -> None:
        self._servers = servers
        self._of = of

    def acquire(self, key: Key, mode: Mode, timeout: float) -> Grant:
        """Take the lock at the user's home (see LockBackend)."""
        return self._of(key[0]).acquire(key, mode, timeout)

    def forget(self, keys: Sequence[Key]) -> int:
        """Remove the records of these locks (see MemcachedLocks)."""
        return sum(self._of(key[0]).forget([key]) for key in keys)

    def sweep(self) -> Iterator[int]:
        """Nothing: records end with their leases."""
        return iter(())

    def close(self) -> None:
        """Close the connections to all servers."""
        for server in self._servers:
            server.close()
