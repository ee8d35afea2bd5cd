"""Collections whose items SQL has: uncached ones, and those that are written through to a copy in the cache.

A copy carries the time of its content and is believed only when that is the collection's clean time. No time is
ever used twice for different content, so a copy may be stored blindly, late or from an old snapshot: it is right
for its own time or it is not looked at. It is stored only after a confirmed commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from syncstore.bso import BSO, Change
from syncstore.cache.api import BackendError, Item, Provider, Store
from syncstore.cache.states import ServerState
from syncstore.clock import Clock
from syncstore.errors import NotFound
from syncstore.storage.api import Page, Query, Work
from syncstore.storage.durable import DurableStorage, DurableWork, StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.metadata import Metadata, Unconfirmed

_USUAL_LIMIT = 1_000_000  # bytes of a value; for as long as the cache cannot be asked


class SqlBacked:
    """Reads and writes of the collections in SQL. `life` bounds that of a copy, in seconds."""

    def __init__(
        self,
        below: DurableStorage,
        cache: Provider,
        metadata: Metadata,
        state: ServerState,
        kinds: Kinds,
        clock: Clock,
        *,
        life: float,
    ) -> None:
        self._below = below
        self._cache = cache
        self._metadata = metadata
        self._state = state
        self._kinds = kinds
        self._clock = clock
        self._life = life

    # -- reading

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        if collection in self._kinds.write_through:
            now = self._clock.now_ms()  # before the look, as in CachedOnly.find
            copy = self._copy(uid, collection)
            if copy is not None and copy.items is not None:
                return contents.page(copy.time, copy.items, query, now)
        return self._below.find(uid, collection, query)

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        if collection in self._kinds.write_through:
            now = self._clock.now_ms()
            copy = self._copy(uid, collection)
            if copy is not None and copy.items is not None:
                for stored in copy.items:
                    if stored.id == item and (stored.expires is None or stored.expires > now):
                        return contents.bso(stored)
                raise NotFound(item)
        return self._below.item(uid, collection, item)

    def _copy(self, uid: int, collection: str) -> Contents | None:
        """The whole collection, from its copy or from SQL; None, or without items, when SQL has to be asked."""
        look = self._metadata.look(uid, lambda epoch: [copy_key(epoch, uid, collection)])
        sight = look.sight
        if sight is None or look.items is None:
            return None
        entry = sight.record.entry(collection)
        clean = type(entry) is int
        if clean:
            stored = look.items[0]
            copy = None if stored is None else contents.decode(stored.value)
            if copy is not None and copy.time == entry:
                return copy
        elif entry is None and sight.record.complete:
            return Contents(0, ())
        if not clean:
            self._metadata.fill(uid, sight)
        whole = self._below.whole(uid, collection, self._limit())
        found = Contents(whole.modified, whole.items)
        if found.time:
            self._metadata.later([self._store(sight.epoch, uid, collection, found)])
        return found

    def _limit(self) -> int:
        try:
            return self._cache.limits.max_value
        except BackendError:
            return _USUAL_LIMIT

    def _store(self, epoch: int, uid: int, collection: str, copy: Contents) -> Store:
        value = contents.encode(copy)
        if len(value) > self._limit():
            # So that readers know, and do not fetch everything from SQL in vain each time.
            value = contents.encode(Contents(copy.time, None))
        return Store(copy_key(epoch, uid, collection), value, self._clock.seconds() + self._life)

    # -- writing

    @contextmanager
    def work(self, uid: int, collection: str, items: Sequence[str], *, create: bool) -> Iterator[Work]:
        """A unit of work on one collection: locked, changed, marked, committed, published, in this order."""
        copied = collection in self._kinds.write_through
        look = self._metadata.look(
            uid, (lambda epoch: [copy_key(epoch, uid, collection)]) if copied else None
        )
        marked = None
        try:
            with self._below.lock_for_write(uid, collection, items, create=create) as durable:
                noted = NotedWork(durable)
                yield noted
                if noted.wiped:
                    self._metadata.unmake(uid, look.sight, durable, noted.time)
                elif noted.time:
                    marked = self._metadata.mark(uid, collection, look.sight, durable.epoch)
        except Unconfirmed as error:
            raise self._state.declare_failed(error.epoch, error.cause) from error
        # Committed: nothing from here on has to succeed.
        if marked is None:
            return
        changes = [self._metadata.publication(uid, marked, collection, noted.entry, noted.time)]
        if copied and noted.entry is not None and noted.apply is not None:
            before = self._before(look.items, noted.collection_modified)
            if before is not None:
                after = Contents(noted.time, noted.apply(before))
                changes.append(self._store(marked.epoch, uid, collection, after))
        self._metadata.later(changes)

    def _before(self, found: Sequence[Item | None] | None, modified: int) -> Sequence[StoredItem] | None:
        """The collection's items before the write, if the copy that was read is of that time."""
        if not modified:
            return ()
        stored = found[0] if found else None
        copy = None if stored is None else contents.decode(stored.value)
        return copy.items if copy is not None and copy.time == modified else None


class NotedWork:
    """A unit of work of the store below (see Work), which notes what is to be told to the cache.

    `time` is that of the change, 0 while there is none; `wiped` says that it was that of everything; `entry` is the
    collection's new one; `apply` makes the items after the change of those before, where that is known here.
    """

    __slots__ = ("_work", "apply", "entry", "time", "wiped")

    def __init__(self, work: DurableWork) -> None:
        self._work = work
        self.time = 0
        self.wiped = False
        self.entry: int | None = None
        self.apply: Callable[[Sequence[StoredItem]], list[StoredItem]] | None = None

    @property
    def storage_modified(self) -> int:
        """The storage's time before this work (see Work)."""
        return self._work.storage_modified

    @property
    def collection_modified(self) -> int:
        """The collection's time before this work (see Work)."""
        return self._work.collection_modified

    def item_modified(self, item: str) -> int:
        """An item's time before this work (see Work)."""
        return self._work.item_modified(item)

    @property
    def quota_left(self) -> int | None:
        """Bytes left after the change (see Work)."""
        return self._work.quota_left

    def put(self, changes: Sequence[Change]) -> int:
        """Create or partially update items (see Work)."""
        time = self._note(self._work.put(changes))
        self.entry = time
        self.apply = lambda items: contents.changed(items, changes, time)
        return time

    def delete_item(self, item: str) -> int:
        """Delete one item (see Work)."""
        return self._delete((item,), self._work.delete_item(item))

    def delete_items(self, items: Sequence[str]) -> int:
        """Delete those of `items` that exist (see Work)."""
        return self._delete(items, self._work.delete_items(items))

    def _delete(self, items: Sequence[str], time: int) -> int:
        if self._note(time):
            self.entry = time
            self.apply = lambda before: contents.without(before, items, time)
        return time

    def delete_collection(self) -> int:
        """Delete the collection with its items (see Work)."""
        time = self._work.delete_collection()
        self._note(time)
        return time

    def delete_all(self) -> int:
        """Delete all collections and pending batches (see Work)."""
        time = self._note(self._work.delete_all())
        self.wiped = True
        return time

    def create_batch(self) -> str:
        """Open a batch (see Work)."""
        return self._work.create_batch()

    def append_to_batch(self, batch: str, changes: Sequence[Change]) -> None:
        """Stage items (see Work)."""
        self._work.append_to_batch(batch, changes)

    def commit_batch(self, batch: str, changes: Sequence[Change]) -> int:
        """Apply everything staged (see Work)."""
        self.entry = self._note(self._work.commit_batch(batch, changes))
        return self.time

    def _note(self, time: int) -> int:
        """Note the time of a change; one that found nothing to do answers with the time that was, and is none."""
        if time > self._work.storage_modified:
            self.time = time
        return self.time


def copy_key(epoch: int, uid: int, collection: str) -> bytes:
    """Where the copy of a collection that is written through is."""
    return b"w:%d:%d:%s" % (epoch, uid, collection.encode())
