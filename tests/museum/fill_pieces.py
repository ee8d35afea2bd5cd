"""Pieces about fills: times read from SQL and stored in the cache, by readers who lock nobody out for long."""

from __future__ import annotations

from typing import Final, cast

import msgspec

from syncstore.cache.api import ABSENT, Item, Token
from syncstore.storage.durable import Times
from syncstore.storage.layered.metadata import Metadata, Sight
from syncstore.storage.layered.record import record_of
from syncstore.testing.simulation.memcached import SimulatedCache
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix
from syncstore.testing.simulation.sql_store import SimulatedStorage
from tests.museum.piece import Piece, replaced


class Filling(Metadata):
    """A fill whose last step is by itself."""

    def plant(self, uid: int, sight: Sight, times: Times) -> Times:
        """Store the times over what was seen."""
        record = record_of(times, self._kinds.cached_only)
        self._cache.change_later([self._put(sight.epoch, uid, record, sight.token)])
        return times


class PlainReads(Filling):
    def fill(self, uid: int, sight: Sight | None) -> Times:
        times = self._below.times(uid)
        return times if sight is None else self.plant(uid, sight, times)


class PlainReadsOverMarks(PlainReads):
    def fill(self, uid: int, sight: Sight | None) -> Times:
        if sight is not None and has_marks(sight):
            return super().fill(uid, sight)
        return Metadata.fill(self, uid, sight)


def has_marks(sight: Sight) -> bool:
    """Whether a writer is, or was, about to commit."""
    return any(isinstance(entry, bytes) for entry in sight.record.entries.values())


class NoFillOverMarks(Metadata):
    def fill(self, uid: int, sight: Sight | None) -> Times:
        return super().fill(uid, None if sight is not None and has_marks(sight) else sight)


class SnapshotFirst(SimulatedStorage):
    def settled_times(self, uid: int) -> Times | None:
        snapshot = self.times(uid)
        for _ in range(20):
            if super().settled_times(uid) is not None:
                return snapshot
            self._place.clock.sleep(0.05)
        return None


class NoRowNoWait(SimulatedStorage):
    def settled_times(self, uid: int) -> Times | None:
        times = self.times(uid)
        return super().settled_times(uid) if times.modified else times


class TokenLast(Filling):
    def fill(self, uid: int, sight: Sight | None) -> Times:
        times = None if sight is None else self._below.settled_times(uid)
        if times is None:
            return self._below.times(uid)
        sight = self.look(uid).sight
        return times if sight is None else self.plant(uid, sight, times)


class BlindFill(Filling):
    def plant(self, uid: int, sight: Sight, times: Times) -> Times:
        record = record_of(times, self._kinds.cached_only)
        self._cache.change_later([self._put(sight.epoch, uid, record, sight.token)._replace(expect=None)])
        return times

    def fill(self, uid: int, sight: Sight | None) -> Times:
        times = None if sight is None else self._below.settled_times(uid)
        return self._below.times(uid) if sight is None or times is None else self.plant(uid, sight, times)


class AddsRecords(SimulatedCache):
    """Reserves no place for a record, so that it is stored by `add`: where nothing is."""

    prefix = b"m:"

    def _get(self, connection: int, key: bytes, reserve: float) -> Item | None:
        if not key.startswith(self.prefix):
            return super()._get(connection, key, reserve)
        return super()._get(connection, key, 0.0) or Item(b"", cast("Token", ABSENT))


class ForgetsCachedOnly(Filling):
    def fill(self, uid: int, sight: Sight | None) -> Times:
        times = None if sight is None else self._below.settled_times(uid)
        if sight is None or times is None:
            return self._below.times(uid)
        self.plant(uid, sight, msgspec.structs.replace(times, kept={}))
        return times


_SQL: Final = (UNCACHED, WRITE_THROUGH)
_LOSSES: Final = ("evict", "evict", "evict all of a user", "restart", "flush")
_LATE: Final = ("change later late", "evict", "evict")

PIECES: Final = (
    Piece(
        "fill-by-plain-read",
        "model checking of the record, V1; the 2012 layer, M10",
        "A fill reads SQL without asking whether a writer is at work.",
        "A device goes on being told the time before another device's write, until the next one.",
        "stale",
        replaced(PlainReads),
        Mix(_SQL, _LOSSES),
    ),
    Piece(
        "mark-refilled-by-plain-read",
        "model checking, V9",
        "A mark that seems to be left over is replaced by what a plain read finds.",
        "The same: its writer was merely slow, and commits after the read.",
        "stale",
        replaced(PlainReadsOverMarks),
        Mix(_SQL, ("freeze", "change later never", "kill")),
    ),
    Piece(
        "mark-never-refilled",
        "model checking, V18; the 2012 layer, M3",
        "A mark is replaced by nobody but the next writer.",
        "After a writer's death each read of the user's times goes to SQL, perhaps for months.",
        "not healed",
        replaced(NoFillOverMarks),
        Mix(_SQL, ("kill", "commit never", "change later never")),
    ),
    Piece(
        "lock-and-values-in-one-statement",
        "model checking, V11, and PostgreSQL itself",
        "The statement that locks the row for a fill also reads the times, from a snapshot older than the lock.",
        "A time from before the write whose end the lock waited for.",
        "stale",
        replaced(SnapshotFirst),
        Mix(_SQL, _LOSSES),
    ),
    Piece(
        "fill-without-a-user-row",
        "model checking, V12",
        "A fill that finds no row of the user has nothing to lock, and stores that there is nothing.",
        "A new user's first upload is not there for his other devices.",
        "stale",
        replaced(NoRowNoWait),
        Mix(_SQL, _LOSSES),
        lambda plan: plan._replace(prelude=()),
    ),
    Piece(
        "token-taken-after-the-read",
        "model checking, V17",
        "A fill reads SQL first, and looks afterwards what it will be stored over.",
        "A write that came and went in between is covered by the times from before it.",
        "stale",
        replaced(TokenLast),
        Mix(_SQL, _LOSSES),
    ),
    Piece(
        "fill-by-blind-set",
        "the 2012 layer, M10 and W3; model checking, V7",
        "What a fill found is stored over whatever is there by then.",
        "A reader who stalled brings old times back, without end.",
        "stale",
        replaced(BlindFill),
        Mix(_SQL, ("change later late", "freeze")),
    ),
    Piece(
        "fill-by-add",
        "the 2012 layer, M10; model checking, V7b",
        "A fill is stored where nothing is, whatever was there in the meantime.",
        "The same, when the record was evicted once more before the late store arrived.",
        "stale",
        replaced(AddsRecords),
        Mix(_SQL, _LATE),
    ),
    Piece(
        "fill-by-add-of-a-plain-read",
        "the 2012 layer, M10; model checking, V7a",
        "Both: a plain read, stored where nothing is.",
        "The same, and sooner.",
        "stale",
        replaced(AddsRecords, PlainReads),
        Mix(_SQL, _LOSSES),
    ),
    Piece(
        "fill-forgets-cached-only",
        "the 2012 layer, M1",
        "A record that is rebuilt from SQL has no times of collections that live in the cache alone.",
        "Open tabs of other devices vanish from the list of collections, and a write that should be refused is not.",
        "stale or never committed",
        replaced(ForgetsCachedOnly),
        Mix((UNCACHED, CACHED_ONLY), _LOSSES),
    ),
)
