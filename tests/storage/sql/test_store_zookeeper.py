"""The SQL store keeps every rule of a storage when the locks before it are in ZooKeeper, too."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from syncstore.clock import Clock, SystemClock
from syncstore.locks.api import Locks
from syncstore.storage.api import Storage
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

pytestmark = pytest.mark.soak  # tests/locks has the locks themselves in every run

# test_store_zookeeper_soak.py has the other databases, and caches.
DATABASE = "mysql"


@pytest.fixture(scope="module")
def shared(one_database_url: str) -> Iterator[SqlStore]:
    """Connections and statements for all tests: a storage over them costs nothing."""
    migrate.upgrade(one_database_url)
    store = open_sql_store(one_database_url, SystemClock())
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
