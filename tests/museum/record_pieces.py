"""Pieces about the metadata record: what stands in it, and what is told from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec

from syncstore.cache.api import BackendError, Store
from syncstore.errors import Unavailable
from syncstore.storage.api import Totals, Work
from syncstore.storage.durable import WIPE, Being, DurableWork, KeptTime
from syncstore.storage.layered.metadata import Look, Marked, Metadata, Sight
from syncstore.storage.layered.record import Entry, Record, record
from syncstore.storage.layered.sql_backed import NotedWork
from syncstore.storage.layered.store import LayeredStorage
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix
from tests.museum.piece import Piece, calm, replaced


class Reading(Metadata):
    """Records are read another way."""

    def look(self, uid: int, more: Callable[[int], Sequence[bytes]] | None = None) -> Look:
        look = super().look(uid, more)
        if look.sight is None:
            return look
        return look._replace(sight=look.sight._replace(record=self.read(look.sight.record)))

    def read(self, known: Record) -> Record:
        """What is made of a record."""
        return known


class UnlistedIsMissing(Reading):
    def read(self, known: Record) -> Record:
        return msgspec.structs.replace(known, complete=True) if known.told else known


class GreatestEntry(Reading):
    def read(self, known: Record) -> Record:
        times = [entry for entry in known.entries.values() if isinstance(entry, int)]
        return record(complete=known.complete, storage=max(times, default=0), entries=known.entries)


class StorageWhileDirty(LayeredStorage):
    def collection_times(self, uid: int) -> Totals:
        sight = self._metadata.look(uid).sight
        if sight is None or sight.record.storage is None or sight.record.times() is not None:
            return super().collection_times(uid)
        return Totals(sight.record.storage, self._existing(self._metadata.fill(uid, sight)))


class GapsFromSql(LayeredStorage):
    def collection_times(self, uid: int) -> Totals:
        sight = self._metadata.look(uid).sight
        if sight is None or not sight.record.complete or sight.record.times() is not None:
            return super().collection_times(uid)
        times = self._metadata.fill(uid, sight)
        known = {name: entry for name, entry in sight.record.entries.items() if isinstance(entry, int)}
        return Totals(times.modified, self._existing(times) | known)


class StorageIsLast(Metadata):
    def publication(self, uid: int, marked: Marked, collection: str, entry: Entry | None, time: int) -> Store:
        after = marked.record.published(collection, entry, time)
        after = msgspec.structs.replace(after, ahead=time - after.base)
        return self._put(marked.epoch, uid, after, marked.token)


class WipeForgetsFirst(LayeredStorage):
    @contextmanager
    def _wipe(self, uid: int) -> Iterator[Work]:
        sight = self._metadata.look(uid).sight
        if sight is not None:
            self._metadata.forget(sight.epoch, uid)
        with super()._wipe(uid) as work:
            yield work


class WipeLeavesTheRecord(Metadata):
    def unmake(self, uid: int, sight: Sight | None, durable: DurableWork, time: int) -> None:
        if self._kinds.cached_only:
            durable.keep_time(WIPE, KeptTime(time, Being.DELETED))


class WipePublishesAll(LayeredStorage):
    """Marks every entry, and when one of its marks still stands, says afterwards that nothing exists."""

    @contextmanager
    def _wipe(self, uid: int) -> Iterator[Work]:
        metadata = self._metadata
        sight = metadata.look(uid).sight
        if sight is None or not sight.record.told:
            with super()._wipe(uid) as work:
                yield work
            return
        mark = b"wiped%d" % self._below.times(uid).modified
        names = sight.record.entries
        with self._below.lock_for_write(uid, None) as durable:
            noted = NotedWork(durable)
            yield noted
            seen = metadata.look(uid).sight
            if seen is None:
                raise Unavailable("no mark could be placed")
            marked = msgspec.structs.replace(seen.record, told={})
            for name in {**names, **seen.record.entries}:
                marked = marked.marked(name, mark)
            put = metadata._put(seen.epoch, uid, marked, seen.token)
            try:
                self._cache.store(put.key, put.value, put.expires, expect=put.expect)
            except BackendError as error:
                raise Unavailable("no mark could be placed") from error
            durable.keep_time(WIPE, KeptTime(noted.time, Being.DELETED))
        seen = metadata.look(uid).sight
        if seen is not None and mark in seen.record.entries.values():
            nothing = record(complete=True, storage=noted.time, entries={})
            metadata.later([metadata._put(seen.epoch, uid, nothing, seen.token)])


_TIMES: Final = (*("put",) * 3, *("times",) * 3, "news", "modified")
_ALL: Final = (UNCACHED, WRITE_THROUGH, CACHED_ONLY)
_SQL: Final = (UNCACHED, WRITE_THROUGH)
_LOSSES: Final = ("evict", "evict", "evict all of a user", "flush")
_LEFT_DIRTY: Final = ("change later never", "fetch slow", "fetch slow")

PIECES: Final = (
    Piece(
        "unlisted-is-missing",
        "model checking of the record, V19",
        "A collection that an incomplete record does not list is taken not to exist.",
        "Right after a write to one collection, all others are gone for everybody.",
        "stale",
        replaced(UnlistedIsMissing),
        Mix(_SQL, _LOSSES),
    ),
    Piece(
        "storage-time-is-the-last-commit",
        "model checking, V23",
        "The storage's time is set to that of whoever publishes, not to the greatest.",
        "Nothing here.",
        "",
        replaced(StorageIsLast),
        Mix(_ALL, kinds=_TIMES, most_clients=6),
        harmless="Who publishes stores over the state that his own mark made, so nobody marked after him, and his "
        "time is the greatest.",
    ),
    Piece(
        "storage-time-is-the-greatest-entry",
        "the 2012 layer, M12; model checking, V24 and V24e",
        "The storage's time is computed from the collections that are left.",
        "Deleting the newest collection turns the clock back: devices skip what was written since.",
        "stale",
        replaced(GreatestEntry),
        Mix(_ALL, _LOSSES),
    ),
    Piece(
        "storage-time-while-dirty",
        "model checking, V24b",
        "The storage's time is told from a record in which a writer is about to change it.",
        "An answer has a collection's new time under the storage's old one.",
        "times of two states",
        replaced(StorageWhileDirty),
        Mix(_SQL, _LOSSES, kinds=_TIMES),
    ),
    Piece(
        "gaps-filled-from-sql",
        "model checking, V24c",
        "What is dirty in a record is asked of SQL, the rest of the answer is the record's.",
        "The answer says that all is known up to a time, and lacks a change from before: it stays hidden.",
        "times of two states",
        replaced(GapsFromSql),
        Mix(_SQL, _LEFT_DIRTY, 6, 5, 4, ("put", "put", "times"), clock_stands=True),
    ),
    Piece(
        "wipe-forgets-before-the-lock",
        "the 2012 layer, M11; model checking, V28b",
        "A wipe removes the record first, and waits for the user's row afterwards.",
        "Wiped collections stay listed, with times from before the wipe.",
        "stale",
        replaced(WipeForgetsFirst, WipeLeavesTheRecord),
        Mix(_SQL, _LOSSES, kinds=("wipe", "put", "times", "times", "modified")),
        calm,
    ),
    Piece(
        "wipe-publishes-all",
        "model checking, V33, found in a draft of the protocol",
        "A wipe that finds one of its marks says of all collections that they are gone.",
        "What another device has just uploaded does not exist for the others.",
        "stale",
        replaced(WipePublishesAll),
        Mix(_SQL, _LOSSES, kinds=("wipe", "put", "put", "times", "modified")),
        calm,
    ),
)
