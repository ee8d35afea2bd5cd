"""The states of cache servers in the simulated database: read and changed like anything else there, with its faults."""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.cache.memcached.records import GROUP, GroupRecord, ServerRecord
from syncstore.testing.simulation.sql_work import Place


class SimulatedRecords:
    """One process's way to the states (see HomeRecords). A `store` of another number has states of its own."""

    name = "simulated"

    def __init__(self, place: Place, store: int = 0) -> None:
        self._place = place
        self._store = store

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """All at one moment (see RecordStore)."""
        database = self._place.database
        fault = database.read(self._place.process, "sql epoch")
        found = [ServerRecord(database.epoch(server, self._store)) for server in servers]
        database.answered(fault)
        return found

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """By compare-and-set (see RecordStore)."""
        database = self._place.database
        fault = database.arriving(database.read(self._place.process, "sql advance epoch", seen))
        done = database.advance_epoch(server, seen, to, self._store)
        database.answered(fault)
        return done

    def identity(self) -> str:
        """There is one database (see RecordStore)."""
        return "simulated"

    def group(self) -> GroupRecord:
        """The group in use (see HomeRecords)."""
        return self.read_with_group(())[1]

    def read_with_group(self, servers: Sequence[str]) -> tuple[list[ServerRecord], GroupRecord]:
        """All of one moment (see HomeRecords)."""
        database = self._place.database
        fault = database.read(self._place.process, "sql epoch")
        found = [ServerRecord(database.epoch(server)) for server in servers]
        group = GroupRecord(database.epoch(GROUP), database.group)
        database.answered(fault)
        return found, group

    def change_group(self, seen: int, description: str) -> bool:
        """By compare-and-set (see HomeRecords)."""
        database = self._place.database
        fault = database.arriving(database.read(self._place.process, "sql change group", seen))
        done = database.advance_epoch(GROUP, seen, seen + 1)
        if done:
            database.group = description
        database.answered(fault)
        return done

    def close(self) -> None:
        """Nothing is open."""
