"""Collections whose items live in the cache alone, while SQL keeps their times (cached-only.md, strict protocol).

The items of a collection are one cached value that carries its time. It is believed only when that is the time in
the user's row, or the collection's clean entry in the metadata record. Items are written before the commit of
their time, so a value that is newer than its time in SQL is the work of a writer who did not get to his commit:
everything acknowledged is in it, and it is taken over at a new time. A value that is missing, or older, was lost;
the collection then counts as gone at a new time, and clients, who see that, upload again. An empty collection
under its old time is what nobody is ever shown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from syncstore.bso import BSO
from syncstore.cache.api import (
    BackendError,
    BackendUnavailable,
    Busy,
    Item,
    Provider,
    Remove,
    Store,
    TooLarge,
)
from syncstore.cache.api import Change as CacheChange
from syncstore.cache.api import Conflict as CacheConflict
from syncstore.cache.states import ServerState
from syncstore.clock import Clock
from syncstore.errors import Conflict, NotFound, NotYet, RolledBack, Unavailable
from syncstore.errors import TooLarge as RequestTooLarge
from syncstore.storage.api import Page, Query, Work
from syncstore.storage.durable import Being, DurableStorage, DurableWork, KeptTime
from syncstore.storage.layered import contents
from syncstore.storage.layered.cached_batches import CachedBatches
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.drafts import NOTHING, Draft, Held, kept_time
from syncstore.storage.layered.metadata import Marked, Metadata, Sight, Unconfirmed
from syncstore.storage.layered.record import Entry, Record

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_RESERVE = 30.0


class CachedOnly:
    """Reads and writes of the collections in the cache alone."""

    def __init__(
        self,
        below: DurableStorage,
        cache: Provider,
        metadata: Metadata,
        state: ServerState,
        clock: Clock,
        batches: CachedBatches,
    ) -> None:
        self._below = below
        self._cache = cache
        self._metadata = metadata
        self._state = state
        self._clock = clock
        self._batches = batches

    # -- reading

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        # Before the look: an item that seems to have expired since may have been given a longer life meanwhile,
        # and whoever is told the collection's time without it never asks for it again.
        now = self._clock.now_ms()
        found = self.read(uid, collection)
        return contents.page(found.time, found.items or (), query, now)

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        now = self._clock.now_ms()
        for stored in contents.live(self.read(uid, collection).items or (), now):
            if stored.id == item:
                return contents.bso(stored)
        raise NotFound(item)

    def read(self, uid: int, collection: str) -> Contents:
        """The collection as it is: nothing at time 0 when it does not exist, at the time of its loss when lost."""
        sight, held = self._look(uid, collection)
        if sight is not None:
            entry = sight.record.entry(collection)
            if entry is None and sight.record.complete:
                return NOTHING
            if isinstance(entry, KeptTime):
                return _gone(entry)
            if held.contents is not None and held.contents.time == entry:
                return held.contents
        # The time first, the items second: the other way round a value that was read and then taken back could be
        # believed, when its time was handed out again for something else (SV0).
        kept = self._metadata.fill(uid, sight).kept.get(collection)
        if kept is None or kept.being is not Being.LIVE:
            return NOTHING if kept is None else _gone(kept)
        held = self._held(uid, collection)
        if held.contents is not None and held.contents.time == kept.time:
            return held.contents
        return self._mend(uid, collection)

    def _look(self, uid: int, collection: str) -> tuple[Sight | None, Held]:
        """The metadata record and the items, in this order, in one round trip where the record may be trusted."""
        key = cached_only_key(uid, collection)
        look = self._metadata.look(uid, lambda _: [key])
        if look.items is not None:
            return look.sight, _held(look.items[0])
        return None, self._held(uid, collection)

    def _held(self, uid: int, collection: str) -> Held:
        if self._state.troubled():
            raise Unavailable("the cache that holds the collection does not answer")
        try:
            return _held(self._cache.fetch([cached_only_key(uid, collection)], reserve=_RESERVE)[0])
        except BackendError as error:
            self._unavailable(error)

    def _unavailable(self, error: BackendError) -> NoReturn:
        self._note(error)
        raise Unavailable(f"the cache that holds the collection does not answer: {error}") from error

    def _note(self, error: BackendError) -> None:
        if isinstance(error, BackendUnavailable) and not isinstance(error, Busy):
            self._state.trouble(str(error))

    # -- mending

    def _mend(self, uid: int, collection: str) -> Contents:
        """Settle what items and time disagree about, alone with the user's row: take over, or give up for lost."""
        marked = None
        try:
            with self._below.lock_for_times(uid, collection) as work:
                kept = work.kept.get(collection)
                if kept is None or kept.being is not Being.LIVE:
                    return NOTHING if kept is None else _gone(kept)
                held = self._held(uid, collection)
                found = held.contents
                if found is not None and found.time == kept.time:
                    return found  # a writer was at work, and has finished
                entry: Entry
                if found is not None and found.items is not None and found.time > kept.time:
                    time = work.draw_time(held.later_than(self._clock))
                    after = contents.no_later(time, found.items)
                    entry = after.time
                    work.keep_time(collection, kept_time(after))
                    marked = self._place(uid, collection, None, held, contents.encode(after), work)
                else:
                    entry, marked = self._give_up(uid, collection, work)
                    after = _gone(entry)
        except Unconfirmed as error:
            raise self._state.declare_failed(error.epoch, error.cause) from error
        if isinstance(entry, KeptTime):
            log.warning(
                "the cache has lost %s of user %d: clients are told so and upload again", collection, uid
            )
        else:
            log.info("what a writer left of %s of user %d without its time was taken over", collection, uid)
        if marked is not None:
            self._metadata.later([self._metadata.publication(uid, marked, collection, entry, after.time)])
        return after

    def _give_up(
        self, uid: int, collection: str, work: DurableWork, later_than: int = 0
    ) -> tuple[KeptTime, Marked | None]:
        """Have the collection count as lost when `work` commits: what is to be published then."""
        entry = KeptTime(work.draw_time(later_than), Being.LOST)
        work.keep_time(collection, entry)
        return entry, self._metadata.mark(uid, collection, None, work.epoch)

    def lose(self, uid: int, collection: str) -> KeptTime | None:
        """Give a collection up for lost, and remove its items: an operator's wish. What SQL kept of it before.

        None when it did not exist, and then nothing was changed. Raises Unavailable, Conflict.
        """
        key = cached_only_key(uid, collection)
        try:
            with self._below.lock_for_times(uid, collection) as work:
                kept = work.kept.get(collection)
                if kept is None or kept.being is not Being.LIVE:
                    return None
                held = self._glance(key)
                entry, marked = self._give_up(uid, collection, work, held.later_than(self._clock))
        except Unconfirmed as error:
            raise self._state.declare_failed(error.epoch, error.cause) from error
        later: list[CacheChange] = []
        if marked is not None:
            later.append(self._metadata.publication(uid, marked, collection, entry, entry.time))
        if held.item is not None:
            later.append(
                Remove(key, held.item.token)
            )  # these items, and not those of a writer who came since
        self._metadata.later(later)
        return kept

    def _glance(self, key: bytes) -> Held:
        """What the cache holds, and nothing where it cannot be asked."""
        try:
            return _held(self._cache.fetch([key])[0])
        except BackendError:
            return Held(None, None)

    # -- writing

    @contextmanager
    def work(self, uid: int, collection: str) -> Iterator[Work]:
        """A unit of work: looked, locked, changed, items and mark placed, time committed, published."""
        for _ in range(_ATTEMPTS):
            sight, held = self._look(uid, collection)
            marked = draft = None
            try:
                with self._below.lock_for_times(uid, collection) as durable:
                    kept = durable.kept.get(collection)
                    held = self._look_again(uid, collection, kept, sight, held, durable)
                    before = _base(kept, held)
                    if before is not None:
                        draft = Draft(durable, before, held, collection, self._batches, uid, self._clock)
                        yield draft
                        marked = self._finish(uid, draft, sight, before)
            except Unconfirmed as error:
                failed = self._state.declare_failed(error.epoch, error.cause)
                raise (failed if draft is None else draft.outcome(failed)) from error
            except (NotYet, RolledBack) as error:
                told = error if draft is None else draft.outcome(error)
                if told is error:
                    raise
                raise told from error
            if draft is not None and before is not None:
                break
            self._mend(uid, collection)
        else:
            raise Conflict("the cache loses what is stored in it")
        # Committed: nothing from here on has to succeed.
        later: list[CacheChange] = []
        if marked is not None and draft.entry is not None:
            later.append(self._metadata.publication(uid, marked, collection, draft.entry, draft.time))
        if draft.after is None and draft.entry is not None and before.item is not None:
            later.append(Remove(cached_only_key(uid, collection), before.item.token))
        self._metadata.later(later)

    def _look_again(
        self,
        uid: int,
        collection: str,
        kept: KeptTime | None,
        sight: Sight | None,
        held: Held,
        durable: DurableWork,
    ) -> Held:
        """What the cache holds, the user's row locked; `held` is from before, and others may have written since.

        Even items of the right time may be the wrong ones: those of a writer who was rolled back, evicted since, and
        their time drawn again for others. So what was seen before the lock is believed only under a record that had the
        time already when it was looked at, just before them; a second look costs a round trip.
        """
        lives = kept is not None and kept.being is Being.LIVE
        if sight is not None and _tells(sight.record, collection, kept):
            if kept is None or not lives:
                return held
            if held.contents is not None and held.contents.time == kept.time:
                return held
        held = self._held(uid, collection)
        if not lives:
            durable.confirm_lock()  # see _store_again
        return held

    def _finish(self, uid: int, draft: Draft, sight: Sight | None, before: Held) -> Marked | None:
        """All that goes to the cache before the commit; what is refused or unclear is an error, and rolls back."""
        collection, durable = draft.collection, draft.durable
        draft.stage()
        if not draft.time:
            return None
        if draft.wiped:
            self._metadata.unmake(uid, sight, durable, draft.time)
            return None
        if draft.after is None:
            return self._metadata.mark(uid, collection, sight, durable.epoch)
        value = contents.encode(draft.after)
        self._check_size(len(value))
        # While nothing is changed yet: who has to wait begins again, and must find everything as it was.
        self._metadata.settle_epoch(sight, durable.epoch)
        draft.begin_to_place()
        return self._place(uid, collection, sight, before, value, durable)

    def _place(
        self, uid: int, collection: str, sight: Sight | None, before: Held, value: bytes, durable: DurableWork
    ) -> Marked | None:
        """Mark the record and store the items over what was there before, in one round trip."""
        epoch = self._metadata.settle_epoch(sight, durable.epoch)
        if sight is None or sight.epoch != epoch:
            marked = None if epoch is None else self._metadata.mark(uid, collection, None, durable.epoch)
            self._store(uid, collection, before, value, durable)
            return marked
        mark, record = self._metadata.marking(uid, sight, collection)
        item = before.item
        if item is None:
            raise Conflict("the cache does not keep a placeholder")
        try:
            marking, storing = self._cache.change(
                [mark, Store(cached_only_key(uid, collection), value, 0.0, item.token)]
            )
        except BackendError as error:
            self._unavailable(error)
        if isinstance(storing, Exception):
            self._store_again(uid, collection, value, storing, durable)
        if isinstance(marking, tuple):
            return Marked(sight.epoch, marking, record)
        return self._metadata.mark(uid, collection, None, durable.epoch)

    def _store(self, uid: int, collection: str, before: Held, value: bytes, durable: DurableWork) -> None:
        if before.item is None:
            raise Conflict("the cache does not keep a placeholder")
        try:
            self._cache.store(cached_only_key(uid, collection), value, expect=before.item.token)
        except BackendError as error:
            self._store_again(uid, collection, value, error, durable)

    def _store_again(
        self, uid: int, collection: str, value: bytes, error: Exception, durable: DurableWork
    ) -> None:
        """Once more where the cache has dropped what we read: we have it. Over anything else we may not store.

        Nor over an empty place that was not seen before the lock, unless the lock is known to have been held when it
        was: a writer who has lost his connection, and does not know it, would store over what somebody else has
        committed meanwhile, and the cache dropped since, and under the same time.
        """
        if isinstance(error, CacheConflict):
            held = self._held(uid, collection)
            if held.item is not None and not held.item.value:
                durable.confirm_lock()
                try:
                    self._cache.store(cached_only_key(uid, collection), value, expect=held.item.token)
                except BackendError as again:
                    error = again
                else:
                    return
        if isinstance(error, CacheConflict):
            raise Conflict("somebody else has written to the collection") from error
        if isinstance(error, TooLarge):
            raise RequestTooLarge(error.size, error.limit) from error
        if isinstance(error, BackendError):
            self._unavailable(error)
        raise error

    def _check_size(self, size: int) -> None:
        try:
            limit = self._cache.limits.max_value
        except BackendError as error:
            self._unavailable(error)
        if size > limit:
            raise RequestTooLarge(size, limit)

    # -- totals

    def totals(self, uid: int, kept: dict[str, KeptTime]) -> dict[str, tuple[int, int]]:
        """Live items and their bytes of these collections: exact where the items can be read, else what was kept
        at their last write, which counts those that have expired since."""
        names = [name for name, time in kept.items() if time.being is Being.LIVE]
        now = self._clock.now_ms()
        found: Sequence[Item | None] = ()
        if names and not self._state.troubled():
            try:
                found = self._cache.fetch([cached_only_key(uid, name) for name in names])
            except BackendError as error:
                self._note(error)
        totals = {}
        for i, name in enumerate(names):
            held = _held(found[i]).contents if found else None
            if held is not None and held.items is not None and held.time == kept[name].time:
                items = contents.live(held.items, now)
                totals[name] = len(items), contents.size(items)
            else:
                totals[name] = kept[name].items, kept[name].bytes
        return totals


def _tells(record: Record, collection: str, kept: KeptTime | None) -> bool:
    """Whether the record says of the collection what SQL says now."""
    entry = record.entry(collection)
    if kept is None or entry is None:
        return kept is None and entry is None and record.complete
    return kept.time == (entry.time if isinstance(entry, KeptTime) else entry)


def _base(kept: KeptTime | None, held: Held) -> Held | None:
    """What a write starts from; None when items and time disagree."""
    if kept is None or kept.being is not Being.LIVE:
        return Held(None, held.item)  # whatever the cache holds has no time: the collection does not exist
    found = held.contents
    return held if found is not None and found.items is not None and found.time == kept.time else None


def _gone(kept: KeptTime) -> Contents:
    """How a collection that is gone reads: a loss has a time that clients have not seen, a deletion has none."""
    return Contents(kept.time, ()) if kept.being is Being.LOST else NOTHING


def _held(item: Item | None) -> Held:
    return Held(None if item is None else contents.decode(item.value), item)


def cached_only_key(uid: int, collection: str) -> bytes:
    """Where the items of a cached-only collection are."""
    return b"d:%d:%s" % (uid, collection.encode())
