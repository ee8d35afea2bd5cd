"""What must be fast is answered from the index made for it, as each database's planner tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine

from syncstore.bso import Change
from syncstore.storage.api import Query, Sort
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.listings import Listings, listing_parameters
from syncstore.testing.clocks import START_MS, SteppableClock
from syncstore.testing.sql_store import SqlStore, open_sql_store

USERS = 4
ITEMS = 900
SORTS: tuple[Sort, ...] = ("newest", "oldest", "index")


@pytest.fixture(scope="module")
def filled(migrated_url: str) -> Iterator[SqlStore]:
    """A few users with many items, some of which have a ttl, and statistics about them."""
    clock = SteppableClock()
    store = open_sql_store(migrated_url, clock)
    for uid in range(1, USERS + 1):
        for collection in ("history", "bookmarks"):
            for start in range(0, ITEMS, 300):
                ids = [f"{i:05}" for i in range(start, start + 300)]
                with store.storage.lock_for_write(uid, collection, ids, create=True) as work:
                    work.put([Change(id_, "x" * 200, 1, 5 if id_.endswith("7") else None) for id_ in ids])
    name = "ANALYZE TABLE bso, storage_users, user_collections" if "mysql" in migrated_url else "ANALYZE"
    with create_engine(
        migrated_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    ).connect() as connection:
        connection.exec_driver_sql(name)
    yield store
    store.database.close()


def plan(store: SqlStore, statement: Statement, values: Mapping[str, object], *settings: str) -> str:
    """The plan in the words of the database."""
    dialect = store.database.dialect
    connection = store.database.connections.take()
    try:
        for setting in settings:
            dialect.execute(connection.dbapi_connection, setting, ())
        explain = "EXPLAIN QUERY PLAN " if dialect.name == "sqlite" else "EXPLAIN "
        rows: Any = dialect.fetch(
            connection.dbapi_connection, explain + statement.sql, statement.bind(values)
        )
        if dialect.name == "mysql":
            rows = [(row[5], row[-1]) for row in rows]  # the key that is used, and the remarks
        return "\n".join(" | ".join(map(str, row)) for row in rows)
    finally:
        store.database.connections.discard(connection)


def listing(store: SqlStore, query: Query, *settings: str) -> str:
    values = listing_parameters(2, 4, query, START_MS)
    return plan(store, Listings(store.database.dialect).statement(query), values, *settings)


SORTED = ("TEMP B-TREE FOR ORDER", "Sort", "filesort")


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("sort", ["newest", "oldest"])
def test_pages_in_order_of_time_come_from_the_index(filled: SqlStore, sort: Sort, *, full: bool) -> None:
    page = filled.storage.find(2, "history", Query(sort=sort, limit=10))
    for query in (
        Query(sort=sort, limit=10, full=full),
        Query(sort=sort, limit=10, after=page.next, full=full),
        Query(sort=sort, limit=10, newer=1, full=full),
    ):
        told = listing(filled, query)
        assert "bso_modified" in told, told
        assert not any(word in told for word in SORTED), told


def test_a_few_ids_are_looked_up_by_the_primary_key(filled: SqlStore) -> None:
    told = listing(filled, Query(ids=("00001", "00002", "00003"), full=True))
    assert "bso_modified" not in told, told
    assert any(word in told for word in ("sqlite_autoindex_bso", "PRIMARY", "bso_pkey")), told


def test_no_listing_is_put_together_in_parallel(filled: SqlStore) -> None:
    """The collection's row comes first, which parts that are made side by side would not promise."""
    if filled.database.dialect.name != "postgresql":
        pytest.skip("of the three only PostgreSQL does such a thing")
    eager = [
        f"SET {name} = 0"
        for name in (
            "parallel_setup_cost",
            "parallel_tuple_cost",
            "min_parallel_table_scan_size",
            "min_parallel_index_scan_size",
        )
    ]
    for sort in SORTS:
        assert "Parallel Append" not in listing(filled, Query(sort=sort, full=True), *eager)


@pytest.mark.parametrize("name", ["collection_totals", "expired_bytes", "expired_by_collection"])
def test_expired_items_of_a_user_are_found_by_the_index_on_ttl(filled: SqlStore, name: str) -> None:
    statement: Statement = getattr(filled.statements, name)
    told = plan(filled, statement, {"uid": 2, "now": START_MS - 10_000})
    assert "bso_ttl" in told, told


def test_the_purge_finds_users_by_the_index_on_ttl(filled: SqlStore) -> None:
    values = {"after": 0, "uid": USERS, "latest": START_MS - 10_000}
    told = plan(filled, filled.statements.users_with_expired, values)
    assert "bso_ttl" in told, told


def test_a_whole_collection_is_read_by_an_index(filled: SqlStore) -> None:
    listings = Listings(filled.database.dialect)
    told = plan(filled, listings.whole, {"uid": 2, "collection": 4, "most": 10**9})
    assert not any(word in told for word in ("Seq Scan on bso", "SCAN bso", *SORTED)), told
    assert any(word in told for word in ("INDEX bso_modified", "bso_pkey", "PRIMARY")), told


def test_a_collection_that_is_too_large_is_left_before_its_items_are_looked_at(filled: SqlStore) -> None:
    told = plan(filled, Listings(filled.database.dialect).whole, {"uid": 2, "collection": 4, "most": 1})
    if filled.database.dialect.name == "mysql":
        assert "Impossible WHERE" in told, told  # said once the row of the collection was read
    else:
        collection, items = told.rfind("user_collections"), told.rfind("bso")
        assert 0 < collection < items, told  # the outer loop, and the inner one
