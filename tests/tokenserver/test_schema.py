"""The token server's migrations build its tables, alone or beside the storage's, in the order that tools expect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, inspect, text

from syncstore.storage.sql import migrate
from syncstore.storage.sql.migrate import STORAGE, TOKENSERVER
from syncstore.storage.sql.schema import metadata as storage_metadata
from syncstore.tokenserver.schema import metadata

USERS = "uid service email generation client_state created_at replaced_at nodeid keys_changed_at"
NODES = "id service node available current_load capacity downed backoff"


@pytest.fixture
def empty_url(database_url: str) -> Iterator[str]:
    clear(database_url)
    yield database_url
    clear(database_url)


def connect(url: str) -> Any:
    return create_engine(url, poolclass=NullPool).begin()


def clear(url: str) -> None:
    with connect(url) as connection:
        for table in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {table}"))


def test_the_tables_are_those_of_the_schema(empty_url: str) -> None:
    assert migrate.upgrade(empty_url, TOKENSERVER) is True
    with connect(empty_url) as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "tokenserver_version"}
        options = {"compare_type": True, "version_table": "tokenserver_version"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        rows = connection.execute(text("SELECT service, pattern FROM services")).all()
        assert [tuple(row) for row in rows] == [("sync-1.5", "{node}/1.5/{uid}")]


def test_storage_and_token_server_share_a_database(empty_url: str) -> None:
    assert (migrate.upgrade(empty_url), migrate.upgrade(empty_url, TOKENSERVER)) == (True, True)
    assert (migrate.upgrade(empty_url), migrate.upgrade(empty_url, TOKENSERVER)) == (False, False)
    assert (migrate.version(empty_url), migrate.version(empty_url, TOKENSERVER)) == (
        migrate.newest(STORAGE),
        migrate.newest(TOKENSERVER),
    )
    with connect(empty_url) as connection:
        versions = {"alembic_version", "tokenserver_version"}
        both = {*metadata.tables, *storage_metadata.tables, *versions}
        assert set(inspect(connection).get_table_names()) == both


@pytest.mark.parametrize(("table", "columns"), [("users", USERS), ("nodes", NODES)])
def test_the_columns_stand_in_the_order_that_tools_expect(empty_url: str, table: str, columns: str) -> None:
    migrate.upgrade(empty_url, TOKENSERVER)
    with connect(empty_url) as connection:
        assert " ".join(connection.execute(text(f"SELECT * FROM {table}")).keys()) == columns


def test_a_migration_that_was_killed_half_way_is_finished(empty_url: str) -> None:
    migrate.upgrade(empty_url, TOKENSERVER)
    with connect(empty_url) as connection:
        connection.execute(text("DELETE FROM tokenserver_version"))
        connection.execute(text("DROP TABLE admissions"))
    assert migrate.upgrade(empty_url, TOKENSERVER) is True
    with connect(empty_url) as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM services")).scalar() == 1


def test_an_uid_is_never_given_twice(empty_url: str) -> None:
    migrate.upgrade(empty_url, TOKENSERVER)
    insert = (
        "INSERT INTO users (service, email, generation, client_state, created_at) VALUES (1, 'a@b', 0, '', 0)"
    )
    seen = []
    with connect(empty_url) as connection:
        for _ in range(3):
            connection.execute(text(insert))
            seen.append(connection.execute(text("SELECT MAX(uid) FROM users")).scalar())
            connection.execute(text("DELETE FROM users"))
    assert seen == sorted(set(seen))
