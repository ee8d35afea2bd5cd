"""The database is killed or frozen in the middle of writes: 503 meanwhile, and service again without a restart."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.testing.history import Exchange, problems
from syncstore.testing.load import Load
from syncstore.testing.plugin import need_driver, started
from syncstore.testing.servers import DatabaseServer, MariaDBServer, PostgresServer
from syncstore.testing.service import SECRET, SyncServer

# Seconds; the least that the settings allow, since these tests wait for them.
TIMEOUTS = {"database.answer_timeout": "1", "database.connect_timeout": "1", "lock.timeout": "0.5"}
# One wait for an answer that never comes, one for a new connection that is never greeted, and the same once
# more, where the name of a collection is looked up before the user is locked; plus a busy machine. On PostgreSQL
# we wait a second longer than the server should, and two at least for a connection.
LONGEST_ANSWER = 2 * (1 + 1 + 2) + 3


@pytest.fixture(scope="module", params=["mysql", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """A server of its own: others use the one of the session."""
    need_driver(request.param)
    with started(MariaDBServer if request.param == "mysql" else PostgresServer) as server:
        yield server


@pytest.fixture(scope="module")
def server(database: DatabaseServer) -> Iterator[SyncServer]:
    with SyncServer(database.create_database("sync"), TIMEOUTS) as running:
        yield running


@pytest.fixture
def load(server: SyncServer, tmp_path: Path) -> Iterator[Load]:
    made = Load(server.url, SECRET, random.sample(range(1, 2**31), 3), tmp_path, writers=5)
    yield made
    made.close()


def test_a_killed_database_is_an_outage_that_ends(
    load: Load, database: DatabaseServer, server: SyncServer
) -> None:
    workers = server.workers
    load.run(1)
    database.kill9()
    down = time.monotonic()
    load.run(1)
    up = time.monotonic()
    database.start()
    load.run(1.5)
    history = load.history()

    assert problems(history) == []
    assert server.workers == workers, "the service was restarted"
    assert_all_answered(history)
    assert {one.status for one in began(history, down, up)} == {503}
    assert_no_traceback(server)


def test_a_frozen_database_keeps_nobody_waiting_for_ever(
    load: Load, database: DatabaseServer, server: SyncServer
) -> None:
    load.run(1)
    database.freeze()
    down = time.monotonic()
    try:
        load.run(LONGEST_ANSWER / 2)
    finally:
        up = time.monotonic()
        database.thaw()
    load.run(1.5)
    history = load.history()

    assert problems(history) == []
    assert_all_answered(history)
    answered_meanwhile = [one for one in began(history, down, up) if one.answer and one.answer.at < up]
    assert answered_meanwhile, "nobody was answered while the database was frozen"
    assert {one.status for one in answered_meanwhile} == {503}
    assert_no_traceback(server)


def began(history: list[Exchange], after: float, before: float) -> list[Exchange]:
    return [one for one in history if after < one.sent.at < before]


def assert_all_answered(history: list[Exchange]) -> None:
    assert not [one.sent for one in history if one.answer is None]
    slowest = max(history, key=lambda one: one.seconds)
    assert slowest.seconds < LONGEST_ANSWER, slowest


def assert_no_traceback(server: SyncServer) -> None:
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in log, log[-4000:]
