"""Random faults of memcached, the network and the workers, for as long as asked: `SOAK_SECONDS`, 30 in each case.

Each case prints what was done and what it cost. `SOAK_SEED` repeats the faults of a run, though not its load.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from syncstore.testing.cache_load import CacheLoad
from syncstore.testing.cache_stand import CacheStand
from syncstore.testing.plugin import need_driver, started
from syncstore.testing.servers import DatabaseServer, MariaDBServer, PostgresServer

SECONDS = float(os.environ.get("SOAK_SECONDS", "30"))
SEED = int(os.environ.get("SOAK_SEED", random.randrange(1, 2**31)))
WRITERS = 6

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3 * SECONDS + 600)]


@pytest.mark.parametrize(
    ("servers", "locks"), [(1, "sql"), (2, "sql"), (2, "memcached")], ids=["one", "two", "memcached locks"]
)
def test_nothing_acknowledged_is_lost_and_nobody_reads_the_past(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], servers: int, locks: str
) -> None:
    stand = CacheStand(database_url, servers=servers, more={"lock.backend": locks})
    with stand, CacheLoad(stand, tmp_path, seed=SEED, writers=WRITERS) as load:
        load.run(SECONDS, load.disturb.something)

        assert judged(load, capsys) == []


def test_nor_where_memcached_is_always_full(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand = CacheStand(database_url, memory=1)
    with stand, CacheLoad(stand, tmp_path, seed=SEED, writers=WRITERS) as load:
        with load.disturb.crowded():
            load.run(SECONDS, load.disturb.something)

        assert judged(load, capsys) == []


@pytest.mark.parametrize("server", [MariaDBServer, PostgresServer])
def test_nor_where_the_database_is_killed_as_well(
    server: type[DatabaseServer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was being committed then may have been or not."""
    need_driver("mysql" if server is MariaDBServer else "postgresql")
    with started(server) as database:
        stand = CacheStand(database.create_database("sync"), servers=2)
        with stand, CacheLoad(stand, tmp_path, seed=SEED, writers=WRITERS, commits_get_lost=True) as load:
            chance = random.Random(SEED)

            def disturb() -> None:
                if chance.random() < 0.2:
                    load.disturb.kill(database, chance.random())
                else:
                    load.disturb.something()

            load.run(SECONDS, disturb)

            assert judged(load, capsys) == []


def judged(load: CacheLoad, capsys: pytest.CaptureFixture[str]) -> list[str]:
    found = load.problems()
    with capsys.disabled():
        print(f"\nseed {SEED}\n{load.figures()}\n{len(found)} problems")  # noqa: T201 - what a soak is run for
    return found
