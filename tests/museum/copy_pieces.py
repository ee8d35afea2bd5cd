"""Pieces about collections that are written through: copies of what SQL has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from syncstore.cache.api import Item
from syncstore.storage.api import Work
from syncstore.storage.durable import StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.sql_backed import NotedWork, SqlBacked, copy_key
from syncstore.testing.simulation.plan import WRITE_THROUGH, Mix
from tests.museum.piece import Piece, hurried, replaced, roomless


class CopiesBeforeCommit(SqlBacked):
    @contextmanager
    def work(self, uid: int, collection: str, items: Sequence[str], *, create: bool) -> Iterator[Work]:
        look = self._metadata.look(uid, lambda epoch: [copy_key(epoch, uid, collection)])
        with super().work(uid, collection, items, create=create) as noted:
            yield noted
            assert isinstance(noted, NotedWork)
            before = self._before(look.items, noted.collection_modified)
            if look.sight is not None and noted.apply is not None and before is not None:
                copy = Contents(noted.time, noted.apply(before))
                self._metadata.later([self._store(look.sight.epoch, uid, collection, copy)])


class AnyCopy(SqlBacked):
    """Believes a copy that is there."""

    def _copy(self, uid: int, collection: str) -> Contents | None:
        look = self._metadata.look(uid, lambda epoch: [copy_key(epoch, uid, collection)])
        stored = look.items[0] if look.sight is not None and look.items else None
        copy = None if stored is None else contents.decode(stored.value)
        return copy or super()._copy(uid, collection)


class NoRoomIsEmpty(SqlBacked):
    """What does not fit is not found again, and so is not there."""

    def _copy(self, uid: int, collection: str) -> Contents | None:
        copy = super()._copy(uid, collection)
        return Contents(copy.time, ()) if copy is not None and copy.items is None else copy


class WritesAreWhole(SqlBacked):
    """What is written while there is no copy becomes the copy."""

    def _before(self, found: Sequence[Item | None] | None, modified: int) -> Sequence[StoredItem] | None:
        before = super()._before(found, modified)
        return () if before is None else before


class TimesOfTheRecord(SqlBacked):
    """The times that preconditions are held against come from the record, not from the locked row."""

    @contextmanager
    def work(self, uid: int, collection: str, items: Sequence[str], *, create: bool) -> Iterator[Work]:
        sight = self._metadata.look(uid).sight
        entry = None if sight is None else sight.record.entry(collection)
        with super().work(uid, collection, items, create=create) as noted:
            if isinstance(entry, int):
                noted.__class__ = type("_Seen", (NotedWork,), {"__slots__": (), "collection_modified": entry})
            yield noted


_ONE: Final = (WRITE_THROUGH,)
_KINDS: Final = ("put", "put", "read", "news", "batch")
_LOSSES: Final = ("evict", "evict", "evict all of a user", "change later never")

PIECES: Final = (
    Piece(
        "copy-before-commit",
        "the 2012 layer, M4 and M5; model checking of copies",
        "A copy of the items is stored before the commit.",
        "Items of a write that was rolled back, under the time that another write was given.",
        "wrong items",
        replaced(CopiesBeforeCommit),
        Mix(_ONE, ("commit rolled back", "commit never"), kinds=_KINDS, clock_stands=True),
    ),
    Piece(
        "copy-of-any-time",
        "the 2012 layer, W3, W4 and W5; model checking of copies",
        "A copy is believed whatever its time.",
        "Items come back that were deleted, or changed; without end.",
        "stale",
        replaced(AnyCopy),
        Mix(_ONE, _LOSSES, kinds=_KINDS),
    ),
    Piece(
        "no-room-is-empty",
        "the 2012 layer, W1",
        "A collection that is too large for the cache is taken not to exist.",
        "A device finds nothing where SQL has everything.",
        "wrong items",
        replaced(NoRoomIsEmpty),
        Mix(_ONE, _LOSSES, kinds=_KINDS),
        roomless,
    ),
    Piece(
        "writes-are-the-whole",
        "the 2012 layer, W2",
        "What is written while there is no copy becomes the copy.",
        "Everything but the last upload is invisible.",
        "wrong items",
        replaced(WritesAreWhole),
        Mix(_ONE, _LOSSES, kinds=_KINDS),
    ),
    Piece(
        "preconditions-from-the-record",
        "the 2012 layer, L11",
        "A precondition is held against the time in the record, as it was before the row was locked.",
        "Two devices that both saw the same state both write: one overwrites the other unseen.",
        "a work saw what was not there",
        replaced(TimesOfTheRecord),
        Mix(_ONE, kinds=("put", "put", "read")),
        hurried,
    ),
)
