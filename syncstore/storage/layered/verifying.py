"""Where cache and SQL disagree about one user: what a reader would be told that is not so.

Only what a reader would believe can be wrong. A dirty entry, a copy of another time and a value that is missing send
him to SQL, and so are nothing to report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from syncstore.cache.api import BackendError, Provider
from syncstore.clock import Clock, format_ticks
from syncstore.errors import Unavailable
from syncstore.storage.durable import Being, DurableStorage, KeptTime, StoredItem, Times
from syncstore.storage.layered import contents
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.inspecting import Inspector
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.record import Entry, Record


class Difference(msgspec.Struct, frozen=True):
    """One disagreement. `collection` is empty where it is about the storage's time."""

    uid: int
    collection: str
    cache: str
    sql: str

    def __str__(self) -> str:
        """One line for a person."""
        about = f"user {self.uid}, {self.collection}" if self.collection else f"user {self.uid}"
        return f"{about}: {self.cache}, {self.sql}"


class Verifier:
    """Compares cache and SQL. `inspector` looks at the same two."""

    def __init__(
        self, inspector: Inspector, below: DurableStorage, cache: Provider, kinds: Kinds, clock: Clock
    ) -> None:
        self._inspector = inspector
        self._below = below
        self._cache = cache
        self._kinds = kinds
        self._clock = clock

    def differences(self, uid: int) -> list[Difference]:
        """All disagreements about a user. Raises Unavailable, and Conflict for one who is written all the time."""
        _, holding, times = self._inspector.view(uid)
        found: list[Difference] = []
        if holding.record is not None:
            found += self._record(uid, holding.record, times)
        for name, copy in holding.copies.items():
            found += self._copy(uid, name, copy, times)
        for name, held in holding.items.items():
            found += _items(uid, name, held, times.kept.get(name))
        return found

    def _record(self, uid: int, record: Record, times: Times) -> Iterator[Difference]:
        known = record.times()
        storage = record.storage
        # While a mark stands nobody is told the storage's time; but it is never ahead of SQL.
        if storage is not None and (storage > times.modified or (known and storage != times.modified)):
            yield Difference(
                uid,
                "",
                f"the record has the storage's time {format_ticks(storage)}",
                f"SQL has {format_ticks(times.modified)}",
            )
        names = set(record.entries)
        if record.complete:
            names |= set(times.collections) | self._kinds.cached_only
        for name in sorted(names):
            entry = record.entry(name)
            if isinstance(entry, bytes):
                continue
            told, right = _told(entry), _right(name, times, self._kinds)
            if told != right:
                yield Difference(uid, name, f"the record says {told}", f"SQL says {right}")

    def _copy(self, uid: int, name: str, copy: Contents, times: Times) -> Iterator[Difference]:
        if copy.time > times.modified:
            yield Difference(
                uid,
                name,
                f"the cache has a copy of {format_ticks(copy.time)}",
                f"SQL's last write of all was at {format_ticks(times.modified)}",
            )
        if copy.items is None or copy.time != times.collections.get(name):
            return
        # The collection's content at one time is the same for ever, so it may be read later than the times.
        whole = self._below.whole(uid, name, self._limit())
        if whole.items is None or whole.modified != copy.time:
            return
        now = self._clock.now_ms()
        wrong = _wrong(contents.live(copy.items, now), contents.live(whole.items, now))
        if wrong:
            yield Difference(
                uid,
                name,
                f"the copy of {format_ticks(copy.time)} is wrong in {wrong} items",
                f"SQL has {len(whole.items)} of that time",
            )

    def _limit(self) -> int:
        try:
            return self._cache.limits.max_value
        except BackendError as error:
            raise Unavailable(f"the cache does not answer: {error}") from error


def _items(uid: int, name: str, held: Contents, kept: KeptTime | None) -> Iterator[Difference]:
    if kept is None or kept.being is not Being.LIVE:
        return  # nobody looks at the items
    if held.time < kept.time:
        yield Difference(
            uid,
            name,
            f"the items in the cache are of {format_ticks(held.time)}",
            f"SQL says {format_ticks(kept.time)}, and they will count as lost",
        )
    elif held.time == kept.time and held.items is not None:
        count, size = len(held.items), contents.size(held.items)
        if (count, size) != (kept.items, kept.bytes):
            yield Difference(
                uid,
                name,
                f"the cache has {count} items of {size} bytes",
                f"SQL counts {kept.items} of {kept.bytes} bytes at the same time, {format_ticks(kept.time)}",
            )


def _told(entry: Entry | None) -> str:
    """What a reader is told who finds this entry, clean as it is, in a complete record."""
    if isinstance(entry, int):
        return format_ticks(entry)
    if isinstance(entry, KeptTime) and entry.being is Being.LOST:
        return f"lost at {format_ticks(entry.time)}"
    return "that it does not exist"


def _right(name: str, times: Times, kinds: Kinds) -> str:
    """The same, of SQL."""
    if name not in kinds.cached_only:
        return _told(times.collections.get(name))
    kept = times.kept.get(name)
    return _told(kept.time if kept is not None and kept.being is Being.LIVE else kept)


def _wrong(cached: Sequence[StoredItem], stored: Sequence[StoredItem]) -> int:
    """How many items are in one of them alone, or not the same."""
    ours = {item.id: item for item in cached}
    theirs = {item.id: item for item in stored}
    return sum(ours.get(name) != theirs.get(name) for name in ours.keys() | theirs.keys())
