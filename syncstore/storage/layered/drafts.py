"""A unit of work on a cached-only collection: what its one change makes of the items, to be stored when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from syncstore.bso import Change
from syncstore.cache.api import Item
from syncstore.clock import Clock
from syncstore.errors import NotFound, NotYet, RolledBack, Unavailable
from syncstore.storage.durable import Being, DurableWork, KeptTime, StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.cached_batches import CachedBatches, Claim
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.record import Entry

NOTHING = Contents(0, ())
"""A collection that does not exist."""


_FAR_AHEAD = 30 * 100


class Held(NamedTuple):
    """What the cache holds of a collection: the contents, None when missing or unreadable, and the item itself."""

    contents: Contents | None
    item: Item | None

    def later_than(self, clock: Clock) -> int:
        """The time that the next one is to exceed, in ticks, so that no time ever stands for two contents.

        0 when the items' writer had a clock that was far ahead and never came to his commit: nobody could write until
        that time has come. It is a second belt only. Items are believed when SQL or the record had their
        time before they were looked at, and those that are replaced cannot come back.
        """
        time = 0 if self.contents is None else self.contents.time
        return time if time - clock.now() <= _FAR_AHEAD else 0


class Draft:
    """A unit of work on a cached-only collection (see Work): what is to be stored when the block ends.

    `time` is that of the change, 0 while there is none; `wiped` says that it was that of everything; `entry` is what
    the record will say; `after` the new contents, None when the collection goes.
    """

    def __init__(
        self,
        durable: DurableWork,
        before: Held,
        seen: Held,
        collection: str,
        batches: CachedBatches,
        uid: int,
        clock: Clock,
    ) -> None:
        self.durable = durable
        self.collection = collection
        self.time = 0
        self.wiped = False
        self.entry: Entry | None = None
        self.after: Contents | None = None
        self._before = before.contents or NOTHING
        self._later_than = seen.later_than(clock)  # which SQL may not know of
        self._batches = batches
        self._uid = uid
        self._clock = clock
        self._changed = False
        self._claim: Claim | None = None
        self._placing = False
        self._opened: str | None = None
        self._staged: Claim | None = None

    @property
    def storage_modified(self) -> int:
        """The storage's time before this work (see Work)."""
        return self.durable.storage_modified

    @property
    def collection_modified(self) -> int:
        """The collection's time before this work; 0 when it was lost, too: then there is nothing to overwrite."""
        return self._before.time

    def item_modified(self, item: str) -> int:
        """An item's time before this work (see Work)."""
        for stored in contents.live(self._before.items or (), self._clock.now_ms()):
            if stored.id == item:
                return stored.modified
        return 0

    @property
    def quota_left(self) -> int | None:
        """Bytes left after the change (see Work)."""
        return self.durable.quota_left

    def put(self, changes: Sequence[Change]) -> int:
        """Create or partially update items (see Work)."""
        time = self._draw()
        return self._become(time, contents.changed(self._before.items or (), changes, time))

    def delete_item(self, item: str) -> int:
        """Delete one item (see Work)."""
        if not self.item_modified(item):
            raise NotFound(item)
        return self.delete_items((item,))

    def delete_items(self, items: Sequence[str]) -> int:
        """Delete those of `items` that exist (see Work)."""
        if not self._before.time:
            self._begin_change()
            return self.storage_modified
        time = self._draw()
        return self._become(time, contents.without(self._before.items or (), items, time))

    def delete_collection(self) -> int:
        """Delete the collection with its items (see Work)."""
        if not self._before.time:
            self._begin_change()
            return self.storage_modified
        self.time = self._draw()
        self.entry = KeptTime(self.time, Being.DELETED)
        self.durable.keep_time(self.collection, self.entry)
        return self.time

    def delete_all(self) -> int:
        """Delete all collections and pending batches (see Work)."""
        self._begin_change()
        self.time = self.durable.delete_all()
        self.wiped = True
        return self.time

    def create_batch(self) -> str:
        """Open a batch for the collection (see Work)."""
        self._begin_change()
        self._staged = self._batches.open(self._uid, self.collection, self.storage_modified)
        self._opened = self._staged.batch
        return self._staged.batch

    def append_to_batch(self, batch: str, changes: Sequence[Change]) -> None:
        """Stage items (see Work)."""
        staged = self._staged if batch == self._opened else None
        if staged is None:
            self._begin_change()
            staged = self._find(batch)
        self._staged = staged.with_more(changes)

    def commit_batch(self, batch: str, changes: Sequence[Change]) -> int:
        """Apply everything staged and close the batch (see Work)."""
        self._claim = self._find(batch).with_more(changes)
        time = self._draw()
        staged = self._claim.changes.values()
        return self._become(time, contents.changed(self._before.items or (), staged, time, all_at=True))

    # -- at the end of the block

    def stage(self) -> None:
        """Store what was staged in a batch, if anything."""
        if self._staged is not None:
            self._batches.store(self._uid, self._staged)

    def begin_to_place(self) -> None:
        """From now on the cache is changed; at first the committed batch, if any, is taken out of it, for good: nobody
        can commit it a second time."""
        self._placing = True
        if self._claim is not None:
            self._batches.remove(self._uid, self._claim)

    def outcome(self, error: Unavailable) -> Unavailable:
        """The error of a unit of work: one after which nobody begins again by himself when items were stored.

        They may be taken over, and he would be told that there is no such batch, or that the collection has changed.
        """
        if self._placing and isinstance(error, NotYet | RolledBack):
            return Unavailable(f"{error.reason}, when items were already stored in the cache", 1)
        return error

    # -- inside

    def _find(self, batch: str) -> Claim:
        return self._batches.find(self._uid, self.collection, batch, self.durable.kept)

    def _begin_change(self) -> None:
        if self._changed:
            raise RuntimeError("a unit of work makes one change")
        self._changed = True

    def _draw(self) -> int:
        self._begin_change()
        return self.durable.draw_time(max(self._before.time, self._later_than))

    def _become(self, time: int, items: list[StoredItem]) -> int:
        after = Contents(time, items)
        kept = kept_time(after)
        self.durable.charge(kept.bytes - contents.size(self._before.items or ()))
        self.durable.keep_time(self.collection, kept)
        self.time = self.entry = time
        self.after = after
        return time


def kept_time(after: Contents) -> KeptTime:
    """What SQL keeps of these contents."""
    items = after.items or ()
    return KeptTime(after.time, Being.LIVE, len(items), contents.size(items))
