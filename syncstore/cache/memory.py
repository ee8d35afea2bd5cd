"""The provider `memory`: a bounded dict inside one process, for development, tests and a single worker.

The dict is in the order of storing, so the oldest stored value is evicted first. A child after a fork begins
with an empty memory of its own: another thread may have been amid a change when the fork took its copy.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from syncstore.cache.api import (
    BackendError,
    BadKey,
    Change,
    Conflict,
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
from syncstore.cache.making import Surroundings
from syncstore.cache.of_several import MAX_KEY, OfSeveral, check_fetch
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.forks import in_each_child
from syncstore.settings.values import number

_FEATURES = Features(cas=True, shared=False, shared_hosts=False, persistent=False, evicts=True, iterable=True)
_MAX_VALUE = 1024 * 1024


_MAX_ITEMS = 100_000
_MAX_BYTES = 64 * 1024 * 1024


def create(argument: str, surroundings: Surroundings) -> MemoryProvider:
    """`memory`, with the options max_items, max_bytes and max_value (see Factory)."""
    if argument:
        raise ConfigError(f"memory: has no argument, and not {argument!r}")
    options = surroundings.options
    try:
        return MemoryProvider(
            surroundings.clock,
            max_items=options.take("max_items", number(1), _MAX_ITEMS),
            max_bytes=options.take("max_bytes", number(1), _MAX_BYTES),
            max_value=options.take("max_value", number(1), _MAX_VALUE),
        )
    except ValueError as error:
        raise ConfigError(f"memory: {error}: max_bytes must be larger than max_value by {MAX_KEY}") from error


class _Incarnation:
    """What tells the tokens of one memory from those of another."""


class MemoryProvider(OfSeveral):
    """A cache in a dict.

    `max_items` and `max_bytes` (of keys and values together; a dict costs about 300 bytes an item more) bound
    it, `max_value` is in bytes. All calls take one lock, for microseconds.
    """

    name = "memory"
    features = _FEATURES

    def __init__(
        self,
        clock: Clock,
        *,
        max_items: int = _MAX_ITEMS,
        max_bytes: int = _MAX_BYTES,
        max_value: int = _MAX_VALUE,
    ) -> None:
        if max_items < 1 or max_value < 1 or max_bytes < max_value + MAX_KEY:
            raise ValueError("the memory must have room for one item of the greatest size")
        self._clock = clock
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._limits = Limits(max_key=MAX_KEY, max_value=max_value, max_items=max_items)
        self._begin()
        in_each_child(self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._incarnation = _Incarnation()
        # A plain dict finds its first item by passing over all places that were left before it.
        self._items: OrderedDict[bytes, Item] = OrderedDict()
        self._bytes = 0
        self._last_number = 0
        self._hits = self._misses = self._evicted = self._expired = 0

    @property
    def limits(self) -> Limits:
        """What fits into it, as the constructor was told."""
        return self._limits

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys from one moment (see Provider). Raises BadKey."""
        check_fetch(keys, reserve)
        with self._lock:
            now = self._clock.seconds()
            found: list[Item | None] = []
            for key in keys:
                item = self._live(key, now)
                if item is not None:
                    self._hits += 1
                else:
                    self._misses += 1
                    if reserve:
                        item = self._put(key, b"", now + reserve)
                found.append(item)
            return found

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider); here all together are atomic, too."""
        with self._lock:
            now = self._clock.seconds()
            check_expiry(changes, now)
            return [self._change(change, now) for change in changes]

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same; here the changes are made at once."""
        self.change(changes)

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items, as they are at the first step."""
        with self._lock:
            now = self._clock.seconds()
            live = [(key, item) for key, item in self._items.items() if not _expired(item, now)]
        yield from live

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop up to `limit` items that had expired at `now`, in seconds since the epoch; how many."""
        with self._lock:
            if now is None:
                now = self._clock.seconds()
            expired: list[bytes] = []
            for key, item in self._items.items():
                if len(expired) == limit:
                    break
                if _expired(item, now):
                    expired.append(key)
            for key in expired:
                self._drop(key)
            self._expired += len(expired)
            return len(expired)

    def status(self) -> Mapping[str, int | float | str]:
        """Items and bytes held, and what happened since the process began."""
        with self._lock:
            return {
                "items": len(self._items),
                "bytes": self._bytes,
                "max_items": self._max_items,
                "max_bytes": self._max_bytes,
                "hits": self._hits,
                "misses": self._misses,
                "evicted": self._evicted,
                "expired": self._expired,
            }

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._bytes = 0

    # All below is called with the lock held.

    def _change(self, change: Change, now: float) -> Outcome:
        key = change.key
        if not 1 <= len(key) <= MAX_KEY:
            return BadKey(len(key), MAX_KEY)
        refusal = self._refuse(change, self._live(key, now))
        if refusal is not None:
            return refusal
        if isinstance(change, Store):
            return self._put(key, bytes(change.value), change.expires).token
        self._drop(key)
        return None

    def _refuse(self, change: Change, present: Item | None) -> NotFound | BackendError | None:
        """What speaks against a change of a key that is in this state."""
        if isinstance(change, Store):
            size, limit = len(change.value), self._limits.max_value
            if size > limit:
                return TooLarge(size, limit)
        elif present is None:
            return NotFound(change.key)
        if isinstance(change.expect, Token):
            fits = present is not None and present.token == change.expect
        else:
            fits = change.expect is None or present is None
        return None if fits else Conflict(f"the key {change.key!r} is in another state")

    def _live(self, key: bytes, now: float) -> Item | None:
        item = self._items.get(key)
        if item is not None and _expired(item, now):
            self._drop(key)
            self._expired += 1
            return None
        return item

    def _put(self, key: bytes, value: bytes, expires: float) -> Item:
        if key in self._items:
            self._drop(key)
        self._last_number += 1
        item = self._items[key] = Item(value, Token(self._incarnation, self._last_number), expires)
        self._bytes += len(key) + len(value)
        while len(self._items) > self._max_items or self._bytes > self._max_bytes:
            oldest, evicted = self._items.popitem(last=False)
            self._bytes -= len(oldest) + len(evicted.value)
            self._evicted += 1
        return item

    def _drop(self, key: bytes) -> None:
        self._bytes -= len(key) + len(self._items.pop(key).value)


def _expired(item: Item, now: float) -> bool:
    return 0 < item.expires <= now
