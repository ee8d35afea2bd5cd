"""The layered storage keeps every rule of a storage: on each database, wherever its collections live."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.cache.memory import MemoryProvider
from syncstore.cache.states import AlwaysUp
from syncstore.clock import Clock, SystemClock
from syncstore.storage.api import Storage
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.sql import migrate
from syncstore.storage.sql.store import SqlStorage
from syncstore.testing.sql_store import SqlStore, open_sql_store
from syncstore.testing.storage_conformance import BATCH_LIFETIME, OpenStorage, StorageConformance

NAMES = ("col", "other", "bookmarks", "fresh", "never-written")
KINDS = {
    "uncached": Kinds(),
    "written through": Kinds(write_through=NAMES),
    "cached only": Kinds(cached_only=NAMES),
    "mixed": Kinds(cached_only=["other", "fresh"], write_through=["col"]),
}


@pytest.fixture(scope="module")
def shared(database_url: str) -> Iterator[SqlStore]:
    """Connections and statements for all tests: a storage over them costs nothing."""
    migrate.upgrade(database_url)
    store = open_sql_store(database_url, SystemClock())
    yield store
    store.database.close()


@pytest.mark.parametrize("kinds", KINDS)
class TestLayeredStorage(StorageConformance):
    @pytest.fixture
    def open_storage(self, shared: SqlStore, kinds: str) -> OpenStorage:
        caches: list[MemoryProvider] = []  # one for all storages of a test, which share their data

        def open_one(clock: Clock, quota: int | None = None) -> Storage:
            if not caches:
                caches.append(MemoryProvider(clock, max_value=8_000_000))
            below = SqlStorage(
                shared.database,
                shared.statements,
                shared.locks,
                clock,
                quota=quota,
                batch_lifetime=BATCH_LIFETIME,
            )
            return LayeredStorage(
                below, caches[0], AlwaysUp(), KINDS[kinds], clock, batch_lifetime=BATCH_LIFETIME
            )

        return open_one
