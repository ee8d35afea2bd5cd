"""Eight processes write to the same three users: nothing is lost, no time is given twice, nobody sees a 5xx but 503."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncstore.testing.history import problems
from syncstore.testing.load import Load
from syncstore.testing.service import SECRET, SyncServer

SHORT = 2.0
LONG = float(os.environ.get("SOAK_SECONDS", "30"))
SECONDS = [SHORT, pytest.param(LONG, marks=[pytest.mark.soak, pytest.mark.timeout(LONG + 180)])]

MakeLoad = Callable[[], Load]


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[SyncServer]:
    with SyncServer(database_url) as running:
        yield running


@pytest.fixture
def load(server: SyncServer, tmp_path: Path) -> Iterator[Load]:
    uids = random.sample(range(1, 2**31), 3)
    made = Load(server.url, SECRET, uids, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("seconds", SECONDS)
def test_they_write_in_one_order(load: Load, server: SyncServer, seconds: float) -> None:
    load.run(seconds)
    history = load.history()

    assert problems(history, refused_may_count=False) == []
    assert None not in {one.status for one in history}, "a request was not answered"
    assert_all_was_tried(Counter((one.sent.op, one.status) for one in history))
    assert_quiet(server)


@pytest.mark.parametrize("seconds", SECONDS)
def test_clients_that_are_killed_leave_no_half_writes(load: Load, server: SyncServer, seconds: float) -> None:
    load.run(seconds, load.kill_one, every=pace(seconds))
    history = load.history()

    assert problems(history) == []
    assert_quiet(server)


@pytest.mark.parametrize("seconds", SECONDS)
def test_workers_that_are_killed_lose_nothing_acknowledged(
    load: Load, server: SyncServer, seconds: float
) -> None:
    killed: list[int] = []
    load.run(seconds, lambda: killed.append(server.kill_worker()), every=pace(seconds))
    history = load.history()

    assert problems(history) == []
    assert set(killed) - {0}, "no worker was killed"
    assert not set(killed) & set(server.workers)
    assert_quiet(server)


def pace(seconds: float) -> float:
    """Seconds from one killing to the next: fewer where there are few."""
    return min(1.0, seconds / 4)


def assert_all_was_tried(count: Counter[tuple[str, int | None]]) -> None:
    for wanted in ("put", "post", "commit", "delete items", "delete collection", "read", "follow"):
        assert count[wanted, 200], count


def assert_quiet(server: SyncServer) -> None:
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in log, log[-4000:]
