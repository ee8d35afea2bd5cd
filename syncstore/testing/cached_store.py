"""The memcached layer over an SQL store, with its parts within reach, and ways to make the cache wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from syncstore.bso import Change
from syncstore.cache.api import Provider
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import Rules, SharedState
from syncstore.clock import Clock, SystemClock
from syncstore.storage.api import Page, Query
from syncstore.storage.layered.clearing import Clearing
from syncstore.storage.layered.inspecting import Inspector
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.metadata import record_key
from syncstore.storage.layered.record import Codec, Record
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.layered.verifying import Verifier
from syncstore.testing.sql_store import SqlStore, open_sql_store

LEASE = 0.2
TABS = Kinds(cached_only=["tabs"], write_through=["meta"])
"""One collection of each kind: `tabs` in the cache alone, `meta` written through, any other uncached."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class CachedStore:
    """One process's layer, and its parts."""

    below: SqlStore
    cache: Provider
    state: SharedState
    kinds: Kinds
    clock: Clock
    storage: LayeredStorage

    @property
    def inspector(self) -> Inspector:
        return Inspector(self.below.storage, self.cache, self.state, self.kinds, self.clock)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.inspector, self.below.storage, self.cache, self.kinds, self.clock)

    @property
    def clearing(self) -> Clearing:
        return Clearing(self.storage, self.below.storage, self.cache, self.state, self.kinds, self.clock)

    # -- as clients

    def put(self, uid: int, collection: str, *ids: str, payload: str = "x") -> int:
        """Write these items; the write's time."""
        with self.storage.lock_for_write(uid, collection, ids, create=True) as work:
            return work.put([Change(name, payload) for name in ids])

    def read(self, uid: int, collection: str) -> Page:
        """All items, as a client sees them."""
        return self.storage.find(uid, collection, Query(full=True))

    def warm(self, uid: int) -> None:
        """Read until the record is complete and the copies are there."""
        for _ in range(3):
            self.storage.collection_times(uid)
            for name in self.kinds.write_through:
                self.read(uid, name)

    # -- as a fault

    @property
    def epoch(self) -> int:
        """The epoch under which records are kept."""
        return self.state.current()

    def record(self, uid: int) -> Record:
        """The record of a user. Raises NotFound of the cache."""
        return self._codec.decode(self.cache.retrieve(record_key(self.epoch, uid)).value)

    def plant(self, uid: int, record: Record) -> None:
        """Put another record in its place, as nothing that is right ever does."""
        self.cache.store(record_key(self.epoch, uid), self._codec.encode(record))

    @property
    def _codec(self) -> Codec:
        return Codec(self.kinds.fingerprint)


@contextmanager
def open_cached_store(
    url: str, memcached: str, kinds: Kinds = TABS, *, prefix: str | None = None
) -> Iterator[CachedStore]:
    """A layer over the database at `url`, which is migrated, and a memcached, with keys that no other has.

    With the `prefix` of its settings it is a process of another installation.
    """
    clock = SystemClock()
    name = prefix or f"store{next(_numbers)}"
    below = open_sql_store(url, clock)
    names = f"{name}:{below.storage.records.identity()}:" if prefix else f"{name}:"
    cache = MemcachedProvider(Address.parse(memcached), clock, prefix=names.encode())
    state = Servers(below.storage.records, [memcached], clock, Rules(LEASE), scope=name)[memcached]
    storage = LayeredStorage(below.storage, cache, state, kinds, clock)
    try:
        yield CachedStore(below, cache, state, kinds, clock, storage)
    finally:
        storage.close()
