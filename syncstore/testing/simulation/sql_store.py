"""The simulated SQL store of one process: reads as single snapshots, and the opening of units of work."""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.bso import BSO
from syncstore.errors import NotFound
from syncstore.storage.api import Page, Query, Totals
from syncstore.storage.durable import Sums, Times, Whole
from syncstore.testing.simulation import sql_state
from syncstore.testing.simulation.sql_records import SimulatedRecords
from syncstore.testing.simulation.sql_state import UserState
from syncstore.testing.simulation.sql_work import Place, SimulatedWork


class SimulatedStorage:
    """A storage.durable.DurableStorage in memory, shared with all others over the same database."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.records = SimulatedRecords(place)

    # -- a storage

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection (see Storage)."""
        state = self._read(uid, "sql collection times")
        return Totals(state.mark, _times(state))

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items (see Storage)."""
        sums = self.sums(uid)
        return Totals(sums.modified, sums.items)

    def collection_usage(self, uid: int) -> Totals:
        """The bytes of live items (see Storage)."""
        sums = self.sums(uid)
        return Totals(sums.modified, sums.bytes)

    def collection_modified(self, uid: int, collection: str) -> int:
        """The collection's time (see Storage)."""
        return self._read(uid, "sql collection modified", collection).modified(collection)

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        state = self._read(uid, "sql find", collection)
        if collection not in state.collections:
            return Page(0)
        now = self._place.clock.now_ms()
        return sql_state.page(state.modified(collection), state.items(collection).values(), query, now)

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        state = self._read(uid, "sql item", (collection, item))
        found = state.items(collection).get(item)
        if found is None or not sql_state.live([found], self._place.clock.now_ms()):
            raise NotFound(item)
        return sql_state.bso(found)

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> SimulatedWork:
        """Open a unit of work (see Storage)."""
        return SimulatedWork(self._place, uid, collection, items, create=create, rows=True)

    def check(self) -> None:
        """A sign of life (see Storage)."""
        self._place.database.read(self._place.process, "sql ping")

    def close(self) -> None:
        """Nothing is open."""

    # -- what a layer asks for

    def times(self, uid: int) -> Times:
        """All times (see DurableStorage)."""
        return _all_times(self._read(uid, "sql times"))

    def settled_times(self, uid: int) -> Times | None:
        """All times, while no writer is at work (see DurableStorage)."""
        database = self._place.database
        at = database.share(self._place.process, uid)
        if at is None:
            return None
        database.statement(at, "sql times while locked")
        state = at.row.state
        database.release(at)
        return _all_times(state)

    def sums(self, uid: int) -> Sums:
        """Counts and sizes of live items (see DurableStorage)."""
        state = self._read(uid, "sql sums")
        now = self._place.clock.now_ms()
        found = {
            name: live
            for name, collection in state.collections.items()
            if (live := sql_state.live(collection.items.values(), now))
        }
        return Sums(
            state.mark,
            {name: len(live) for name, live in found.items()},
            {name: sql_state.size(live) for name, live in found.items()},
            state.kept,
        )

    def whole(self, uid: int, collection: str, most_bytes: int) -> Whole:
        """A collection with all its items (see DurableStorage)."""
        state = self._read(uid, "sql whole", collection)
        items = list(state.items(collection).values())
        return Whole(state.modified(collection), None if sql_state.size(items) > most_bytes else items)

    def lock_for_times(self, uid: int, collection: str) -> SimulatedWork:
        """Open a unit of work on a kept time (see DurableStorage)."""
        return SimulatedWork(self._place, uid, collection, (), create=False, rows=False)

    # -- inside

    def _read(self, uid: int, what: str, detail: object = "") -> UserState:
        database = self._place.database
        fault = database.read(self._place.process, what, detail)
        state = database.row(uid).state
        database.answered(fault)
        return state


def _times(state: UserState) -> dict[str, int]:
    return {name: collection.modified for name, collection in state.collections.items()}


def _all_times(state: UserState) -> Times:
    return Times(state.mark, _times(state), state.kept)
