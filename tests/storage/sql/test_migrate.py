"""Migrations build exactly the tables that the store expects, once, however many processes begin together."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, inspect, make_url, text

from syncstore.errors import ConfigError, Unavailable
from syncstore.storage.durable import KeptTime, Times
from syncstore.storage.sql import migrate
from syncstore.storage.sql.schema import NEVER, STANDARD_COLLECTIONS, cache_servers, metadata
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.processes import free_port
from syncstore.testing.sql_store import open_sql_store

TABLES = {*metadata.tables, "alembic_version"}


@pytest.fixture
def empty_url(database_url: str) -> Iterator[str]:
    """A database without tables."""
    clear(database_url)
    yield database_url
    clear(database_url)


def connect(url: str) -> Any:
    return create_engine(url, poolclass=NullPool).begin()


def clear(url: str) -> None:
    with connect(url) as connection:
        for table in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {table}"))


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def check_whole(url: str) -> None:
    """The database is as the store needs it."""
    assert migrate.version(url) == migrate.newest()
    with connect(url) as connection:
        assert tables(connection) == TABLES
        names = connection.execute(text("SELECT collectionid, name FROM collections")).all()
        assert dict(map(tuple, names)) == STANDARD_COLLECTIONS


def test_the_tables_are_those_of_the_schema(empty_url: str) -> None:
    assert migrate.upgrade(empty_url) is True
    check_whole(empty_url)
    with connect(empty_url) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_what_alembic_does_not_compare_is_equal_too(empty_url: str) -> None:
    """Collations, partial indexes and the order of columns: against tables made from the schema itself."""
    migrate.upgrade(empty_url)
    migrated = described(empty_url)
    clear(empty_url)
    with connect(empty_url) as connection:
        metadata.create_all(connection)
    assert described(empty_url) == migrated


def described(url: str) -> object:
    with connect(url) as connection:
        found = inspect(connection)
        kind = connection.dialect.name
        if kind == "sqlite":
            rows = connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%'")
            )
            return {name: " ".join((sql or "").split()) for name, sql in rows if "autoindex" not in name}
        if kind == "postgresql":
            indexes = connection.execute(
                text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
            )
            columns = connection.execute(
                text(
                    "SELECT table_name, column_name, ordinal_position, data_type, collation_name, is_nullable"
                    " FROM information_schema.columns WHERE table_schema = 'public'"
                )
            )
            return [
                sorted(tuple(row) for row in rows if not str(row[0]).startswith("alembic"))
                for rows in (indexes, columns)
            ]
        texts = {
            name: connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1] for name in metadata.tables
        }
        assert all("utf8mb4" in one or "ascii" in one for one in texts.values())
        assert set(found.get_table_names()) >= set(texts)
        return {name: comparable(one) for name, one in texts.items()}


def comparable(create: str) -> object:
    """Columns and keys, and the engine; not the options that only a migration gives."""
    body, _, options = create.rpartition(")")
    return sorted(line.strip().rstrip(",") for line in body.splitlines()), "ENGINE=InnoDB" in options


def test_a_second_time_there_is_nothing_to_do(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    assert migrate.upgrade(empty_url) is False
    check_whole(empty_url)


def test_an_empty_database_has_no_version(empty_url: str) -> None:
    assert migrate.version(empty_url) is None


def test_eight_processes_migrate_at_once(empty_url: str, processes: ProcessPoolExecutor) -> None:
    did = list(processes.map(migrate.upgrade, [empty_url] * 8))
    assert did.count(True) == 1
    check_whole(empty_url)


@pytest.mark.parametrize("stage", [1, 3, 5, 7])
def test_a_migration_that_was_killed_half_way_is_finished(empty_url: str, stage: int) -> None:
    """As MariaDB leaves it, which commits each statement of DDL by itself; the others take everything back."""
    migrate.upgrade(empty_url)
    with connect(empty_url) as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        if stage < 7:
            connection.execute(text("DROP TABLE batch_upload_items"))
        if stage < 5:
            connection.execute(text("DROP TABLE batch_uploads"))
            connection.execute(text(drop_index(connection, "bso_ttl")))
        if stage < 3:
            connection.execute(text("DROP TABLE bso"))
            connection.execute(text("DELETE FROM collections"))
    assert migrate.upgrade(empty_url) is True
    check_whole(empty_url)
    with connect(empty_url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def drop_index(connection: Connection, name: str) -> str:
    return f"DROP INDEX {name} ON bso" if connection.dialect.name == "mysql" else f"DROP INDEX {name}"


def test_data_survive_a_migration_that_begins_anew(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    with connect(empty_url) as connection:
        connection.execute(text("INSERT INTO storage_users (userid, high_water) VALUES (7, 10)"))
        connection.execute(text("INSERT INTO collections (collectionid, name) VALUES (100, 'custom')"))
        connection.execute(text("DELETE FROM alembic_version"))
    migrate.upgrade(empty_url)
    with connect(empty_url) as connection:
        assert connection.execute(text("SELECT high_water FROM storage_users")).scalar() == 10
        assert connection.execute(text("SELECT COUNT(*) FROM collections")).scalar() == 14


@pytest.fixture
def as_of_0001(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """While the fixture's patches last, the first migration is all there is."""
    first = Path(migrate.scripts().get_revision("0001").path)
    (tmp_path / "versions").mkdir()
    shutil.copy(first, tmp_path / "versions")
    old = ScriptDirectory(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "scripts", lambda of=migrate.STORAGE: old)
        yield patch


def fill_0001(url: str, patches: pytest.MonkeyPatch) -> None:
    """A database of the first schema with a user, and nobody's patches after it."""
    assert migrate.upgrade(url) is True
    assert migrate.version(url) == "0001"
    with connect(url) as connection:
        assert "cache_servers" not in tables(connection)
        connection.execute(text("INSERT INTO storage_users (userid, high_water) VALUES (7, 170000000010)"))
        connection.execute(
            text(
                "INSERT INTO user_collections (userid, collection, last_modified, count, total_bytes)"
                " VALUES (7, 4, 170000000010, 0, 0)"
            )
        )
    patches.undo()


def check_user_of_0001(url: str) -> None:
    """The user is there, and can keep times now."""
    check_whole(url)
    with connect(url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store = open_sql_store(url, SteppableClock())
    before = Times(17000000001, {"history": 17000000001}, {})
    assert store.storage.settled_times(7) == before
    with store.storage.lock_for_times(7, "tabs") as work:
        kept = KeptTime(work.draw_time())
        work.keep_time("tabs", kept)
    assert store.storage.times(7) == Times(kept.time, before.collections, {"tabs": kept})
    assert store.storage.records.advance("a", 0, 8, "new") is True
    store.database.close()


def test_the_first_schema_is_brought_up_to_date_with_its_data(
    empty_url: str, as_of_0001: pytest.MonkeyPatch
) -> None:
    fill_0001(empty_url, as_of_0001)
    assert migrate.newest() != "0001"
    assert migrate.upgrade(empty_url) is True
    check_user_of_0001(empty_url)


@pytest.mark.parametrize("table", [False, True])
def test_the_step_from_the_first_schema_is_finished_if_it_was_killed(
    empty_url: str, as_of_0001: pytest.MonkeyPatch, *, table: bool
) -> None:
    fill_0001(empty_url, as_of_0001)
    with connect(empty_url) as connection:
        kind = "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"
        connection.execute(text(f"ALTER TABLE storage_users ADD COLUMN cached {kind}"))
        if table:
            cache_servers.create(connection)
    assert migrate.upgrade(empty_url) is True
    check_user_of_0001(empty_url)


def test_eight_processes_bring_the_first_schema_up_to_date_at_once(
    empty_url: str, as_of_0001: pytest.MonkeyPatch, processes: ProcessPoolExecutor
) -> None:
    fill_0001(empty_url, as_of_0001)
    did = list(processes.map(migrate.upgrade, [empty_url] * 8))
    assert did.count(True) == 1
    check_user_of_0001(empty_url)


def test_a_process_of_the_first_schema_writes_beside_one_of_this(empty_url: str) -> None:
    """Its INSERT and its locking SELECT do not know the new column."""
    migrate.upgrade(empty_url)
    with connect(empty_url) as connection:
        connection.execute(text("INSERT INTO storage_users (userid, high_water) VALUES (7, 170000000010)"))
    store = open_sql_store(empty_url, SteppableClock())
    assert store.storage.times(7) == Times(17000000001, {}, {})
    store.database.close()


def test_a_newer_schema_is_refused(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    with connect(empty_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="9999"):
        migrate.upgrade(empty_url)
    assert migrate.version(empty_url) == "9999"


@pytest.mark.parametrize("ask", [migrate.version, migrate.upgrade])
def test_an_unreachable_database_is_unavailable(database_url: str, tmp_path: Path, ask: Any) -> None:
    if database_url.startswith("sqlite"):
        (tmp_path / "file").write_text("no folder")
        url = f"sqlite:///{tmp_path / 'file' / 'sync.db'}"
    else:
        url = make_url(database_url).set(port=free_port()).render_as_string(hide_password=False)
    with pytest.raises(Unavailable):
        ask(url)


@pytest.mark.parametrize("ask", [migrate.version, migrate.upgrade])
def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path, ask: Any) -> None:
    (tmp_path / "sync.db").write_text("a letter to grandmother" * 100)
    with pytest.raises(Unavailable):
        ask(f"sqlite:///{tmp_path / 'sync.db'}")


def test_the_folder_of_an_sqlite_database_is_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'var' / 'deep' / 'sync.db'}"
    assert migrate.upgrade(url) is True
    assert (tmp_path / "var" / "deep").stat().st_mode & 0o077 == 0


def test_a_process_that_migrates_for_too_long_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_LOCK_SECONDS", 0.2)
    url = f"sqlite:///{tmp_path / 'sync.db'}"
    with migrate._alone(url), pytest.raises(Unavailable):
        migrate.upgrade(url)
    assert migrate.upgrade(url) is True


def test_the_migration_agrees_with_the_schema_about_never(tmp_path: Path) -> None:
    path = tmp_path / "sync.db"
    migrate.upgrade(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'bso_ttl'").fetchone()
    connection.close()
    assert str(NEVER) in sql
