"""`syncstore migrate` and `syncstore purge`."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncstore.app import make_app
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.command import Folder

SECRET = "a-secret-of-the-tests-of-commands"


def sql(folder: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "var" / "sync.db")) as connection, connection:
        return connection.execute(statement).fetchall()


def test_migrate_says_what_it_did(folder: Folder) -> None:
    first, second = folder.run("migrate"), folder.run("migrate")
    assert first.stdout == f"sqlite:///{folder.path}/var/sync.db is now at schema 0003\n"
    assert second.stdout == f"sqlite:///{folder.path}/var/sync.db is already at schema 0003\n"
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.parametrize("command", [("serve",), ("purge", "--once")])
def test_a_database_of_another_schema_is_refused(folder: Folder, command: tuple[str, ...]) -> None:
    folder.run("migrate")
    sql(folder.path, "UPDATE alembic_version SET version_num = '0000'")
    result = folder.run(*command)
    assert result.returncode == 2
    assert "run `syncstore migrate`, or set migrate = auto" in result.stderr
    assert result.stderr.count("\n") == 1


def test_migrate_leaves_the_tables_of_another_server_alone(folder: Folder) -> None:
    folder.run("migrate")
    sql(folder.path, "DROP TABLE alembic_version")
    result = folder.run("migrate")
    assert result.returncode == 2
    assert "tables that syncstore did not make" in result.stderr


def test_purge_once_deletes_what_has_expired(folder: Folder) -> None:
    app = make_app({"auth.secrets": SECRET}, folder.path)
    user = SyncClient(7, SECRET, InProcess(app))
    user.post("/storage/tabs", [{"id": "gone", "payload": "x", "ttl": 0}, {"id": "kept", "payload": "y"}])
    app.close()
    kept = folder.run("purge", "--once")
    assert kept.stdout.startswith("purged 0 items and 0 batches, looked at 1 users"), "the grace of a day"
    purged = folder.run("purge", "--once", SYNCSTORE_PURGE__GRACE="0")
    assert purged.stdout.startswith("purged 1 items")
    assert (purged.returncode, purged.stderr) == (0, "")
    assert sql(folder.path, "SELECT id FROM bso") == [("kept",)]


def test_purge_goes_on_until_it_is_stopped(folder: Folder) -> None:
    process = folder.start("purge", "--interval", "1")
    assert process.stdout is not None
    try:
        passes = [line for line in (process.stdout.readline() for _ in range(3)) if "purged" in line]
        assert len(passes) == 2, "after the line of the migration"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 130
        assert "Traceback" not in process.stdout.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
