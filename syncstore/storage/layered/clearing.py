"""Removing what the cache holds of a user, at an operator's wish.

Records and copies can go at any time: it is as if the cache had evicted them. A collection in the cache alone cannot
come back; it counts as lost from then on, at a new time, and so clients upload it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncstore.cache.api import BackendError, Provider, Remove
from syncstore.cache.memcached.shared_state import SharedState
from syncstore.clock import Clock
from syncstore.errors import Unavailable
from syncstore.storage.durable import Being, DurableStorage, KeptTime
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.metadata import record_key
from syncstore.storage.layered.sql_backed import copy_key
from syncstore.storage.layered.store import LayeredStorage


class Clearing:
    """Clears the cache of one installation. `layered` is the storage over `below` and `cache`.

    Every call raises Unavailable when cache or SQL does not answer.
    """

    def __init__(
        self,
        layered: LayeredStorage,
        below: DurableStorage,
        cache: Provider,
        state: SharedState,
        kinds: Kinds,
        clock: Clock,
    ) -> None:
        self._layered = layered
        self._below = below
        self._cache = cache
        self._state = state
        self._kinds = kinds
        self._clock = clock

    def at_stake(self, uid: int) -> Mapping[str, KeptTime]:
        """The collections that `lose` would destroy, as SQL knows them."""
        kept = self._below.times(uid).kept
        return {
            name: kept[name]
            for name in sorted(self._kinds.cached_only)
            if name in kept and kept[name].being is Being.LIVE
        }

    def forget(self, uid: int) -> int:
        """Remove the record and all copies, with which nothing is lost; how many there were.

        None are looked for while the cache is out of use: then nobody asks for them any more.
        """
        epoch = self._state.current()
        if not epoch or epoch & 1:
            return 0
        keys = [
            record_key(epoch, uid),
            *(copy_key(epoch, uid, name) for name in sorted(self._kinds.write_through)),
        ]
        try:
            outcomes = self._cache.change([Remove(key) for key in keys])
        except BackendError as error:
            raise Unavailable(f"the cache does not answer: {error}") from error
        return outcomes.count(None)

    def lose(self, uid: int, collection: str) -> KeptTime | None:
        """Destroy a collection in the cache alone: what SQL kept of it before, None when it did not exist.

        Waits for a lease where the cache was declared failed less than that ago. Raises Conflict, too.
        """
        self._state.current()
        while self._state.wait:
            self._clock.sleep(self._state.wait)
        return self._layered.lose(uid, collection)
