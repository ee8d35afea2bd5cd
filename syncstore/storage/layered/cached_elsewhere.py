"""Collections in a cache that has failed, while another one stands in for the rest: nobody has their items.

To answer that they are empty would be wrong, and to write them elsewhere would make two of them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NoReturn

from syncstore.bso import BSO
from syncstore.errors import Unavailable
from syncstore.storage.api import Page, Query, Work
from syncstore.storage.durable import Being, KeptTime


class CachedElsewhere:
    """Refuses what `CachedOnly` does."""

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """Raises Unavailable."""
        self._refuse(collection)

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """Raises Unavailable."""
        self._refuse(collection)

    def work(self, uid: int, collection: str) -> AbstractContextManager[Work]:
        """Raises Unavailable."""
        self._refuse(collection)

    def lose(self, uid: int, collection: str) -> KeptTime | None:
        """Raises Unavailable."""
        self._refuse(collection)

    def totals(self, uid: int, kept: dict[str, KeptTime]) -> dict[str, tuple[int, int]]:
        """Items and bytes as they were kept at the last write, which counts those that have expired since."""
        return {name: (time.items, time.bytes) for name, time in kept.items() if time.being is Being.LIVE}

    def _refuse(self, collection: str) -> NoReturn:
        raise Unavailable(f"the cache that holds {collection} has failed")
