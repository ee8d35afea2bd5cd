"""What a storage is: the calls, their arguments, answers and errors. Every store keeps to this page.

Times are ticks of 10 ms (`syncstore.clock`); sizes are bytes of UTF-8. A storage promises (sync-api sections 3
and 18):

* Every write of one user gets a time of its own, greater than all before, whatever the clock did and whatever
  was deleted. Only a whole unit of work is ever visible.
* A read's values come from one snapshot: what has a time <= the answer's `modified` is in the answer, and what
  comes later gets a greater time.
* A missing item is `NotFound`; a missing collection reads as empty with time 0. A store that cannot answer
  raises `Unavailable`, one that could not lock in time raises `Conflict`; neither is ever "not found".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

import msgspec

from syncstore.bso import BSO, Change

Sort = Literal["newest", "oldest", "index"]


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page ended: the sort key and id of its last item. `key` is ticks, or the sortindex."""

    sort: Sort
    key: int | None
    id: str


class Query(msgspec.Struct, frozen=True):
    """Which items of a collection are wanted (sync-api section 7). `newer` and `older` are ticks, exclusive."""

    ids: tuple[str, ...] | None = None
    newer: int | None = None
    older: int | None = None
    sort: Sort = "newest"
    limit: int | None = None
    after: Position | None = None
    full: bool = False


class Page(msgspec.Struct, frozen=True):
    """One page of a collection. `modified` is the collection's time, `next` is set when more items match.

    `items` are BSOs when the query asked for full objects, else `ids` alone are filled.
    """

    modified: int
    items: Sequence[BSO] = ()
    ids: Sequence[str] = ()
    next: Position | None = None


class Totals(msgspec.Struct, frozen=True):
    """One number per collection, with the storage's time of the same snapshot."""

    modified: int
    collections: Mapping[str, int]


class Work(Protocol):
    """A unit of work: the user is locked for writing, nothing is visible to others before the block ends.

    Leaving the block without an exception commits, once; any exception rolls everything back. The three times
    are those before this work. One work makes at most one change: a second one raises RuntimeError.
    """

    @property
    def storage_modified(self) -> int:
        """The time of the user's storage as a whole, in ticks; 0 for an untouched user."""

    @property
    def collection_modified(self) -> int:
        """The time of the work's collection, in ticks; 0 when it does not exist."""

    def item_modified(self, item: str) -> int:
        """The time of an item named when the work was opened; 0 when it is missing or expired."""

    @property
    def quota_left(self) -> int | None:
        """Bytes left of the quota after this work's change; None without a quota."""

    def put(self, changes: Sequence[Change]) -> int:
        """Create or partially update items, their ids distinct; creates the collection; the write's time.

        Raises OverQuota before anything is written.
        """

    def delete_item(self, item: str) -> int:
        """Delete one item; the write's time. Raises NotFound when it is missing or expired."""

    def delete_items(self, items: Sequence[str]) -> int:
        """Delete those of `items` that exist and bump the collection's time, if there is a collection."""

    def delete_collection(self) -> int:
        """Delete the collection with its items; the new storage time, or the old one if it did not exist."""

    def delete_all(self) -> int:
        """Delete all collections and pending batches of the user; the write's time."""

    def create_batch(self) -> str:
        """Open a batch for the collection; its id, opaque and url-safe."""

    def append_to_batch(self, batch: str, changes: Sequence[Change]) -> None:
        """Stage items. Raises InvalidBatch for a batch that is not open for this user and collection."""

    def commit_batch(self, batch: str, changes: Sequence[Change]) -> int:
        """Apply everything staged, and `changes` after it, at one time, and close the batch; that time."""


class Storage(Protocol):
    """A store of users' collections."""

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection, empty ones included, in ticks."""

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items of every collection that has any."""

    def collection_usage(self, uid: int) -> Totals:
        """The payload bytes of the live items of every collection that has any."""

    def collection_modified(self, uid: int, collection: str) -> int:
        """The collection's time in ticks; 0 when it does not exist."""

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match, in the query's order; an empty page for a missing collection."""

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item. Raises NotFound."""

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> AbstractContextManager[Work]:
        """Open a unit of work on one collection, or with None on the whole storage.

        `items` are the ids that the work will ask about, change or delete; `create` must be set for a work that
        may create the collection. Waits up to `lock.timeout` and then raises Conflict.
        """

    def check(self) -> None:
        """Ask the store for a sign of life. Raises Unavailable."""

    def close(self) -> None:
        """Give back connections and threads."""
