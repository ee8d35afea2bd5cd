"""SQLite without room to write: 503 for writes, reads go on, and all is well again when there is room."""

from __future__ import annotations

import random
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncstore.app import make_app
from syncstore.storage.sql.dialects.sqlite import SqliteDialect
from syncstore.testing.client import SyncClient
from syncstore.testing.service import SECRET, SyncServer
from syncstore.testing.transports import InProcess, Live

PAYLOAD = "x" * 50_000
NEVER_FULL = 200  # writes after which the disk should have been full


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SyncServer]:
    with SyncServer(f"sqlite:///{tmp_path / 'sync.db'}", workers=1) as running:
        yield running


def test_a_file_that_cannot_grow_is_503_until_it_can(server: SyncServer, tmp_path: Path) -> None:
    """A limit of the kernel on the worker's files stands for the full disk: the write itself fails, in the log."""
    live = Live(server.url)
    sync = SyncClient(random.randrange(1, 2**31), SECRET, live)
    sync.put("/storage/col/first", {"payload": PAYLOAD})
    (worker,) = server.workers
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    most = max(path.stat().st_size for path in tmp_path.iterdir()) + 300_000

    resource.prlimit(worker, resource.RLIMIT_FSIZE, (most, before[1]))
    stored = fill(sync)
    assert sync.delete("/storage/nothing").status == 200
    resource.prlimit(worker, resource.RLIMIT_FSIZE, before)

    assert sync.put("/storage/col/last", {"payload": PAYLOAD}).status == 200
    assert sorted(sync.get("/storage/col").json) == sorted(["first", *stored, "last"])
    assert server.workers == [worker]
    live.close()


def test_a_database_at_its_largest_is_503_until_it_may_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLITE_FULL, as a full disk gives it: its own bound on pages stands for the disk."""
    connections: list[sqlite3.Connection] = []
    prepare = SqliteDialect.prepare

    def bounded(self: SqliteDialect, connection: sqlite3.Connection) -> None:
        prepare(self, connection)
        connection.execute("PRAGMA max_page_count = 200")
        connections.append(connection)

    monkeypatch.setattr(SqliteDialect, "prepare", bounded)
    settings = {
        "sqlalchemy.url": f"sqlite:///{tmp_path / 'sync.db'}",
        "auth.secrets": SECRET,
        "migrate": "auto",
    }
    app: Any = make_app(settings)
    sync = SyncClient(random.randrange(1, 2**31), SECRET, InProcess(app))

    stored = fill(sync)
    for connection in connections:
        connection.execute("PRAGMA max_page_count = 1000000")

    assert sync.put("/storage/col/last", {"payload": PAYLOAD}).status == 200
    assert sorted(sync.get("/storage/col").json) == sorted([*stored, "last"])
    app.close()


def fill(sync: SyncClient) -> list[str]:
    """Write until there is no room; the ids of what was stored."""
    stored: list[str] = []
    for number in range(NEVER_FULL):
        reply = sync.put(f"/storage/col/i{number:03}", {"payload": PAYLOAD})
        if reply.status != 200:
            break
        stored.append(f"i{number:03}")
    assert (reply.status, reply.body) == (503, b"0")
    assert int(reply["Retry-After"]) > 0
    for _ in range(3):
        assert sync.put("/storage/col/another", {"payload": PAYLOAD}).status == 503
    assert set(stored) <= set(sync.get("/storage/col").json)
    return stored
