"""The layered storage: each call goes to where the collection lives, and times come from the metadata record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from syncstore.bso import BSO
from syncstore.cache.api import Provider, Remove
from syncstore.cache.states import ServerState
from syncstore.clock import Clock
from syncstore.storage.api import Page, Query, Totals, Work
from syncstore.storage.durable import Being, DurableStorage, KeptTime, Times
from syncstore.storage.layered.cached_batches import CachedBatches
from syncstore.storage.layered.cached_elsewhere import CachedElsewhere
from syncstore.storage.layered.cached_only import CachedOnly, cached_only_key
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.metadata import Metadata, Unconfirmed
from syncstore.storage.layered.sql_backed import NotedWork, SqlBacked

_LIFE = 86_400.0
"""Seconds that a record or a copy lives at most: what an operator changes by hand in SQL is seen by then."""


class LayeredStorage:
    """A storage over a durable one and a cache (see `storage.api.Storage`). `batch_lifetime` is in seconds.

    A cache that `stands_in` for another one has no collections of its own: those in the cache alone are with the other.
    """

    def __init__(
        self,
        below: DurableStorage,
        cache: Provider,
        state: ServerState,
        kinds: Kinds,
        clock: Clock,
        *,
        batch_lifetime: int = 7200,
        life: float = _LIFE,
        stands_in: bool = False,
    ) -> None:
        self._below = below
        self._cache = cache
        self._state = state
        self._kinds = kinds
        self._metadata = Metadata(below, cache, state, kinds, clock, life=life)
        self._sql_backed = SqlBacked(below, cache, self._metadata, state, kinds, clock, life=life)
        batches = CachedBatches(cache, clock, batch_lifetime)
        self._cached_only: CachedOnly | CachedElsewhere = (
            CachedElsewhere()
            if stands_in
            else CachedOnly(below, cache, self._metadata, state, clock, batches)
        )
        self._held = () if stands_in else tuple(sorted(kinds.cached_only))

    # -- times and totals

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection (see Storage): one round trip, or one answer of SQL."""
        sight = self._metadata.look(uid).sight
        times = None if sight is None else sight.record.times()
        if times is not None:
            return Totals(times.modified, times.collections)
        times = self._metadata.fill(uid, sight)
        return Totals(times.modified, self._existing(times))

    def _existing(self, times: Times) -> dict[str, int]:
        existing = {
            name: time for name, time in times.collections.items() if name not in self._kinds.cached_only
        }
        for name in self._kinds.cached_only:
            kept = times.kept.get(name)
            if kept is not None and kept.being is Being.LIVE:
                existing[name] = kept.time
        return existing

    def collection_modified(self, uid: int, collection: str) -> int:
        """The collection's time (see Storage); of a lost one the time of its loss, which nobody has seen yet."""
        sight = self._metadata.look(uid).sight
        if sight is not None:
            entry = sight.record.entry(collection)
            if isinstance(entry, int):
                return entry
            if isinstance(entry, KeptTime):
                return _gone(entry)
            if entry is None and sight.record.complete:
                return 0
        times = self._metadata.fill(uid, sight)
        if collection not in self._kinds.cached_only:
            return times.collections.get(collection, 0)
        kept = times.kept.get(collection)
        if kept is None:
            return 0
        return kept.time if kept.being is Being.LIVE else _gone(kept)

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items of every collection that has any (see Storage)."""
        return self._totals(uid, 0)

    def collection_usage(self, uid: int) -> Totals:
        """The payload bytes of the live items of every collection that has any (see Storage)."""
        return self._totals(uid, 1)

    def _totals(self, uid: int, which: int) -> Totals:
        sums = self._below.sums(uid)
        found = dict((sums.items, sums.bytes)[which])
        cached_only = self._kinds.cached_only
        if cached_only:
            for name in cached_only:
                found.pop(name, None)
            kept = {name: time for name, time in sums.kept.items() if name in cached_only}
            totals = self._cached_only.totals(uid, kept)
            found |= {name: both[which] for name, both in totals.items() if both[0]}
        return Totals(sums.modified, found)

    # -- items

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        where = self._cached_only if collection in self._kinds.cached_only else self._sql_backed
        return where.find(uid, collection, query)

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        where = self._cached_only if collection in self._kinds.cached_only else self._sql_backed
        return where.item(uid, collection, item)

    # -- writing

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> AbstractContextManager[Work]:
        """Open a unit of work (see Storage)."""
        if collection is None:
            return self._wipe(uid)
        if collection in self._kinds.cached_only:
            return self._cached_only.work(uid, collection)
        return self._sql_backed.work(uid, collection, items, create=create)

    @contextmanager
    def _wipe(self, uid: int) -> Iterator[Work]:
        """A unit of work on everything of a user."""
        keys = [cached_only_key(uid, name) for name in self._held]
        look = self._metadata.look(uid, lambda _: keys)
        try:
            with self._below.lock_for_write(uid, None) as durable:
                noted = NotedWork(durable)
                yield noted
                if noted.time:
                    self._metadata.unmake(uid, look.sight, durable, noted.time)
        except Unconfirmed as error:
            raise self._state.declare_failed(error.epoch, error.cause) from error
        # Committed: nobody reads the items any more, and only those that were read before are removed.
        if noted.time and look.items:
            self._metadata.later(
                [
                    Remove(key, item.token)
                    for key, item in zip(keys, look.items, strict=True)
                    if item is not None and item.value
                ]
            )

    # -- an operator's wish

    def lose(self, uid: int, collection: str) -> KeptTime | None:
        """Give a cached-only collection up for lost: what SQL kept of it before, None when it did not exist.

        Raises Unavailable, Conflict.
        """
        return self._cached_only.lose(uid, collection)

    # -- the whole

    def check(self) -> None:
        """Ask the durable store, which decides whether anything can be answered (see Storage)."""
        self._below.check()

    def close(self) -> None:
        """Give back what both hold."""
        self._cache.close()
        self._below.close()


def _gone(kept: KeptTime) -> int:
    return kept.time if kept.being is Being.LOST else 0
