"""Every storage keeps every rule when the locks before it are in ZooKeeper, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from syncstore.cache.memory import MemoryProvider
from syncstore.cache.states import AlwaysUp
from syncstore.clock import Clock, SystemClock
from syncstore.locks.api import Locks
from syncstore.storage.api import Storage
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.sql import migrate
from syncstore.storage.sql.store import SqlStorage
from syncstore.testing.sql_store import SqlStore, open_sql_store
from syncstore.testing.storage_conformance import (
    BATCH_LIFETIME,
    DurableConformance,
    OpenStorage,
    StorageConformance,
)
from syncstore.testing.zookeeper_locks import open_zookeeper_locks
from syncstore.testing.zookeeper_servers import ZooKeeperServer

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def shared(database_url: str) -> Iterator[SqlStore]:
    """Connections and statements for all tests: a storage over them costs nothing."""
    migrate.upgrade(database_url)
    store = open_sql_store(database_url, SystemClock())
    yield store
    store.storage.close()


@pytest.fixture(scope="module")
def locks(zookeeper_server: ZooKeeperServer) -> Iterator[Locks]:
    """A session for all tests."""
    with open_zookeeper_locks(zookeeper_server.hosts, chroot=f"/{uuid4().hex}") as opened:
        yield opened


class TestSqlStorage(StorageConformance, DurableConformance):
    @pytest.fixture
    def open_storage(self, shared: SqlStore, locks: Locks) -> OpenStorage:
        def open_one(clock: Clock, quota: int | None = None) -> Storage:
            return open_below(shared, locks, clock, quota)

        return open_one


def open_below(shared: SqlStore, locks: Locks, clock: Clock, quota: int | None) -> SqlStorage:
    return SqlStorage(
        shared.database, shared.statements, locks, clock, quota=quota, batch_lifetime=BATCH_LIFETIME
    )


NAMES = ("col", "other", "bookmarks", "fresh", "never-written")
KINDS = {
    "uncached": Kinds(),
    "written through": Kinds(write_through=NAMES),
    "cached only": Kinds(cached_only=NAMES),
}


@pytest.mark.parametrize("kinds", KINDS)
class TestLayeredStorage(StorageConformance):
    @pytest.fixture
    def open_storage(self, shared: SqlStore, locks: Locks, kinds: str) -> OpenStorage:
        caches: list[MemoryProvider] = []  # one for all storages of a test, which share their data

        def open_one(clock: Clock, quota: int | None = None) -> Storage:
            if not caches:
                caches.append(MemoryProvider(clock, max_value=8_000_000))
            below = open_below(shared, locks, clock, quota)
            return LayeredStorage(
                below, caches[0], AlwaysUp(), KINDS[kinds], clock, batch_lifetime=BATCH_LIFETIME
            )

        return open_one
