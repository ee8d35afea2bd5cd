"""A storage over several cache servers: each call goes to the layer over the server that is the user's home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from syncstore.bso import BSO
from syncstore.cache.memcached.stand_ins import Chain
from syncstore.storage.api import Page, Query, Storage, Totals, Work

_MOST_LAYERS: Final = 1000


class Chained:
    """The layer for a user where servers stand in for each other: one for each chain, made by `over` when it is first
    in use."""

    def __init__(self, chain: Callable[[bytes], Chain], over: Callable[[Chain], Storage]) -> None:
        self._chain = chain
        self._over = over
        self._layers: dict[Chain, Storage] = {}

    def __call__(self, uid: int) -> Storage:
        """The layer of the chain that is in use for the user."""
        chain = self._chain(b"%d" % uid)
        found = self._layers.get(chain)
        if found is None:
            if len(self._layers) >= _MOST_LAYERS:
                self._layers.clear()  # each outage leaves some behind, and none has anything that cannot be made again
            found = self._layers.setdefault(chain, self._over(chain))
        return found


class PlacedStorage:
    """Layers over the same durable store, one of which `of` gives for a user (see `storage.api.Storage`)."""

    def __init__(self, below: Storage, of: Callable[[int], Storage]) -> None:
        self._below = below
        self._of = of

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection (see Storage)."""
        return self._of(uid).collection_times(uid)

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items of every collection (see Storage)."""
        return self._of(uid).collection_counts(uid)

    def collection_usage(self, uid: int) -> Totals:
        """The payload bytes of every collection (see Storage)."""
        return self._of(uid).collection_usage(uid)

    def collection_modified(self, uid: int, collection: str) -> int:
        """The collection's time (see Storage)."""
        return self._of(uid).collection_modified(uid, collection)

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        return self._of(uid).find(uid, collection, query)

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        return self._of(uid).item(uid, collection, item)

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> AbstractContextManager[Work]:
        """Open a unit of work (see Storage)."""
        return self._of(uid).lock_for_write(uid, collection, items, create=create)

    def check(self) -> None:
        """Ask the durable store, which decides whether anything can be answered (see Storage)."""
        self._below.check()

    def close(self) -> None:
        """Close the durable store. The caches are the group's."""
        self._below.close()
