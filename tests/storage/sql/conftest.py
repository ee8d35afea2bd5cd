"""A migrated database of each kind, and stores on it that are closed when the test ends."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from syncstore.storage.sql import migrate
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.sql_store import SqlStore, open_sql_store


@pytest.fixture(scope="module")
def migrated_url(database_url: str) -> str:
    """The URL of a database with all tables."""
    migrate.upgrade(database_url)
    return database_url


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def open_store(clock: SteppableClock) -> Iterator[Callable[..., SqlStore]]:
    """`open_store(url, **options)`, on the test's clock."""
    opened: list[SqlStore] = []

    def open_and_note(url: str, **options: Any) -> SqlStore:
        opened.append(open_sql_store(url, options.pop("clock", clock), **options))
        return opened[-1]

    yield open_and_note
    for store in opened:
        store.database.close()


@pytest.fixture
def store(open_store: Callable[..., SqlStore], migrated_url: str) -> SqlStore:
    """A store on the module's database."""
    return open_store(migrated_url)


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    """Eight processes that begin with the imports done, and without our connections."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "psycopg", "MySQLdb", "syncstore.testing.sql_store", migrate.__name__]
    )
    with ProcessPoolExecutor(8, context) as pool:
        yield pool
