"""The states of cache servers in the simulated database: read and changed like anything else there, with its faults."""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.cache.memcached.records import ServerRecord
from syncstore.testing.simulation.sql_work import Place


class SimulatedRecords:
    """One process's way to the states (see HomeRecords)."""

    name = "simulated"

    def __init__(self, place: Place) -> None:
        self._place = place

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """All at one moment (see RecordStore)."""
        database = self._place.database
        fault = database.read(self._place.process, "sql epoch")
        found = [ServerRecord(database.epoch(server)) for server in servers]
        database.answered(fault)
        return found

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """By compare-and-set (see RecordStore)."""
        database = self._place.database
        fault = database.arriving(database.read(self._place.process, "sql advance epoch", seen))
        done = database.advance_epoch(server, seen, to)
        database.answered(fault)
        return done

    def identity(self) -> str:
        """There is one database (see RecordStore)."""
        return "simulated"

    def group(self) -> str:
        """What the group in use says of itself (see HomeRecords)."""
        return self._place.database.group

    def change_group(self, seen: str, to: str) -> bool:
        """By compare-and-set (see HomeRecords)."""
        database = self._place.database
        if database.group != seen:
            return False
        database.group = to
        return True

    def close(self) -> None:
        """Nothing is open."""
