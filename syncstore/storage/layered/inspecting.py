"""What the cache holds of one user, beside what SQL says: for people who ask, and without changing anything.

Cache and SQL cannot be read at one moment. So SQL's times are read before and after the cache, and what was seen
counts when they were the same both times: every commit of a user has a time of its own, so there was none in
between. A user who is written all the time is looked at under the lock of his row, where there is none either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from syncstore.cache.api import BackendError, Provider
from syncstore.cache.memcached.shared_state import SharedState
from syncstore.clock import Clock
from syncstore.errors import Unavailable
from syncstore.storage.durable import Being, DurableStorage, KeptTime, Times
from syncstore.storage.layered import contents
from syncstore.storage.layered.cached_only import cached_only_key
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.metadata import record_key
from syncstore.storage.layered.record import Codec, Record
from syncstore.storage.layered.sql_backed import copy_key

_ATTEMPTS = 5
_PAUSE = 0.02  # seconds: longer than a writer has his row


class Holding(NamedTuple):
    """What the cache holds of one user: values that are missing or cannot be read are left out.

    `record` and `copies` are those that requests look at; without a trusted cache there are none.
    """

    trusted: bool
    record: Record | None
    copies: Mapping[str, Contents]
    items: Mapping[str, Contents]


class View(NamedTuple):
    """What the cache held at a moment at which SQL had these times."""

    uid: int
    holding: Holding
    times: Times


class EntrySeen(msgspec.Struct, frozen=True):
    """A collection in the record, with its time in ticks. A `dirty` one has none: a writer was about to commit."""

    collection: str
    state: Literal["clean", "dirty", "deleted", "lost"]
    time: int | None


class RecordSeen(msgspec.Struct, frozen=True):
    """The metadata record. `storage` is in ticks, None while it is not known."""

    complete: bool
    storage: int | None
    collections: Sequence[EntrySeen]


class CopySeen(msgspec.Struct, frozen=True):
    """The copy of a collection that is written through; `believed` when the record has its time.

    `items`, and their `bytes`, are None of a collection that is too large for a copy.
    """

    collection: str
    time: int
    items: int | None
    bytes: int | None
    believed: bool


class ItemsSeen(msgspec.Struct, frozen=True):
    """A collection in the cache alone: the `time` of what the cache holds, and the one that SQL has `kept`.

    `agrees`: they are the same. `newer`: a writer is about to commit its time, or died before. `older` or
    `missing`: the items are lost, and the next request announces it. `lost`: that was announced. `unused`: SQL knows
    of no such collection.
    """

    collection: str
    state: Literal["agrees", "newer", "older", "missing", "lost", "unused"]
    time: int | None
    items: int
    bytes: int
    kept: int | None


class Report(msgspec.Struct, frozen=True):
    """All that the cache holds of a user. `trusted` is False while the cache is out of use for records and copies."""

    uid: int
    trusted: bool
    record: RecordSeen | None
    copies: Sequence[CopySeen]
    cached_only: Sequence[ItemsSeen]


class Inspector:
    """Looks at the cache of one installation. Every call raises Unavailable when cache or SQL does not answer."""

    def __init__(
        self, below: DurableStorage, cache: Provider, state: SharedState, kinds: Kinds, clock: Clock
    ) -> None:
        self._below = below
        self._cache = cache
        self._state = state
        self._clock = clock
        self._codec = Codec(kinds.fingerprint)
        self._copied = sorted(kinds.write_through)
        self._cached_only = sorted(kinds.cached_only)

    def view(self, uid: int) -> View:
        """Cache and SQL at one moment. Raises Conflict when the user's writers left none."""
        for _ in range(_ATTEMPTS):
            before = self._below.times(uid)
            holding = self._hold(uid)
            if self._below.times(uid) == before:
                return View(uid, holding, before)
            self._clock.sleep(_PAUSE)
        with self._below.lock_for_write(uid, None):
            return View(uid, self._hold(uid), self._below.times(uid))

    def _hold(self, uid: int) -> Holding:
        epoch = self._state.current()
        trusted = epoch > 0 and not epoch & 1
        keys = [cached_only_key(uid, name) for name in self._cached_only]
        if trusted:
            keys += [record_key(epoch, uid), *(copy_key(epoch, uid, name) for name in self._copied)]
        try:
            found = self._cache.fetch(keys)
        except BackendError as error:
            raise Unavailable(f"the cache does not answer: {error}") from error
        values = [None if item is None else item.value for item in found]
        items = _readable(self._cached_only, values)
        rest = values[len(self._cached_only) :]
        if not rest:
            return Holding(trusted, None, {}, items)
        record = self._codec.decode(rest[0]) if rest[0] else None
        return Holding(trusted, record, _readable(self._copied, rest[1:]), items)

    def report(self, uid: int) -> Report:
        """What the cache holds of a user, in numbers."""
        view = self.view(uid)
        now = self._clock.now_ms()
        holding, record = view.holding, view.holding.record
        return Report(
            uid,
            holding.trusted,
            None if record is None else _record_seen(record),
            [_copy_seen(name, copy, record, now) for name, copy in holding.copies.items()],
            [
                _items_seen(name, holding.items.get(name), view.times.kept.get(name), now)
                for name in self._cached_only
                if name in holding.items or _counts(view.times.kept.get(name))
            ],
        )


def _readable(names: Sequence[str], values: Sequence[bytes | None]) -> dict[str, Contents]:
    found = {}
    for name, value in zip(names, values, strict=False):
        held = None if value is None else contents.decode(value)
        if held is not None:
            found[name] = held
    return found


def _record_seen(record: Record) -> RecordSeen:
    seen = []
    for name, entry in sorted(record.entries.items()):
        if isinstance(entry, int):
            seen.append(EntrySeen(name, "clean", entry))
        elif isinstance(entry, KeptTime):
            seen.append(EntrySeen(name, "lost" if entry.being is Being.LOST else "deleted", entry.time))
        else:
            seen.append(EntrySeen(name, "dirty", None))
    return RecordSeen(record.complete, record.storage, seen)


def _copy_seen(name: str, copy: Contents, record: Record | None, now: int) -> CopySeen:
    believed = record is not None and record.entry(name) == copy.time
    if copy.items is None:
        return CopySeen(name, copy.time, None, None, believed)
    items = contents.live(copy.items, now)
    return CopySeen(name, copy.time, len(items), contents.size(items), believed)


def _counts(kept: KeptTime | None) -> bool:
    return kept is not None and kept.being is not Being.DELETED


def _items_seen(name: str, held: Contents | None, kept: KeptTime | None, now: int) -> ItemsSeen:
    state: Literal["agrees", "newer", "older", "missing", "lost", "unused"]
    if kept is None or kept.being is Being.DELETED:
        state, kept = "unused", None
    elif kept.being is Being.LOST:
        state = "lost"
    elif held is None:
        state = "missing"
    elif held.time == kept.time:
        state = "agrees"
    else:
        state = "newer" if held.time > kept.time else "older"
    items = contents.live(held.items or (), now) if held is not None else []
    return ItemsSeen(
        name,
        state,
        None if held is None else held.time,
        len(items),
        contents.size(items),
        None if kept is None else kept.time,
    )
