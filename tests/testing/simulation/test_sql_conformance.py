"""The simulated SQL is a storage, and one that a layer can rest on, by the same suites as the real ones."""

from __future__ import annotations

import pytest

from syncstore.clock import Clock
from syncstore.storage.durable import DurableStorage
from syncstore.testing.simulation.database import Database
from syncstore.testing.simulation.faults import Faults
from syncstore.testing.simulation.scheduler import Process
from syncstore.testing.simulation.sql_store import SimulatedStorage
from syncstore.testing.simulation.sql_work import Place, no_lock
from syncstore.testing.simulation.threads import Threads
from syncstore.testing.storage_conformance import BATCH_LIFETIME, StorageConformance
from syncstore.testing.storage_conformance.durable import DurableConformance
from syncstore.testing.storage_conformance.rooms import OpenStorage


class TestSimulatedStorage(StorageConformance, DurableConformance):
    @pytest.fixture
    def open_storage(self) -> OpenStorage:
        database = Database(Threads(), Faults(()))
        process = Process("conformance")

        def open_one(clock: Clock, quota: int | None = None) -> DurableStorage:
            place = Place(database, process, clock, no_lock, 10.0, quota, BATCH_LIFETIME)
            return SimulatedStorage(place)

        return open_one
