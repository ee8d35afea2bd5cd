"""The provider `shmcb`: the contract of a small-object cache on the sub-caches of one file (see the package).

Every call is one turn (`turns`), so several changes or look-ups share its cost; listing and culling take a turn for
each sub-cache. In a file the keys of a namespace begin with it: several caches may share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from syncstore.cache.api import (
    BackendError,
    BadKey,
    Change,
    Conflict,
    Expect,
    Features,
    Item,
    Limits,
    NotFound,
    Outcome,
    Store,
    Token,
    TooLarge,
    check_expiry,
)
from syncstore.cache.of_several import MAX_KEY, OfSeveral, check_fetch
from syncstore.cache.shmcb.geometry import Geometry
from syncstore.cache.shmcb.layout import DAMAGED, HITS, MISSES, REMOVE_HITS, REMOVE_MISSES, Damaged
from syncstore.cache.shmcb.rings import Rings, Spot
from syncstore.cache.shmcb.turns import DEFAULT_TIMEOUT, Turns
from syncstore.clock import Clock

_FEATURES = Features(cas=True, shared=True, shared_hosts=False, persistent=False, evicts=True, iterable=True)


class ShmcbProvider(OfSeveral):
    """A cache in the file at `path`, which is made by the first call. `namespace` tells its keys from others'.

    `timeout` is for how many seconds a call waits for the threads and processes that use it, too.
    """

    name = "shmcb"
    features = _FEATURES

    def __init__(
        self,
        path: str,
        clock: Clock,
        *,
        namespace: str,
        geometry: Geometry,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._path = path
        self._clock = clock
        self._prefix = namespace.encode() + b":"
        self._turns = Turns(path, geometry, timeout)

    @property
    def limits(self) -> Limits:
        """What fits into the file, which may be of another size than that in the settings (see `turns`)."""
        return self._turns.geometry.limits

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys from one moment (see Provider). Raises BadKey, BackendUnavailable."""
        check_fetch(keys, reserve)
        if not keys:
            return []
        rings = self._turns.enter().rings
        try:
            now = self._clock.seconds()
            return [self._fetch(rings, self._prefix + key, now, reserve) for key in keys]
        finally:
            self._turns.leave()

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider); here all together are atomic, too, but for a kill."""
        now = self._clock.seconds()
        check_expiry(changes, now)
        if not changes:
            return []
        file = self._turns.enter()
        try:
            now = self._clock.seconds()
            return [self._change(file.rings, file.limits.max_value, change, now) for change in changes]
        finally:
            self._turns.leave()

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same; here the changes are made at once, or not at all."""
        try:
            self.change(changes)
        except BackendError:
            return

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items, those of each sub-cache as they are when it is come to."""
        now = self._clock.seconds()
        for number in count():
            rings = self._turns.enter().rings
            try:
                if number >= len(rings.bases):
                    return
                base = rings.bases[number]
                rings.recover(base)
                listed = rings.listed(base, now)
            except Damaged:
                rings.empty(base, DAMAGED)
                continue
            finally:
                self._turns.leave()
            for key, item in listed:
                if key.startswith(self._prefix):
                    yield key[len(self._prefix) :], item

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop up to `limit` items, of all namespaces, that had expired at `now`; how many.

        Their bytes can be used once they are the oldest of their sub-cache, as those of removed ones.
        """
        if now is None:
            now = self._clock.seconds()
        culled = 0
        for number in count():
            rings = self._turns.enter().rings
            try:
                if number >= len(rings.bases) or culled >= limit:
                    return culled
                base = rings.bases[number]
                rings.recover(base)
                culled += rings.cull(base, now, limit - culled)
            except Damaged:
                rings.empty(base, DAMAGED)
            finally:
                self._turns.leave()
        return culled

    def status(self) -> Mapping[str, int | float | str]:
        """The file and what is in it, of all namespaces, and what all processes did with it since it was made."""
        file = self._turns.enter()
        try:
            rings = file.rings
            items = [rings.items(base) for base in rings.bases]
            return {
                "path": self._path,
                "bytes": file.geometry.size,
                "data_bytes": file.geometry.sub_caches * file.geometry.data,
                "data_bytes_used": sum(rings.used(base) for base in rings.bases),
                "sub_caches": len(items),
                "items": sum(items),
                "fewest_items": min(items),
                "most_items": max(items),
                **rings.counters(),
            }
        finally:
            self._turns.leave()

    def close(self) -> None:
        """Give back the file. The next call opens it again."""
        self._turns.close()

    # All below is called in a turn.

    def _fetch(self, rings: Rings, key: bytes, now: float, reserve: float) -> Item | None:
        try:
            spot = rings.look(key, now)
            item = rings.item(spot) if spot.live else None
        except Damaged as damaged:
            rings.empty(damaged.base, DAMAGED)
            return self._fetch(rings, key, now, reserve)  # nothing is there now that could be damaged
        rings.count(MISSES if item is None else HITS)
        if item is None and reserve:
            expires = now + reserve
            return Item(b"", self._put(rings, spot, key, b"", expires, now), expires)
        return item

    def _change(self, rings: Rings, max_value: int, change: Change, now: float) -> Outcome:
        if not 1 <= len(change.key) <= MAX_KEY:
            return BadKey(len(change.key), MAX_KEY)
        key = self._prefix + change.key
        try:
            spot = rings.look(key, now)
        except Damaged as damaged:
            rings.empty(damaged.base, DAMAGED)
            spot = rings.look(key, now)  # nothing is there now that could be damaged
        if isinstance(change, Store):
            if len(change.value) > max_value:
                return TooLarge(len(change.value), max_value)
            if not _fits(rings, change.expect, spot):
                return _conflict(change)
            return self._put(rings, spot, key, change.value, change.expires, now)
        if not spot.live:
            rings.count(REMOVE_MISSES)
            return NotFound(change.key)
        if not _fits(rings, change.expect, spot):
            return _conflict(change)
        rings.count(REMOVE_HITS)
        try:
            rings.remove(spot)
        except Damaged as damaged:
            rings.empty(damaged.base, DAMAGED)
        return None

    def _put(self, rings: Rings, spot: Spot, key: bytes, value: bytes, expires: float, now: float) -> Token:
        try:
            return rings.put(spot, key, value, expires, now)
        except Damaged as damaged:
            rings.empty(damaged.base, DAMAGED)
            return rings.put(rings.look(key, now), key, value, expires, now)


def _fits(rings: Rings, expect: Expect, spot: Spot) -> bool:
    """Whether a key is in the state that is expected."""
    if isinstance(expect, Token):
        return spot.live and rings.token(spot) == expect
    return expect is None or not spot.live


def _conflict(change: Change) -> Conflict:
    return Conflict(f"the key {change.key!r} is in another state")
