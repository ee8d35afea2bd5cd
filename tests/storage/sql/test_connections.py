"""A process keeps no more connections than it may, before and after a restart of the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from syncstore.errors import Conflict
from syncstore.storage.sql.connections import Connections, PoolSizes
from syncstore.testing.sql_store import SqlStore

OpenStore = Callable[..., SqlStore]


def connections_of(open_store: OpenStore, url: str, sizes: PoolSizes) -> Connections:
    return open_store(url, pool=sizes).database.connections


def answers(store: SqlStore, connection: Any) -> bool:
    """Whether a driver's connection is still open."""
    dialect = store.database.dialect
    try:
        return dialect.fetch(connection, "SELECT 1", ()) == [(1,)]
    except dialect.error:
        return False


def test_after_a_burst_no_more_are_kept_than_the_size(migrated_url: str, open_store: OpenStore) -> None:
    store = open_store(migrated_url, pool=PoolSizes(3, 5, 0.1))
    connections = store.database.connections
    taken = [connections.take() for _ in range(8)]
    raw = [connection.dbapi_connection for connection in taken]
    for connection in taken:
        connections.give(connection)
    assert sum(answers(store, connection) for connection in raw) == 3
    again = [connections.take() for _ in range(8)]
    assert all(answers(store, connection.dbapi_connection) for connection in again)
    for connection in again:
        connections.give(connection)


def test_those_in_use_count_when_the_others_were_thrown_away(
    migrated_url: str, open_store: OpenStore
) -> None:
    connections = connections_of(open_store, migrated_url, PoolSizes(2, 1, 0.1))
    in_use, dead = connections.take(), connections.take()
    connections.discard_all(dead)
    more = [connections.take(), connections.take()]
    with pytest.raises(Conflict):
        connections.take()
    for connection in (in_use, *more):
        connections.give(connection)


def test_who_waits_gets_one_that_was_in_use_when_the_others_were_thrown_away(
    migrated_url: str, open_store: OpenStore
) -> None:
    connections = connections_of(open_store, migrated_url, PoolSizes(2, 0, 20.0))
    in_use, dead = connections.take(), connections.take()
    connections.discard_all(dead)
    more = connections.take()
    waits = threading.Event()
    create = connections._engine.raw_connection

    def tell_and_wait() -> Any:
        waits.set()
        return create()

    connections._engine.raw_connection = tell_and_wait  # type: ignore[method-assign]  # to know when it waits
    with ThreadPoolExecutor(1) as elsewhere:
        waiting = elsewhere.submit(connections.take)
        assert waits.wait(20)
        connections.give(in_use)
        connections.give(waiting.result(10))
    connections.give(more)


def test_idle_ones_that_died_unseen_are_replaced_when_they_are_taken(
    migrated_url: str, open_store: OpenStore
) -> None:
    store = open_store(migrated_url, pool=PoolSizes(2, 0, 0.1))
    connections = store.database.connections
    dead, idle = connections.take(), connections.take()
    raw = idle.dbapi_connection
    idle.close()  # to the pool, as for somebody who waits
    connections.discard_all(dead)
    fresh = connections.take()
    assert fresh.dbapi_connection is not raw
    assert not answers(store, raw)
    assert answers(store, fresh.dbapi_connection)
    connections.give(fresh)
