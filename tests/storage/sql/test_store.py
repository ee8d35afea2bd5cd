"""The SQL store keeps every rule of a storage, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.clock import Clock, SystemClock
from syncstore.storage.api import Storage
from syncstore.storage.sql.store import SqlStorage
from syncstore.testing.sql_store import SqlStore, open_sql_store
from syncstore.testing.storage_conformance import (
    BATCH_LIFETIME,
    DurableConformance,
    OpenStorage,
    StorageConformance,
)


@pytest.fixture(scope="module")
def shared(migrated_url: str) -> Iterator[SqlStore]:
    """Connections and statements for all tests: a storage over them costs nothing."""
    store = open_sql_store(migrated_url, SystemClock())
    yield store
    store.storage.close()


class TestSqlStorage(StorageConformance, DurableConformance):
    @pytest.fixture
    def open_storage(self, shared: SqlStore) -> OpenStorage:
        def open_one(clock: Clock, quota: int | None = None) -> Storage:
            return SqlStorage(
                shared.database,
                shared.statements,
                shared.locks,
                clock,
                quota=quota,
                batch_lifetime=BATCH_LIFETIME,
            )

        return open_one
