"""Pieces about collections that live in the cache alone, with their times in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from syncstore.cache.api import BackendError, Remove, Store
from syncstore.cache.api import Change as CacheChange
from syncstore.storage.api import Page, Query, Work
from syncstore.storage.durable import Being, DurableWork, KeptTime, Times
from syncstore.storage.layered import contents
from syncstore.storage.layered.cached_only import CachedOnly, cached_only_key
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.drafts import Draft, Held
from syncstore.storage.layered.metadata import Marked, Sight
from syncstore.testing.simulation.memcached import SimulatedCache
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, Mix
from syncstore.testing.simulation.sql_store import SimulatedStorage
from syncstore.testing.simulation.sql_work import SimulatedWork
from tests.museum.fill_pieces import AddsRecords, Filling
from tests.museum.piece import Piece, hurried, replaced, unprepared


class ItemsBeforeTime(CachedOnly):
    """Reads the items once, before SQL is asked for their time."""

    def read(self, uid: int, collection: str) -> Contents:
        sight, held = self._look(uid, collection)
        entry = None if sight is None else sight.record.entry(collection)
        if held.contents is not None and held.contents.time == entry:
            return held.contents
        kept = self._metadata.fill(uid, sight).kept.get(collection)
        if kept is not None and held.contents is not None and held.contents.time == kept.time:
            return held.contents
        return super().read(uid, collection)


class BelievesAnEarlyLook(CachedOnly):
    """A writer's items need the right time, and nothing more."""

    def _look_again(
        self,
        uid: int,
        collection: str,
        kept: KeptTime | None,
        sight: Sight | None,
        held: Held,
        durable: DurableWork,
    ) -> Held:
        if kept is not None and held.contents is not None and held.contents.time == kept.time:
            return held
        return super()._look_again(uid, collection, kept, sight, held, durable)


class NeverConfirms(SimulatedStorage):
    """A lock that was granted is taken to be held for ever."""

    def lock_for_times(self, uid: int, collection: str) -> SimulatedWork:
        return _Unconfirmed(self._place, uid, collection, (), create=False, rows=False)


class _Unconfirmed(SimulatedWork):
    def confirm_lock(self) -> None:
        pass


class ExpiredWhenAnswered(CachedOnly):
    def find(self, uid: int, collection: str, query: Query) -> Page:
        found = self.read(uid, collection)
        return contents.page(found.time, found.items or (), query, self._clock.now_ms())


class ItemsAlone(CachedOnly):
    def read(self, uid: int, collection: str) -> Contents:
        return self._held(uid, collection).contents or super().read(uid, collection)


class EmptyWhenMissing(CachedOnly):
    def read(self, uid: int, collection: str) -> Contents:
        if self._held(uid, collection).contents is None:
            kept = self._below.times(uid).kept.get(collection)
            if kept is not None and kept.being is Being.LIVE:
                return Contents(kept.time, ())
        return super().read(uid, collection)


class ItemsAfterCommit(CachedOnly):
    @contextmanager
    def work(self, uid: int, collection: str) -> Iterator[Work]:
        with super().work(uid, collection) as draft:
            yield draft
        if isinstance(draft, Draft) and draft.after is not None:
            item = self._held(uid, collection).item
            value = contents.encode(draft.after)
            self._metadata.later(
                [Store(cached_only_key(uid, collection), value, 0.0, item.token if item else None)]
            )

    def _store(self, uid: int, collection: str, before: Held, value: bytes, durable: DurableWork) -> None:
        pass

    def _place(
        self, uid: int, collection: str, sight: Sight | None, before: Held, value: bytes, durable: DurableWork
    ) -> Marked | None:
        return self._metadata.mark(uid, collection, sight, durable.epoch)


class NoMark(CachedOnly):
    def _place(
        self, uid: int, collection: str, sight: Sight | None, before: Held, value: bytes, durable: DurableWork
    ) -> Marked | None:
        self._store(uid, collection, before, value, durable)
        return None


class DropsStrays(CachedOnly):
    """Takes what has another time than SQL for lost."""

    def _held(self, uid: int, collection: str) -> Held:
        held = super()._held(uid, collection)
        kept = self._below.times(uid).kept.get(collection)
        if held.contents is None or kept is None or held.contents.time <= kept.time:
            return held
        return Held(None, held.item)


class TimesFromItems(Filling):
    """SQL has no times of cached-only collections: a fill takes them from the items."""

    def fill(self, uid: int, sight: Sight | None) -> Times:
        times = None if sight is None else self._below.settled_times(uid)
        if sight is None or times is None:
            return self._below.times(uid)
        try:
            found = self._cache.fetch([cached_only_key(uid, CACHED_ONLY)])[0]
        except BackendError:
            return times
        held = None if found is None else contents.decode(found.value)
        kept = {name: time for name, time in times.kept.items() if name != CACHED_ONLY}
        if held is not None:
            kept[CACHED_ONLY] = KeptTime(held.time)
        return self.plant(uid, sight, msgspec.structs.replace(times, kept=kept))


class AddsItems(AddsRecords):
    prefix = b"d:"


class ItemsBlindly(SimulatedCache):
    """Items are stored and removed over whatever is there."""

    def change(self, changes: Sequence[CacheChange]) -> list[object]:  # type: ignore[override]
        return super().change([_blind(change) for change in changes])  # type: ignore[return-value]

    def change_later(self, changes: Sequence[CacheChange]) -> None:
        super().change_later([_blind(change) for change in changes])


def _blind(change: CacheChange) -> CacheChange:
    return change._replace(expect=None) if change.key.startswith(b"d:") else change


class RemovesItemsBlindly(SimulatedCache):
    def change_later(self, changes: Sequence[CacheChange]) -> None:
        super().change_later([_blind(one) if isinstance(one, Remove) else one for one in changes])


class DrawsWithoutItems(SimulatedStorage):
    """Times do not care for what the cache holds."""

    def lock_for_times(self, uid: int, collection: str) -> SimulatedWork:
        return _WithoutItems(self._place, uid, collection, (), create=False, rows=False)


class _WithoutItems(SimulatedWork):
    def draw_time(self, later_than: int = 0) -> int:
        return super().draw_time(0)


class ForgetsTheMark(SimulatedStorage):
    """Times of cached-only collections are compared with the collection's own, when it exists."""

    def lock_for_times(self, uid: int, collection: str) -> SimulatedWork:
        return _OwnTimeOnly(self._place, uid, collection, (), create=False, rows=False)


class _OwnTimeOnly(SimulatedWork):
    def _draw(self, later_than: int) -> int:
        kept = self.kept.get(self._collection or "")
        before = kept.time if kept is not None and kept.being is Being.LIVE else 0
        return max(before + 1, self._place.clock.now())


class QuietDeletes(CachedOnly):
    """A deletion that finds nothing answers with a new time, and stores the old one."""

    @contextmanager
    def work(self, uid: int, collection: str) -> Iterator[Work]:
        with super().work(uid, collection) as draft:
            if isinstance(draft, Draft):
                draft.__class__ = _QuietDraft
            yield draft


class _QuietDraft(Draft):
    def delete_items(self, items: Sequence[str]) -> int:
        if not self._before.time or any(self.item_modified(item) for item in items):
            return super().delete_items(items)
        self._begin_change()
        return max(self._clock.now(), self.storage_modified + 1)


_ONE: Final = (CACHED_ONLY,)
_TWO: Final = (CACHED_ONLY, UNCACHED)
_KINDS: Final = ("put", "put", "read", "times", "news")
_TWICE: Final = ("commit rolled back", "commit rolled back", "evict", "evict")
_ONE_EACH: Final = ("commit rolled back", "evict all of a user", "fetch slow")
_PUTS: Final = ("put", "put", "read")
_EDITS: Final = ("put item", "delete item", "item", "news", "modified")
_LOSSES: Final = ("evict", "evict", "restart", "evict all of a user")
_ROLLBACKS: Final = ("commit rolled back", "commit refused", "kill", "evict")

PIECES: Final = (
    Piece(
        "items-read-before-their-time",
        "model checking of cached-only collections, SV0: found in what was thought right",
        "A reader takes the items first, and asks SQL for their time afterwards.",
        "Items of a write that was rolled back, under the time that another write was given.",
        "wrong items",
        replaced(ItemsBeforeTime),
        Mix(_ONE, _ONE_EACH, 5, 4, 2, ("put", "read"), clock_stands=True),
        unprepared,
    ),
    Piece(
        "items-of-an-early-look",
        "our own layer, found by building this museum",
        "A writer looks at the items before it has the user's row, and believes them since their time is SQL's.",
        "They may be those of a writer who was rolled back: tabs that nobody uploaded come with the next upload.",
        "a work saw what was not there",
        replaced(BelievesAnEarlyLook),
        Mix(_ONE, _TWICE, 8, 4, 2, ("put", "put", "put item", "delete item", "item"), clock_stands=True),
    ),
    Piece(
        "lock-taken-for-granted",
        "our own layer, found by an hour of histories",
        "A writer whose items were evicted stores them again without asking whether it still has the user's row.",
        "It has lost its connection, and stores what will not be committed under the time of what another has.",
        "contents that nobody wrote",
        replaced(NeverConfirms),
        Mix(
            _ONE,
            ("sql connection lost", "sql connection lost", "evict all of a user", "evict"),
            8,
            5,
            3,
            ("put", "put", "put item", "delete item"),
            clock_stands=True,
        ),
    ),
    Piece(
        "expired-when-answered",
        "our own reads, until this museum showed it",
        "A reader leaves out what has expired when the cache has answered, not when it was asked.",
        "An item whose life was made longer meanwhile is missing; its time is not after the answer's, so it is never "
        "asked for again.",
        "a client missed a change",
        replaced(ExpiredWhenAnswered),
        Mix(_ONE, ("fetch slow", "fetch slow"), 4, 4, 3, ("put", "put", "put", "read"), clock_stands=True),
    ),
    Piece(
        "times-drawn-without-the-items",
        "model checking, SV0",
        "A new time need not be later than that of items which a rolled-back writer left.",
        "Nothing here.",
        "",
        replaced(DrawsWithoutItems),
        Mix(_ONE, (*_ROLLBACKS, "evict", "change late"), 8, 5, 4, (*_PUTS, *_EDITS), clock_stands=True),
        harmless="Readers and writers know that a time was committed before they look at the items, and whoever "
        "committed it has stored his items over, or found evicted, what a rolled-back writer left under that time. "
        "It was not harmless while writers believed an early look.",
    ),
    Piece(
        "items-after-commit",
        "model checking, SV1",
        "The time is committed first, the items are stored afterwards.",
        "What was acknowledged is gone when the writer dies in between, or when a second writer starts from before it.",
        "given up for lost, though the cache did not lose it",
        replaced(ItemsAfterCommit),
        Mix(_ONE, ("kill", "change later never"), kinds=_KINDS),
    ),
    Piece(
        "items-believed-alone",
        "model checking, SV2",
        "A reader answers with the items that are there, whatever SQL says.",
        "Tabs that no device ever succeeded to upload, under a time that is given to others later.",
        "never committed",
        replaced(ItemsAlone),
        Mix(_ONE, _ROLLBACKS, kinds=_KINDS),
    ),
    Piece(
        "times-from-the-items",
        "model checking, SV3",
        "A fill takes the collection's time from the items, not from SQL.",
        "After an eviction the collection does not exist, at a storage time that was told with it.",
        "times of two states",
        replaced(TimesFromItems),
        Mix(_ONE, _LOSSES, kinds=_KINDS),
    ),
    Piece(
        "items-by-add",
        "model checking, SV4",
        "Items are stored where nothing is, whatever was there in the meantime.",
        "A late `add` from before a rollback comes to stand under the time that another write was given.",
        "wrong items",
        replaced(AddsItems),
        Mix(_ONE, ("change late", "evict", "evict"), 5, 3, 2, _PUTS, 2, clock_stands=True),
        unprepared,
    ),
    Piece(
        "items-by-blind-set",
        "the 2012 layer, W6; model checking, SV4",
        "Items are stored and removed over whatever is there.",
        "A late store covers the items of a later write, which are lost though the cache lost nothing.",
        "given up for lost, though the cache did not lose it",
        replaced(ItemsBlindly),
        Mix(_ONE, ("change late",), kinds=_KINDS),
    ),
    Piece(
        "items-removed-blindly",
        "the 2012 layer, W6",
        "A deletion removes the items when it has committed, whatever is there by then.",
        "The first upload after it is lost.",
        "given up for lost, though the cache did not lose it",
        replaced(RemovesItemsBlindly),
        Mix(_ONE, ("change later late",), kinds=("put", "put", "delete collection", "wipe", "read")),
    ),
    Piece(
        "missing-is-empty",
        "the 2012 layer, O1; model checking, SV5",
        "Items that the cache has lost are told as none, under the collection's old time.",
        "Other devices' tabs are gone, and no device uploads its own again, since nothing seems to have changed.",
        "wrong items",
        replaced(EmptyWhenMissing),
        Mix(_ONE, _LOSSES, kinds=_KINDS),
    ),
    Piece(
        "no-mark-for-cached-only",
        "model checking, SV6",
        "A write to a cached-only collection leaves the record as it is.",
        "The list of collections goes on telling the old time: nobody fetches the new tabs.",
        "stale",
        replaced(NoMark),
        Mix(_ONE, kinds=_KINDS),
        hurried,
    ),
    Piece(
        "strays-dropped",
        "model checking, SV7",
        "Items newer than their time are thrown away instead of taken over.",
        "A write that fails takes all that was acknowledged before it along.",
        "given up for lost, though the cache did not lose it",
        replaced(DropsStrays),
        Mix(_ONE, _ROLLBACKS, kinds=_KINDS),
    ),
    Piece(
        "time-of-a-new-life",
        "the 2012 layer, O2",
        "A collection that is made again need not have a later time than it had before.",
        "A device that knows the old time sees no change, and keeps the old tabs.",
        "time not greater",
        replaced(ForgetsTheMark),
        Mix(_TWO, ("clock jump", "evict", "evict all of a user"), kinds=(*_KINDS, "delete collection")),
    ),
    Piece(
        "change-that-changes-nothing",
        "the 2012 layer, O3",
        "A deletion that finds nothing answers with a new time, and stores the old one.",
        "The device believes to know the collection up to a time that somebody else's write may get.",
        "acknowledged, not committed",
        replaced(QuietDeletes),
        Mix(_ONE, _LOSSES, kinds=("put", "put", "delete items", "read")),
    ),
)
