"""What the memcached layer asks of the store below it, beyond being a storage.

The store decides who is right, so all that must be decided is here: the row of the user, which every writer
locks, holds the high-water mark of time and the times of the collections whose items live in the cache alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from typing import Protocol

import msgspec

from syncstore.cache.memcached.records import HomeRecords
from syncstore.storage.api import Storage, Work

WIPE = ""
"""The name under which the time of the last wipe is kept among the times of cached-only collections."""


class Being(IntEnum):
    """What is known of a cached-only collection: it exists, a client deleted it, or the cache lost its items."""

    LIVE = 0
    DELETED = 1
    LOST = 2


class KeptTime(msgspec.Struct, frozen=True, array_like=True):
    """The time of a cached-only collection, in ticks, kept in the user's row.

    `items` and `bytes` are the totals of its last write, items that have expired since included; 0 unless LIVE.
    """

    time: int
    being: Being = Being.LIVE
    items: int = 0
    bytes: int = 0


class Times(msgspec.Struct, frozen=True):
    """All times of one user, from one snapshot, in ticks: of the storage, of the collections in SQL, and those
    kept for cached-only collections."""

    modified: int
    collections: Mapping[str, int]
    kept: Mapping[str, KeptTime]


class Sums(msgspec.Struct, frozen=True):
    """Live items and their bytes for every collection in SQL that has any, from one snapshot with the times."""

    modified: int
    items: Mapping[str, int]
    bytes: Mapping[str, int]
    kept: Mapping[str, KeptTime]


class StoredItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An item as it is stored. `modified` is in ticks; `expires` in milliseconds since the epoch, None for never."""

    id: str
    modified: int
    payload: str
    sortindex: int | None = None
    expires: int | None = None


class Whole(msgspec.Struct, frozen=True):
    """A collection with all its items, from one snapshot; those that have expired may be among them.

    `items` is None when there are too many. `modified` is 0 when the collection does not exist.
    """

    modified: int
    items: Sequence[StoredItem] | None


class DurableWork(Work, Protocol):
    """A unit of work of a durable store. Also the writer of kept times, for which it makes one change like any
    other: `draw_time`, then `keep_time` and `charge` as needed."""

    @property
    def kept(self) -> Mapping[str, KeptTime]:
        """The kept times of the user, as they were when the row was locked."""

    def draw_time(self, later_than: int = 0) -> int:
        """The time of this work's write: later than everything of this user before, and than `later_than`."""

    def keep_time(self, collection: str, kept: KeptTime) -> None:
        """Keep this time when the work commits. Only after a time was drawn, by `draw_time` or by a change."""

    def charge(self, more: int) -> None:
        """Raise OverQuota when `more` bytes would take the user over the quota; negative frees them.

        The bytes of kept times count; those of the collection that is written count as they were before.
        """

    def epoch(self, server: str) -> int:
        """The epoch of a cache server (see DurableStorage.records), read in a statement of its own, in this
        transaction, and so after the user's row was locked."""

    def confirm_lock(self) -> None:
        """Ask SQL something in this transaction: its answer says that the user's row was locked all the time until
        now. Raises Unavailable when the connection was lost, and the lock with it."""


class DurableStorage(Storage, Protocol):
    """A storage that a layer can rest on."""

    @property
    def records(self) -> HomeRecords:
        """The states of cache servers, shared by all processes; read from the primary, as of now."""

    def times(self, uid: int) -> Times:
        """All times, by a plain read that waits for nobody."""

    def settled_times(self, uid: int) -> Times | None:
        """All times, while no writer of the user is at work: read in a statement after a shared lock on the user's
        row was granted. None when a writer has the row, without waiting for it, and when there is no such user."""

    def sums(self, uid: int) -> Sums:
        """Counts and sizes of the live items."""

    def whole(self, uid: int, collection: str, most_bytes: int) -> Whole:
        """A collection with all items and their expiry, unless its payloads exceed `most_bytes`."""

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> AbstractContextManager[DurableWork]:
        """Open a unit of work (see Storage)."""

    def lock_for_times(self, uid: int, collection: str) -> AbstractContextManager[DurableWork]:
        """Open a unit of work that writes the kept time of `collection`, which has no rows of its own."""
